# %% [markdown]
# # 05 · PPO written out
#
# You have a language model that writes about Saltmere, and a reward model that has learned what the labeler likes. The reward model gives
# **one number for a whole response**. It says neither which of the 32 tokens earned it, nor what would have been better. Nor can you
# differentiate the score by the weights: drawing a token is a random choice, and no gradient passes through it. Notebook 04 found the
# way round, the **policy gradient**: draw responses, and raise the log-probability of each token in proportion to its advantage, to how
# much better than expected its response turned out. On average, that direction is the gradient of the expected score. It also found what is
# wrong with doing just that: much noise, and samples that are used only once. PPO is the same gradient, taken in careful steps.
#
# Two models give scores in this notebook. The reward model of many simulated labels is the one that is taken apart with everything else. But
# the full run in section 12 tunes on **the taste of notebook 03**, fitted to your clicks: on what *you* like. Where there is no such taste
# yet, the reward model takes its place there, too. The next cell says which it will be.
#
# The table below shows a result. This notebook shows how it is done, line by line, with nothing left out. The letters are those of
# notebook 04 ([a table of all of them](../docs/symbols.md)): $\pi$ (pi) is the **policy**, the model that is trained, and $\rho$ (rho) the
# **reference**, a copy of the base model that never changes.

# %%
import inspect
import json
import time
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from unittest import mock

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Code

from rlhf_helpers import models, ppo, presets, reward, sampling, tasks, tensors
from rlhf_helpers.course import checks, learner, live, machine, plots, show
from rlhf_helpers.course.profile import artifact, beside, folder, profile, record
from rlhf_helpers.runtime import runs
from rlhf_helpers.runtime.optim import TensorFlowAdam
from rlhf_helpers.runtime.runs import Run

size, device, task = profile(), runs.default_device(), tasks.SENTIMENT
# %matplotlib inline
show.setup()

# %%
plots.pipeline("ppo");
# %%
tokenizer = models.load_tokenizer()
reference = models.Policy.load().to(device).frozen_copy()
reward_model = models.RewardModel.load(artifact("reward_sentiment")).to(device)
pool = tasks.queries(task, tokenizer, 2_000, seed=100)
score = reward.scorer(reward_model, task)
taste, is_simulated = learner.taste(reference)  # None where notebook 03 has not fitted one
whose = learner.of_whom(is_simulated) if taste else "the reward model of sentiment"
show.note(f"The full run of section 12 will tune on **{whose}**.")


def seeded(seed):
    return torch.Generator(device).manual_seed(seed)


# %%
def answers(policy, queries, score=score):
    rollout = sampling.sample(policy, queries, task.response_length, task.temperature, seeded(0))
    return tasks.texts(task, rollout.responses, tokenizer), score(rollout).tolist()


def before_and_after(tuned, queries, score=score):
    table = {"end of the prompt": [show.ending(t) for t in tasks.query_texts(queries, tokenizer)]}
    table["before"], table["score before"] = answers(reference, queries, score)
    table["after PPO"], table["score after"] = answers(tuned, queries, score)
    return pd.DataFrame(table).round(2)


test = tasks.queries(task, tokenizer, size.judged, split="test", seed=5).to(device)
found = artifact("policy_sentiment")
tuned = models.Policy.load(found).to(device)
paid_by = reward.scorer(models.RewardModel.load(beside(found, "reward_sentiment")).to(device), task)
before_and_after(tuned, test[:6], paid_by)


# %%
def mean_score(policy, score=score):
    return sum(answers(policy, test, score)[1]) / len(test)


before, after = mean_score(reference, paid_by), mean_score(tuned, paid_by)
show.note(
    f"Over {len(test)} test prompts the mean score is {before:.2f} before and {after:.2f} after."
)

# %% [markdown]
# Same prompts, same seed of the sampler, two models: the base model, and one tuned on the reward model of sentiment. (A recorded
# policy brings the reward model that paid it.) One unit of score is one standard deviation of the base model's
# own responses (before they are cut and penalised, their mean is 0). Read the texts as well as the scores. Did the tuned model only become
# more cheerful, or did it also begin to repeat itself?
#
# **After this notebook you can**
# - read `ppo.step` and say what every line is for;
# - rebuild each piece by hand: KL penalty, shaped rewards, rescaling, advantages, ratio, the two clipped losses, the controller;
# - read the nine training curves, and name a bug from them.
#
# **Time:** 90 minutes of yours, about 8 of the machine's. **Before this:** notebooks 01 (sampling), 03 (reward model) and 04 (policy gradient, ratio, price of a nat).
#
# ## 1. The whole algorithm, on one screen
#
# Read it once from top to bottom. Do not stop at what is unclear: the rest of the notebook takes it apart.

# %%
show.source(ppo.step)

# %% [markdown]
# | lines | what happens | section here |
# |---|---|---|
# | `sample` | the policy answers a batch of prompts | 2 |
# | `score` | the reward model gives each answer one number | 3 |
# | `replay(reference, ...)` | how likely were these tokens for the untuned model? | 4 |
# | `ranks...` | the other processes of a run on many GPUs; alone, as here, it does nothing | none |
# | `shape_rewards` | one reward per token | 5 |
# | `losses` | rescale, advantages, returns, ratio, two clipped losses | 6-10 |
# | `minibatches` and the optimizer | a few passes over the batch | 9 |
# | `controller.update` | adapts beta, the weight of the KL penalty | 11 |
#
# Does it work? Call it six times. Afterwards `policy` has left the reference a little, and that is what we need for the rest of this
# notebook: between two equal models every KL is 0, and there is nothing to see.

# %%
config = ppo.PPOConfig(batch=size.batch, episodes=size.episodes)
policy = models.Policy.load().to(device)
optimizer = TensorFlowAdam(policy.parameters(), lr=config.lr)
controller = ppo.KLController(config.kl_coef, config.kl_target, config.kl_horizon)
draws = seeded(0)

lines = []
for i in range(6):
    queries = pool[torch.arange(config.batch * i, config.batch * (i + 1)) % len(pool)].to(device)
    lines.append(
        ppo.step(policy, reference, score, queries, task, config, optimizer, controller, draws)
    )
shown = ["score", "kl_nats_per_response", "beta", "value_loss", "clip_fraction"]
pd.DataFrame(lines)[shown].round(3)

# %% [markdown]
# At step 0 the KL is 0 (up to rounding): policy and reference are the same model. Then the KL grows from step to step. The score does not
# show it yet: means of 64 answers scatter by more than six steps gain. Now we keep this policy as it is and dissect **one small rollout** of
# it.
#
# ## 2. Rollout: what was sampled, and how likely it was

# %%
queries = pool[-16:].to(device)
rollout = sampling.sample(policy, queries, task.response_length, task.temperature, seeded(1))
fields = {"queries.tokens": queries.tokens, "queries.mask": queries.mask}
fields |= {k: getattr(rollout, k) for k in ("responses", "mask", "logprobs", "values")}
rows = [(name, str(tuple(x.shape)), str(x.dtype)) for name, x in fields.items()]
pd.DataFrame(rows, columns=["field", "shape", "type"])

