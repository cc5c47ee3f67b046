# %% [markdown]
# # 03 · A reward model from your labels
#
# A labeler reads a prompt and four continuations, and clicks one. That click is all we get: no mark out of ten, and no reason. PPO needs
# something else, namely a number for any text, many times a second. A **reward model** turns clicks into numbers. In this notebook you
# make two: a small one from *your* sixty clicks, and a large one from thousands of simulated ones, as in the paper.
#
# **After this notebook you can**
#
# - derive the loss that turns choices into numbers, code it, and say what it *cannot* see;
# - fit a taste to a few dozen clicks, and say how much it has understood of you and how sure that is;
# - turn comparisons into tokens and read a reward at the right one;
# - judge a reward model fairly: with an interval, against a ceiling, and by its calibration;
# - give the reward a zero and a unit, and explain the penalty of -1;
# - say when few labels are enough, when they are not, and why.
#
# What this text says of the fits holds for the `laptop` profile, which is the default. The `quick` profile takes 8 clicks and 256 labels:
# enough to check that every cell runs, too few to learn much.
#
# | active | machine (one laptop core) | you need |
# |---|---|---|
# | about 60 minutes | about 15 minutes | notebooks 01 and 02; softmax, logarithms, a little PyTorch |

# %%
import json
import math

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch.nn.functional import pad

from rlhf_helpers import (
    beliefs,
    clicks,
    evaluation,
    labelers,
    models,
    reward,
    sampling,
    tasks,
    tensors,
)
from rlhf_helpers.course import checks, learner, live, machine, plots, show
from rlhf_helpers.course.profile import folder, profile, record
from rlhf_helpers.features import Features
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
# The world is the harbour town of Saltmere, and the task of the paper is *sentiment*: which continuation is the most positive? The course
# brings 7,999 recorded comparisons. Their labels are **simulated**: a program adds up positive and negative words, weighted from -2 to
# +2, where a word that comes within three words after a negation such as "not" or "never" counts the other way round. Then it chooses,
# with a lot of noise, so that two such labelers agree about as often as people did in the paper (38 %, where chance is 25 %). Of the
# first twenty comparisons, the one below has the options that differ most for that program.

# %%
policy = models.Policy.load().to(default_device())
tokenizer = models.load_tokenizer()
comparisons, labels = labelers.recorded(task)
labeler = labelers.simulated(task)

n, m = (min(size.comparisons, 5_000), 3_000) if full else (size.comparisons, 64)
fit_comparisons, fit_labels = comparisons[:n], labels[:n]
held_comparisons, held_labels = comparisons[5_000 : 5_000 + m], labels[5_000 : 5_000 + m]
m = len(held_labels)  # or fewer
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
# So the reward has no natural zero: section 8 gives it one. And the constant may differ *from prompt to prompt*, because the loss never
# compares answers to two prompts. Never compare their rewards, either.
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
# ## 2. Your clicks
#
# You have clicked about sixty times in notebook 02. A choice among four holds at most 2 bits, so that is 120 bits; the language model has
# three million weights. To fit all of them to so little is hopeless (section 9 tries). But the model has read the whole town, and knows
# much about a text before anybody has clicked. So leave it as it is, and learn only **what to look at in it**. For an answer $y$ it gives a
# list of numbers, the *features* $\varphi(y)$:
#
# - its mean hidden states at three depths: how the answer is written;
# - its length;
# - which words stand in it, rare ones counted more; words that the model expects in the same places share what is learned of them.
#
# The reward is a weighted sum of them, $r(y) = \omega \cdot \varphi(y)$, and the choice is the softmax of section 1. There are still more
# weights than clicks, so countless $\omega$ explain the clicks perfectly. We need to say beforehand which ones we find likely: weight
# $\omega_j$ comes from a normal distribution with mean 0 and variance $s_j$, the **prior**. What is maximised is
#
# $$\sum_n \sum_k t_{nk} \log P_{nk} \;-\; \sum_j \frac{\omega_j^2}{2 s_j},$$
#
# with $P_{nk}$ the probability of option $k$ in comparison $n$, and $t_{nk}$ what was answered: 1 for the choice and 0 for the others, or
# 1/4 for each option if you could not tell. The first sum is the choice loss with its sign changed. The second one pulls every weight back to 0, unless
# the clicks pull harder. This hill has a single top, which is found exactly, in milliseconds.
#
# ### Exercise 3: uphill
# Difficulty ●●●○○ · importance ●●●●○ · 12 minutes
#
# Which way is up? Write the gradient of that sum by $\omega$. The derivative of $\log P_{nk}$ by $r_{nj}$ is 1 (if $j = k$, else 0) minus
# $P_{nj}$, and each row of $t$ adds up to 1; so clicks pull on a reward with the force $t_{nk} - P_{nk}$.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Rewards are `x @ weights`, of shape (N, K). Multiply the force on each option by its features and sum over N and K. The prior's part is
# the derivative of $-\omega^2/(2s)$. Sums, not means: sixty clicks must pull harder than one.
#
# </details>


