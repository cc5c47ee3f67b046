# %% [markdown]
# # 01 · Sampling
#
# Ask a language model to go on from one sentence, then ask again. You get two different answers, and each comes with a number that
# hardly anybody looks at: how likely that answer was. Everything in this course stands on those two things. Labelers compare the
# answers. PPO changes the numbers. If the numbers are wrong, by one column or by one forgotten temperature, nothing crashes: the
# training runs, the curves move, and the model learns noise.
#
# So before you let anybody judge a sample, you take the sampler apart. The first cells show you four answers to one prompt, with their
# numbers; one hour from now you can compute all of them by hand.
#
# **After this notebook you can**
#
# - compute the log-probability of a token, with temperature, and prove that your number is the one the package uses;
# - say which column of a model's output predicts which token;
# - explain why prompts are padded on the left, and what goes wrong otherwise;
# - apply the task's rule for where an answer ends, and say what not ending costs;
# - make comparisons of four with a seed and a provenance, so that anybody can make them again.
#
# | active | machine (two laptop cores) | you need |
# |---|---|---|
# | about 40 minutes | about 3 minutes | notebook 00; softmax, logarithms, indexing in PyTorch |

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
plots.pipeline("sample")
# %%
policy = models.Policy.load().to(device)
tokenizer = policy.tokenizer
prompt = tasks.queries(task, tokenizer, 1, split="test", seed=3)
rollout = sampling.sample(
    policy,
    prompt.repeat(4),
    task.response_length,
    task.temperature,
    torch.Generator(device).manual_seed(0),
)
print("Prompt:", tasks.query_texts(prompt, tokenizer)[0].strip())
pd.DataFrame(
    {
        "answer": tasks.texts(task, rollout.responses, tokenizer),
        "log-probability (nats)": rollout.logprobs.sum(-1).tolist(),
        "finished": tasks.truncate(task, rollout.responses, tokenizer)[1].tolist(),
    }
).round(1)

# %% [markdown]
# One prompt, four answers. The middle column adds up the log-probabilities of all sampled tokens: closer to zero means less
# surprising. The last column says whether the answer came to a full stop in time. This prompt stays with us to the end.
#
# ## 1. A token, and how likely it was
#
# A model reads tokens, not letters. Ours knows a few thousand of them: frequent words are one token, rare ones are put together from pieces.

# %%
ids = prompt.tokens[0][prompt.mask[0]]
pieces = tokenizer.convert_ids_to_tokens(ids.tolist())
plots.token_strip(pieces, torch.ones(len(pieces), dtype=torch.bool)).get_legend().remove()

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
    ].cpu()  # (V,): what comes after the last token of the prompt
print(tuple(hidden.shape), "->", tuple(logits.shape))

# %% [markdown]
# A softmax turns logits into probabilities. A **temperature** $T$ divides the logits first:
#
# $$p(y) = \frac{e^{z_y / T}}{\sum_{v} e^{z_v / T}}$$
#
# Below 1, likely tokens become likelier still; above 1, everything comes closer together; towards 0, only the favourite is left. The
# paper samples style answers at 0.7, and so do we. Before you run the next cell: at which temperature will the leading token have the
# tallest bar?

# %%
top = logits.topk(10).indices
figure, axes = plt.subplots(figsize=(8.6, 3))
for i, (temperature, colour, hatch) in enumerate(
    [(0.4, plots.BLUE, ""), (0.7, plots.SKY, "///"), (1.5, plots.PALE, "...")]
):
    share = (logits / temperature).softmax(-1)[top]
    axes.bar(
        [k + 0.27 * i for k in range(10)],
        share,
        0.27,
        color=colour,
        edgecolor=plots.GREY,
        hatch=hatch,
        label=f"T = {temperature}",
    )
axes.set_xticks(
    [k + 0.27 for k in range(10)], [repr(tokenizer.decode([k])) for k in top.tolist()], rotation=30
)
axes.set(ylabel="probability", title="What comes next? The ten likeliest tokens")
axes.legend()

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
# as one number. You will meet this quantity in every later notebook: in the reward, in the KL, in PPO's ratio.

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
if not solved:  # the package's version, for one token

    def logprob(logits, token, temperature):
        return tensors.token_logprobs(logits.view(1, 1, -1), torch.tensor([[token]]), temperature)[
            0, 0
        ]