# %% [markdown]
# There are B = 16 rows, each with Q query tokens (padded on the left) and R = 32 response tokens. As always, decode what the two masks
# select, here for row 0:

# %%
row = 0
prompt, answer = queries.tokens[row][queries.mask[row]], rollout.responses[row][rollout.mask[row]]
pieces = [tokenizer.decode([t]) for t in answer.tolist()]
show.wrapped("prompt:   " + tokenizer.decode(prompt), indent="          ")
show.wrapped("response: " + tokenizer.decode(answer), indent="          ")
plots.token_strip(pieces, rollout.logprobs[row].cpu());
# %% [markdown]
# *How to read it:* below each token is its log-probability in nats. Near 0 means that the policy was almost certain; -3 means one chance in
# twenty. The mask selects all 32 tokens: responses have a fixed length and are **not** cut at the full stop. People and the reward model
# see the truncated text; PPO trains on all of it.
#
# First rebuild: the log-probabilities, from one unpadded row. The logits at one position predict the **next** token, so the slice starts at
# the last prompt token.

# %%
with torch.no_grad():
    logits = policy.lm(torch.cat([prompt, answer])[None]).logits[0]
logits = logits[len(prompt) - 1 : -1] / task.temperature
by_hand = logits.log_softmax(-1)[torch.arange(len(answer)), answer]
checks.nb05_same("log-probabilities", by_hand, rollout.logprobs[row])

# %% [markdown]
# ## 3. Score: truncation, and the penalty for not ending
#
# An answer ends at the first full stop at index 12 or later. Without one, the **penalty** of -1 replaces the normalised score. So the policy
# also learns to finish its sentence in time. (The table puts the unfinished first: without a *False* in it all sixteen finished; of a hundred
# base answers about thirteen do not.)

# %%
kept, finished = tasks.truncate(task, rollout.responses, tokenizer)
scores = score(rollout)
whole = tokenizer.batch_decode(rollout.responses)
table = {
    "sampled (32 tokens)": whole,
    "scored": tasks.texts(task, rollout.responses, tokenizer),
    "finished": finished.tolist(),
    "score": scores.tolist(),
}
pd.DataFrame(table).sort_values("finished", kind="stable").head(6).round(2)

# %%
stop = tokenizer(".")["input_ids"][0]


def score_by_hand(i):
    ids = rollout.responses[i].tolist()
    ends = [t for t, token in enumerate(ids) if token == stop and t >= task.truncate_after]
    if not ends:
        return task.penalty
    query, kept = queries.tokens[i][queries.mask[i]], rollout.responses[i, : ends[0] + 1]
    text = torch.cat([query, kept])[None]
    return reward_model(text, torch.ones_like(text, dtype=torch.bool)).item()


with torch.no_grad():
    by_hand = [score_by_hand(i) for i in range(len(rollout))]
checks.nb05_same("scores", by_hand, scores, tolerance=1e-3)

# %% [markdown]
# **PPO does not care where its scores come from.** A reward model is one source; any Python function of texts is another.
# `reward.from_texts` turns a function of two lists, prompts and answers as a labeler sees them, into what `ppo.tune` takes; an answer that
# never ends still gets the penalty. The example rewards short answers in which somebody asks something. Write your own instead, and tune on
# it at the end of this notebook. Whatever you can compute, you can optimise. But you will get what you wrote down, and that may not be what
# you meant.


# %%
def short_with_a_question(prompts, answers):
    return [2.0 * ("?" in answer) - 0.1 * len(answer.split()) for answer in answers]


own_score = reward.from_texts(short_with_a_question, task, tokenizer)
pd.DataFrame({"answer": tasks.texts(task, rollout.responses, tokenizer)[:4],
              "own score": own_score(rollout)[:4].tolist()}).round(2)  # fmt: skip

# %% [markdown]
# ## 4. KL: how far from the reference, token by token
#
# Trained on the score alone, the policy would drift to whatever text the reward model overrates, English or not. The reward model has only
# ever seen texts of the base model. Far away from them it still gives a number, but nothing holds that number to what people want, and an
# optimiser is very good at finding the places where it is too high. So the policy pays for its distance from the reference: what
# is maximised is $\mathbb{E}[r] - \beta\,\mathrm{KL}(\pi\,|\,\rho)$, and section 6 of notebook 04 says which policy is best at that. For each
# sampled token the KL is estimated by the **log ratio** $k_1 = \log\pi - \log\rho$: the log-probability that the policy gave the token,
# minus that of the reference, both at the **same temperature**. (Of the three estimators in notebook 04, it is the one whose place is in
# the reward.)

# %%
with torch.no_grad():
    reference_logprobs = sampling.replay(reference, rollout, task.temperature).logprobs
log_ratio = rollout.logprobs - reference_logprobs
plots.token_strip(pieces, log_ratio[row].cpu());
# %% [markdown]
# *How to read it:* above zero, the policy finds this token more likely than the reference does; below zero (hatched), less likely. Both
# occur.
#
# That may look like a mistake, because a KL divergence is never negative. But the divergence is an *average* of the log ratio, over all tokens
# that the policy might have drawn, and an average of positive and negative numbers can well be positive. The estimate from the one token
# that was drawn is right only **on average**. For one token we can check that, because there the exact KL is a sum over the vocabulary.
# We take the first response token of one prompt.


# %%
def first_token_logprobs(model):
    with torch.no_grad():
        logits = model.logits(model.hidden(queries.tokens, queries.mask)[:, -1])
    return (logits / task.temperature).log_softmax(-1)  # (B, V)


p, q = first_token_logprobs(policy), first_token_logprobs(reference)
exact = (p.exp() * (p - q)).sum(-1)  # (B,)
most = exact.argmax()
drawn = torch.multinomial(p[most].exp(), 20_000, replacement=True, generator=seeded(2))
estimates = (p - q)[most][drawn]
error = (estimates.std() / len(estimates) ** 0.5).item()
means = {f"mean of {n:,} draws": estimates[:n].mean().item() for n in (10, 100, 1_000, 20_000)}
assert abs(means["mean of 20,000 draws"] - exact[most]) < 5 * error
below = (estimates < 0).float().mean().item()
found = {"exact KL": exact[most].item()} | means | {"share of draws below zero": below}
pd.Series(found).round(4).to_frame("nats (last row: share)")

# %%
per_response = log_ratio.sum(-1)
negative = (log_ratio < 0).float().mean()
show.note(
    f"Summed over its 32 tokens, the log ratio of a response is {per_response.mean():.2f} nats on "
    f"average (from {per_response.min():.2f} to {per_response.max():.2f}); it is negative for "
    f"{negative:.0%} of the tokens."
)

# %% [markdown]
# **Exercise 1: the KL penalty.** Difficulty ●○○○○ · importance ●●●●● · 5 minutes
#
# Turn the log ratio into a reward: each token that counts gets $-\beta\,(\log\pi - \log\rho)$; tokens that do not count get 0.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `torch.where(mask, a, 0)` keeps `a` where the mask is True. For the sign, take a token that the policy finds more likely than the reference does: should it pay or earn?
# </details>


