# %% [markdown]
# # 01 · Sampling
#
# Ask a language model to continue a sentence, then ask again. You get two different answers, and each comes with a number that hardly
# anybody looks at: how likely that answer was. This course is built on those two things. Labelers compare the answers; PPO changes the
# numbers. If the numbers are wrong, by one column or by a forgotten temperature, nothing crashes: the training runs, the curves move,
# and the model learns noise.
#
# So before anybody judges a sample, you take the sampler apart. The first cells show four answers to one prompt, with their numbers; in
# an hour you will be able to compute all of them by hand.
#
# **After this notebook you can**
#
# - compute the log-probability of a token, with temperature, and show that it equals the package's;
# - say which column of a model's output predicts which token;
# - explain why prompts are padded on the left, and what goes wrong otherwise;
# - apply the task's rule for where an answer ends, and say what an unfinished answer scores;
# - make comparisons of four that anybody can reproduce.
#
# | active | machine (one laptop core) | you need |
# |---|---|---|
# | about 40 minutes | about 1 minute | notebook 00; softmax, logarithms, indexing in PyTorch |

# %%
import math
import time

import matplotlib.pyplot as plt
import pandas as pd
import torch

from rlhf_helpers import evaluation, labelers, models, reward, sampling, tasks, tensors
from rlhf_helpers.course import checks, playground, plots, show
from rlhf_helpers.course.profile import artifact, profile
from rlhf_helpers.runtime.runs import default_device

size, task, device = profile(), tasks.SENTIMENT, default_device()
# %matplotlib inline
show.setup()

# %%
plots.pipeline("sample");
# %%
policy = models.Policy.load().to(device)
tokenizer = policy.tokenizer
prompt = tasks.queries(task, tokenizer, 1, split="test", seed=3)
dice = torch.Generator(device).manual_seed(0)
rollout = sampling.sample(policy, prompt.repeat(4), task.response_length, task.temperature, dice)
show.wrapped("Prompt: " + tasks.query_texts(prompt, tokenizer)[0].strip())
columns = {
    "answer, all 32 tokens": tokenizer.batch_decode(rollout.responses),
    "log-probability (nats)": rollout.logprobs.sum(-1).tolist(),
    "finished": tasks.truncate(task, rollout.responses, tokenizer)[1].tolist(),
}
pd.DataFrame(columns).round(1)

# %% [markdown]
# One prompt, four answers. The second column adds up the log-probabilities of all 32 sampled tokens: the closer to zero, the less
# surprising the answer. The last column says whether the answer came to a full stop in time; section 5 cuts it there. This prompt stays
# with us to the end of the notebook.
#
# ## 1. A token, and how likely it was
#
# A model reads tokens, not letters. Ours knows a few thousand of them: a word that is frequent *in Saltmere* is one token (*Martha*, *flour*), a
# rarer one is put together from several (*floor*, *key*).

# %%
ids = prompt.tokens[0][prompt.mask[0]]
pieces = tokenizer.convert_ids_to_tokens(ids.tolist())
plots.token_strip(pieces, torch.ones(len(pieces), dtype=torch.bool)).get_legend().remove();

# %% [markdown]
# *How to read it:* each box is a token, and a dot is a space. A space belongs to the word *after* it. That is why a response starts
# with a space, and why gluing texts together with an extra space gives other tokens.
#
# At the last token of the prompt the model puts out one number for each token of the vocabulary: the **logits**. We look at them once,
# with nothing in between.

# %%
with torch.no_grad():
    hidden = policy.hidden(prompt.tokens, prompt.mask)  # (1, Q, d)
    logits = policy.logits(hidden[:, -1])[
        0
    ].cpu()  # (V,): what follows the last token of the prompt
print(tuple(hidden.shape), "->", tuple(logits.shape))

# %% [markdown]
# A softmax turns logits into probabilities. A **temperature** $T$ divides the logits first:
#
# $$p(v) = \frac{e^{z_v / T}}{\sum_{u} e^{z_u / T}},$$
#
# where $z_v$ is the logit of token $v$.
#
# Why would one divide? A softmax cares about *differences* between logits: a token whose logit is higher by 1 is $e$ times as likely.
# Dividing by $T$ shrinks or stretches all these differences at once. At $T = 0.5$ they are twice as large, so the favourites pull away; at
# $T = 2$ they are half as large, and the outsiders catch up; towards 0 only the favourite is left. The paper samples style answers at 0.7,
# and so do we. Before you run the next cell: at which temperature will the leading token have the tallest bar?