# %% [markdown]
# Compare it at once with what the package wrote down while it sampled: the first token of each of the four answers.

# %%
first = rollout.responses[:, 0].tolist()
by_hand = torch.tensor([float(logprob(logits, token, task.temperature)) for token in first])
largest = (by_hand - rollout.logprobs[:, 0].cpu()).abs().max().item()
assert largest < 1e-3
print("close: your log-probabilities are those of the sampler, up to rounding")
pd.DataFrame(
    {
        "first token": [repr(tokenizer.decode([k])) for k in first],
        "log p": by_hand.tolist(),
        "p": by_hand.exp().tolist(),
    }
).round(3)

# %% [markdown]
# ### Exercise 2: entropy
#
# Difficulty ●●○○○ · importance ●●●○○ · 4 minutes
#
# How undecided is the model? The **entropy** is its average surprise: every token's $-\ln p$, weighted with its own $p$, added up. It is 0
# when one token is certain, and $\ln V$ when all are equally likely. Write `entropy(logits, temperature)`, for a vector (V,), in nats.
# During PPO the entropy is an alarm bell: a policy whose entropy collapses says the same thing every time.

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
assert all(
    math.isclose(a, tensors.entropy(logits, t).item(), abs_tol=1e-3)
    for a, t in zip(nats, temperatures)
)
pd.DataFrame(
    {
        "temperature": temperatures,
        "entropy (nats)": nats,
        "as if choosing among": [math.exp(h) for h in nats],
    }
).round(2)

# %% [markdown]
# The last column makes nats easier to feel: an entropy of $h$ nats is as undecided as a fair choice among $e^h$ tokens. It always grows
# with the temperature, and it can never pass the logarithm of the size of the vocabulary.
#
# ## 2. Sampling, in ten lines
#
# Draw one token, put it at the end, run the model again. To draw: lay the probabilities side by side, from 0 to 1, take a random number from
# that stretch, and see on which token it fell. Here is the whole sampler, written for clarity and not for speed.


# %%
def sample_by_hand(policy, queries, length, temperature, generator):
    """Sample, reading everything again for every token."""
    tokens, mask = queries.tokens.to(policy.device), queries.mask.to(policy.device)
    uniform = torch.rand(len(tokens), length, generator=generator, device=policy.device)
    for t in range(length):
        logits = policy.logits(
            policy.hidden(tokens, mask)[:, -1]
        )  # (B, V): only the last column predicts something new
        ends = (
            (logits / temperature).softmax(-1).cumsum(-1)
        )  # (B, V): where the stretch of each token ends
        new = (
            (ends > uniform[:, t : t + 1]).int().argmax(-1, keepdim=True)
        )  # (B, 1): the first that ends behind the number
        tokens, mask = (
            torch.cat([tokens, new], 1),
            torch.cat([mask, torch.ones_like(new, dtype=torch.bool)], 1),
        )
    return tokens[:, -length:]


# %%
with torch.no_grad():
    mine = sample_by_hand(
        policy,
        prompt.repeat(4),
        task.response_length,
        task.temperature,
        torch.Generator(device).manual_seed(0),
    )
same = (mine == rollout.responses).all(-1)
print(f"{int(same.sum())} of 4 answers are the package's, token by token")
assert same.any()

# %% [markdown]
# No top-k, no top-p, no early stop: plain draws, always the same number of them. That is the paper's choice. It keeps the arithmetic
# honest, because the probability that we write down is the probability with which the token was drawn. (If an answer ever differs, a draw
# fell within a rounding error of the border between two tokens.)
#
# ### Seeds
#
# All the randomness came from one `torch.Generator`, handed in from outside. Which of these do you expect to be equal?