# %% tags=["exercise"]
def my_kl_penalty(logprobs, reference_logprobs, mask, beta):  # (B, R) (B, R) (B, R) float -> (B, R)
    return ...


# %% tags=["solution"]
def my_kl_penalty(logprobs, reference_logprobs, mask, beta):  # (B, R) (B, R) (B, R) float -> (B, R)
    return torch.where(mask, -beta * (logprobs - reference_logprobs), 0)


# %% tags=["check"]
solved = checks.nb05_kl_penalty(my_kl_penalty)

# %% tags=["catch-up"]
if not solved:

    def my_kl_penalty(logprobs, reference_logprobs, mask, beta):
        nothing = torch.zeros(len(mask), device=mask.device)
        return ppo.shape_rewards(nothing, logprobs, reference_logprobs, mask, beta)

# %% [markdown]
# ## 5. One reward per token
#
# The penalty is due at every token, because every token takes the policy a little further from the reference or back towards it. The score
# is one number for the whole response, and it is known only when the response is complete: so it is paid on the **last token that counts**.
# The two together are the reward $r_t$ of token $t$. All our masks are full, but your function should also work on shorter responses.
#
# **Exercise 2: place the score.** Difficulty ●●○○○ · importance ●●●●○ · 8 minutes
#
# Add each row's score to the penalty of its last counting token. On paper first: the mask `[1, 1, 1, 0]` has its last counting token in column 2.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# In every row the tokens that count come first, so the last one is in column `mask.sum(-1) - 1`. Either loop over the rows of a
# `clone()`, or use `scatter_add(1, columns, values)` with both arguments of shape (B, 1).
# </details>


# %% tags=["exercise"]
def my_place_score(penalties, scores, mask):  # (B, R) (B,) (B, R) -> (B, R)
    return ...


# %% tags=["solution"]
def my_place_score(penalties, scores, mask):  # (B, R) (B,) (B, R) -> (B, R)
    last = mask.sum(-1) - 1  # (B,)
    return penalties.scatter_add(1, last.unsqueeze(1), scores.unsqueeze(1))


# %% tags=["check"]
solved = checks.nb05_place_score(my_place_score)

# %% tags=["catch-up"]
if not solved:

    def my_place_score(penalties, scores, mask):
        nothing = torch.zeros_like(penalties)
        return penalties + ppo.shape_rewards(scores, nothing, nothing, mask, 0.0)


# %%
beta = controller.beta
rewards = ppo.shape_rewards(scores, rollout.logprobs, reference_logprobs, rollout.mask, beta)
penalties = my_kl_penalty(rollout.logprobs, reference_logprobs, rollout.mask, beta)
mine = my_place_score(penalties, scores, rollout.mask)
checks.nb05_same("shaped rewards", mine, rewards)
columns = {"log ratio": log_ratio, "penalty": penalties, "reward": rewards}
table = pd.DataFrame({name: x[row].tolist() for name, x in columns.items()}, index=pieces)
table.round(3).tail(8)

# %% [markdown]
# These are the last eight tokens of row 0; only the last reward contains the score. Summed over the response, the rewards are the score minus
# beta times the KL:

# %%
paid = scores - beta * per_response
checks.nb05_same("sum of rewards = score - beta * KL", rewards.sum(-1), paid)

# %% [markdown]
# ### Where the credit goes
#
# The paper pays the whole score on the last token. On average that is right. But look at it from the third token: it is credited with
# everything that comes after it, the luck of the later tokens included, and a token behind the full stop is paid for a score that it cannot
# change any more. All this averages out, given enough answers. In a short run it does not, and what does not average out moves the policy
# in directions that nobody asked for: nats spent on noise.
#
# The reward model could tell us more. Let it read the answer after *every* token, and pay each token **by how far it moves the reward
# model's opinion**: the first token gets the opinion of the text up to itself, each later one the change that it makes, and what is cut off
# gets nothing. A row still adds up to its score, so the best policy is the same as before (*potential-based shaping*, Ng et al. 1999); only
# the credit arrives where it was earned.

# %%
gains = reward.gains(reward_model, rollout, task)
checks.nb05_same("what the tokens are paid adds up to the score", gains.sum(-1), scores)
plots.token_strip(pieces, gains[row].cpu());
# %% [markdown]
# *How to read it:* orange tokens raised the reward model's opinion, blue and hatched ones lowered it; the stronger the colour, the more. Some
# surprise: in the executed version *about* wins back nearly all that *drifted* has lost, and every comma costs. The reward model was fitted to
# whole answers, and nobody has told it what half an answer is worth. So single payments are noisy; only their sum is the score. (Where an answer
# never ends, the last token also settles the penalty.)
#
# In `benchmarks/nats.py`, on an earlier base model of this course whose texts were simpler, one run of each kind ended with a score of 1.16
# at 4.4 nats, and with this change of 1.50 at 5.3. (It has not been repeated on today's model.) We keep the paper's way while we take the
# step apart. A full run on a reward model pays token by token: `reward.scorer(..., each_token=True)`. A taste reads a whole answer at once,
# so a run on a taste pays on the last token.

# %% [markdown]
# ## 6. Rescale keeps the mean, standardize removes it
#
# Rewards and advantages can be brought to standard deviation 1 in two ways that differ in one term. Mixing them up is a classic bug:
#
# - **rescale** (rewards): the spread becomes 1, the **mean stays**. The sign of a reward has a meaning: without the mean, every token would
#   get the same bonus or fine, so the length of an answer would be paid for.
# - **standardize** (advantages): spread 1, **mean 0**. An advantage is a comparison, better or worse than expected: only differences matter.
#
# The paper rescales the rewards for its style tasks and not for its summaries (`whiten_rewards`). In our run it is off, because it makes the
# score hard to predict: the score is one number among 32, so bringing all 32 to spread 1 multiplies the score several times over (by 1/0.19,
# about 5, in the table below). The value head, whose predictions may move by 0.2 at a time, would not reach values of that size in a run as
# short as ours. We rescale here for practice, and use the rewards as they are from section 7 on.
#
# **Exercise 3: rescale.** Difficulty ●●○○○ · importance ●●●●○ · 8 minutes
#
# Over the tokens that count: mean $m$, standard deviation $s$ (divide by $n$, not $n-1$); return $(x - m)/s + m$.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `x[mask]` is a flat tensor of the numbers that count. `std(correction=0)` divides by n.
# </details>


# %% tags=["exercise"]
def my_rescale(x, mask):  # (B, R) (B, R) -> (B, R)
    return ...


# %% tags=["solution"]
def my_rescale(x, mask):  # (B, R) (B, R) -> (B, R)
    mean, std = x[mask].mean(), x[mask].std(correction=0)
    return (x - mean) / std + mean


# %% tags=["check"]
solved = checks.nb05_rescale(my_rescale)

# %% tags=["catch-up"]
if not solved:
    my_rescale = tensors.rescale