# %%
top = logits.topk(10).indices
figure, axes = plt.subplots(figsize=(8.6, 3))
looks = [(0.4, plots.BLUE, ""), (0.7, plots.SKY, "///"), (1.5, plots.PALE, "...")]
for i, (temperature, colour, hatch) in enumerate(looks):
    share = (logits / temperature).softmax(-1)[top]
    look = {"color": colour, "edgecolor": plots.GREY, "hatch": hatch, "label": f"T = {temperature}"}
    axes.bar([k + 0.27 * i for k in range(10)], share, 0.27, **look)
words = [repr(tokenizer.decode([k])) for k in top.tolist()]
axes.set_xticks([k + 0.27 for k in range(10)], words, rotation=30)
axes.set(ylabel="probability", title="What comes next? The ten likeliest tokens")
axes.legend();

# %% [markdown]
# *How to read it:* three bars per token, one per temperature. The plain dark bars (cold) pile up on the left; the pale dotted ones (hot)
# leave much of the probability to the thousands of tokens that are not drawn. The *order* of the tokens is the same at every
# temperature.
#
# ### Exercise 1: the log-probability of a token
#
# Difficulty ●●○○○ · importance ●●●●● · 5 minutes
#
# Write `logprob(logits, token, temperature)`. `logits` is a vector (V,), `token` an index into it; return $\ln p(\text{token})$, in nats,
# as one number. Later notebooks need it everywhere: in the reward, in the KL, in PPO's ratio.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Take the logarithm of the formula above: a fraction becomes a difference. One part is a single scaled logit, the other is
# `torch.logsumexp` of all the scaled logits.
#
# </details>


# %% tags=["exercise"]
def logprob(logits, token, temperature):
    """Return log p(token) under softmax(logits / temperature), in nats."""
    ...


# %% tags=["solution"]
def logprob(logits, token, temperature):
    """Return log p(token) under softmax(logits / temperature), in nats."""
    scaled = logits / temperature
    return scaled[token] - scaled.logsumexp(-1)


# %% tags=["check"]
solved = checks.nb01_logprob(logprob)

# %% tags=["catch-up"]
if not solved:

    def logprob(logits, token, temperature):
        return (logits / temperature).log_softmax(-1)[token]


# %% [markdown]
# Compare it at once with what the package wrote down while it sampled: the first token of each of the four answers.

# %%
first = rollout.responses[:, 0].tolist()
by_hand = torch.tensor([float(logprob(logits, token, task.temperature)) for token in first])
largest = (by_hand - rollout.logprobs[:, 0].cpu()).abs().max().item()
assert largest < 1e-3
print("close: your log-probabilities are those of the sampler, up to rounding")
words = [repr(tokenizer.decode([k])) for k in first]
columns = {"first token": words, "log p": by_hand.tolist(), "p": by_hand.exp().tolist()}
pd.DataFrame(columns).round(3)

# %% [markdown]
# ### Exercise 2: entropy
#
# Difficulty ●●○○○ · importance ●●●○○ · 4 minutes
#
# How undecided is the model? Call $-\ln p$ the *surprise* of a token: 0 for one that was certain, large for one that hardly ever comes.
# The **entropy** is the surprise to expect on average: every token's $-\ln p$, weighted with its own $p$, added up. It is 0 when one token
# is certain, and $\ln V$ when all are equally likely. Write `entropy(logits, temperature)`, for a vector (V,), in nats. During PPO the
# entropy is a warning light: a policy whose entropy has collapsed says the same thing every time.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `(logits / temperature).log_softmax(-1)` gives all the log-probabilities at once; their `.exp()` are the weights.
#
# </details>


# %% tags=["exercise"]
def entropy(logits, temperature):
    """Return the entropy of softmax(logits / temperature), in nats."""
    ...


# %% tags=["solution"]
def entropy(logits, temperature):
    """Return the entropy of softmax(logits / temperature), in nats."""
    logprobs = (logits / temperature).log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum()


# %% tags=["check"]
solved = checks.nb01_entropy(entropy)

# %% tags=["catch-up"]
if not solved:
    entropy = tensors.entropy

