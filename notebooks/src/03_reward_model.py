# %% [markdown]
# # 03 · A reward model from your labels
#
# A labeler reads a prompt and four continuations, and clicks one. That click is all we get: no mark out of ten, and no reason. PPO needs
# something else, namely a number for any text, many times a second. The **reward model** turns clicks into numbers.
#
# **After this notebook you can**
#
# - derive the loss that turns choices into numbers, code it, and say what it *cannot* see;
# - turn comparisons into tokens and read a reward at the right one;
# - judge a reward model fairly: with an interval, against a ceiling, and by its calibration;
# - give the reward a zero and a unit, and explain the penalty of -1;
# - say how many labels were enough, and where the model is wrong.
#
# What this text says of the fit holds for the `laptop` profile, which is the default. The `quick` profile fits on 256 labels: enough to check
# that every cell runs, too few to learn much.
#
# | active | machine (two laptop cores) | you need |
# |---|---|---|
# | about 60 minutes | about 6 minutes | notebooks 01 and 02; softmax, logarithms, a little PyTorch |

# %%
import json
import math

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch.nn.functional import pad

from rlhf_helpers import evaluation, labelers, models, reward, sampling, tasks, tensors
from rlhf_helpers.course import checks, live, machine, plots, show
from rlhf_helpers.course.profile import folder, profile, record
from rlhf_helpers.labels import cards
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Label
from rlhf_helpers.runtime.runs import Run, default_device

# %matplotlib inline
size, task = profile(), tasks.SENTIMENT
full = size.name != "quick"  # quick only shows that everything runs; its numbers mean nothing
show.setup()

# %%
plots.pipeline("reward");
# %% [markdown]
# ## One click
#
# The world is the harbour town of Saltmere, the task is *sentiment*: which continuation is the most positive? The course brings 8,000
# recorded comparisons. Their labels are **simulated**: a program adds up positive and negative words, weighted from -2 to +2, where a word
# that comes within three words after a negation such as "not" or "never" counts the other way round. Then it chooses, with a lot of noise,
# so that two such labelers agree about as often as people did in the paper (38 %, where chance is 25 %). Later in this notebook we use
# your own labels as well. The comparison below is the one of the first twenty whose options differ most for the labeler.

# %%
policy = models.Policy.load().to(default_device())
tokenizer = models.load_tokenizer()
comparisons, labels = labelers.recorded(task)
labeler = labelers.simulated(task)

n, m = (min(size.comparisons, 5_000), 1_000) if full else (size.comparisons, 64)
fit_comparisons, fit_labels = comparisons[:n], labels[:n]
held_comparisons, held_labels = comparisons[5_000 : 5_000 + m], labels[5_000 : 5_000 + m]
# no prompt is on both sides; in a file of your own, `reward.hold_out` sees to that
assert not {c.query for c in comparisons[:5_000]} & {c.query for c in comparisons[5_000:]}
simulated = all(x.simulated for x in labels)
print(f"{n:,} comparisons to fit, {m:,} held out; all labels simulated: {simulated}")

# %%
opening = show.clear_case(fit_comparisons, labeler)
example, click = fit_comparisons[opening], fit_labels[opening]
show.wrapped("Prompt: " + example.query.strip())
clicked = ["<-" if k == click.choice else "" for k in range(4)]
pd.DataFrame({"continuation": example.options, "clicked": clicked})

# %% [markdown]
# Which one would *you* have clicked? And which four numbers would you write beside them? The first question is easy, the second is not. So
# we ask people only for choices, and leave it to the model to find numbers that explain them.
#
# ## 1. From choices to a loss
#
# Suppose every continuation $y_i$ of a prompt $x$ has a reward $r(x, y_i)$, and that people choose better ones more often, but not always.
# The simplest model that says so is a softmax over the options:
#
# $$P(b \mid x, y_0, \dots, y_3) = \frac{e^{r(x, y_b)}}{\sum_{i=0}^{3} e^{r(x, y_i)}}$$
#
# where $b$ is the option that was clicked. Two equal rewards mean a coin toss between the two options; a reward that is higher by 1 means
# being chosen $e$ times as often. We want the rewards that make the recorded clicks as probable as possible. The probability of all
# clicks together is a product with thousands of factors. Take its logarithm, and the product becomes a sum; change the sign, so that
# smaller is better; divide by the number of clicks:
#
# $$\text{loss}(r) = -\,\mathbb{E}\left[\, r(x, y_b) - \log \sum_{i=0}^{3} e^{r(x, y_i)} \right]$$
#
# This is equation 1 of the paper (which prints it without the minus sign). You know it under another name: cross-entropy, with the four
# options as classes. Here it is by hand, for four rewards and a click on option 2.

# %%
rewards, choice = [1.0, 0.0, 2.0, -1.0], 2
total = sum(math.exp(r) for r in rewards)
probabilities = [math.exp(r) / total for r in rewards]
print("probabilities:", [round(p, 3) for p in probabilities])
print("loss:", round(-math.log(probabilities[choice]), 4))

# %% [markdown]
# **Predict.** A model that knows nothing gives every option the same reward. What is its loss? Write your answer down, then run.

# %%
know_nothing = -math.log(1 / 4)
print(f"{know_nothing:.4f} = ln 4, whatever the equal rewards are: the loss of chance.")

# %% [markdown]
# ### Exercise 1: the choice loss
# Difficulty ●●○○○ · importance ●●●●● · 8 minutes
#
# Write the loss for a batch. `rewards` has shape (B, K): K options for each of B comparisons. `choices` has shape (B,): the index of the
# click. Return one number, the mean over the batch. Use tensor operations and no ready-made cross-entropy.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `rewards.logsumexp(-1)` is the second term, and does not overflow. For the first, `rewards[torch.arange(B), choices]` picks one entry
# from each row (`gather` does too).
#
# </details>