# %%
rescaled = tensors.rescale(rewards, rollout.mask)
checks.nb05_same("rescaled rewards", my_rescale(rewards, rollout.mask), rescaled)
standardized = tensors.standardize(rewards, rollout.mask)
versions = {"rewards": rewards, "rescaled": rescaled, "standardized": standardized}
rows = {name: (x.mean().item(), x.std(correction=0).item()) for name, x in versions.items()}
pd.DataFrame(rows, index=["mean", "standard deviation"]).T.round(4)

# %% [markdown]
# ## 7. Advantages: who earned the score?
#
# The score arrives at token 31. Was token 5 good? In notebook 04 the best baseline was the one that knew the beginning of the answer: $V_t$,
# the sum of the rewards still to come, as expected *before* token $t$. There it could be written out as a sum over all answers. Here the
# **value head** predicts it. How much better than predicted token $t$ turned out is
#
# $$\delta_t = r_t + V_{t+1} - V_t,\qquad V_{32} = 0,$$
#
# where $r_t$ is the reward of token $t$ from section 5. This is the last bar of notebook 04's figure of four advantages, the one with the
# least noise, and it is right only if the values are. Adding up all the differences that follow gives the bar before it, the whole rest of
# the reward minus $V_t$: more noise, but right whatever the values say. Generalised advantage estimation (GAE) goes between the two,
# with less weight on later differences: $A_t = \delta_t + \lambda A_{t+1}$ (with $\gamma = 1$). Positive means better than predicted.
#
# **On paper first.** Three tokens, rewards (0, 0, 1), values (0.2, 0.4, 0.5), $\lambda = 0.5$. The differences are 0.2, 0.1 and 0.5. From the right:
# $A_2 = 0.5$, $A_1 = 0.1 + 0.5\cdot 0.5 = 0.35$, $A_0 = 0.2 + 0.5\cdot 0.35 = 0.375$ (tokens count from 0).

# %%
three = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.2, 0.4, 0.5]])
found = tensors.gae(*three, torch.ones(1, 3, dtype=torch.bool), lam=0.5)
checks.nb05_same("the example on paper", [[0.375, 0.35, 0.5]], found)

# %% [markdown]
# **Exercise 4: GAE.** Difficulty ●●●○○ · importance ●●●●● · 12 minutes
#
# Write it for any number of tokens, $\gamma = 1$, every token counting (the package's version also carries a mask).

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Go through the columns with `reversed(range(R))` and carry two tensors of shape (B,): the next value and the next advantage. Both start at 0, because after the last token nothing comes.
# </details>


# %% tags=["exercise"]
def my_gae(rewards, values, lam):  # (B, R) (B, R) float -> (B, R)
    ...  # from the last token to the first


# %% tags=["solution"]
def my_gae(rewards, values, lam):  # (B, R) (B, R) float -> (B, R)
    advantages = torch.zeros_like(rewards)
    next_value = next_advantage = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + next_value - values[:, t]
        advantages[:, t] = next_advantage = delta + lam * next_advantage
        next_value = values[:, t]
    return advantages


# %% tags=["check"]
solved = checks.nb05_gae(my_gae)

# %% tags=["catch-up"]
if not solved:

    def my_gae(rewards, values, lam):
        return tensors.gae(rewards, values, torch.ones_like(rewards, dtype=torch.bool), lam=lam)

# %% [markdown]
# A wrong recursion can look right. Compare it with the sum it stands for, $A_t = \sum_k \lambda^k \delta_{t+k}$, as one matrix product:

# %%
values = rollout.values
advantages = my_gae(rewards, values, config.lam)
package = tensors.gae(rewards, values, rollout.mask, lam=config.lam)
checks.nb05_same("advantages", advantages, package)

next_values = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
deltas = rewards + next_values - values
steps = torch.arange(task.response_length, device=device)
later = steps[:, None] - steps  # (later, earlier): how many tokens lie between the two
weights = torch.where(later >= 0, config.lam ** later.clamp(min=0), 0.0)
checks.nb05_same("advantages as an explicit sum", deltas @ weights, advantages)

# %%
_, ax = plt.subplots(figsize=(8, 3))
looks = {0.0: (":", plots.RED), 0.95: ("-", plots.BLUE), 1.0: ("--", plots.GREEN)}
for lam, (style, colour) in looks.items():
    credit = my_gae(rewards, values, lam)[row].cpu()
    ax.plot(credit, style, color=colour, label=f"lambda = {lam}", marker=".")
ax.set(xlabel="token of the response", ylabel="advantage")
ax.set_title("Which token gets the credit for the same response?")
ax.legend();
# %% [markdown]
# *How to read it:* with $\lambda = 0$ a token gets only the difference at its own step: little noise, but as wrong as the value head is. With
# $\lambda = 1$ it gets everything that follows: right on average, but noisy. At 0.95 the last token's score still reaches the first with
# weight $0.95^{31} \approx 0.20$.
#
# The paper uses 0.95: over a million episodes the values learn to predict the score. Our run has a few thousand, and as long as the values
# know nothing, 0.95 only takes credit away from the early tokens, which matter most. Measured on batches of that earlier base model
# (`benchmarks/credit.py`), a step of the same length gains 2.6 times as much score at $\lambda = 1$ as at 0.95. So our `lam` is 1.
#
# ### Returns, before whitening
#
# The value head learns from **returns**: advantages plus old values, an estimate of the rewards that really came. They must be computed
# *before* advantages are standardized. Standardized advantages have mean 0, so targets made from them equal the old values on average: the
# values never move towards the true mean, however long the training. Here is a toy example: true returns have mean 3, and a value moves
# half of the way to its target each time.

# %%
toy = 3 + torch.randn(1, 256, generator=torch.Generator().manual_seed(0))
path = {"returns first": [0.0], "whitened first": [0.0]}
for name, prepare in (("returns first", lambda a: a), ("whitened first", tensors.standardize)):
    for _ in range(8):
        value = path[name][-1]
        target = prepare(toy - value) + value
        path[name].append(value + 0.5 * (target.mean().item() - value))
assert path["returns first"][-1] > 2.5 and abs(path["whitened first"][-1]) < 1e-3
pd.DataFrame(path).T.round(2)

# %% [markdown]
# The second row never learns that the mean is 3. Nothing crashes; the score may even rise. This bug comes back in the clinic.

# %%
returns = advantages + values  # first
advantages = tensors.standardize(advantages, rollout.mask)  # then

# %% [markdown]
# ## 8. The ratio, and why it must start at 1
#
# PPO uses each batch for several updates, and after the first of them the policy is no longer the one that drew the tokens. The
# **importance ratio** of notebook 04 lets old samples serve the new policy. PPO takes it token by token: how much more likely has a
# sampled token become since it was sampled? With $\pi_{old}$ for the policy of the rollout,
#
# $$w_t = \frac{\pi(y_t)}{\pi_{old}(y_t)} = \exp\bigl(\log\pi(y_t) - \log\pi_{old}(y_t)\bigr).$$
#
# **Before you run the next cell:** nothing has been trained since the rollout. What is the ratio, on every token? And what if `replay`
# forgot the temperature?