# %%
temperatures = [0.2, 0.4, 0.7, 1.0, 1.5, 3.0]
nats = [float(entropy(logits, t)) for t in temperatures]
assert nats == sorted(nats) and nats[-1] < math.log(len(logits))
for mine, t in zip(nats, temperatures):
    assert math.isclose(mine, tensors.entropy(logits, t).item(), abs_tol=1e-3)
rows = [(t, h, math.exp(h)) for t, h in zip(temperatures, nats)]
pd.DataFrame(rows, columns=["temperature", "entropy (nats)", "as if choosing among"]).round(2)

# %% [markdown]
# The last column makes nats easier to imagine: with an entropy of $h$ nats the model is as undecided as in a fair choice among $e^h$
# tokens. Entropy grows with the temperature, and never exceeds the logarithm of the size of the vocabulary.
#
# ## 2. Sampling, in ten lines
#
# Draw one token, put it at the end, run the model again. To draw a token, lay the probabilities end to end, so that together they fill the
# line from 0 to 1. Then take a random number between 0 and 1 and see in which token's stretch it falls: a token with probability 0.3
# owns three tenths of the line, and is hit three times in ten. Here is the whole sampler, written for clarity and not for speed.


# %%
def sample_by_hand(policy, queries, length, temperature, generator):
    """Sample, reading everything again for every token."""
    tokens, mask = queries.tokens.to(policy.device), queries.mask.to(policy.device)
    uniform = torch.rand(len(tokens), length, generator=generator, device=policy.device)
    for t in range(length):
        # (B, V): only the last column predicts something new
        logits = policy.logits(policy.hidden(tokens, mask)[:, -1])
        # (B, V): where each token's stretch of the line from 0 to 1 ends
        ends = (logits / temperature).softmax(-1).cumsum(-1)
        # (B, 1): the first token that ends beyond the random number
        new = (ends > uniform[:, t : t + 1]).int().argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, new], 1)
        mask = torch.cat([mask, torch.ones_like(new, dtype=torch.bool)], 1)
    return tokens[:, -length:]


# %%
dice = torch.Generator(device).manual_seed(0)
with torch.no_grad():
    mine = sample_by_hand(policy, prompt.repeat(4), task.response_length, task.temperature, dice)
same = (mine == rollout.responses).all(-1)
print(f"{int(same.sum())} of 4 answers are the package's, token by token")
assert same.any()

# %% [markdown]
# No top-k, no top-p, no early stop: plain draws, always the same number of them, as in the paper. So the probability that we write down
# is exactly the probability with which the token was drawn. (If an answer differs, a random number was so close to the boundary between
# two tokens that a rounding error decided which of them was drawn.)
#
# ### Seeds
#
# All the randomness comes from one `torch.Generator` that is passed in. Which of these do you expect to be equal?


# %%
def draw(seed, rows=4, length=task.response_length):
    """Sample answers to the same prompt; returns the beginning of the second one."""
    dice = torch.Generator(device).manual_seed(seed)
    drawn = sampling.sample(policy, prompt.repeat(rows), length, task.temperature, dice)
    return drawn.responses[1, :16].tolist()


reference = draw(seed=0)
trials = {
    "the same seed again": draw(0),
    "another seed": draw(1),
    "the same seed, eight answers instead of four": draw(0, rows=8),
    "the same seed, answers one token longer": draw(0, length=task.response_length + 1),
}
rows = [(name, tokens == reference) for name, tokens in trials.items()]
pd.DataFrame(rows, columns=["second answer with", "begins as before"])

# %%
assert trials["the same seed again"] == reference and trials["another seed"] != reference

# %% [markdown]
# A generator is one stream of random numbers. The package takes all the numbers of a batch from it before the first token, one row after
# another. Adding rows at the end leaves the second row's numbers as they were (on a CPU; a GPU hands out the stream in a different
# order). If every row takes one number more, however, the second row starts at another place in the stream. So a seed alone does not
# reproduce a sample. Write down the whole recipe: model, prompts, their order and number, length, temperature, seed.
#
# ### A playground
#
# Play before you go on: change the prompt and the temperature; **Again** takes the next seed. Rest the mouse on a token, or use the arrow
# keys, to see how likely it was and what else could have come there. Top-k is for looking only: training never cuts the vocabulary. At
# which temperature do the answers stop being sentences?
#
# ![The playground: a prompt, a slider for the temperature, fields for top-k, seed and the number of samples, three answers with their unlikely tokens underlined, and the five likeliest tokens at the place that was clicked](../docs/playground.png)