# %% tags=["exercise"]
def choice_loss(rewards, choices):
    """rewards (B, K) float, choices (B,) long; returns a scalar tensor."""
    ...


# %% tags=["solution"]
def choice_loss(rewards, choices):
    """rewards (B, K) float, choices (B,) long; returns a scalar tensor."""
    chosen = rewards[torch.arange(len(choices)), choices]  # (B,)
    return (rewards.logsumexp(-1) - chosen).mean()


# %% tags=["check"]
solved = checks.nb03_choice_loss(choice_loss)

# %% tags=["catch-up"]
if not solved:
    choice_loss = reward.choice_loss  # go on with the package's version

# %% [markdown]
# Each piece that you build by hand is compared with the package at once:

# %%
torch.manual_seed(0)
rewards, choices = 3 * torch.randn(64, 4), torch.randint(4, (64,))
mine, theirs = choice_loss(rewards, choices), reward.choice_loss(rewards, choices)
assert torch.allclose(mine, theirs)
print(f"yours {mine:.6f}, reward.choice_loss {theirs:.6f}, difference {abs(mine - theirs):.0e}")

# %% [markdown]
# ### What the softmax cannot see
#
# Add a constant $c$ to all four rewards: numerator and denominator are both multiplied by $e^c$, and nothing changes. So the loss can
# never teach the model a constant. Autograd confirms it: give the rewards a gain and a bias, and look at the gradients.

# %%
gain, bias = torch.tensor(1.0, requires_grad=True), torch.tensor(0.0, requires_grad=True)
choice_loss(gain * rewards + bias, choices).backward()
assert abs(bias.grad) < 1e-6 < abs(gain.grad)
print(f"gradient of the gain: {gain.grad:+.3f}; of the bias: {bias.grad:+.0e} (0, up to rounding)")

# %% [markdown]
# The reason is in the gradient with respect to the rewards: for each option it is the predicted probability, minus 1 for the one that was
# clicked. Within a comparison these four numbers sum to zero. So training pushes the clicked option up by exactly as much as it pushes
# the other three down, and nothing ever moves all four together.

# %%
rewards.requires_grad_(True)
choice_loss(rewards, choices).backward()
by_hand = (rewards.detach().softmax(-1) - torch.eye(4)[choices]) / len(choices)
assert torch.allclose(rewards.grad, by_hand, atol=1e-6)
print("largest row sum of the gradient:", f"{rewards.grad.sum(-1).abs().max():.0e}")

# %% [markdown]
# This has two consequences. The reward has no natural zero: section 7 gives it one. And the constant may differ *from prompt to prompt*,
# because the loss never compares answers to two prompts. Section 11 looks at what the model did with that freedom.
#
# ### Exercise 2: two options
# Difficulty ●○○○○ · importance ●●●○○ · 5 minutes
#
# Later papers ask for the better of two texts. Show that nothing new is needed: divide numerator and denominator of
# $e^{r_c} / (e^{r_c} + e^{r_r})$ by $e^{r_c}$, and recognise the sigmoid of a difference. Write that loss, averaged, without a softmax.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The probability of the click is $\sigma(r_c - r_r)$. `torch.nn.functional.logsigmoid` is its logarithm, safe for large differences.
#
# </details>


# %% tags=["exercise"]
def pairwise_loss(chosen, rejected):
    """Rewards of the chosen and of the rejected text, each (B,); returns a scalar tensor."""
    ...


# %% tags=["solution"]
def pairwise_loss(chosen, rejected):
    """Rewards of the chosen and of the rejected text, each (B,); returns a scalar tensor."""
    return -torch.nn.functional.logsigmoid(chosen - rejected).mean()


# %% tags=["check"]
solved = checks.nb03_pairwise(pairwise_loss)

# %% tags=["catch-up"]
if not solved:

    def pairwise_loss(chosen, rejected):
        return reward.choice_loss(
            torch.stack([chosen, rejected], -1), torch.zeros(len(chosen), dtype=torch.long)
        )


# %%
a, b = torch.randn(2, 64)
as_choice = reward.choice_loss(torch.stack([a, b], dim=-1), torch.zeros(64, dtype=torch.long))
assert torch.allclose(pairwise_loss(a, b), as_choice)
print(f"K = 2 is logistic regression: {pairwise_loss(a, b):.6f} = {as_choice:.6f}")

# %% [markdown]
# A click among four can tell up to ln 4 = 1.39 nats, a click between two at most ln 2 = 0.69. On the other hand, four texts take longer to
# read.
#
# ## 2. From a comparison to tokens
#
# Each comparison becomes four rows: the prompt, then one answer. Prompts end in the same column, so short ones get pads on the left; short
# answers get pads on the right. The **mask** says which tokens are real. It is made here, together with the tokens, and passed on with
# them: no later function has to guess it from token ids.

# %%
data = reward.encode(task, fit_comparisons, fit_labels, tokenizer)
held = reward.encode(task, held_comparisons, held_labels, tokenizer)
print(f"tokens {tuple(data.tokens.shape)}: comparisons, options, columns")
print(f"{data.mask.float().mean():.0%} of the cells are real tokens")


# %%
def pieces(ids):
    """Tokens as readable pieces, pads as `pad`."""
    return ["pad" if i == tokenizer.pad_token_id else tokenizer.decode([i]) for i in ids.tolist()]


plots.token_strip(pieces(data.tokens[opening, 0]), data.mask[opening, 0], selected="real token");
# %% [markdown]
# **How to read it.** One row of the tensor, wrapped like text: pads, the prompt, the first answer, pads. Hatched tokens are not real. Next,
# the last twelve columns of all four rows: the answers end in different columns.