# %%
with torch.no_grad():
    first = sampling.replay(policy, rollout, task.temperature)
    careless = sampling.replay(policy, rollout)  # temperature 1
ratio, wrong = ((now.logprobs - rollout.logprobs).exp() for now in (first, careless))
checks.nb05_same("ratio at the first pass", ratio, torch.ones_like(ratio), tolerance=1e-3)
both = {"ratio": ratio, "temperature forgotten": wrong}
rows = {name: (x.min().item(), x.max().item()) for name, x in both.items()}
pd.DataFrame(rows, index=["smallest", "largest"]).T.round(3)

# %% [markdown]
# Exactly 1, up to rounding (sampling keeps a cache of keys and values, replay reads everything at once). This is the cheapest test of PPO. It
# catches a wrong slice, a wrong mask, dropout left on, and a forgotten temperature, before a single step. If you ever write PPO yourself,
# write this line first.
#
# ## 9. The clipped loss, and why one batch is used four times
#
# Answers are expensive: 32 passes through the model one after another, then the scoring. So each batch is used for `epochs` passes, each in a
# new order, cut into `minibatches` (two here; the paper does not cut it, but a run as short as ours needs the updates):

# %%
small = replace(config, batch=16, minibatches=2, epochs=2, episodes=16)
for i, rows in enumerate(ppo.minibatches(small, seeded(3))):
    print(f"epoch {i // 2}, minibatch {i % 2}: rows {rows.tolist()}")

# %% [markdown]
# Each advantage is weighted with the ratio $w_t$: tokens that are now more likely than when they were drawn count for more, so that the
# average is that of the new policy. While $w_t$ is 1, the gradient of $A_t\,w_t$ is that of REINFORCE, $A_t\nabla\log\pi$. Further away you saw in
# notebook 04 what happens: still right on average, but of a hundred samples only a handful count, and a few large ratios decide
# everything. Besides, the advantages were measured on the old policy's responses and say little about a policy far from it.
# So PPO stops pushing a token once its ratio has left $[1-\varepsilon, 1+\varepsilon]$ in the direction it was pushed: it clips the ratio
# and takes, for each token, the **larger** of two losses:
#
# $$\text{loss}_t = \max\bigl(-A_t\,w_t,\; -A_t\,\mathrm{clip}(w_t, 1-\varepsilon, 1+\varepsilon)\bigr)$$
#
# **Exercise 5: the clipped loss.** Difficulty ●●●○○ · importance ●●●●● · 10 minutes. Average over the tokens that count.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Logarithms come in, a ratio is needed. `clamp(low, high)` clips, `torch.maximum` compares token by token, `tensors.masked_mean(x, mask)` averages. Papers write a minimum because they maximise; a loss is its negative.
# </details>


# %% tags=["exercise"]
def my_policy_loss(logprobs, old_logprobs, advantages, mask, cliprange):  # (B, R) each -> scalar
    ...  # the ratio, the clipped ratio, the larger of the two losses, the mean


# %% tags=["solution"]
def my_policy_loss(logprobs, old_logprobs, advantages, mask, cliprange):  # (B, R) each -> scalar
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - cliprange, 1 + cliprange)
    return tensors.masked_mean(torch.maximum(-advantages * ratio, -advantages * clipped), mask)


# %% tags=["check"]
solved = checks.nb05_policy_loss(my_policy_loss)

# %% tags=["catch-up"]
if not solved:
    my_policy_loss = ppo.policy_loss


# %%
def loss_and_slope(ratio, advantage):
    new = torch.tensor([[ratio]]).log().requires_grad_()
    old, counts = torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
    loss = my_policy_loss(new, old, torch.tensor([[advantage]]), counts, 0.2)
    return loss.item(), torch.autograd.grad(loss, new)[0].item()


x = torch.linspace(0.5, 1.5, 101).tolist()
_, axes = plt.subplots(1, 2, figsize=(9, 3))
for ax, a in zip(axes, (1.0, -1.0)):
    ax.plot(x, [-a * r for r in x], ":", color=plots.GREY, label="not clipped")
    ax.plot(x, [loss_and_slope(r, a)[0] for r in x], color=plots.BLUE, label="PPO")
    ax.axvspan(0.8, 1.2, color=plots.PALE, zorder=0)
    ax.set(xlabel="ratio", ylabel="loss")
    ax.set_title(f"A = {a:+.0f}: token was {'better' if a > 0 else 'worse'} than expected")
    ax.legend()

# %% [markdown]
# *How to read it:* the grey band is the range within the clip. On the left, a good token becomes more likely until the ratio is 1.2; then the
# line is flat, and the loss pushes no further. On the right, a bad token becomes less likely until 0.8. On the other side of the band
# nothing is clipped: a token that moved in the **wrong** direction can always come back. Flat means a gradient of exactly zero:

# %%
corners = [(0.7, 1.0), (1.3, 1.0), (0.7, -1.0), (1.3, -1.0)]
rows = [(r, a, loss_and_slope(r, a)[1]) for r, a in corners]
slopes = pd.DataFrame(rows, columns=["ratio", "advantage", "gradient"])
assert slopes.gradient.eq(0).tolist() == [False, True, True, False]
slopes.round(3)

# %% [markdown]
# ## 10. The value loss, the whole loss, the whole step
#
# The values are the baseline of notebook 04, but learned, by least squares on the returns. A baseline that is wrong costs noise and no
# direction (as long as $\lambda$ is 1), so this loss need not be small for training to work. The value head is clipped in the same way: a value that has moved more than 0.2 from its old one towards the return is pushed no further. The
# whole loss is the sum of both, the value loss with weight 0.1.


# %%
def my_value_loss(values, old_values, returns, mask, cliprange):
    clipped = old_values + (values - old_values).clamp(-cliprange, cliprange)
    errors = torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)
    return 0.5 * tensors.masked_mean(errors, mask)


def my_losses(policy, batch, rewards):
    if config.whiten_rewards:
        rewards = my_rescale(rewards, batch.mask)
    advantages = my_gae(rewards, batch.values, config.lam)
    returns = advantages + batch.values  # before whitening
    advantages = tensors.standardize(advantages, batch.mask)
    now = sampling.replay(policy, batch, task.temperature)
    pg = my_policy_loss(now.logprobs, batch.logprobs, advantages, batch.mask, config.cliprange)
    vf = my_value_loss(now.values, batch.values, returns, batch.mask, config.cliprange)
    return pg + config.value_coef * vf


with torch.no_grad():
    targets = ppo.targets(rollout, rewards, config)
    package, _ = ppo.losses(policy, rollout, *targets, task, config)
    checks.nb05_same("the whole loss", my_losses(policy, rollout, rewards), package)

# %% [markdown]
# Now the step itself, from your pieces. Two copies of the policy start from the same seed: one takes `ppo.step`, the other your step.