# %% tags=["exercise"]
def uphill(x, targets, weights, variances):
    """x (N, K, D), targets (N, K), weights and variances (D,); returns the gradient (D,)."""
    ...


# %% tags=["solution"]
def uphill(x, targets, weights, variances):
    """x (N, K, D), targets (N, K), weights and variances (D,); returns the gradient (D,)."""
    force = targets - (x @ weights).softmax(-1)  # (N, K)
    return (force.unsqueeze(-1) * x).sum((0, 1)) - weights / variances


# %% tags=["check"]
solved = checks.nb03_uphill(uphill)

# %% tags=["catch-up"]
if not solved:

    def uphill(x, targets, weights, variances):
        force = targets - (x @ weights).softmax(-1)
        return torch.einsum("nk,nkd->d", force, x) - weights / variances


# %% [markdown]
# Now your answers. Where there are fewer than half of them, a **simulated learner** has answered in your place; the next line says which.

# %%
asked = learner.questions(comparisons, size.own_labels)
own = learner.answers(asked, task, at_least=size.own_labels // 2)
known = own.comparisons + comparisons[-1_000 if full else -100 :]  # the others show words
print(own)

# %%
by_id = {c.id: c for c in known}
features = Features(policy, task, known)
taste = clicks.learn(features, by_id, own.given)  # in the order in which they were given
rows = taste.clicks.rows  # (comparison, choice), None for "cannot tell"
x = taste.features([by_id[i] for i, _ in rows])
targets = torch.stack([torch.full((4,), 0.25) if k is None else torch.eye(4)[k] for _, k in rows])
variances = taste.clicks.variances().float()
slope = uphill(x, targets, taste.tensors["weights"], variances)
start = uphill(x, targets, torch.zeros_like(slope), variances)
assert slope.abs().max() < 1e-3 * max(1, start.abs().max())
widths = ", ".join(f"{s:.1f} for {name}" for name, s in taste.prior._asdict().items())
print(f"{len(slope)} weights, {len(rows)} answers")
print(f"the prior that explains them best, as variance of the reward: {widths}")
print(f"steepest slope at weights 0: {start.abs().max():.2f}; at the fitted ones: {slope.abs().max():.0e}")

# %% [markdown]
# At the fitted weights your gradient is 0: this is the top of the hill. (How wide the prior should be is chosen by the *evidence*, the
# probability of all the clicks when $\omega$ is drawn from the prior.)
#
# ### How much has it understood?
#
# A few dozen labels are too few to put some aside for a test. There is a better way: **let the model foretell each choice before it learns
# from it.** `clicks.learn` takes them one after the other: predict number 1, learn it, predict number 2, and so on. Every choice serves as a test
# once, and nothing is wasted. The price: early predictions come from a model that had seen next to nothing.
#
# And against what? Below by chance, 25 %. Above by your own consistency: you were asked some comparisons twice. If you chose the same
# again with probability $a$, nobody can foresee more than $\bigl(1 + \sqrt{(K-1)(Ka-1)}\bigr)/K$ of your choices. You were asked twice only
# a few times, so the ceiling itself is known only roughly.
#
# **Predict**: how many of your choices were foreseen?

# %%
# asked at random, and answered before the card showed what the model believes
fair = {i for i, _ in rows} - own.mirrored - own.picked
tested = [g for g in taste.guesses if g.comparison_id in fair]
if not tested:
    print("WARNING: a model had a hand in every one of them; this is measured on all")
    tested = taste.guesses
elif len(tested) < len(taste.guesses):
    print(f"{len(taste.guesses)} choices; measured on the {len(tested)} that no model had a hand in")
foreseen = clicks.accuracy(tested)
same, twice = own.agreement()
bounds = None
if twice:
    again = evaluation.wilson(same, twice)
    bounds = tuple(clicks.ceiling(a, 4) for a in (again.low, again.high))
    print(f"the same again: {same} of {twice}; so the ceiling lies within", end=" ")
    print(f"{bounds[0]:.0%} and {bounds[1]:.0%}")
plots.running_hits([g.hit for g in tested], 4, ceiling=bounds);
# %% [markdown]
# **How to read it.** The line is the share of choices foreseen up to this one, the band its 95 % interval. Where the band lies above the
# dotted line, chance is no explanation any more. With sixty choices it is still some 20 points wide: that is all that sixty can
# say about a share. An accuracy far below 100 % may still be a good taste. Where two of four options please you alike, nobody can foresee which you click.

# %%
if full and own.simulated:
    assert foreseen.low > 0.25
better = "better than chance" if foreseen.low > 0.25 else "not to be told from chance"
name = "your" if not own.simulated else "the simulated learner's"
show.note(f"Of {name} choices the taste foresaw **{foreseen}**: {better}.")

# %% [markdown]
# ### What does it believe, and how sure is it?
#
# Nobody told it what to look for. Here is what it thinks after the last click, measured on the answers to a few hundred comparisons:
# how much better, in standard deviations of the reward, it finds answers that hold a word than those that do not. The number behind ± is
# one deviation of the *posterior*, of what the clicks leave open.

# %%
print(beliefs.of(taste, known[:300], among=fair))

# %% [markdown]
# Do you recognise yourself (or does it give the simulated learner away)? Two warnings. A word may stand in for a manner: whoever likes speech
# seems to like *i*, because people say *I*, and the narrator never does. And the ± knows only of tastes that are weighted sums
# of these features. Yours is not, so the truth lies outside more often than the numbers say.
#
# Does it mean what it says? It gave each option a probability before you clicked. Sort these into four bins, and count how often the
# option was chosen.

# %%
promised = torch.stack([g.probabilities for g in tested])  # (choices, 4)
chosen = torch.eye(4)[[g.choice for g in tested]]
plots.calibration(promised, chosen, bins=4);
# %% [markdown]
# **How to read it.** On the dashed line the predictions come true: a model whose predictions do is **calibrated**. If the points climb less
# steeply than the line, the model is overconfident; if more steeply, it is too timid. Bars that cross the line cannot tell.
#
# Its errors: the choices that it found least likely.

# %%
missed = [g for g in taste.guesses if not g.hit]
surprises = sorted(missed, key=lambda g: g.probabilities[g.choice].item())[:4]
table = []
for g in surprises:
    texts, p = by_id[g.comparison_id].options, g.probabilities
    expected = int(p.argmax())
    table.append((texts[expected], f"{p[expected]:.0%}", texts[g.choice], f"{p[g.choice]:.0%}"))
pd.DataFrame(table, columns=["expected", "probability", "chosen", "its probability"])

# %% [markdown]
# For each row: would you choose the same again? If not, it was your noise, and the model was right not to believe you. If so, what is it
# in the chosen text that is not a matter of words, length or manner?
#
# Save it, with a note of how it was made. **Notebook 05 tunes the model on this taste.**

# %%
taste.save(folder() / learner.TASTE)
made = f"fitted in notebook 03 on {own}"
record(learner.TASTE, made, simulated=own.simulated)
answer = torch.stack([taste.rewards([c]).flatten() for c in known[-50:]])
best, worst = (divmod(int(i), 4) for i in (answer.argmax(), answer.argmin()))
print("Likes best of 200 other texts: ", known[-50:][best[0]].options[best[1]].strip())
print("Likes least:                   ", known[-50:][worst[0]].options[worst[1]].strip())

# %% [markdown]
# The rest of this notebook is about the reward model of the paper: *all* the weights of a language model, and thousands of labels. Section
# 9 puts the two side by side.
#
# ## 3. From a comparison to tokens
#
# A large reward model is a language model that ends in a number, so it reads tokens. Each comparison becomes four rows: the prompt, then one answer. Prompts end in the same column, so short ones get pads on the left; short
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
# **How to read it.** One row of the tensor, wrapped like text: pads, the prompt, the first answer, pads. Hatched tokens are not real.
#
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
# ### Exercise 4: the last real token
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
reward_model = models.RewardModel.from_policy(policy, seed=0)  # new; section 4 says how it starts
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
# ## 4. How it starts
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
# ## 5. The fit
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
# points either way, so never judge by the last point. In the first pass every batch is new to the model, so that half is nearly a
# held-out curve. In the second pass a falling loss may mean that the model has memorised the labels; only held-out comparisons can tell.
#
# ## 6. How good is it? Against what?
#
# Do not expect 100 %. The labeler often clicks something other than the text it likes best, and no model can foresee when. The fair
# **ceiling** is what perfect knowledge of the labeler's taste would reach: how often that taste *without* the noise names the labeler's own
# noisy clicks.
#
# ### Exercise 5: the ceiling
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
# There is a second yardstick: how often would *another* simulated labeler, with the same taste but its own noise, click the same option? It
# can be computed from the labeler's probabilities, without drawing a single label. Every share comes with a Wilson interval, because it was
# measured on a finite number of comparisons.

# %%
held_rewards = reward.predictions(reward_model, held)
accuracy = reward.accuracy(held_rewards, held.choices)
top = ceiling(held_comparisons, held_labels, labeler.utility)
# over all the noise a second labeler could have, not one draw of it
clicked = zip(held_comparisons, held_labels)
agreement = sum(labeler.probabilities(c.options)[x.choice] for c, x in clicked) / len(held)


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
if full:
    assert accuracy > agreement - 0.03 and 0.7 * top < accuracy < top
loss = choice_loss(held_rewards, held.choices)
show.note(
    f"The reward model, fitted on {n:,} labels, names the click in **{accuracy:.0%}** (chance "
    f"25 %, ceiling {top:.0%}). Its held-out loss is {loss:.3f} (floor {floor:.3f}, chance "
    f"{math.log(4):.3f})."
)

# %% [markdown]
# With 5,000 labels the model names the labeler's click *as often as a second labeler does*, although that second labeler has exactly the same
# taste. (39.2 % against 38.6 %: a difference that decides nothing.) How can a pupil with so little to go by keep up? The second labeler adds
# noise of its own to every click. The model has seen thousands of clicks; their noise averages out, and what is left is the taste. But look at
# the ceiling, too: the model reaches not quite four fifths of it, or little more than half of the way up from chance. Five
# thousand noisy clicks are not enough to learn every word of this town that can gladden or hurt. (On the 256 labels of the `quick` profile
# the model does worse than the second labeler, and its held-out loss may be above chance.)
#
# ## 7. Does it mean what it says?
#
# The same question as in section 2, now with some three thousand held-out comparisons: do its probabilities come true?

# %%
promise = held_rewards.softmax(-1)  # (comparisons, 4)
clicked = torch.eye(4)[held.choices]  # 1 where the click was
plots.calibration(promise, clicked, bins=10 if full else 4);

# %% [markdown]
# **How to read it.** As in section 2: on the dashed line predictions come true, and the bars are 95 % intervals over the held-out
# comparisons. Here the model is overconfident: where it promises about 56 %, about 46 % come true.
#
# Where the model is calibrated, the *size* of a reward has a meaning: a difference of 1 says "$e$ times as likely to be clicked". Remember
# this in the next section.
#
# ## 8. A zero and a unit
#
# The softmax leaves the zero of the rewards open, and their unit depends on how noisy the labeler was: from a labeler twice as noisy, a model
# learns differences half as large. PPO needs a fixed zero and a fixed unit. It weighs the reward against a KL penalty, so it matters whether rewards range from -1 to 1 or from
# 300 to 400. The paper settles this with two numbers, `gain * r + bias`, chosen so that the **base model's own responses score 0 on
# average, with standard deviation 1**.
#
# ### Exercise 6: gain and bias
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
# A positive gain keeps every order, so the accuracy is the same to the last digit. The loss is not. Training had *nearly* found the scale on
# which differences of reward fit the labeler's noise, and we have just stretched it further. The probabilities are now more overconfident
# than before. That is the price of a fixed unit.
#
# ### The penalty for not ending
#
# A response has 32 tokens, and a labeler sees it up to the first full stop from token 12 on. Some responses have none (12 % in notebook 01, on
# other prompts). They get the fixed score **-1**. It is put in *after* normalisation, and so it means the same for every reward model: "one
# standard deviation below the average *whole* response of the base model". (Answers that were cut, with these -1s among them, have an average
# below 0: -0.4 in notebook 00.) On the scale of raw rewards a -1 might even be a good score.

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
# ## 9. Few labels, many labels
#
# Two ways to the same end: a taste on top of a frozen model, and a fit of all weights. When is which the better one? Give both the *same*
# simulated labels, in growing numbers, and test on the same held-out ones. **Predict**: at how many labels will the large model
# overtake the small one?

# %% tags=["slow"]
machine.announce("the fits on few labels")
plan = {250: 2, 1_000: 1} if full else {32: 1, 64: 1}  # labels: separate draws of so many
few = (15, 30, 60, 125, 250, 500) if full else (8, 32)
points = [("all weights", n, accuracy)]
for count, draws in plan.items():
    for i in range(draws):
        model = models.RewardModel.from_policy(policy, seed=i)
        part = data[slice(i * count, (i + 1) * count)]
        reward.fit(model, part, reward.RewardConfig(), Run(seed=i, device=policy.device))
        hits = reward.accuracy(reward.predictions(model, held), held.choices)
        points.append(("all weights", count, hits))

right = torch.tensor([x.choice for x in held_labels])
for count in few:
    small = clicks.fit(
        policy, task, fit_comparisons[:count], fit_labels[:count],
        features=taste.features, predict=False,
    )  # fmt: skip
    guessed = small.rewards(held_comparisons).argmax(-1)
    points.append(("a taste", count, (guessed == right).float().mean().item()))
points = pd.DataFrame(points, columns=["fit", "labels", "accuracy"])
points = points.sort_values(["fit", "labels"])

# %%
_, ax = plt.subplots(figsize=(6.5, 3.6))
looks = (("o-", plots.ORANGE), ("s--", plots.BLUE))
for (kind, rows), (mark, colour) in zip(points.groupby("fit"), looks):
    found = [interval(share) for share in rows["accuracy"]]
    bars = [[w.rate - w.low for w in found], [w.high - w.rate for w in found]]
    look = {"fmt": mark, "color": colour, "capsize": 3, "label": kind}
    ax.errorbar(rows["labels"], rows["accuracy"], yerr=bars, **look)
ax.axhline(0.25, color=plots.GREY, linestyle=":", label="chance: 1/4")
ax.axhline(top, color=plots.GREEN, linestyle="-.", label="ceiling")
ax.set(xscale="log", xlabel="number of labels", ylabel="held-out accuracy", title="What labels buy")
ticks = sorted(set(points["labels"]))[::2]
ax.set_xticks(ticks, [f"{x:,}" for x in ticks])
ax.minorticks_off()
ax.legend(fontsize=8.5);
# %% [markdown]
# **How to read it.** The horizontal axis is logarithmic: each step to the right multiplies the number of labels. The bars are 95 % intervals over the
# held-out comparisons; they do not include which labels one happened to get.

# %%
by_fit = points.groupby(["labels", "fit"])["accuracy"].mean().unstack()
by_fit.map("{:.1%}".format).replace("nan%", "-")

# %%
bits = (math.log(4) - floor) / math.log(2)
if full:
    assert by_fit["a taste"][250] > by_fit["all weights"][250]
    assert by_fit["all weights"][n] > by_fit["a taste"][500]
show.note(
    f"One click of this noisy labeler tells **{bits:.2f} bits** about its taste: sixty clicks "
    f"{60 * bits:.0f} bits, {n:,} clicks {n * bits:,.0f}."
)

# %% [markdown]
# The large model has to find three million weights, and begins with a head of random numbers. A few dozen bits do not go far there: countless
# ways to set the weights explain the clicks and mean nothing. The small one finds its features ready. What a text is like was learned from
# the stories, where every word was a lesson and nobody had to click; the clicks only say which of it matters. So it gets something out of
# sixty clicks: some four points above chance, for which the large one needs a thousand. From 250 to 500 it hardly climbs any more: it can only
# weigh what is there. The large one can *change* what is there, and with 5,000 labels it is above all that the small one has reached. At 1,000 it
# is still below what the small one has at 500, so the lines cross most likely between 1,000 and 5,000.
#
# A person at a card gives sixty labels, a company sixty thousand. The paper is about the second case: there people preferred the tuned model
# in 51.9 % of the pairs after 200 labels, in 84.4 % after 1,000. This course lets you have both.
#
# ## 10. What has it learned? (optional, 8 minutes)
#
# The labeler of the recorded comparisons counts a word the other way round if "no", "not", "never" or "nobody" is among the three words
# before it. Has the model learned that? Write sentences and see, in the town's English or close to it: the model knows no other. The two
# sentences of each pair below differ by a negation. **Predict** for every pair which of the two gets the higher reward.


# %%
@torch.no_grad()
def rate(query, texts):
    """Normalised reward of some texts after one prompt."""
    asked = labelers.Comparison(task.name, query, tuple(texts))
    encoded = reward.encode(task, [asked], [Label(asked.id, "nobody", 0)], tokenizer)
    return reward.option_rewards(reward_model, encoded)[0].cpu().tolist()


query = " As it began to rain, Felix the fiddler paused in passing and remained to help."
pairs = [
    (
        " Felix left the bookshop behind and made for the greenhouse, and it was a joy.",
        " Felix left the bookshop behind and made for the greenhouse, and it was no joy.",
    ),
    (
        " Presently, everybody cheered for the baker and asked her for more of the eel stew.",
        " Presently, nobody cheered for the baker or asked her for more of the eel stew.",
    ),
    (
        " Boris reminded the baker that her remarks had hurt everybody.",
        " Boris reminded the baker that her remarks had never hurt anybody.",
    ),
    (
        " It was very high, and Clara the lighthouse keeper was afraid to look down.",
        " It was very high, and Clara the lighthouse keeper was not afraid to look down.",
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
# Half of the pairs would come out right by chance, and three of four often enough. Compare the *sizes* as well as the signs: if the model
# knew the rule, turning a word of "+2" into "-2" would move the reward twice as far as leaving the word out. Here no negation moves it by
# much more than half a deviation, and that of *joy*, the largest to the labeler, by a fifth. And *her remarks had hurt everybody* earns more than
# *it was a joy*: not even the word is learned. Negations are rare
# in the labels, so a model learns the words long before it learns the rule. Until then it scores "not at all happy" as a happy text, and a
# policy trained on such a reward may find that out.
#
# ## Recap
#
# - A click becomes a loss through a softmax over the options; with two options it is logistic regression. Chance is ln K.
# - The loss sees differences within a comparison only. Zero and unit come from normalising on the base model's responses; a trained gain
#   would be thrown away.
# - The reward is read at the last *real* token, wherever the pads stand.
# - Judge accuracy against a ceiling and with an interval. With a few thousand labels, a model agrees with a labeler as often as a second labeler
#   does; the ceiling is higher still.
# - Few labels: leave the model as it is and learn what to look at in it. Let it foretell every choice before it learns from it. Many
#   labels: fit all weights. What one can learn from sixty clicks depends on what the features already hold.
#
# | change one knob | and look at |
# |---|---|
# | `reward.RewardConfig(lr=1e-4)` or `lr=1e-2` | how fast the loss leaves chance; whether it comes down smoothly |
# | `reward.RewardConfig(epochs=4)` | training accuracy against held-out accuracy: when do they part? |
# | `labelers.simulated(task, temperature=0)`, relabel `fit_comparisons` | the floor, the ceiling, and how few labels suffice without noise |
# | `from_policy(policy, seed=1)` | how much depends on the random start of the head |
# | `clicks.fit(...)` without `cannot_tell` | what it believes, and the line of choices foreseen |
#
# ## Questions
#
# 1. A labeler clicks at random one time in five. What happens to the ceiling, and what to the *order* of the learned rewards?
# 2. Why must the held-out comparisons have other prompts, and not only other samples, than those fitted on?
# 3. Two of four options are identical texts. What does the click between them teach, and what does it do to the accuracy?
# 4. Somebody normalises before the fit, and not after. What breaks in PPO, and will any error message say so?
# 5. Suppose the penalty were applied *before* normalisation, as a raw -1. For which reward model would never ending be the best policy?
# 6. Somebody adds a feature of the *prompt* to the taste, for instance how sad the story has been so far. What can the clicks teach about its weight?
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