# %%
def draw(seed, rows=4, length=task.response_length):
    """Sample answers to the same prompt; returns the beginning of the second one."""
    generator = torch.Generator(device).manual_seed(seed)
    return (
        sampling.sample(policy, prompt.repeat(rows), length, task.temperature, generator)
        .responses[1, :16]
        .tolist()
    )


reference = draw(seed=0)
trials = {
    "the same seed again": draw(0),
    "another seed": draw(1),
    "the same seed, eight answers instead of four": draw(0, rows=8),
    "the same seed, answers one token longer": draw(0, length=task.response_length + 1),
}
pd.DataFrame(
    [(name, tokens == reference) for name, tokens in trials.items()],
    columns=["second answer with", "begins as before"],
)

# %%
assert trials["the same seed again"] == reference and trials["another seed"] != reference

# %% [markdown]
# A generator is one stream of random numbers, and the package takes them row after row before the first token. More rows behind the second
# one leave its numbers as they were (on a CPU; a GPU deals them out in another order). One token more for each row, and the second row
# starts at another place of the stream. So a sample is only reproducible together with everything that was asked for. Keep the recipe, not
# only the seed: model, prompts, their order, number, length, temperature, seed.
#
# ### A playground
#
# Play before you go on: change the prompt, the temperature, the seed. Rest the mouse on a token, or walk with the arrow keys, to see how
# likely it was and what else might have stood there. Top-k is for looking only: training never cuts the vocabulary. At which temperature
# do the answers stop being sentences?
#
# ![The playground: a prompt, a slider for the temperature, fields for top-k, seed and the number of samples, three answers with their unlikely tokens underlined, and the five likeliest tokens at the place that was clicked](../docs/playground.png)

# %%
playground.show(policy, task)

# %% [markdown]
# ## 3. Which column predicts which token?
#
# When PPO learns, nothing is sampled any more. The policy reads prompt and answer **in one go** and looks up what it now thinks of each
# token. This is called a *replay*. It gives logits at every column, and this is where most home-made implementations go wrong.
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
# response tokens, which stand at the end. All slips but one have the right shape: only the check will notice.

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
rows = [
    ("your slice", by_hand),
    ("sampling.replay", again),
    ("one column late", one_late),
    ("your slice, temperature forgotten", None),
]
plain = tensors.token_logprobs(response_logits(everywhere, task.response_length), rollout.responses)
differences = {
    name: ((plain if x is None else x) - rollout.logprobs).abs().max().item() for name, x in rows
}
assert differences["your slice"] < 1e-3 and differences["sampling.replay"] < 1e-3
assert differences["one column late"] > 1 and differences["your slice, temperature forgotten"] > 0.1
pd.DataFrame([(k, "none beyond rounding" if v < 1e-3 else f"{v:.1f} nats") for k, v in differences.items()],
             columns=["log-probabilities from", "largest difference from the sampler"])  # fmt: skip

# %% [markdown]
# Two of four agree. The other two have the right shape, the right type and no error message. Here is the package's version: find the
# slice, and find out why the last token is not even read.

# %%
show.source(sampling._replay_rows)

# %% [markdown]
# ## 4. Padding: why on the left
#
# A batch is a rectangle, and prompts have different lengths. The holes are filled with a **pad** token, and a **mask** says which tokens
# count. Three prompts of our own:

# %%
own = [
    " The harbour was quiet.",
    " A gull laughed, and the old lighthouse keeper laughed with it.",
    " It rained.",
]
batch = tasks.encode(task, own, tokenizer)
plots.token_strip([tokenizer.convert_ids_to_tokens(row.tolist()) for row in batch.tokens], batch.mask,
                  titles=["first", "second", "third"], selected="a real token");  # fmt: skip

# %% [markdown]
# *How to read it:* one row per prompt; blue boxes are real tokens, hatched grey ones are pads. All the real tokens end in the same column, so every
# answer starts in the same column.
#
# A habit worth having: **decode what a mask selects, before you use it**, and what it leaves out.