# %%
def my_step(policy, queries, optimizer, beta, generator):
    rollout = sampling.sample(policy, queries, task.response_length, task.temperature, generator)
    with torch.no_grad():
        reference_logprobs = sampling.replay(reference, rollout, task.temperature).logprobs
    penalties = my_kl_penalty(rollout.logprobs, reference_logprobs, rollout.mask, beta)
    rewards = my_place_score(penalties, score(rollout), rollout.mask)
    for rows in ppo.minibatches(config, generator):
        loss = my_losses(policy, rollout[rows], rewards[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# %%
def adam(policy):
    return TensorFlowAdam(policy.parameters(), lr=config.lr)


mine, theirs, batch = deepcopy(policy), deepcopy(policy), pool[: config.batch].to(device)
my_step(mine, batch, adam(mine), config.kl_coef, seeded(4))
fresh = ppo.KLController(config.kl_coef, config.kl_target, config.kl_horizon)
ppo.step(theirs, reference, score, batch, task, config, adam(theirs), fresh, seeded(4))
with torch.no_grad():
    after = [sampling.replay(p, rollout, task.temperature).logprobs for p in (mine, theirs)]
checks.nb05_same("log-probabilities after one whole step", *after, tolerance=1e-2)

# %% [markdown]
# That is PPO. You have rebuilt it, and its step changes the model just as the package's does.
#
# ## 11. The controller: beta follows the KL
#
# What should a nat of KL cost? Nobody knows beforehand: it depends on the reward model, on the task, and on how far training has come. It is
# easier to say how *far* the policy may go. So you choose the KL you want, and the price follows, like a thermostat that heats more while
# the room is too cold. After each batch of $n$ episodes beta rises if the KL is above its target, and falls if it is below:
#
# $$\mathrm{error} = \mathrm{clip}\bigl(\mathrm{KL}/\mathrm{target} - 1,\; -0.2,\; 0.2\bigr),\qquad \beta \leftarrow \beta\,\bigl(1 + \mathrm{error}\cdot n/\mathrm{horizon}\bigr)$$
#
# **Exercise 6: the controller.** Difficulty ●○○○○ · importance ●●●○○ · 5 minutes

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `max(low, min(high, x))` clips a plain number. Clip first, then multiply by episodes / horizon.
# </details>


# %% tags=["exercise"]
def my_next_beta(beta, kl, target, episodes, horizon):
    return ...


# %% tags=["solution"]
def my_next_beta(beta, kl, target, episodes, horizon):
    error = max(-0.2, min(0.2, kl / target - 1))
    return beta * (1 + error * episodes / horizon)


# %% tags=["check"]
solved = checks.nb05_next_beta(my_next_beta)

# %% tags=["catch-up"]
if not solved:

    def my_next_beta(beta, kl, target, episodes, horizon):
        fallback = ppo.KLController(beta, target, horizon)
        fallback.update(kl, episodes)
        return fallback.beta

# %% [markdown]
# Try it in a toy world in which the KL drifts towards 1.5 / beta. At the initial beta of 0.15 that is 10 nats; the target is 6. The paper's
# horizon is 10,000 episodes, in a run of a million. What happens in a run of 10,000? **Guess** what the dashed curve does before you run
# the cell.


# %%
def toy_world(episodes, batch, horizon, beta=0.15, kl=0.0):
    same, betas, kls = ppo.KLController(beta, 6.0, horizon), [], []
    for _ in range(episodes // batch):
        kl += (1.5 / beta - kl) * 0.05
        beta = float(my_next_beta(beta, kl, 6.0, batch, horizon))
        same.update(kl, batch)
        betas, kls = [*betas, beta], [*kls, kl]
    name = f"beta after {episodes:,} episodes, horizon {horizon:,}"
    checks.nb05_same(name, beta, same.beta, tolerance=1e-6)
    return betas, kls


# %%
worlds = {
    "paper": (1_000_000, 512, 10_000),
    "short run, the paper's horizon": (10_000, 64, 10_000),
    "short run, horizon 1,250": (10_000, 64, 1_250),
}
_, axes = plt.subplots(1, 2, figsize=(9, 3))
looks = (("-", plots.BLUE), ("--", plots.RED), ("-.", plots.GREEN))
for (name, world), (style, colour) in zip(worlds.items(), looks):
    betas, kls = toy_world(*world)
    x = [world[1] * (i + 1) for i in range(len(betas))]
    axes[0].semilogx(x, betas, style, color=colour, label=name)
    axes[1].semilogx(x, kls, style, color=colour)
axes[0].set(title="Beta", xlabel="episodes", ylabel="reward per nat")
axes[1].set(title="KL", xlabel="episodes", ylabel="nats per response")
axes[1].axhline(6, color=plots.GREY, linestyle=":")
axes[0].legend(fontsize=9);
# %% [markdown]
# *How to read it:* over a million episodes beta climbs until the KL is at the target (dotted). In a short run the same horizon hardly lets beta
# move: the **initial beta decides**, and the target has little effect. With a horizon that fits the run the controller works again; ours is
# 1,250. The formula says so, too: in one step beta can grow by at most a factor of $1 + 0.2\,n/\mathrm{horizon}$. For a run of 10,000
# episodes in batches of 64:

# %%
steps = 10_000 // 64
for horizon in (10_000, 1_250):
    growth = (1 + 0.2 * 64 / horizon) ** steps
    print(f"horizon {horizon:,}: in {steps} steps beta can grow at most {growth:,.1f}-fold")

# %% [markdown]
# ## 12. The full run
#
# Here are all the knobs, with the paper's values in brackets. Where ours differ, the reason is size: a small model tolerates (and needs) a
# larger learning rate. And how much is a nat? A whole answer of the base model has an entropy of about 38 nats. What a policy five nats away
# writes every time, the base model writes about once in 150 times; so it could still keep some 33 nats of variety. Whether it does is another
# matter: watch the entropy.

# %%
Code(inspect.getsource(ppo.PPOConfig).split("    def ")[0], language="python")

# %% [markdown]
# **Write down what you expect** at the end, before you run it. You saw the first six steps in section 1; the learning rate now falls to 0 over the whole run.

# %%
asked = ("score", "kl_nats_per_response", "beta", "entropy_nats_per_response")
prediction = dict.fromkeys(asked)  # write numbers: {"score": 1.0, ...}

# %% [markdown]
# **Some knobs change for the run itself.** A run of minutes has few answers, and `benchmarks/nats.py` measured how to make the most of them
# (on that earlier base model, where the trials told below were made, too):
#
# - **Four answers to a prompt.** A batch of 64 is 16 prompts, each read once for all four, which saves nearly half of the arithmetic.
# - **One epoch** in the place of four. The paper sampled from a model 250 times as large, where an answer is expensive and worth a second
#   look. Ours writes 64 of them in about a second, and fresh answers tell more than old ones.
# - **Each token is paid for what it adds** to the score (section 5), if a reward model pays. A taste pays on the last token; but it is a mere
#   weighted sum of features that were there before PPO, and a policy climbs it so quickly that it needs only 4,096 answers.
# - **A taste pays by rank**: the share of the base model's answers that it likes less, on a scale from -1.7 to 1.7 with mean 0. The plain
#   reward has no upper end. In a trial a large language model sat in the learner's place (so its labels are simulated ones) and asked for the
#   darkest text; a few words such as *shuddered* then weighed so much that a single sentence lay far above all others. PPO on the plain reward
#   wrote that sentence under nearly every prompt, and won 19 of 20 blind pairs with it: a win rate says nothing about variety. Paid by rank,
#   the same sixty answers gave 127 different sentences to 256 prompts, at half
#   the nats: from a certain point on, better is hardly worth more.
# - **Beta stays at 0.3.** A controller lowers beta as long as the KL is below its target. By the time the policy takes off, beta is low, and
#   it is raised too slowly to hold it: with a target of 4.5 nats a run on the earlier model stood at 4 nats after 4,200 answers and at 10 a
#   thousand later. The paper fixed beta, too, where it tuned summarizers. On a taste, which pays by rank, it is 0.25.
#
# How dear a nat is decides what becomes of the texts. Runs of 12,288 answers with these knobs on the recorded reward model, one seed each, 512
# prompts of the validation split, two simulated judges (`benchmarks/README.md` says how it was measured; only the recorded run's files come with the course):
#
# | beta | score | nats | wins, judge without noise | wins, noisy judge | most frequent first four words | distinct-2, of the base model's |
# |---|---|---|---|---|---|---|
# | 0.2 | 1.7 | 6.2 | 89 % | 79 % | 11.5 % | .69 |
# | 0.25 | 1.3 | 4.3 | 81 % | 70 % | 4.1 % | .78 |
# | 0.3, the recorded run | 0.9 | 2.9 | 80 % | 70 % | 4.5 % | .88 |
# | 0.35 | 0.7 | 2.0 | 70 % | 66 % | 2.3 % | .90 |
# | base model | | 0 | 50 % | 50 % | 1.4 % | 1 |
#
# The price of 0.3 was chosen from this table, by a rule that had been written down before there was a number in it: of the betas that end below 6
# nats, with no opening in more than a tenth of the answers and a distinct-2 of at least .85 of the base model's, the lowest. These prompts and these
# judges serve for nothing else, so the choice flatters no other number. Another rule would be as good: whoever cares more for wins than for
# variety takes 0.2.
#
# And the price is only half of it. A policy at a price multiplies what is already there (notebook 04). The corpus had an earlier edition in which a
# single line, *What is all this about*, was told too often: it began one sentence in 170. The base model of that edition began 4 % of its answers
# with it, and the policies tuned on happiness 39 % at a beta of 0.35, and 77 % at 0.15. None of the four prices that were tried
# cured that. It took another edition, in which no line is told much oftener than its neighbours, and a new base model.
#
# With one epoch the policy hardly moves between sampling and learning, so that the ratio stays near 1 and the clip of section 9 has little to
# do. (In `RLHF_PROFILE=quick` the run is a check that everything works, and gives no good model.)
#
# You may stop the kernel at any time: a checkpoint is written every 25 steps, and running the cell again continues from there, bit for bit.
# The folder's name contains your reward's gain, so a new taste or reward model starts a new run.

# %%
by_rank = taste.scorer(ranked=True) if taste else None
paid = by_rank or reward.scorer(reward_model, task, each_token=True)
shown_score = by_rank or score  # one number for an answer
kind, gain = ("taste", taste.tensors["gain"]) if taste else ("sentiment", reward_model.gain)
preset = presets.get(task.name, "bundled").ppo
count = size.episodes // 2 if taste else size.episodes
full = replace(preset, batch=size.batch, episodes=count)
longer, price = (1.5, 0.25) if taste else (2, preset.kl_coef)  # a taste is climbed soon
full = replace(full, kl_coef=price, lr=preset.lr * min(longer, preset.steps / full.steps))
show.note(f"{full.episodes:,} answers are paid by **{whose}**.")

# %% tags=["slow"]
machine.announce("the full run of PPO")
run = Run(folder() / f"ppo_{kind}_run-{size.name}-{gain.item():.5f}", seed=0, config=full)
policy = models.Policy.load().to(device)
# the curves as they come, and the same three prompts answered again and again
live.watch(run, full.steps, batch=full.batch, policy=policy, task=task)
start = time.time()
metrics = ppo.tune(policy, paid, pool, task, full, run, reference=reference)

policy.save(folder() / f"policy_{kind}")
lines = [*metrics[:-1], metrics[-1] | {"seconds": time.time() - start}]
text = "".join(json.dumps(line) + "\n" for line in lines)
(folder() / f"ppo_{kind}.jsonl").write_text(text)
for made in (f"policy_{kind}", f"ppo_{kind}.jsonl"):
    how = f"tuned in notebook 05 on {full.episodes:,} episodes, paid by {whose}"
    record(made, how, simulated=is_simulated or not taste)
plots.training_curves(metrics, kl_target=full.kl_target);
# %% [markdown]
# *How to read the nine curves:*
#
# | curve | what it is | healthy | worry if |
# |---|---|---|---|
# | score | mean score of the batch, without the KL penalty | noisy, climbs, flattens | flat; or climbs while the texts get worse |
# | KL | nats from the reference, per response | climbs, then flattens (in the executed run it sinks again at the end; with a controller it bends towards its target) | runs away, or does not move |
# | beta | the cost of a nat | a flat line, as here; a controller moves it slowly after the KL | rises, and the KL still grows |
# | entropy | how undecided the policy is, per response | falls, as the policy learns what pays | falls to nearly 0: one answer for everything |
# | variety | distinct-2: the share of different pairs of neighbouring tokens in the batch | falls with the entropy, and levels off | less than half of its start: answers grow alike, and a line of text says so |
# | policy loss | the clipped loss | with one epoch, as here, close to 0 on either side; with several a little below 0; shrinks with the learning rate | large |
# | value loss | half the squared error of the values | as long as the values predict nothing, half the variance of the returns (0.45 at the start of the recorded run). It need not fall: as that policy moves, its returns vary in other ways, and the loss ranges from 0.3 to 0.7 until the end | near 0 or exactly constant from the start; growing without end |
# | clip fraction | share of tokens beyond the clip range | highest at the start, then small | stays high, or rises |
# | explained variance | the share of the returns' variance that the values predict | rises slowly from 0 | stays at 0 to the end, or below |
#
# In any other training you would watch the loss. Here the policy loss says least of all: advantages are standardized anew in each batch, so
# the loss has the same scale whether the answers are good or bad.

# %%
ends = {"first step": pd.Series(metrics[0])}
ends["your prediction"] = pd.Series(prediction, dtype=object)
ends["last tenth"] = pd.DataFrame(metrics[-max(1, len(metrics) // 10) :]).mean()
pd.DataFrame(ends).loc[list(prediction)].round(2).fillna("-")

# %% [markdown]
# **Never look at curves alone.** The same prompts as at the start, before and after *your* run; the scores are those of what it was paid by:

# %%
show.note(f"Scores of **{whose}**:")
before_and_after(policy, test[:6], shown_score)

# %%
first, last = (mean_score(p, shown_score) for p in (reference, policy))
if size.name == "laptop":
    assert last > first + 0.3
show.note(
    f"Over {len(test)} test prompts the mean score is {first:.2f} before and {last:.2f} after."
)

# %% [markdown]
# Read the right-hand column aloud. Is it still Saltmere? How many *different* sentences are there, names apart? Nothing in the reward asks
# for variety, and repetition costs nothing but KL: a run that goes on for long ends with a few favourites. And do *you* like these texts
# better, or do they only show the signs that you happened to click on? You have seen the scores, so you cannot judge that here. Notebook 07
# hides them, and the sides.
#
# ## 13. Clinic: three sick runs
#
# A bug in PPO seldom crashes. The run trains, and something about it is odd. Here are four suspects: small changes to one function each, of
# the kind that slips through a code review.

# %%
healthy_rewards, healthy_replay = ppo.shape_rewards, sampling.replay


def flipped_sign(scores, logprobs, reference_logprobs, mask, beta):
    return healthy_rewards(scores, logprobs, reference_logprobs, mask, -beta)


def first_token(scores, logprobs, reference_logprobs, mask, beta):
    rewards = healthy_rewards(torch.zeros_like(scores), logprobs, reference_logprobs, mask, beta)
    rewards[:, 0] += scores
    return rewards


def whitened_gae(rewards, values, mask, lam):  # the returns are made from these
    return tensors.standardize(tensors.gae(rewards, values, mask, lam=lam), mask)


def without_temperature(policy, rollout, temperature=1.0):
    return healthy_replay(policy, rollout)


suspects = {
    "flipped KL sign": (ppo, "shape_rewards", flipped_sign),
    "score on the first token": (ppo, "shape_rewards", first_token),
    "returns after whitening": (ppo, "gae", whitened_gae),
    "forgotten temperature": (sampling, "replay", without_temperature),
}

# %% [markdown]
# Three of them are the bugs of patients A, B and C; one is not used. **Before you run it**, write one line for each suspect: which curve
# would show it, and at which step?

# %%
clue = dict.fromkeys(suspects, "")

# %% tags=["slow"]
machine.announce("the four runs of the clinic")
short = min(20, config.steps)
clinic = replace(config, batch=32, episodes=32 * short, answers=size.answers)


def short_run(bug=None):
    start = models.Policy.load().to(device)
    options = {"reference": reference, "kl_limit": float("inf")}
    with mock.patch.object(*bug) if bug else nullcontext():
        return ppo.tune(start, score, pool, task, clinic, Run(seed=7), **options)


patients = {"healthy": short_run()}
for name, bug in checks.nb05_shuffle(suspects).items():
    patients[name] = short_run(bug)
plots.training_curves(patients, kl_target=clinic.kl_target);
# %% [markdown]
# *How to read it:* all four runs start from the same model and the same seed, so every difference comes from the bug. One curve may be so
# large that the others look flat; the table has the numbers of the first and the last step. Look at the very first step, then at slopes. A
# curve that coincides with the healthy one is evidence too.
#
# **Exercise 7: the diagnosis.** Difficulty ●●●○○ · importance ●●●●● · 10 minutes

# %%
ends = {name: pd.DataFrame(lines).iloc[[0, -1]].stack() for name, lines in patients.items()}
rows = [(step, column) for step in (0, short - 1) for column, *_ in plots.CURVES]
pd.DataFrame(ends).loc[rows].round(2)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Go through the suspects one by one. Which would already be visible **before** anything is learned? Which changes what the *policy* is paid for, and which only what the *values* are told?
# </details>

# %% tags=["exercise"]
diagnosis = {"A": ..., "B": ..., "C": ...}  # names from `suspects`

# %% tags=["solution"]
diagnosis = {
    "A": "returns after whitening",
    "B": "flipped KL sign",
    "C": "score on the first token",
}

# %% tags=["check"]
solved = checks.nb05_clinic(diagnosis, suspects)

# %% tags=["catch-up"]
if not solved:
    print("You can continue without the diagnosis, and come back to the curves later.")

# %% [markdown]
# ## 14. One knob, three curves
#
# | change one knob | look at | what you should see |
# |---|---|---|
# | `kl_coef` up | KL, score, entropy | less KL, less score, entropy closer to the start |
# | `lr` up | clip fraction, KL, score | more clipping, a faster climb, then damage |
# | `epochs` 4 to 1 | clip fraction, score, value loss | hardly any clipping, slower learning of both |
# | `cliprange` down | clip fraction, KL, score | more tokens clipped, slower |
# | `batch` up | score, explained variance, policy loss | smoother curves, fewer steps |
# | `value_coef` 0 | explained variance, value loss, score | values never learn; score learns from noisier advantages |
# | `lam` 0 | score, explained variance, value loss | early tokens get credit only through the values |
# | `kl_horizon` down | beta, KL, score | beta moves fast and may swing |
# | `temperature` of the task up | entropy, KL, score | more varied answers |
#
# Try one; an empty dictionary skips the run.

# %% tags=["slow"]
change = {}  # for instance {"kl_coef": 0.6}
if change:
    start = models.Policy.load().to(device)
    other = replace(clinic, **change)
    changed = ppo.tune(start, score, pool, task, other, Run(seed=7), reference=reference)
    both = {"as it was": patients["healthy"], str(change): changed}
    plots.training_curves(both, kl_target=clinic.kl_target)

# %% [markdown]
# ## Recap
#
# - A step: sample, score, charge each token for its KL, put the score on the last token, advantages, returns, standardize, and a few clipped
#   passes.
# - The KL estimate of a token may be negative; it is right on average. It is part of the reward.
# - Rewards keep their mean, advantages lose it. Compute returns before whitening.
# - At the first pass the ratio is 1 on every token. Test that before anything else.
# - Clipping makes the gradient exactly zero once a token has moved far enough in the right direction, never when it moved in the wrong one.
# - Bugs rarely crash. Nine curves and a few samples find them.
#
# ## Questions
#
# 1. Why is the score not simply added to every token?
# 2. The score curve leaves the KL penalty out. What would you lose if you plotted only score minus penalty?
# 3. Suppose beta were 0. Which curves would still look healthy?
# 4. PPO trains on tokens after the full stop, which nobody scores. What reward do they get, and what keeps them sensible?
# 5. A refactoring by the paper's authors once flipped the sign of the reward and that of the KL penalty. Why did the text stay fluent?
# 6. You double the batch and keep everything else. What happens to the number of updates, and to the controller?
#
# ## Further reading
#
# - Ziegler et al. 2019, *Fine-Tuning Language Models from Human Preferences*: section 2 (method, the KL term and its controller), section 3.1 (style tasks), section 4 (what went wrong: "bugs can optimize for bad behavior"), and the appendix for the hyperparameters.
# - Schulman et al. 2017, *Proximal Policy Optimization Algorithms*: section 3, the clipped objective.
# - Schulman et al. 2016, *High-Dimensional Continuous Control Using Generalized Advantage Estimation*: section 3.
# - Schulman 2020, *Approximating KL Divergence*: the estimators k1, k2 and k3.
#
# Your tuned model is in your runs folder, and notebook 07 finds it there. **Next:** notebook 06 asks what changes when the model is as large as GPT-2; [07](07_did_it_work.ipynb) asks whether your model is really better.