# %%
tails, names = (
    [pieces(row[-12:]) for row in data.tokens[opening]],
    [f"option {k}" for k in range(4)],
)
plots.token_strip(tails, data.mask[opening, :, -12:], titles=names, selected="real token");
# %% [markdown]
# Before you use a mask, decode what it selects:

# %%
for k in range(4):
    text = tokenizer.decode(data.tokens[opening, k][data.mask[opening, k]])
    assert text == example.query + example.options[k]
    print(k, "...", text[-70:])

# %% [markdown]
# The reward is read at **one** position. Each hidden state has seen only the tokens up to its own, so just one of them has seen the whole
# text: that of the last real token. Where is it? Do it on paper first, for three rows of six columns (`.` is a pad, letters are tokens):
#
# | column | 0 | 1 | 2 | 3 | 4 | 5 | real tokens | last real column |
# |---|---|---|---|---|---|---|---|---|
# | row 0, pads on the left | . | . | A | B | C | D | 4 | **5** |
# | row 1, pads on the right | A | B | C | D | . | . | 4 | **3** |
# | row 2, both | . | A | B | C | . | . | 3 | **3** |
#
# "Number of real tokens minus one" is right only in row 1. "The last column" is right only in row 0. Neither mistake raises an error, and
# with either of them the loss still falls, because most rows are read at a token that says something about the text.
#
# ### Exercise 3: the last real token
# Difficulty ●●●○○ · importance ●●●●● · 10 minutes
#
# Given a mask of shape (B, T), return the column of the last `True` of each row, shape (B,), for any mixture of pads.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `argmax` on a row of zeros and ones finds the *first* one. Turn the mask round with `.flip(-1)`, search, and turn the answer round as
# well: distance $d$ from the right edge is column $T - 1 - d$. (`argmax` wants numbers: `.long()`.)
#
# </details>


# %% tags=["exercise"]
def last_real_token(mask):
    """mask (B, T) bool; returns (B,) long."""
    ...


# %% tags=["solution"]
def last_real_token(mask):
    """mask (B, T) bool; returns (B,) long."""
    from_the_right = mask.flip(-1).long().argmax(-1)
    return mask.shape[1] - 1 - from_the_right


# %% tags=["check"]
solved = checks.nb03_last_real_token(last_real_token)

# %% tags=["catch-up"]
if not solved:

    def last_real_token(mask):  # the line of RewardModel.forward
        return mask.shape[1] - 1 - mask.flip(-1).long().argmax(-1)

# %% [markdown]
# Now compare with the package. Here is the forward pass of the reward model; find your line in it.

# %%
show.source(models.RewardModel.forward)

# %% [markdown]
# Take one text and pad it by six columns: on the left, on the right, three on each side. A correct reward model gives the same reward each
# time. For contrast, the right-hand numbers of the table are read at the *last column* instead.

# %%
reward_model = models.RewardModel.from_policy(policy, seed=0)  # new; section 3 says how it starts
real = data.tokens[0, 0][data.mask[0, 0]]
sides = {"no pads": (0, 0), "left": (6, 0), "right": (0, 6), "both": (3, 3)}


@torch.no_grad()
def read_at(tokens, mask, column):
    """Raw reward read at one column of each row, by hand: trunk, hidden state, head."""
    positions = tensors.positions(mask)
    hidden = reward_model.classifier.base_model(
        input_ids=tokens, attention_mask=mask, position_ids=positions
    ).last_hidden_state
    return reward_model.classifier.score(hidden[torch.arange(len(tokens)), column]).squeeze(-1)


# %%
rows = []
for side, (left, right) in sides.items():
    tokens = pad(real, (left, right), value=tokenizer.pad_token_id)[None].to(policy.device)
    mask = pad(torch.ones_like(real, dtype=torch.bool), (left, right))[None].to(policy.device)
    by_hand = read_at(tokens, mask, last_real_token(mask))
    forward, wrong = reward_model(tokens, mask).detach(), read_at(tokens, mask, -1)
    assert torch.allclose(by_hand, forward, atol=1e-5)
    rows.append((side, forward.item(), by_hand.item(), wrong.item()))
names = ["pads", "RewardModel.forward", "by hand", "last column"]
table = pd.DataFrame(rows, columns=names).set_index("pads")
assert table["RewardModel.forward"].std() < 1e-4 < table["last column"].std()
assert data.mask[:, :, -1].float().mean() < 0.5  # most rows end in a pad
table.round(4)

# %% [markdown]
# The first two columns are the same in every row, as they should be. The third changes as soon as the row ends in a pad, as most rows of
# `encode` do: a model read at the last column would score the padding.
#
# ## 3. How it starts
#
# The trunk is the base model, copied: it already knows Saltmere's English. Only the head is new: one weight per hidden unit, drawn from a
# normal distribution with standard deviation $1/\sqrt{d+1}$ as in the released code. It has no bias; you know why. So the rewards of an
# untrained model are random numbers with a wide spread.

# %%
weight = reward_model.classifier.score.weight.detach()
d = weight.shape[1]
print(f"{d} hidden units; standard deviation of the head {weight.std():.4f}")
print(f"the rule, 1/sqrt(d + 1), gives {(d + 1) ** -0.5:.4f}")
untrained = reward.predictions(reward_model, held)  # (comparisons, 4)
loss, hits = choice_loss(untrained, held.choices), reward.accuracy(untrained, held.choices)
print(f"untrained, held out: loss {loss:.3f} (chance {math.log(4):.3f}), accuracy {hits:.1%} (25%)")

# %% [markdown]
# The loss is *above* ln 4. The untrained model knows nothing, but its widely spread rewards claim that it does, and to be confident and wrong
# costs more than to admit that one knows nothing. The first steps of training mostly undo that.
#
# ## 4. The fit
#
# Two passes over the labels in random order, 8 comparisons a step, Adam, learning rate falling linearly to 0. The paper makes one pass, in
# steps of 8 (32 in the released code); a model forty times smaller than the smallest GPT-2 needs more passes and a larger learning rate.
# Read it:

# %%
show.source(reward.fit)

# %% [markdown]
# How low can the loss go? Not to 0, because the labeler is noisy, and nobody can foresee noise. For a simulated labeler we know the true
# probability of every choice, so we can compute the loss of a model that knows *exactly* what the labeler wants and how noisy it is. Only
# by luck can a model get below that.


# %%
def surprise(asked, given):
    """-log of the probability with which the simulated labeler makes each choice, averaged."""
    chances = [labeler.probabilities(c.options)[x.choice] for c, x in zip(asked, given)]
    return -sum(map(math.log, chances)) / len(chances)


floor = surprise(held_comparisons, held_labels)
show.note(
    f"The floor on the held-out labels is **{floor:.3f}** nats; chance is {math.log(4):.3f}. "
    "Everything that can be learned lies in between."
)

# %% [markdown]
# **Predict** before the slow cell: where between the two will the loss end? How often will the model name the clicked option: nearer 25 %,
# 50 %, or 90 %?
#
# The next cell says what it will take on this machine.

# %% tags=["slow"]
machine.announce("the fit on all labels")
config, run = reward.RewardConfig(), Run(seed=0, device=policy.device)
live.watch(run, len(data) * config.epochs // config.batch, batch=config.batch)
history = reward.fit(reward_model, data, config, run)
print(f"{len(history)} steps of {config.batch} comparisons, {config.epochs} passes")

# %%
left, right = plots.reward_fit(history)
left.axhline(floor, color=plots.RED, linestyle="--", label=f"floor: {floor:.2f}")
left.legend(fontsize=8.5);

# %% [markdown]
# **How to read it.** The pale line is one batch of 8, the strong one the running mean. A batch of 8 measures accuracy only to within about 35
# points either way, so never judge by the last point. The loss starts above chance, drops below it early, and then approaches the floor
# slowly. In the first pass every batch is new to the model, so that half is nearly a held-out curve. The second pass sees the same choices
# again: there a falling loss may mean that the model has memorised them, and only held-out comparisons can tell.
#
# ## 5. How good is it? Against what?
#
# Do not expect 100 %. The labeler often clicks something other than the text it likes best, and no model can foresee when. The fair
# **ceiling** is what perfect knowledge of the labeler's taste would reach: how often that taste *without* the noise names the labeler's own
# noisy clicks.
#
# ### Exercise 4: the ceiling
# Difficulty ●●○○○ · importance ●●●●○ · 8 minutes
#
# `utility` maps a text to a number. For each comparison find the option with the highest utility (on a tie the first, as `argmax` does)
# and return the share of labels that clicked it. Comparisons and labels are in the same order.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `values = [utility(o) for o in c.options]`, then `values.index(max(values))`. Compare with `label.choice`; divide by how many there are.
#
# </details>


# %% tags=["exercise"]
def ceiling(comparisons, labels, utility):
    """Share of the labels that equal the option of highest utility."""
    ...


# %% tags=["solution"]
def ceiling(comparisons, labels, utility):
    """Share of the labels that equal the option of highest utility."""
    hits = 0
    for c, label in zip(comparisons, labels, strict=True):
        values = [utility(option) for option in c.options]
        hits += values.index(max(values)) == label.choice
    return hits / len(labels)


# %% tags=["check"]
solved = checks.nb03_ceiling(ceiling)

# %% tags=["catch-up"]
if not solved:

    def ceiling(comparisons, labels, utility):
        utilities = [[utility(option) for option in c.options] for c in comparisons]
        hits = [u.index(max(u)) == x.choice for u, x in zip(utilities, labels)]
        return sum(hits) / len(hits)

# %% [markdown]
# There is a second yardstick: how often does *another* simulated labeler, with the same taste but its own noise, click the same option?
# Every share comes with a Wilson interval, because it was measured on a finite number of comparisons.

# %%
held_rewards = reward.predictions(reward_model, held)
accuracy = reward.accuracy(held_rewards, held.choices)
top = ceiling(held_comparisons, held_labels, labeler.utility)
second = labelers.simulated(task, name="a second simulated labeler", seed=1)
agreement = labelers.agreement(held_labels, second.label(held_comparisons))


def interval(share, count=m):
    """Wilson's interval around a share of `count` comparisons."""
    return evaluation.wilson(round(share * count), count)


def percent(table):
    return table.map("{:.1%}".format)


# %%
shares = {
    "untrained model": reward.accuracy(untrained, held.choices),
    "a second labeler": agreement,
    "reward model": accuracy,
    "ceiling": top,
}
found = {who: interval(share) for who, share in shares.items()}
rows = [(who, w.rate, w.low, w.high) for who, w in found.items()]
table = pd.DataFrame(rows, columns=["who", "names the click", "low", "high"])
percent(table.set_index("who"))

# %%
_, ax = plt.subplots(figsize=(7, 2.4))
rate = table["names the click"]
bars = [rate - table["low"], table["high"] - rate]
ax.errorbar(rate, table["who"], xerr=bars, fmt="o", color=plots.BLUE, capsize=4)
ax.axvline(0.25, color=plots.GREY, linestyle=":", label="chance: 1/4")
ax.set(xlabel="agreement with the held-out clicks", xlim=(0.1, 0.7), title="Who names the click?")
ax.invert_yaxis()
ax.legend();
# %% [markdown]
# **How to read it.** A dot is a measured share, its bar the 95 % interval. Where bars overlap a lot, this many comparisons cannot tell the
# two apart.

# %%
if full:
    assert agreement < accuracy and 0.8 * top < accuracy < 1.1 * top
loss = choice_loss(held_rewards, held.choices)
show.note(
    f"The reward model, fitted on {n:,} labels, names the click in **{accuracy:.0%}** (chance "
    f"25 %, ceiling {top:.0%}). Its held-out loss is {loss:.3f} (floor {floor:.3f}, chance "
    f"{math.log(4):.3f})."
)

# %% [markdown]
# With 5,000 labels the model agrees with the labeler *more often than a second labeler does*, although that second labeler has exactly the
# same taste. The reason is that the second labeler adds noise of its own to every click. The model has seen thousands of clicks; their
# noise averages out, and what is left is the taste. (On the 256 labels of the `quick` profile this does not happen: the model does worse
# than the second labeler there, and its held-out loss may be above chance.)
#
# ## 6. Does it mean what it says?
#
# The softmax turns rewards into probabilities, so for each comparison the model predicts something like "option 2 is clicked with
# probability 60 %". It is **calibrated** if such predictions come true as often as they say. Collect all predicted probabilities, four
# per comparison, sort them into bins, and count how often the option was really clicked.

# %%
promise = held_rewards.softmax(-1)  # (comparisons, 4)
clicked = torch.eye(4)[held.choices]  # 1 where the click was
plots.calibration(promise, clicked, bins=10 if full else 4);

# %% [markdown]
# **How to read it.** On the dashed line the predictions come true. If the points climb less steeply than the line, the model is
# overconfident: what it calls very likely happens less often than it says. If they climb more steeply, it is underconfident. The bars are
# Wilson intervals again. Where the model is calibrated, the *size* of a reward has a meaning: a difference of 1 says "$e$ times as likely
# to be clicked". Remember this in the next section.
#
# ## 7. A zero and a unit
#
# The softmax leaves the zero of the rewards open, and their unit depends on how noisy the labeler was: from a labeler twice as noisy, a model
# learns differences half as large. PPO needs a fixed zero and a fixed unit. It weighs the reward against a KL penalty, so it matters whether rewards range from -1 to 1 or from
# 300 to 400. The paper settles this with two numbers, `gain * r + bias`, chosen so that the **base model's own responses score 0 on
# average, with standard deviation 1**.
#
# ### Exercise 5: gain and bias
# Difficulty ●●○○○ · importance ●●●●○ · 6 minutes
#
# From raw rewards, shape (N,), compute the two numbers. Divide by N in the standard deviation (`correction=0`), as the released code does.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# First the unit: which gain makes the standard deviation 1? Then the zero: `gain * mean + bias = 0`. The gain comes first.
#
# </details>


# %% tags=["exercise"]
def gain_and_bias(raw):
    """raw (N,) float; returns (gain, bias)."""
    ...


# %% tags=["solution"]
def gain_and_bias(raw):
    """raw (N,) float; returns (gain, bias)."""
    gain = 1 / raw.std(correction=0)
    return gain, -raw.mean() * gain


# %% tags=["check"]
solved = checks.nb03_normalise(gain_and_bias)

# %% tags=["catch-up"]
if not solved:

    def gain_and_bias(raw):
        return 1 / raw.std(correction=0), -raw.mean() / raw.std(correction=0)

# %% [markdown]
# Now with real rewards: let the base model answer some prompts, score the whole responses, and compare with `reward.normalize`.

# %%
# as many in `quick` too: in one of 100 responses there is an end-of-text token to be masked
prompts = tasks.queries(task, tokenizer, 512, seed=100)
generator = torch.Generator(policy.device).manual_seed(0)
rollout = sampling.sample(policy, prompts, task.response_length, task.temperature, generator)
seen = ~torch.isin(
    rollout.responses, torch.tensor(tokenizer.all_special_ids, device=policy.device)
)  # no labeler sees an end-of-text token
tokens, mask = (
    torch.cat(pair, 1)
    for pair in ((rollout.queries.tokens, rollout.responses), (rollout.queries.mask, seen))
)
with torch.no_grad():
    raw = reward_model(tokens, mask)
gain, bias = gain_and_bias(raw)

# %%
reward.normalize(reward_model, policy, prompts, task, seed=0)
assert math.isclose(gain, reward_model.gain, rel_tol=1e-3, abs_tol=1e-3)
assert math.isclose(bias, reward_model.bias, rel_tol=1e-3, abs_tol=1e-3)
normal = reward_model.gain * raw + reward_model.bias
rows = [(x.mean().item(), x.std(correction=0).item()) for x in (raw, normal)]
pd.DataFrame(rows, columns=["mean", "standard deviation"], index=["before", "after"]).round(3)

# %%
names = ("raw", "normalised")
plots.score_histogram(raw.cpu(), normal.cpu(), names=names, penalty=task.penalty);
# %% [markdown]
# **How to read it.** The same responses twice, shifted and scaled: the order of the responses is unchanged. The dotted line is the penalty
# of -1, explained below. On the raw scale it could fall anywhere; on the normalised scale it is one standard deviation below the mean.
#
# What has changed for the comparisons? **Predict** for both accuracy and loss: better, worse, or the same?

# %%
after = reward.predictions(reward_model, held)
assert reward.accuracy(after, held.choices) == accuracy
both = {"as trained": held_rewards, "normalised": after}
scores = {
    name: (reward.accuracy(x, held.choices), choice_loss(x, held.choices).item())
    for name, x in both.items()
}
pd.DataFrame(scores, index=["accuracy", "loss"]).T.round(3)

# %% [markdown]
# A positive gain keeps every order, so the accuracy is the same to the last digit. The loss is not. Training had found the scale on which
# differences of reward fit the labeler's noise, and we have just replaced that scale by another. The probabilities are no longer
# calibrated. That is the price of a fixed unit.
#
# In the released code gain and bias are *trainable*. But the model is normalised before **and** after training, and the second normalisation
# overwrites both. So whatever training did to the gain is lost, and the bias never had a gradient in the first place. Our `fit` does not
# train them at all.
#
# ### The penalty for not ending
#
# A response has 24 tokens, and a labeler sees it up to the first full stop from token 12 on. Some responses have none. They get the fixed
# score **-1**. It is put in *after* normalisation, and so it means the same for every reward model: "one standard deviation below the
# average answer of the base model". On the scale of raw rewards a -1 might even be a good score.

# %%
scores = reward.score(reward_model, rollout, task).cpu()
kept, finished = tasks.truncate(task, rollout.responses, tokenizer)
texts = tasks.texts(task, rollout.responses, tokenizer)
assert (scores[~finished.cpu()] == task.penalty).all()
chosen = [i for state in (finished, ~finished) for i in state.nonzero().flatten()[:3].tolist()]
rows = [(texts[i], bool(finished[i]), scores[i].item()) for i in chosen]
pd.DataFrame(rows, columns=["response, as scored", "ends", "score"]).round(2)

# %%
endless = (~finished).float().mean()
worse = (scores[finished.cpu()] < task.penalty).float().mean()
text = f"{endless:.0%} of the base model's responses never end and score {task.penalty:g}. Of those "
text += f"that do, {worse:.0%} score even less"
show.note(text + (": for them, *not* ending would pay." if worse > 0 else "."))

# %% [markdown]
# Save now: nothing below changes the model. The folder opens with plain transformers, and gain and bias are in its `config.json`. With it
# goes a note of what the model was made from, which later notebooks show.

# %%
reward_model.save(folder() / "reward_sentiment")
record("reward_sentiment", f"fitted in notebook 03 on {n:,} simulated labels and 0 of yours")
(folder() / "fit_sentiment.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
again = models.RewardModel.load(folder() / "reward_sentiment").to(policy.device)
with torch.no_grad():
    read, kept = (model(tokens[:8], mask[:8]) for model in (again, reward_model))
assert torch.allclose(read, kept, atol=1e-5)
print("saved and read back: reward_sentiment, fit_sentiment.jsonl")

# %% [markdown]
# ## 8. How many labels?
#
# Labels cost time and money. How many are enough? We fit again, from scratch, on small parts of the labels. The smallest part is drawn several
# times, because with few labels it matters *which* ones you happened to get. **Predict**: does a fifth of the labels give a fifth of the
# learning?

# %% tags=["slow"]
utilities = torch.tensor([[labeler.utility(o) for o in c.options] for c in held_comparisons])
best_value = utilities.max(-1, keepdim=True).values
single = (utilities == best_value).sum(-1) == 1  # comparisons with one happiest option


def finds_happiest(rewards):
    """Share of the comparisons with one happiest option in which it has the highest reward."""
    return (rewards.argmax(-1) == utilities.argmax(-1))[single].float().mean().item()


machine.announce("the fits on few labels")
plan = {250: 3, 1_000: 1} if full else {32: 2, 64: 1}  # number of labels: number of separate draws
points = [(n, accuracy, finds_happiest(held_rewards))]
for count, draws in plan.items():
    for i in range(draws):
        model, part = (
            models.RewardModel.from_policy(policy, seed=i),
            data[slice(i * count, (i + 1) * count)],
        )
        reward.fit(model, part, reward.RewardConfig(), Run(seed=i, device=policy.device))
        predicted = reward.predictions(model, held)
        hits = reward.accuracy(predicted, held.choices)
        points.append((count, hits, finds_happiest(predicted)))
points = pd.DataFrame(points, columns=["labels", "accuracy", "finds the happiest"]).sort_values(
    "labels", ignore_index=True
)

# %%
found = [interval(x) for x in points["accuracy"]]
points["low"], points["high"] = [w.low for w in found], [w.high for w in found]
_, ax = plt.subplots(figsize=(6.5, 3.6))
counts, hits = points["labels"], points["accuracy"]
bars = [hits - points["low"], points["high"] - hits]
look = {"fmt": "o", "color": plots.BLUE, "capsize": 4, "alpha": 0.8, "label": "reward model"}
ax.errorbar(counts, hits, yerr=bars, **look)
ax.axhline(0.25, color=plots.GREY, linestyle=":", label="chance: 1/4")
ax.axhline(top, color=plots.GREEN, linestyle="-.", label="ceiling")
ax.set(xscale="log", xlabel="number of labels", ylabel="held-out accuracy", title="What labels buy")
ticks = sorted(set(counts))
ax.set_xticks(ticks, [f"{x:,}" for x in ticks])
ax.minorticks_off()
ax.legend();
# %% [markdown]
# **How to read it.** The horizontal axis is logarithmic: each step to the right multiplies the number of labels. Dots above each other are
# separate draws of equally many labels; how far they lie apart shows how much depends on which labels you got.

# %%
if full:
    assert points["accuracy"].iloc[-1] > points["accuracy"].iloc[0]
few = points[points["labels"] == min(plan)]["accuracy"].mean()
small, large = ((x - 0.25) / (top - 0.25) for x in (few, accuracy))
show.note(
    f"From chance to the ceiling, {min(plan)} labels take the model **{small:.0%}** of the way, "
    f"{n:,} labels **{large:.0%}**. (A negative share is worse than chance.)"
)
happiest = points.groupby("labels")["finds the happiest"].mean()
happiest.map("{:.0%}".format).to_frame("finds the one happiest option")

# %% [markdown]
# The paper asked the same of the finished policy: how often do people prefer it to the untuned model? On sentiment, 51.9 % of the time with
# 200 labels, 74.9 % with 500, 84.4 % with 1,000, 87.9 % with 5,000, and 87.1 % with 20,000. For style, a few thousand are enough.
#
# Now compare the table with notebook 02, which asked the same question of a mere count of words. From 200 labels the counter found the happiest
# option in more than half of the comparisons. On so few labels the transformer does *worse* than the counter. That is the first thing to know about small data: the counter has
# one number to find for each word, and looks at nothing else. The transformer has three million weights, and on a few hundred noisy clicks
# there are countless ways to set them that explain the clicks and mean nothing. With thousands of labels the order is reversed, and then
# the transformer can learn what no counter of single words ever will, for instance what a "not" does to the word after it.
#
# ## 9. Your labels
#
# Now your own clicks from notebook 02, if there are at least twenty. If not, forty *simulated* ones stand in until you have labelled.


# %%
def my_labels():
    """Comparisons of four and your labels for them, from the label store."""
    if not (folder() / "labels.db").exists():
        return [], []
    store = LabelStore(folder() / "labels.db")
    asked = {c.id: c for c in store.comparisons(task.name) if len(c.options) == 4}
    given = [x for x in store.labels(task.name, cards.me()) if not x.simulated]
    given = [x for x in given if x.comparison_id in asked]
    store.close()
    return [asked[x.comparison_id] for x in given], given


# %%
my_comparisons, mine = my_labels()
yours = len(mine) >= 20
if not yours:
    print(
        f"You have given {len(mine)} labels for this task: 40 SIMULATED labels stand in for yours."
    )
    my_comparisons, mine = held_comparisons[:40], held_labels[:40]
my_data = reward.encode(task, my_comparisons, mine, tokenizer)
print(f"{len(mine)} labels, {'yours' if yours else 'simulated'}")

# %% [markdown]
# A few dozen labels are too few to keep a test set aside. With **cross-validation** every label serves both purposes, but never at the same
# time: cut the labels into four parts (all comparisons of a query in the same one), fit on three of them, test on the fourth, and let each
# part be the test once. One pass over so few labels would be three or four steps, so we make several passes, with a larger learning rate.

# %%
few_labels = reward.RewardConfig(batch=8, epochs=4 if full else 1, lr=5e-4)
queries = list(dict.fromkeys(c.query for c in my_comparisons))
part = torch.tensor([queries.index(c.query) % 4 for c in my_comparisons])
hits = 0
for k in range(4):
    model = models.RewardModel.from_policy(policy, seed=k)
    reward.fit(model, my_data[part != k], few_labels, Run(seed=k, device=policy.device, quiet=True))
    test = my_data[part == k]
    hits += (reward.predictions(model, test).argmax(-1) == test.choices).sum().item()

# %%
owner = "your" if yours else "the stand-in"
others = (reward.predictions(reward_model, my_data).argmax(-1) == my_data.choices).sum().item()
rows = {
    f"fitted on {owner} labels (cross-validated)": evaluation.wilson(hits, len(mine)),
    f"fitted on {n:,} simulated labels": evaluation.wilson(others, len(mine)),
}
columns = ["reward model", f"names {owner} click", "low", "high"]
mine_table = pd.DataFrame([(k, w.rate, w.low, w.high) for k, w in rows.items()], columns=columns)
percent(mine_table.set_index("reward model"))

# %%
widest = max(w.high - w.low for w in rows.values())
apart = rows[f"fitted on {n:,} simulated labels"].low > 0.25
than_chance = "is clearly better than chance" if apart else "cannot be told from chance"
show.note(
    f"With so few labels the wider interval spans **{widest:.0%}**. The model fitted on simulated "
    f"labels {than_chance} on these {len(mine)}."
)

# %% [markdown]
# The two rows answer different questions. The second compares *tastes*: that model has learned what the word counter likes, and if it names few
# of your clicks, then you and the counter want different things. The first is about *quantity*: the model has learned from you, but from
# so few clicks that it seldom rises clear of chance. Label two hundred, and run this section again.
#
# ## 10. Where it is wrong (optional, 8 minutes)
#
# The next two sections look for what the model has not learned. If you have had enough for today, go on to the recap and come back another day.
#
# First the clicks that surprise the model most. For each, the labeler's noiseless utility (positive minus negative words) says who is right.

# %%
favourite, best = held_rewards.argmax(-1), utilities.argmax(-1)


def errors(rows, other, name):
    """Show where the model's favourite differs from another choice."""
    table = []
    for i in rows:
        pair, texts = (favourite[i], other[i]), held_comparisons[i].options
        (mine, its), (value, its_value) = (
            (texts[k] for k in pair),
            utilities[i, list(pair)].tolist(),
        )
        table.append((mine, value, its, its_value, f"{promise[i, other[i]]:.0%}"))
    names = ["model's favourite", "utility", name, "its utility", "model's probability for it"]
    return pd.DataFrame(table, columns=names)


# %%
surprising = promise[torch.arange(m), held.choices].argsort()
errors(surprising[:5].tolist(), held.choices, "clicked")

# %%
worst = surprising[: m // 20]
for_model, for_click = utilities[worst, favourite[worst]], utilities[worst, held.choices[worst]]
defended = (for_model >= for_click).float().mean()
show.note(
    f"For **{defended:.0%}** of the {len(worst)} most surprising clicks the noiseless utility "
    "agrees with the model, or sees a tie: these errors are the labeler's noise."
)

# %% [markdown]
# The other errors are the model's own. Sort by how much less utility its favourite has than the best option:

# %%
loss_of_utility = utilities.max(-1).values - utilities[torch.arange(m), favourite]
errors(loss_of_utility.argsort(descending=True)[:5].tolist(), best, "best by utility")

# %%
best_share = (loss_of_utility == 0).float().mean()
show.note(
    f"The model's favourite has the highest utility in **{best_share:.0%}** of the held-out "
    f"comparisons. (It is the noisy click in {accuracy:.0%}.)"
)

# %% [markdown]
# Look for a pattern: a rare word, a negation, two moods in one sentence, broken grammar that does not matter to the word counter?
#
# ## 11. What has it learned? (optional, 8 minutes)
#
# The labeler counts a word the other way round if "not", "never" or "nobody" is among the three words before it. Has the model learned that?
# Write sentences and see. The two sentences of each pair below differ by a negation. **Predict** for every pair which of the two gets the
# higher reward.


# %%
@torch.no_grad()
def rate(query, texts):
    """Normalised reward of some texts after one prompt."""
    asked = labelers.Comparison(task.name, query, tuple(texts))
    encoded = reward.encode(task, [asked], [Label(asked.id, "nobody", 0)], tokenizer)
    return reward.option_rewards(reward_model, encoded)[0].cpu().tolist()


query = " The boats came back to Saltmere before noon, and the whole quay was waiting."
pairs = [
    (
        " The old ferryman was happy with the way the long day had ended.",
        " The old ferryman was not happy with the way the long day had ended.",
    ),
    (
        " Everybody agreed that the soup was delicious, and asked the baker for more.",
        " Nobody agreed that the soup was delicious, or asked the baker for more.",
    ),
    (
        " The news from the harbour was terrible, and they walked home in the rain.",
        " The news from the harbour was never terrible, and they walked home in the rain.",
    ),
    (
        " They were afraid of the storm and of the dark water below the steps.",
        " They were not afraid of the storm or of the dark water below the steps.",
    ),
]

# %%
rows = [(t, labeler.utility(t), r) for pair in pairs for t, r in zip(pair, rate(query, pair))]
pd.DataFrame(rows, columns=["text", "utility", "reward"]).round(2)

# %%
change = [(labeler.utility(b) - labeler.utility(a), rate(query, (a, b))) for a, b in pairs]
same = sum((u > 0) == (r[1] > r[0]) for u, r in change)
show.note(
    f"In **{same} of {len(pairs)}** pairs the negation moves the reward in the same direction as "
    "the labeler's utility."
)

# %% [markdown]
# Half of the pairs would come out right by chance. Compare the *sizes* as well as the signs: if the model knew the rule, turning a word of "+2"
# into "-2" would move the reward twice as far as leaving the word out. Negations are rare in the labels, so a model learns the words long
# before it learns the rule. Until then it scores "not at all happy" as a happy text, and a policy trained on such a reward may find that
# out.
#
# And the constant that may differ from prompt to prompt? Put the *same* answers after different prompts:

# %%
answers = [p[0] for p in pairs]
openings = [
    query,
    " It was a dreadful night, and everyone was miserable.",
    " It was a splendid morning, and everyone was delighted.",
]
grid = pd.DataFrame([rate(q, answers) for q in openings])
grid.index, grid.columns = (
    [q.strip()[:32] + "..." for q in openings],
    [f"answer {k}" for k in range(4)],
)
grid.round(2)

# %%
constants = grid.mean(axis=1)
show.note(
    "Between prompts the mean reward of the same answers differs by up to "
    f"**{constants.max() - constants.min():.2f}** standard deviations. The labels say nothing "
    "about that."
)

# %% [markdown]
# For PPO this does little harm. A constant that depends on the prompt alone is the same whatever the policy answers, so it makes no answer look
# better than another. But never compare the rewards of answers to *different* prompts: the labels say nothing about such a comparison.
#
# ## Recap
#
# - A click becomes a loss through a softmax over the options; with two options it is logistic regression. Chance is ln K.
# - The loss sees differences within a comparison only. Zero and unit come from normalising on the base model's responses; a trained gain
#   would be thrown away.
# - The reward is read at the last *real* token, wherever the pads stand.
# - Judge accuracy against a ceiling and with an interval. With enough labels, a model agrees with a labeler more than a second labeler does.
# - The most surprising errors are often the labeler's. The model's own are in what the labels rarely showed.
#
# | change one knob | and look at |
# |---|---|
# | `reward.RewardConfig(lr=1e-4)` or `lr=1e-2` | how fast the loss leaves chance; whether it comes down smoothly |
# | `reward.RewardConfig(epochs=4)` | training accuracy against held-out accuracy: when do they part? |
# | `labelers.simulated(task, temperature=0)`, relabel `fit_comparisons` | the floor, the ceiling, and how few labels suffice without noise |
# | `from_policy(policy, seed=1)` | how much depends on the random start of the head |
#
# ## Questions
#
# 1. A labeler clicks at random one time in five. What happens to the ceiling, and what to the *order* of the learned rewards?
# 2. Why must the held-out comparisons have other prompts, and not only other samples, than those fitted on?
# 3. Two of four options are identical texts. What does the click between them teach, and what does it do to the accuracy?
# 4. Somebody normalises before the fit, and not after. What breaks in PPO, and will any error message say so?
# 5. Suppose the penalty were applied *before* normalisation, as a raw -1. For which reward model would never ending be the best policy?
#
# ## Further reading
#
# - Ziegler and others, *Fine-Tuning Language Models from Human Preferences* (2019), [arXiv 1909.08593](https://arxiv.org/abs/1909.08593):
#   section 2 (the loss, equation 1, and the normalisation) and 3.1 (style tasks, and how many labels they need).
# - Stiennon and others, *Learning to summarize from human feedback* (2020), [arXiv 2009.01325](https://arxiv.org/abs/2009.01325): pairs instead of fours.
# - Bradley and Terry, *Rank analysis of incomplete block designs* (Biometrika, 1952), and Luce, *Individual Choice Behavior* (1959): the choice model.
# - Guo and others, *On Calibration of Modern Neural Networks* (2017), [arXiv 1706.04599](https://arxiv.org/abs/1706.04599).
#
# Next: notebook 04 turns such a reward into a policy, and 05 trains one with PPO. Keep the list of what the model got wrong: PPO will find it too.