# %%
playground.show(policy, task)

# %% [markdown]
# ## 3. Which column predicts which token?
#
# While PPO updates the policy, nothing is sampled. The policy reads prompt and answer **in one pass** and looks up how likely each token
# now is. This is called a *replay*. It gives logits at every column, and this is where many implementations go wrong.
# Do it on paper first, with three tokens of prompt and three of answer:
#
# ```text
# column        0    1    2    3    4    5
# token        q0   q1   q2   y0   y1   y2
# predicts     q1   q2   y0   y1   y2   (nothing that exists)
# ```
#
# The logits at a column predict the token in the *next* column. So y0 is predicted at column 2, which is the last column of the
# **prompt**; and column 5, where y2 is read, predicts nothing that was sampled.
#
# ### Exercise 3: cut out the right columns
#
# Difficulty ●●●○○ · importance ●●●●● · 5 minutes
#
# Write `response_logits(logits, length)`. `logits` has shape (B, Q + R, V); `length` is R. Return the (B, R, V) part that predicts the R
# response tokens, which are at the end. Most of the usual mistakes give the right shape too, so no error message will warn you: only the
# check compares the columns.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Use the table above with R = 3: you want columns 2, 3 and 4. Count from the end: where does that slice start, where does it stop?
#
# </details>


# %% tags=["exercise"]
def response_logits(logits, length):
    """Return the logits (B, R, V) that predict the last R tokens."""
    ...


# %% tags=["solution"]
def response_logits(logits, length):
    """Return the logits (B, R, V) that predict the last R tokens."""
    return logits[:, -length - 1 : -1]


# %% tags=["check"]
solved = checks.nb01_response_logits(response_logits)

# %% tags=["catch-up"]
if not solved:

    def response_logits(logits, length):
        return logits[:, -length - 1 : -1]


# %% [markdown]
# Now the proof. We let the model read prompt and answer at once, take your slice, and compare with two others: what the sampler wrote
# down token by token, and what `sampling.replay` says.

# %%
whole = torch.cat([rollout.queries.tokens, rollout.responses], 1)
seen = torch.cat([rollout.queries.mask, rollout.mask], 1)
with torch.no_grad():
    everywhere = policy.logits(policy.hidden(whole, seen))  # (4, Q + R, V)
    again = sampling.replay(policy, rollout, task.temperature).logprobs
    by_hand = tensors.token_logprobs(
        response_logits(everywhere, task.response_length), rollout.responses, task.temperature
    )
    one_late = tensors.token_logprobs(
        everywhere[:, -task.response_length :], rollout.responses, task.temperature
    )

# %%
plain = tensors.token_logprobs(response_logits(everywhere, task.response_length), rollout.responses)
ways = {"your slice": by_hand, "sampling.replay": again, "one column late": one_late}
ways["your slice, temperature forgotten"] = plain
off = {name: (x - rollout.logprobs).abs().max().item() for name, x in ways.items()}
assert off["your slice"] < 1e-3 and off["sampling.replay"] < 1e-3
assert off["one column late"] > 1 and off["your slice, temperature forgotten"] > 0.1
words = ["none beyond rounding" if x < 1e-3 else f"{x:.1f} nats" for x in off.values()]
pd.DataFrame({"log-probabilities from": list(off), "largest difference from the sampler": words})

# %% [markdown]
# Two of four agree. The other two have the right shape and type, and raise no error. Here is the package's version: find the slice, and
# find out why the last token is not even read.

# %%
show.source(sampling.replay, sampling._hidden)

# %% [markdown]
# ## 4. Padding: why on the left
#
# A batch is a rectangle, but prompts have different lengths. The gaps are filled with a **pad** token, and a **mask** says which tokens
# count. Here are three prompts of our own:

# %%
own = [
    " Clara rubbed her chin and said nothing.",
    " As it began to rain, Rafael sneezed nineteen times and asked for mustard soup.",
    " A gull screamed.",
]
batch = tasks.encode(task, own, tokenizer)
pieces_of = [tokenizer.convert_ids_to_tokens(row.tolist()) for row in batch.tokens]
names = ["first", "second", "third"]
plots.token_strip(pieces_of, batch.mask, titles=names, selected="a real token");
# %% [markdown]
# *How to read it:* one row per prompt; blue boxes are real tokens, hatched grey ones are pads. All the real tokens end in the same column, so every
# answer starts in the same column.
#
# A habit worth having: **decode what a mask selects, before you use it**, and what it leaves out.

# %%
rows = list(zip(batch.tokens, batch.mask, tensors.positions(batch.mask)))
columns = {
    "mask selects": [tokenizer.decode(tokens[keep]) for tokens, keep, _ in rows],
    "mask leaves out": [tokenizer.decode(tokens[~keep]) for tokens, keep, _ in rows],
    "positions": [str(places.tolist()) for *_, places in rows],
}
pd.DataFrame(columns)

# %% [markdown]
# The last column matters as well. A model is told the position of each token: 0 for the first, 1 for the next. Pads must not shift the
# real tokens, so positions are counted over **real** tokens only. (The pads get a 0, which does no harm: nothing attends to them.)
#
# How much harm would a mistake do? Take the shortest prompt alone, without padding: its next-token distribution is the truth. Then compute the same
# distribution inside the batch, in four ways.

# %%
row, n = 2, int(batch.mask[2].sum())
alone = batch.tokens[row : row + 1, -n:].to(device)
tokens, mask = batch.tokens.to(device), batch.mask.to(device)
right, right_mask = tokens.clone(), mask.flip(-1)
right[row] = tokens[row].roll(n)  # its real tokens first, then the pads


def next_token(tokens, mask, positions, at=-1):
    """Return log p of the next token after column `at` of our row."""
    with torch.no_grad():
        hidden = policy.lm.base_model(
            input_ids=tokens, attention_mask=mask, position_ids=positions
        ).last_hidden_state
        return policy.logits(hidden[min(row, len(tokens) - 1), at]).log_softmax(-1)


# %%
counting = torch.arange(tokens.shape[1], device=device).expand_as(tokens)
truth = next_token(alone, torch.ones_like(alone, dtype=torch.bool), counting[:1, :n])
ways = {
    "left, masked, positions of real tokens (ours)": next_token(
        tokens, mask, tensors.positions(mask)
    ),
    "left, masked, positions counted from column 0": next_token(tokens, mask, counting),
    "left, pads not masked": next_token(tokens, torch.ones_like(mask), counting),
    "right, read at the last column": next_token(right, right_mask, tensors.positions(right_mask)),
}
off = {name: (x - truth).abs().max().item() for name, x in ways.items()}
kl = {name: (truth.exp() * (truth - x)).sum().item() for name, x in ways.items()}
favourite = [repr(tokenizer.decode([x.argmax().item()])) for x in ways.values()]
columns = {"largest error (nats)": off, "KL from the truth": kl}
pd.DataFrame(columns).assign(likeliest=favourite).rename_axis("padding").reset_index().round(3)

# %%
ours, counted, unmasked, right_padded = off.values()
assert ours < 1e-3 and counted > 0.01 and unmasked > 0.01 and right_padded > 1
print("alone, the likeliest next token is", repr(tokenizer.decode([truth.argmax().item()])))

# %% [markdown]
# Only the first row is right. Of the other three the second has the smallest error, and for that very reason it is the *worst* bug: no sample
# looks broken, so nobody goes looking for it. In the third the model attends to pads, and another token may become the favourite. The last
# asks the model to continue from a pad, and it does so without complaint. (Padding on the right works if you read at the last real token of
# each row. The reward model of notebook 03 does that: it only reads, and never has to continue.)
#
# ## 5. Where an answer ends
#
# Every response is sampled to its full length. Labelers and the reward model see less of it: it is cut after the first full stop at index
# `truncate_after` or later. An earlier full stop does not count: otherwise three cheerful words could be the easiest way to a good score.
# (Nor does one with a quotation mark right behind it: the two together are another token.)
#
# ### Exercise 4: the truncation rule
#
# Difficulty ●●○○○ · importance ●●●○○ · 4 minutes
#
# Write `ends_at(ids, period, after)`: `ids` is a list of token ids, `period` the id of the full stop. Return the index of the token at
# which the answer ends, or `None` if it never does. (Indices count from 0.)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Walk through `enumerate(ids)` and return at the first token that is a period *and* stands at `after` or later. What is left to return
# after the loop?
#
# </details>