# %%
pd.DataFrame(
    {
        "mask selects": tokenizer.batch_decode(
            [row[keep].tolist() for row, keep in zip(batch.tokens, batch.mask)]
        ),
        "mask leaves out": tokenizer.batch_decode(
            [row[~keep].tolist() for row, keep in zip(batch.tokens, batch.mask)]
        ),
        "positions": [str(row.tolist()) for row in tensors.positions(batch.mask)],
    }
)

# %% [markdown]
# The last column matters as well. A model is told where each token stands: 0 for the first, 1 for the next. A pad must not push the real
# tokens along, so positions are counted over **real** tokens only. (The pads get a 0, which harms nobody: nothing looks at them.)
#
# Does all that care change anything? Take the shortest prompt alone, without any padding: its next-token distribution is the truth.
# Then compute the same distribution inside the batch, in four ways.

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
pd.DataFrame(
    {
        "padding": list(ways),
        "largest error (nats)": off.values(),
        "KL from the truth": kl.values(),
        "likeliest": favourite,
    }
).round(3)

# %%
ours, counted, unmasked, right_padded = off.values()
assert ours < 1e-3 and counted > 0.01 and unmasked > 0.01 and right_padded > 1
print("alone, the likeliest next token is", repr(tokenizer.decode([truth.argmax().item()])))

# %% [markdown]
# Only the first row tells the truth. The second is off by least, which makes it the *worst* bug: no sample looks broken. The third lets the
# pads speak, and another token may become the favourite. The last asks the model to go on from a pad, and gets an answer all the same. (Right padding can be made to work by reading at the last
# real token of each row. The reward model of notebook 03 does just that, because it only has to read, never to go on.)
#
# ## 5. Where an answer ends
#
# Every response is sampled to its full length. Labelers and the reward model see less of it: it is cut after the first full stop at index
# `truncate_after` or later. A full stop before that does not count: otherwise the cheapest way to a good score could be three words.
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
answers = sampling.sample(
    policy, many, task.response_length, task.temperature, torch.Generator(device).manual_seed(5)
)
kept, finished = tasks.truncate(task, answers.responses, tokenizer)
period = tokenizer(task.truncate_text)["input_ids"][0]
ends = [ends_at(ids, period, task.truncate_after) for ids in answers.responses.tolist()]
assert ends == [
    length - 1 if done else None for length, done in zip(kept.sum(-1).tolist(), finished.tolist())
]
print("exact: your rule and the package's agree on every answer")

# %%
figure, axes = plt.subplots(figsize=(7.4, 2.8))
counts = [ends.count(i) for i in range(task.response_length)]
axes.bar(
    range(task.response_length),
    counts,
    color=plots.SKY,
    edgecolor=plots.BLUE,
    label="finished here",
)
axes.bar(
    task.response_length + 0.7,
    ends.count(None),
    color=plots.PALE,
    edgecolor=plots.GREY,
    hatch="///",
    label="never finished",
)
axes.axvline(
    task.truncate_after - 0.5, color=plots.RED, linestyle="--", label="full stops count from here"
)
axes.set(xlabel="index of the full stop", ylabel="answers", title="Where answers end")
axes.legend()
# %% [markdown]
# *How to read it:* each bar counts the answers that end at that token. Left of the dashed line nothing can end. The hatched bar on the
# right counts those that were still in the middle of a sentence when the tokens ran out.

# %%
share = evaluation.wilson(int(finished.sum()), len(finished))
assert 0.6 < share.rate < 1
show.note(
    f"**{share.rate:.0%}** of the answers finish (95 % interval: {share.low:.0%} to {share.high:.0%})."
)

# %% [markdown]
# An answer that never ends is not an answer. In the paper its score is replaced by -1, whatever the reward model thinks of it. On the
# scale of that score the base model has mean 0 and standard deviation 1, so -1 is a clear reproof, but not a catastrophe. You can see the
# rule at work below, on two answers that did not finish (if there are two) and three that did.