# %% tags=["exercise"]
def ends_at(ids, period, after):
    """Return the index of the first period at index `after` or later, or None."""
    ...


# %% tags=["solution"]
def ends_at(ids, period, after):
    """Return the index of the first period at index `after` or later, or None."""
    for i, token in enumerate(ids):
        if token == period and i >= after:
            return i
    return None


# %% tags=["check"]
solved = checks.nb01_ends_at(ends_at)

# %% tags=["catch-up"]
if not solved:

    def ends_at(ids, period, after):
        return next((i for i, token in enumerate(ids) if token == period and i >= after), None)


# %% [markdown]
# How many answers finish? A few hundred prompts, one answer each, and your function against the package's `tasks.truncate`.

# %%
many = tasks.queries(task, tokenizer, size.judged, split="validation", seed=5)
dice = torch.Generator(device).manual_seed(5)
answers = sampling.sample(policy, many, task.response_length, task.temperature, dice)
kept, finished = tasks.truncate(task, answers.responses, tokenizer)
period = tokenizer(task.truncate_text)["input_ids"][0]
ends = [ends_at(ids, period, task.truncate_after) for ids in answers.responses.tolist()]
lengths = kept.sum(-1).tolist()
assert ends == [n - 1 if done else None for n, done in zip(lengths, finished.tolist())]
print("exact: your rule and the package's agree on every answer")

# %%
figure, axes = plt.subplots(figsize=(7.4, 2.8))
counts = [ends.count(i) for i in range(task.response_length)]
last, start = task.response_length, task.truncate_after
ended, never = {"color": plots.SKY, "edgecolor": plots.BLUE}, {"color": plots.PALE, "hatch": "///"}
axes.bar(range(last), counts, label="finished here", **ended)
axes.bar(last + 0.7, ends.count(None), edgecolor=plots.GREY, label="never finished", **never)
axes.axvline(start - 0.5, color=plots.RED, linestyle="--", label="full stops count from here")
axes.set(xlabel="index of the full stop", ylabel="answers", title="Where answers end")
axes.legend();
# %% [markdown]
# *How to read it:* each bar counts the answers that end at that token. Left of the dashed line nothing can end. The hatched bar on the
# right counts those that were still in the middle of a sentence when the tokens ran out.

# %%
share = evaluation.wilson(int(finished.sum()), len(finished))
assert 0.6 < share.rate < 1
interval = f"{share.low:.0%} to {share.high:.0%}"
show.note(f"**{share.rate:.0%}** of the answers finish (95 % interval: {interval}).")

# %% [markdown]
# The score of an answer that never ends is replaced by -1, whatever the reward model says. The reward model was normalised so that the base
# model's *whole* responses have mean 0 and standard deviation 1. Cut at the full stop, and with the -1s among them, its answers score some -0.4
# on average (notebook 00). So -1 is worse than the average answer, and yet better than the saddest ones. The table shows two answers that did
# not finish (if there are two) and three that did.

# %%
scorer = models.RewardModel.load(artifact("reward_sentiment")).to(device)
scores = reward.score(scorer, answers, task).cpu()
finished = finished.cpu()
assert (scores[~finished] == task.penalty).all() and (scores[finished] != task.penalty).all()
some = [*(~finished).nonzero()[:2, 0].tolist(), *finished.nonzero()[:3, 0].tolist()]
texts = tasks.texts(task, answers.responses, tokenizer)
rows = [(texts[i], bool(finished[i]), scores[i].item()) for i in some]
pd.DataFrame(rows, columns=["answer", "finished", "score"]).round(2)

# %% [markdown]
# The rule does *not* shorten the training: PPO learns from all tokens of every response, those after the full stop included. They earn
# nothing but pay the KL penalty, which keeps them close to what the base model would write.
#
# ## 6. How surprised is the model by a whole text?
#
# ### Exercise 5: perplexity
#
# Difficulty ●●○○○ · importance ●●●○○ · 4 minutes
#
# Log-probabilities add up along a text, so a long text always looks less likely than a short one. **Perplexity** corrects for length: take
# the *mean* of $-\ln p$ per token, then its exponential. It can be read as a number of choices: a perplexity of 5 means that the model
# was, on average, as undecided as among five equally likely tokens. Write `perplexity(logprobs)` for a vector of log-probabilities in
# nats.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Surprise is *minus* the log-probability. Mean first, exponential last.
#
# </details>


# %% tags=["exercise"]
def perplexity(logprobs):
    """Return the exponential of the mean surprise."""
    ...


# %% tags=["solution"]
def perplexity(logprobs):
    """Return the exponential of the mean surprise."""
    return (-logprobs.mean()).exp()


# %% tags=["check"]
solved = checks.nb01_perplexity(perplexity)

# %% tags=["catch-up"]
if not solved:

    def perplexity(logprobs):
        return torch.exp(-logprobs.mean())


# %%
def text_logprobs(text):
    """Return log p of every token of a text but the first, which nothing predicts."""
    ids = torch.tensor([tokenizer(text)["input_ids"]], device=device)
    with torch.no_grad():
        logits = policy.logits(policy.hidden(ids, torch.ones_like(ids, dtype=torch.bool)))
    return tensors.token_logprobs(logits[:, :-1], ids[:, 1:])[0].cpu()


story = tasks.query_texts(prompt, tokenizer)[0]
words = story.split()
order = torch.randperm(len(words), generator=torch.Generator().manual_seed(0)).tolist()
shuffled = " " + " ".join(words[i] for i in order)
foreign = " The committee deferred ratification of the quarterly amortisation schedule."
table = {
    "a sentence of Saltmere": story,
    "the same words, shuffled": shuffled,
    "not of this town": foreign,
}
result = {name: float(perplexity(text_logprobs(text))) for name, text in table.items()}
pd.DataFrame({"text": table, "perplexity": result}).round(1)

# %%
assert result["a sentence of Saltmere"] == min(result.values())

# %% [markdown]
# The model was, on average, as undecided as among some forty tokens. That is much for a text of this town (whole stories of this test split have
# a perplexity of 22, because they tell of things that training never tells; new ones of the usual kinds have 3.7). Most likely it has never read it,
# as hardly any sentence is told twice in Saltmere. But one grammar tells them all, of things that a simulation lets happen, and that grammar
# it has learned. It is the only English that the model knows. The same words in another order have a perplexity more than a hundred times as high,
# and so has a good sentence about something else: keep that in mind when you choose prompts of your own. (A perplexity above 3,072, the size of
# the vocabulary, means not undecided but confidently wrong.) Where in the sentence is the surprise?

# %%
surprise = (-text_logprobs(story)).tolist()
plots.token_strip(pieces[1:], surprise).get_legend().remove();

# %% [markdown]
# *How to read it:* the number under a token is its surprise in nats, $-\ln p$; the stronger the colour, the greater the surprise. Four of the 36
# tokens carry two fifths of it, and ten of them seven tenths: those at which the story could have gone another way. Who is it, what do they do,
# and where? *Flour*, *who* and *beside* it hardly thought possible there. Inside a word, and where one word calls for the next, there is mostly
# hardly any.
#
# ## 7. Do not read everything again: the cache
#
# `sample_by_hand` reads the whole prompt again for every new token. That is wasteful. In this kind of model a token attends only to what
# comes *before* it, so nothing that is added later can change what the model has computed for the prompt. Keep that (the keys and values
# of each attention layer, called the **KV cache**), and only the newest token has to be read. How much work does that save?

# %%
Q, R = prompt.tokens.shape[1], task.response_length
with_cache = [Q + t for t in range(R)]
without = [sum(Q + s for s in range(t + 1)) for t in range(R)]
figure, axes = plt.subplots(figsize=(6.6, 2.8))
axes.plot(range(1, R + 1), without, color=plots.RED, linestyle="--", label="everything again")
axes.plot(range(1, R + 1), with_cache, color=plots.BLUE, label="with a cache")
axes.set(xlabel="tokens sampled", ylabel="columns read so far", title="Work of one answer")
axes.legend();
# %% [markdown]
# *How to read it:* the height is the number of columns that have gone through the model so far. Without a cache, each token costs more
# than the one before; with one, each new token costs one column.
#
# A cache is also a place for bugs to hide: if one position is wrong, the first token is right and the text falls apart after it. So we
# compare the package's loop with transformers' own `generate`. Under greedy decoding (always the likeliest token) there is no randomness,
# and both must write the same tokens.