# %%
scorer = models.RewardModel.load(artifact("reward_sentiment")).to(device)
scores = reward.score(scorer, answers, task).cpu()
finished = finished.cpu()
assert (scores[~finished] == task.penalty).all() and (scores[finished] != task.penalty).all()
some = [*(~finished).nonzero()[:2, 0].tolist(), *finished.nonzero()[:3, 0].tolist()]
texts = tasks.texts(task, answers.responses, tokenizer)
pd.DataFrame(
    [(texts[i], bool(finished[i]), scores[i].item()) for i in some],
    columns=["answer", "finished", "score"],
).round(2)

# %% [markdown]
# Note what the rule does *not* do: it does not shorten the training. PPO learns from all tokens of every response, also from those
# after the full stop. They earn nothing, but they pay the KL penalty, which keeps them sensible.
#
# ## 6. How surprised is the model by a whole text?
#
# ### Exercise 5: perplexity
#
# Difficulty ●●○○○ · importance ●●●○○ · 4 minutes
#
# Log-probabilities add up along a text, so long texts always look less likely. **Perplexity** repairs that: take the *mean* surprise per
# token, then its exponential. It reads like a number of choices: a perplexity of 5 means the model was as undecided, on average, as among
# five equally likely tokens. Write `perplexity(logprobs)` for a vector of log-probabilities in nats.

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
shuffled = " " + " ".join(
    words[i]
    for i in torch.randperm(len(words), generator=torch.Generator().manual_seed(0)).tolist()
)
foreign = " The committee deferred ratification of the quarterly amortisation schedule."
table = {
    "a story of Saltmere": story,
    "the same words, shuffled": shuffled,
    "not of this town": foreign,
}
result = {name: float(perplexity(text_logprobs(text))) for name, text in table.items()}
pd.DataFrame(
    {"text": list(table.values()), "perplexity": result.values()}, index=list(table)
).round(1)

# %%
assert (
    result["a story of Saltmere"] < result["the same words, shuffled"]
    and result["a story of Saltmere"] < result["not of this town"]
)

# %% [markdown]
# Order is half of language: the same words, shuffled, surprise the model far more. And a sentence from another world surprises it as
# well. Remember the second when you choose prompts of your own. Where inside the story does the surprise sit?

# %%
surprise = (-text_logprobs(story)).tolist()
plots.token_strip(pieces[1:], surprise).get_legend().remove()

# %% [markdown]
# *How to read it:* the number under a token is its surprise in nats, $-\ln p$; the stronger the colour, the greater the surprise. A few
# tokens carry nearly all of it: those at which the story could have gone another way. The rest of a word, once begun, is almost free.
#
# ## 7. Do not read everything again: the cache
#
# `sample_by_hand` reads the whole prompt again for every new token. But a token only ever looks *back*, so what the model computed for the
# prompt cannot change. Keep it (the keys and values of each attention layer: the **KV cache**) and read only the newest token. How much
# work does that save?

# %%
Q, R = prompt.tokens.shape[1], task.response_length
with_cache = [Q + t for t in range(R)]
without = [sum(Q + s for s in range(t + 1)) for t in range(R)]
figure, axes = plt.subplots(figsize=(6.6, 2.8))
axes.plot(range(1, R + 1), without, color=plots.RED, linestyle="--", label="everything again")
axes.plot(range(1, R + 1), with_cache, color=plots.BLUE, label="with a cache")
axes.set(xlabel="tokens sampled", ylabel="columns read so far", title="Work of one answer")
axes.legend()
# %% [markdown]
# *How to read it:* the height is the number of columns that went through the model so far. Without a cache the work grows with every
# token; with one, each new token costs one column more.
#
# A cache is also a fine place for bugs: one wrong position, and the text turns to porridge after the first token. So we compare our loop
# with transformers' own `generate`. Under greedy decoding (always the likeliest token) there is no luck involved, and both must write the
# same tokens.

# %%
queries = many[slice(0, 16)].to(device)
policy.lm.generation_config.eos_token_id = (
    None  # as in the paper: the end token does not stop an answer
)
theirs = policy.lm.generate(
    queries.tokens,
    attention_mask=queries.mask.long(),
    do_sample=False,
    max_new_tokens=task.response_length,
)
ours = sampling.sample(policy, queries, task.response_length, temperature=0).responses
equal = (ours == theirs[:, queries.tokens.shape[1] :]).all(-1)
print(f"{int(equal.sum())} of {len(equal)} greedy answers are equal to generate's, token by token")
assert equal.float().mean() > 0.9  # two almost equal logits may fall either way