# %%
queries = many[slice(0, 16)].to(device)
policy.lm.generation_config.eos_token_id = None  # as in the paper: no token ends an answer
greedy = {"do_sample": False, "max_new_tokens": task.response_length}
theirs = policy.lm.generate(queries.tokens, attention_mask=queries.mask.long(), **greedy)
ours = sampling.sample(policy, queries, task.response_length, temperature=0).responses
equal = (ours == theirs[:, queries.tokens.shape[1] :]).all(-1)
print(f"{int(equal.sum())} of {len(equal)} greedy answers equal those of generate, token by token")
assert equal.float().mean() > 0.9  # two almost equal logits may fall either way


# %%
def seconds(work):
    dice, start = torch.Generator(device).manual_seed(0), time.perf_counter()
    with torch.no_grad():
        work(policy, many[slice(0, 8)], task.response_length, task.temperature, dice)
    return time.perf_counter() - start


cached, plain = (min(seconds(work) for _ in range(2)) for work in (sampling.sample, sample_by_hand))
found = "faster" if cached < plain else "not faster: the model is too small for the saving to show"
print("On this machine the cached loop is", found)

# %% [markdown]
# ## 8. Comparisons of four
#
# Now everything is in place to prepare the next notebook: for each prompt four answers, as text, truncated as a labeler will see them. One
# call does it.

# %%
asked = tasks.queries(task, tokenizer, 6, split="train", seed=11)
comparisons = labelers.collect(policy, task, asked, options=4, seed=11)
show.wrapped("Prompt: " + comparisons[0].query.strip())
pd.DataFrame({"option": range(4), "text": comparisons[0].options})

# %% [markdown]
# A comparison contains text and not token ids, so that people can read the file and a later model with another tokenizer can use it. It
# also says where it comes from: the task, which model wrote it, and in which round. Its `id` is a hash of the content.

# %%
rows = [(c.id, c.task, c.source, c.round, len(c.options)) for c in comparisons]
pd.DataFrame(rows, columns=["id", "task", "source", "round", "options"])

# %%
again = labelers.collect(policy, task, asked, options=4, seed=11)
other = labelers.collect(policy, task, asked, options=4, seed=12)
assert [c.id for c in again] == [c.id for c in comparisons]
common = {c.id for c in other} & {c.id for c in comparisons}
print("Same seed: the same ids. Another seed:", len(common), "ids in common.")

# %% [markdown]
# So you may run a cell twice: the same comparisons come out with the same ids, and every label finds its comparison again. A prompt whose
# four answers are all equal is left out, because there is nothing to choose.
#
# ## Recap
#
# - A log-probability is a scaled logit minus the logsumexp of all scaled logits. The temperature belongs in it whenever it was used to
#   sample.
# - The logits at a column predict the *next* token. The first token of an answer is predicted at the last column of the prompt.
# - Prompts are padded on the left, pads are masked, and positions count real tokens only. Decode what a mask selects before you use it.
# - Answers have a fixed length. They are cut for scoring and for people, never for training; one that does not end scores -1.
# - To reproduce a sample you need its whole recipe; the seed is only one part of it.
#
# **Change one knob**, and look again: `task.temperature` in the first sample (0.3, then 1.5); `truncate_after` with
# `dataclasses.replace(task, ...)` in section 5; the number of `options` in section 8.
#
# ## Questions
#
# 1. You sample at temperature 0.7 but replay at 1.0. In which direction is the KL wrong, and would any curve show it?
# 2. Why must a labeler see the truncated text, if the reward model scores the truncated text?
# 3. Suppose early stopping were allowed, and answers had different lengths. Name three places in this notebook that would need a mask.
# 4. A hotter sampler makes comparisons of four more varied. What would you gain for the reward model, and what would you lose?
#
# ## Further reading
#
# - Ziegler et al. (2019), [Fine-Tuning Language Models from Human Preferences](https://arxiv.org/abs/1909.08593): section 2 for the policy
#   and its sampling, section 3.1 for the style tasks, the appendix for lengths and temperatures.
# - Huang et al. (2024), [The N Implementation Details of RLHF with PPO](https://huggingface.co/blog/the_n_implementation_details_of_rlhf_with_ppo):
#   its notes on padding, position ids and truncation cover the same points, found in the released code.
# - Next: notebook 02, in which you are the labeler.