# %%
def seconds(work):
    start = time.perf_counter()
    with torch.no_grad():
        work(
            policy,
            many[slice(0, 8)],
            task.response_length,
            task.temperature,
            torch.Generator(device).manual_seed(0),
        )
    return time.perf_counter() - start


cached, plain = (min(seconds(work) for _ in range(2)) for work in (sampling.sample, sample_by_hand))
print(
    "on this machine the cached loop is",
    "faster" if cached < plain else "not faster: the model is too small for the saving to show",
)

# %% [markdown]
# ## 8. Comparisons of four
#
# Everything is in place to prepare the next notebook: for each prompt four answers, written down as text, truncated as a labeler sees
# them. One call does it.

# %%
asked = tasks.queries(task, tokenizer, 6, split="train", seed=11)
comparisons = labelers.collect(policy, task, asked, options=4, seed=11)
print("Prompt:", comparisons[0].query.strip())
pd.DataFrame({"option": range(4), "text": comparisons[0].options})

# %% [markdown]
# A comparison holds text and not token ids, so that people can read the file, and so that a later model with another tokenizer can use
# it. It also carries its provenance: the task, which model wrote it, and in which round. Its `id` is a fingerprint of the content.

# %%
pd.DataFrame(
    [(c.id, c.task, c.source, c.round, len(c.options)) for c in comparisons],
    columns=["id", "task", "source", "round", "options"],
)

# %%
again = labelers.collect(policy, task, asked, options=4, seed=11)
other = labelers.collect(policy, task, asked, options=4, seed=12)
assert [c.id for c in again] == [c.id for c in comparisons]
print(
    "same seed: the same ids. Another seed:",
    len({c.id for c in other} & {c.id for c in comparisons}),
    "ids in common.",
)

# %% [markdown]
# That is why nothing bad happens when you run a cell twice: the same comparisons come out, with the same ids, and a label finds its
# comparison again. A prompt whose four answers are all equal asks nothing, and is left out.
#
# ## Recap
#
# - A log-probability is a scaled logit minus the logsumexp of all scaled logits. The temperature belongs in it whenever it was used to
#   sample.
# - The logits at a column predict the *next* token. The first token of an answer is predicted at the last column of the prompt.
# - Prompts are padded on the left, pads are masked, and positions count real tokens only. Decode a mask before you trust it.
# - Answers have a fixed length. They are cut for scoring and for people, never for training; one that does not end scores -1.
# - A sample is reproducible from its recipe, of which the seed is only one line.
#
# **Change one knob**, and look again: `task.temperature` in the first sample (0.3, then 1.5); `truncate_after` with
# `dataclasses.replace(task, ...)` in section 5; the number of `options` in section 8.
#
# ## Questions
#
# 1. Sampling at temperature 0.7, but replaying at 1.0: which way would the KL be wrong, and would any curve give it away?
# 2. Why must a labeler see the truncated text, if the reward model scores the truncated text?
# 3. Suppose early stopping were allowed, and answers had different lengths. Name three places in this notebook that would need a mask.
# 4. A hotter sampler makes comparisons of four more varied. What would you gain for the reward model, and what would you lose?
#
# ## Further reading
#
# - Ziegler et al. (2019), [Fine-Tuning Language Models from Human Preferences](https://arxiv.org/abs/1909.08593): section 2 for the policy
#   and its sampling, section 3.1 for the style tasks, the appendix for lengths and temperatures.
# - Huang et al. (2024), [The N Implementation Details of RLHF with PPO](https://huggingface.co/blog/the_n_implementation_details_of_rlhf_with_ppo):
#   the notes on padding, on position ids and on truncation tell the same stories from the side of somebody who had to find them.
# - Next: notebook 02, in which you are the labeler.
