# %% [markdown]
# # 07 · Did it work?
#
# The score went up. You watched it in notebook 05, step by step. But who gave the score? A reward model, and PPO was paid for
# pleasing it. Asking the reward model whether the policy got better is asking the examiner who sold the answers. Further down you
# will see the same prompts, once answered by the base model and once by the tuned one. Which of the two would a reader prefer, who
# knows nothing of reward models? And how sure may you be, after twenty pairs, or five hundred?
#
# **After this notebook you can**
#
# - set up a blind test: new prompts, hidden sides, a judge who had no part in training;
# - put an interval around a win rate, and say how many pairs are enough before you start;
# - compare what the reward model believes with what the judge says;
# - measure how far the policy has moved, and what each nat of KL bought;
# - look for the prices paid: length, sameness, unfinished answers;
# - open a second round of labelling.
#
# | active | machine (two laptop cores) | you need |
# |---|---|---|
# | about 60 minutes | about 5 minutes | notebooks 02, 03 and 05, or only their ideas: recorded models stand in for yours |

# %%
import inspect
import json
import math
import re
from collections import Counter

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Code, display

from rlhf_helpers import evaluation, labelers, models, reward, sampling, tasks
from rlhf_helpers.course import checks, plots, show
from rlhf_helpers.course.profile import RECORDED, artifact, folder, profile
from rlhf_helpers.labels import cards
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.runtime.runs import default_device

size, task, device = profile(), tasks.SENTIMENT, default_device()
# %matplotlib inline
show.setup()

# %%
plots.pipeline("judge")
# %% [markdown]
# ## 1. Before and after
#
# Three things come from earlier notebooks: the tuned policy, the reward model, the curves of the PPO run. Where you have none of your
# own, the recorded ones are taken, and a line says so.

# %%
base = models.Policy.load().to(device)
tokenizer = base.tokenizer
tuned = models.Policy.load(artifact("policy_sentiment")).to(device)
reward_model = models.RewardModel.load(artifact("reward_sentiment")).to(device)
ppo_lines = [json.loads(line) for line in artifact("ppo_sentiment.jsonl").read_text().splitlines()]

# %% [markdown]
# The prompts come from the **test** split. No model in this course has been trained on these stories, neither the base model nor the
# reward model nor PPO. Both policies answer the same prompts.

# %%
test = tasks.queries(task, tokenizer, size.judged, split="test", seed=0)
prompts = tasks.query_texts(test, tokenizer)
rollouts, answers = {}, {}
for name, policy in (("base", base), ("tuned", tuned)):
    dice = torch.Generator(device).manual_seed(0)
    rollouts[name] = sampling.sample(policy, test, task.response_length, task.temperature, dice)
    answers[name] = tasks.texts(task, rollouts[name].responses, tokenizer)

# %%
named = 5
pd.DataFrame({"prompt": prompts, "base": answers["base"], "tuned": answers["tuned"]}).head(named)

# %% [markdown]
# Five pairs, columns labelled. You have probably formed an opinion. It is worth little: you *knew* which column ought to be better.
# (And a table of the five best pairs would be worth less still. These are the first five, whatever they are.) Whoever has read them with
# their names cannot judge them blind any more, so your own test below begins after them.
#
# ## 2. A blind test
#
# The rules, each of which has been broken in print:
#
# 1. **New prompts.** Not those of training.
# 2. **Another judge.** Not the reward model. Best a person.
# 3. **Hidden sides.** A coin decides for every pair which text stands on the left; nobody is told until the end.
# 4. **A number fixed beforehand.** Who stops when the result looks good will often find good results.
# 5. **No second try.** One sample per prompt, none drawn again.
#
# The package keeps rule 3 with a coin that depends on the pair alone, so that the test can be repeated exactly.

# %%
Code(
    inspect.getsource(evaluation.mirrored) + "\n\n" + inspect.getsource(evaluation.pairs),
    language="python",
)

# %%
pairs, tuned_is_zero = evaluation.pairs(tuned, base, test, task, seed=0)
assert [p.options[0 if zero else 1] for p, zero in zip(pairs, tuned_is_zero)] == answers["tuned"]
print(f"{len(pairs)} pairs; the tuned model stands first in {sum(tuned_is_zero)} of them")

# %% [markdown]
# **Judge twenty pairs.** The card is the one of notebook 02 with two options: **1** and **2** choose, **t** cannot tell (that is half a
# win for each), **u** takes back. Your own rubric of notebook 02 is in the fold, if you wrote one. At the end, and not before, the card says
# who was who. *Write down first*: how often will you prefer the tuned model?

# %%
pseudonym = cards.me()  # your pseudonym of notebook 02
written = folder() / "rubric_sentiment.md"
rubric = written.read_text(encoding="utf-8") if written.exists() else None
blind = slice(named, named + 20)
assert not {p.query for p in pairs[blind]} & set(prompts[:named]), (
    "a pair whose writers you have seen is not blind"
)
card = cards.judge(
    pairs[blind],
    pseudonym,
    first_is_zero=tuned_is_zero[blind],
    names=("tuned", "base"),
    rubric=rubric,
)
card

# %% [markdown]
# To judge all the pairs you would need an evening. A **simulated judge** does it in a second: a counter of happy and sad words with the
# noise of the labelers in notebook 02. She is *held out*: none of her choices trained the reward model. But she shares her taste with
# the simulated labelers whose choices did. A kinder judge cannot be found; keep that in mind.

# %%
judge = labelers.simulated(task, name="held-out judge", seed=1_000)
verdicts = judge.label(pairs)
mine, undecided = card.labels(), card.ties()
print(
    f"{len(verdicts)} verdicts of a SIMULATED judge, {len(mine)} of yours, {len(undecided)} pairs of which you could not tell"
)

# %% [markdown]
# ## 3. Uncover the sides
#
# A verdict is 0 or 1: the pair's first or second text. `tuned_is_zero` says for every pair whether the tuned model wrote the first.
#
# ### Exercise 1: who won? (●○○○○, important, 5 minutes)
#
# Write `uncover(choices, tuned_is_zero)`: for every pair `True` if the **tuned** model was preferred, otherwise `False`. This line is
# short, and it is where evaluations go wrong most quietly: forget it, and every model in the world comes out at about 50 %.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# There are four cases. Choice 0 and tuned first: won. Choice 1 and tuned second: won. What do these two have in common?
# </details>


# %% tags=["exercise"]
def uncover(choices, tuned_is_zero):
    """choices: 0 or 1 for each pair; tuned_is_zero: True where the tuned model wrote text 0. Returns a list of True and False."""
    ...


# %% tags=["solution"]
def uncover(choices, tuned_is_zero):
    """choices: 0 or 1 for each pair; tuned_is_zero: True where the tuned model wrote text 0. Returns a list of True and False."""
    return [(choice == 0) == zero for choice, zero in zip(choices, tuned_is_zero)]


# %% tags=["check"]
solved = checks.nb07_uncover(uncover)

# %% tags=["catch-up"]
if not solved:

    def uncover(choices, tuned_is_zero):
        return [(choice == 0) == zero for choice, zero in zip(choices, tuned_is_zero)]

# %% [markdown]
# Two equal texts cannot be told apart, so such a pair counts half a win, whatever the judge said; so does a pair of which a judge could not
# tell (the simulated one always can). With that, your function must give
# exactly the package's win rate.

# %%
equal = [p.options[0] == p.options[1] for p in pairs]
won = uncover([verdict.choice for verdict in verdicts], tuned_is_zero)
wins = sum(0.5 if tie else float(w) for w, tie in zip(won, equal))
result = evaluation.judge(pairs, tuned_is_zero, verdicts)
assert wins == result.successes and len(pairs) == result.total

# %%
left = sum(verdict.choice == 0 for verdict in verdicts) / len(verdicts)
show.note(
    f"The simulated judge preferred the tuned model in **{result.rate:.1%}** of {result.total} pairs. "
    f"Without uncovering you would have read **{left:.1%}**: the share of the left side."
)

# %% [markdown]
# ## 4. How sure?
#
# A win rate is an estimate. Judge other prompts and it moves. The textbook interval, rate ± 1.96 standard errors, breaks exactly where
# we want to use it: with 20 wins of 20 the standard error is zero, and the interval says that you are certain. **Wilson's interval**
# asks a better question: *which true rates $p$ would not be surprised by this result?* Those with
# $|\hat p - p| \le z \sqrt{p(1-p)/n}$. Solve for $p$ and you get
#
# $$\frac{\hat p + \frac{z^2}{2n}}{1 + \frac{z^2}{n}} \;\pm\; \frac{z}{1 + \frac{z^2}{n}} \sqrt{\frac{\hat p (1 - \hat p)}{n} + \frac{z^2}{4 n^2}},$$
#
# with $z = 1.96$ for 95 %. Its centre is pulled a little towards one half.
#
# ### Exercise 2: Wilson by hand (●●○○○, important, 8 minutes)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Compute `shrink = 1 + z**2 / total` first. Both the centre and the half-width are divided by it.
# </details>


# %% tags=["exercise"]
def wilson(wins, total, z=1.959964):
    """Wilson's interval for wins of total. Returns low, high."""
    ...


# %% tags=["solution"]
def wilson(wins, total, z=1.959964):
    """Wilson's interval for wins of total. Returns low, high."""
    rate = wins / total
    shrink = 1 + z**2 / total
    centre = (rate + z**2 / (2 * total)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / total + z**2 / (4 * total**2))
    return centre - half, centre + half


# %% tags=["check"]
solved = checks.nb07_wilson(wilson)

# %% tags=["catch-up"]
if not solved:

    def wilson(wins, total, z=1.959964):
        found = evaluation.wilson(wins, total)
        return found.low, found.high


# %%
assert (
    max(
        abs(a - b)
        for a, b in zip(wilson(result.successes, result.total), (result.low, result.high))
    )
    < 1e-5
)
print("your interval and the package's:", result)

# %% [markdown]
# Does an interval keep its promise? A 95 % interval should contain the truth in 95 of 100 evaluations. We need no simulation: for a
# true rate of 88 % (the paper's for sentiment) we add up the probabilities of all outcomes whose interval contains 0.88.


# %%
def plain(wins, total):
    rate, half = wins / total, 1.96 * math.sqrt(wins / total * (1 - wins / total) / total)
    return rate - half, rate + half


def coverage(interval, total, rate=0.88):
    """Probability that the interval contains the true rate."""
    inside = [w for w in range(total + 1) if interval(w, total)[0] <= rate <= interval(w, total)[1]]
    return sum(math.comb(total, w) * rate**w * (1 - rate) ** (total - w) for w in inside)


# %%
totals = range(5, 101)
kept = {
    "plain": [coverage(plain, n) for n in totals],
    "Wilson": [coverage(wilson, n) for n in totals],
}
fig, ax = plt.subplots(figsize=(7, 3))
ax.plot(totals, kept["plain"], "--", color=plots.RED, label="rate ± 1.96 standard errors")
ax.plot(totals, kept["Wilson"], color=plots.BLUE, label="Wilson")
ax.axhline(0.95, color=plots.GREY, linestyle=":", label="promised: 95 %")
ax.set(
    xlabel="pairs judged",
    ylabel="share that contains the truth",
    ylim=(0.4, 1.0),
    title="True win rate 88 %",
)
ax.legend()
# %%
assert kept["plain"][totals.index(20)] < 0.93 < kept["Wilson"][totals.index(20)]
assert sum(kept["plain"]) / len(totals) < sum(kept["Wilson"]) / len(totals)

# %% [markdown]
# *How to read it*: the closer to the dotted line the better. The saw teeth come from counting whole wins. The plain interval breaks its
# promise wherever there are few pairs; Wilson's stays close.
#
# Here are the results as a picture, with yours if you have judged.

# %%
rows = [{"model": "tuned, simulated judge", "wins": result.successes, "total": result.total}]
if mine or undecided:
    own = evaluation.judge(pairs, tuned_is_zero, mine, undecided)
    print("In your eyes:", own)
    rows.append({"model": "tuned, you", "wins": own.successes, "total": own.total})
else:
    print("You have judged no pairs yet, so there is only the simulated judge's bar.")
plots.win_rates(rows)

# %% [markdown]
# *How to read it*: if the black interval crosses the dashed line, these pairs cannot tell the two models apart. That is not the same as
# "they are equal".

# %% [markdown]
# ## 5. How many pairs are enough?
#
# Ask before you judge, not after. Say the true win rate is $p$. We will claim a difference if the result is significant at 5 %, and we
# want to succeed with probability 80 % (the **power**). With no difference the win rate scatters with standard deviation
# $0.5/\sqrt n$, with rate $p$ with $\sqrt{p(1-p)}/\sqrt n$. The distance $|p - 0.5|$ must have room for both:
#
# $$n = \left( \frac{1.96 \cdot 0.5 + 0.84 \sqrt{p (1 - p)}}{p - 0.5} \right)^2.$$
#
# **Predict**: how many pairs for the paper's 88 %? And for 52 %, the rate of 20,000 labels against 5,000?
#
# ### Exercise 3: pairs needed (●●○○○, 8 minutes)
#
# Return a whole number, rounded up.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `math.ceil` rounds up. The square goes around the whole fraction.
# </details>


# %% tags=["exercise"]
def pairs_needed(rate):
    """Pairs to tell a true win rate from one half: 5 % two-sided, power 80 %."""
    ...


# %% tags=["solution"]
def pairs_needed(rate):
    """Pairs to tell a true win rate from one half: 5 % two-sided, power 80 %."""
    room = 1.96 * 0.5 + 0.84 * math.sqrt(rate * (1 - rate))
    return math.ceil((room / (rate - 0.5)) ** 2)


# %% tags=["check"]
solved = checks.nb07_pairs_needed(pairs_needed)

# %% tags=["catch-up"]
if not solved:

    def pairs_needed(rate):
        return math.ceil(((1.96 * 0.5 + 0.84 * math.sqrt(rate * (1 - rate))) / (rate - 0.5)) ** 2)


# %%
true_rates = [0.51, 0.52, 0.55, 0.6, 0.7, 0.8, 0.88]
assert pairs_needed(0.88) < 20 and pairs_needed(0.52) > 4_000
pd.DataFrame(
    {"true win rate": true_rates, "pairs needed": [pairs_needed(rate) for rate in true_rates]}
).set_index("true win rate").T

# %% [markdown]
# About a dozen pairs tell an 88 % model from the base model. So your own twenty verdicts are not a toy: they are enough for a large
# effect. Small effects are another world. Halve the distance from one half and the price is fourfold.
#
# With this in hand, read the paper's own result: how often people preferred the tuned model to the untuned one, by the number of labels
# it had learned from. The intervals are ours, computed for 1,024 judged excerpts a point.

# %%
labels_used = [200, 500, 1_000, 2_500, 5_000, 10_000, 20_000]
paper = {
    "sentiment": [51.9, 74.9, 84.4, 86.2, 87.9, 86.8, 87.1],
    "descriptiveness": [78.2, 76.2, 82.3, 72.7, 86.3, 86.3, 84.6],
}
fig, ax = plt.subplots(figsize=(7, 3.4))
for (name, percent), shift, colour, marker in zip(
    paper.items(), (0.97, 1.03), (plots.BLUE, plots.RED), "os"
):
    found = [evaluation.wilson(p / 100 * 1_024, 1_024) for p in percent]
    bars = [[f.rate - f.low for f in found], [f.high - f.rate for f in found]]
    ax.errorbar(
        [n * shift for n in labels_used],
        [f.rate for f in found],
        yerr=bars,
        fmt=f"{marker}-",
        color=colour,
        capsize=3,
        label=name,
    )
ax.axhline(0.5, color=plots.GREY, linestyle="--", label="no better")
ax.set(
    xscale="log",
    xlabel="labels (log scale)",
    ylabel="preferred to the untuned model",
    title="Ziegler et al. 2019",
)
ax.legend()
# %%
from_200, from_1000, from_5000 = (
    evaluation.wilson(p / 100 * 1_024, 1_024) for p in (51.9, 84.4, 87.9)
)
assert (
    from_200.low < 0.5 < from_200.high
    and from_1000.low > 0.8
    and from_5000.high - from_5000.low < 0.05
)

# %% [markdown]
# *How to read it*: for sentiment 200 labels are not enough to see anything (the interval contains one half), a thousand do most of the
# work, and beyond 5,000 the curve is flat. Descriptiveness jumps about more than its intervals allow: the dip at 2,500 is real *for that
# one run*. An interval over excerpts knows nothing of the luck of training. For that you need several runs, with several seeds.

# %% [markdown]
# ## 6. The reward model's view and the judge's view
#
# Now let the reward model judge the same pairs. It was trained to predict choices, so it also gives probabilities: a softmax over the
# two rewards, in the units of its training (before `normalize` rescaled them, hence the division by the gain).

# %%
judged = reward.encode(task, pairs, verdicts, tokenizer)
rewards = reward.predictions(reward_model, judged)  # (B, 2)
believed = (rewards / reward_model.gain.item()).softmax(-1)
tuned_column = torch.tensor([0 if zero else 1 for zero in tuned_is_zero])
tuned_reward = rewards.gather(1, tuned_column.unsqueeze(1)).squeeze(1)
base_reward = rewards.gather(1, 1 - tuned_column.unsqueeze(1)).squeeze(1)

# %%
views = pd.DataFrame({"prefers the tuned model": {
    "reward model": (tuned_reward > base_reward).float().mean().item() + 0.5 * (tuned_reward == base_reward).float().mean().item(),
    "simulated judge": result.rate,
    "what the reward model expects of a judge": believed.gather(1, tuned_column.unsqueeze(1)).mean().item(),
}})  # fmt: skip
views.map("{:.1%}".format)

# %% [markdown]
# The first line is the examiner who sold the answers. It is almost always the highest: PPO was paid for exactly this number. The third
# is subtler. The reward model knows that people are noisy, and says how often *it* would expect a judge to agree. Compare it with the
# second line, and, pair by pair, with the picture.

# %%
plots.calibration(believed.gather(1, tuned_column.unsqueeze(1)), torch.tensor(won).float())
# %% [markdown]
# *How to read it*: along the diagonal the reward model's belief is right. Points **below** it on the right mean that the reward model is
# more enthusiastic about the tuned texts than the judge is. That is the fingerprint of over-optimisation: PPO looked for texts that the
# reward model overrates, and found some. Notebook 08 drives this to the end.

# %%
gap = views.iloc[2, 0] - views.iloc[1, 0]
verdict = (
    "more enthusiastic than"
    if gap > 0.03
    else "less enthusiastic than"
    if gap < -0.03
    else "in step with"
)
show.note(f"On these pairs the reward model is **{verdict}** the simulated judge ({gap:+.1%}).")

# %% [markdown]
# ## 7. How far did it move?
#
# KL from the reference, in nats per response, says how different the tuned policy's writing is. By hand it takes three lines: sample
# from the tuned policy, let the base model read the same tokens, average the difference of log-probabilities, summed over each response.

# %%
with torch.no_grad():
    base_reads = sampling.replay(
        base, rollouts["tuned"], task.temperature, micro_batch=256
    ).logprobs
kl_each = (rollouts["tuned"].logprobs - base_reads).sum(-1)  # (B,)
kl = kl_each.mean().item()


# %%
score = reward.scorer(reward_model, task)
measured = {
    name: evaluation.measure(policy, base, test, task, score, seed=0)
    for name, policy in (("base", base), ("tuned", tuned))
}
assert (
    abs(measured["tuned"]["kl_nats_per_response"] - kl) < 1e-3
    and abs(measured["base"]["kl_nats_per_response"]) < 1e-3
)
pd.DataFrame(measured).round(2)

# %% [markdown]
# What is a nat? The tuned policy finds its own responses, on average, $e^{\text{KL}}$ times as likely as the base model does (a geometric
# mean). At 6 nats, the paper's target for descriptiveness, that is a factor of about 400 for 24 tokens. To drift as far by choosing
# alone, you would have to take the best of about a thousand samples (next section).
#
# `normalize` gave the base model's whole responses mean 0. Its score here can lie below that: an answer that never ends scores -1, and
# the others are cut at their end before they are scored.

# %%
plots.score_histogram(
    score(rollouts["base"]).cpu(), score(rollouts["tuned"]).cpu(), names=("base", "tuned")
)
# %% [markdown]
# *How to read it*: the whole hill should have moved to the right, not only a few samples. A spike at exactly -1 is the penalty for
# responses that never end.

# %% [markdown]
# ## 8. What did each nat buy?
#
# A score alone says little: push harder, drift further, score higher. The fair picture is score **against** KL. Your PPO run has drawn
# one path on it already, a point for every stretch of training. Two yardsticks come from the base model alone, without any training.
#
# - **Best of n**: draw $n$, keep the one with the highest score. Its KL is at most $\log n - (n-1)/n$.
# - **The optimum**: the policy that no other beats at its KL is the base policy reweighted, $\rho(y|x) \, e^{r/\beta}$, one for every
#   $\beta$. With many samples a prompt we can do the reweighting on the samples. The paper does the same for its figure on mock
#   sentiment.
#
# **Predict**: where will PPO's path lie, above best of n, below, in between?

# %% tags=["slow"]
queries, samples = (32, 128) if size.name != "quick" else (8, 32)
many = sampling.sample(base, test[slice(0, queries)].repeat(samples), task.response_length, task.temperature,
                       torch.Generator(device).manual_seed(1))  # fmt: skip
drawn = score(many).view(queries, samples).cpu()  # (prompts, samples)


# %%
def reweighted(beta):
    """Score and KL of the base policy reweighted by exp(score / beta), estimated on the drawn samples."""
    weight = (drawn / beta).softmax(-1)
    kl = (weight * (weight * samples).clamp(min=1e-12).log()).sum(-1).mean().item()
    return {
        "series": "optimum, by reweighting",
        "score": (weight * drawn).sum(-1).mean().item(),
        "kl_nats_per_response": kl,
    }


def best_of(n):
    kept = drawn.view(queries, samples // n, n).amax(-1).mean().item()
    return {"series": "best of n", "score": kept, "kl_nats_per_response": math.log(n) - (n - 1) / n}


# %%
stretch = max(1, len(ppo_lines) // 12)
parts = [ppo_lines[i : i + stretch] for i in range(0, len(ppo_lines) - stretch + 1, stretch)]
path = [{"series": "PPO, along training"} | {k: sum(line[k] for line in part) / len(part) for k in ("score", "kl_nats_per_response")}
        for part in parts]  # fmt: skip
optimum = [reweighted(beta) for beta in (8, 4, 2, 1.4, 1, 0.7, 0.5)]
plots.reward_against_kl(path + [best_of(n) for n in (1, 2, 4, 8, 16)] + optimum)
# %%
assert all(
    a["score"] < b["score"] and a["kl_nats_per_response"] < b["kl_nats_per_response"]
    for a, b in zip(optimum, optimum[1:])
)
assert optimum[-1]["kl_nats_per_response"] < math.log(samples)

# %% [markdown]
# *How to read it*: up is better, right is dearer. Nothing can lie above the optimum for long, and the estimate bends down where its KL
# comes near the logarithm of the number of samples a prompt: there are no more samples to weigh. Best of n lies just below it: for small
# drifts it is a superb policy, but every answer costs $n$ samples for ever. PPO pays once, in training. What lies between its path and
# the optimum is the price of teaching one network all prompts from a few thousand samples.
#
# Which of PPO's points would you keep? The frontier keeps those that no other beats.

# %%
keep = evaluation.frontier(path)
show.note(
    f"{len(keep)} of {len(path)} stretches of the run lie on its own frontier. The last one has a score of "
    f"**{path[-1]['score']:+.2f}** at **{path[-1]['kl_nats_per_response']:.1f}** nats."
)

# %% [markdown]
# ## 9. What do labels buy?
#
# One question has stayed open: how far below the optimum does PPO lie because of *PPO*, and how far because the reward model has seen too
# few labels? With people that cannot be told apart. With a scorer it can, and the paper does so for its one figure without people, **mock
# sentiment**: let a scorer $r_s$ be what is wanted, and let it answer the comparisons too, always with the best of four. Then train
#
# - PPO on $r_s$ itself: no reward model, no labels, nothing lost on the way;
# - PPO on reward models that have seen 300, 1,000, 5,000 and 20,000 of these simulated labels;
#
# each at several KL targets, and judge them all by $r_s$. That is many runs, three quarters of an hour on two cores, so it is recorded; the
# command is `python data/make_mock_sentiment.py --targets 3 6 --seeds 0 1`. (This record was made before the base model had its last lesson.) Our $r_s$ is the sentiment score of the simulated labeler, in units of its spread over the base
# model's responses.
#
# **Predict**: in which order will the lines lie? Is the step from 300 to 1,000 labels larger than the one from 5,000 to 20,000?

# %%
recorded = RECORDED / "mock_sentiment.json"
mock = json.loads(recorded.read_text()) if recorded.exists() else None
if mock is None:
    show.note(
        f"**Not recorded here**: `{recorded.name}` is missing, so this section has no figures. `python data/make_mock_sentiment.py` "
        "makes it."
    )
else:
    runs, settings = pd.DataFrame(mock["policies"]), mock["settings"]
    show.note(
        f"{len(runs)} policies, {settings['episodes']:,} episodes each, measured on {settings['test']} prompts of the test split. "
        "Every label is simulated."
    )

# %%
if mock is not None:
    means = runs.groupby(["series", "kl_target"], sort=False)[
        ["score", "kl_nats_per_response", "score_standard_error"]
    ].mean()
    plots.reward_against_kl(
        means.reset_index(), bound=mock["optimum"], unit="r_s, in the base model's deviations"
    )

# %% [markdown]
# *How to read it*: each line is one source of reward, each point one KL target; the bar is a standard error over prompts. Nothing learned
# can lie above the black line, the base model reweighted by $e^{r_s/\beta}$. The gap from there to PPO on $r_s$ itself is the price of
# training one network in few steps. The gap from there down to a line of labels is what the reward model does not know yet. The bars know
# nothing of another thing: a training with another seed ends elsewhere, by a tenth or two. Which lines can you tell apart in spite of that?

# %%
if mock is not None:
    middle = settings["targets"][len(settings["targets"]) // 2]
    plots.learning_curves(
        runs[runs.kl_target == middle], unit="r_s, in the base model's deviations"
    )

# %% [markdown]
# *How to read it*: the same policies while they learn, at one of the KL targets, all judged by $r_s$ (the policies on reward models never
# saw it). A line that flattens early has used up what its reward model knows; more episodes will not help it, more labels will.

# %%
if mock is not None:
    display(
        pd.DataFrame(mock["reward_models"])
        .groupby("labels")
        .accuracy.mean()
        .map("{:.0%}".format)
        .to_frame("finds one of the best of four")
    )

# %% [markdown]
# In the paper, at 8 nats, PPO on $r_s$ reached 3.3 (log-odds of a classifier), 20,000 labels 2.6, 5,000 labels 2.0, and the optimum 4.6.

# %% [markdown]
# ## 10. The prices that no score shows
#
# In the paper's experiment without a KL penalty the policy scored splendidly and wrote gibberish. Always look at the text, and count a few things a
# reward model does not care about: length, sameness, unfinished answers. **distinct-2** is the share of different word pairs among all
# word pairs: 1 means that no pair ever repeats.


# %%
def distinct(texts, n=2):
    """Share of different n-grams of words among all n-grams of a set of texts."""
    grams = Counter(
        g
        for text in texts
        for words in [labelers.words(text)]
        for g in zip(*(words[i:] for i in range(n)))
    )
    return len(grams) / max(1, sum(grams.values()))


def nameless(text):
    """Put a star for every word with a capital: a change of names would hide that two texts are the same."""
    return re.sub(r"\b[A-Z]\w+", "*", text)


def look(name):
    texts, (_, finished) = answers[name], tasks.truncate(task, rollouts[name].responses, tokenizer)
    return {"words": sum(len(labelers.words(t)) for t in texts) / len(texts), "finished": finished.float().mean().item(),
            "distinct-2": distinct(texts), "different texts": len({nameless(t) for t in texts}) / len(texts),
            "most common opening, share": Counter(" ".join(nameless(t).split()[:3]) for t in texts).most_common(1)[0][1] / len(texts)}  # fmt: skip


# %%
prices = pd.DataFrame({name: look(name) for name in answers})
prices.round(3)

# %% [markdown]
# Compare the columns. Some narrowing is what you asked for: happy texts share happy words. The alarm bells are a distinct-2 that falls
# to a small part of the base model's, one opening that takes a large share of all answers (names and other words with a capital count as
# one), or a length that runs to one end. Is the tuned model's win rate worth what you see here? Nobody asked the labeler about sameness. (Compare
# distinct-2 only between sets of equal size: larger sets repeat themselves more.)
#
# Which words did the tuned model learn to use, and which to avoid?

# %%
used = {
    name: Counter(word for text in texts for word in set(labelers.words(text)))
    for name, texts in answers.items()
}
change = pd.DataFrame(used).fillna(0).astype(int)
change["more often"] = change.tuned - change.base
change = change.sort_values("more often", ascending=False)
pd.concat([change.head(8), change.tail(8)])

# %% [markdown]
# And the texts. Sorted by the judge's view this time, so that you see the losses as well as the wins: three pairs that the tuned model
# lost in the eyes of the simulated judge, and three that it won.

# %%
shown = pd.DataFrame({"prompt": prompts, "base": answers["base"], "tuned": answers["tuned"], "tuned won": won,
                      "score base": base_reward.numpy().round(1), "score tuned": tuned_reward.numpy().round(1)})  # fmt: skip
pd.concat([shown[~shown["tuned won"]].head(3), shown[shown["tuned won"]].head(3)])

# %% [markdown]
# ## 11. A second round
#
# The reward model learned from texts of the **base** model. The tuned policy writes other texts, and there the reward model has to
# guess. The remedy is to ask again, with the tuned policy's samples. The paper calls it online data collection; in practice one collects
# in batches. Two columns of the store were waiting for it: `source` and `round`.

# %%
more = tasks.queries(task, tokenizer, size.own_labels, split="train", seed=22)
second_round = labelers.collect(tuned, task, more, seed=2, source="tuned", round=1)
store = LabelStore(folder() / "labels.db")
new = store.add(second_round)
assert all(c.source == "tuned" and c.round == 1 for c in second_round)
print(f"{len(second_round)} comparisons from the tuned policy, {new} of them new in your store")

# %%
card_two = cards.label(
    second_round, task, pseudonym, store=store, rubric=rubric
)  # the same question as in the first round
card_two

# %% [markdown]
# Label a few, and you will notice something: it has become **harder**. Let us measure it with the simulated labeler, whose utilities we
# know. The `spread` is the distance from the best to the worst option; expected agreement is the one from notebook 02.

# %%
first_round = labelers.collect(base, task, more, seed=2)


def difficulty(comparisons):
    utilities = [[judge.utility(option) for option in c.options] for c in comparisons]
    meet = [sum(p * p for p in judge.probabilities(c.options)) for c in comparisons]
    return {"mean utility": sum(sum(u) / len(u) for u in utilities) / len(utilities),
            "spread": sum(max(u) - min(u) for u in utilities) / len(utilities),
            "expected agreement": sum(meet) / len(meet)}  # fmt: skip


pd.DataFrame(
    {"round 0 (base)": difficulty(first_round), "round 1 (tuned)": difficulty(second_round)}
).round(2)

# %% [markdown]
# If the tuning worked, the mean utility has risen. Four happy texts are harder to tell apart than a happy one among sad ones; where
# spread and agreement have fallen, each new label carries less information about *this* question. Where they have not, the tuned model
# still has things to learn. Did the paper's second rounds pay? For style hardly: 5,000 labels collected offline and online came out at
# 50 to 50 on sentiment and 48 to 52 on descriptiveness. For summaries online collection paid: about three points of
# ROUGE on CNN/DM.
#
# Notebook 03 reads every label of yours in this store, from both rounds. Go back to it, and round the circle closes.

# %% [markdown]
# ## The result in one table
#
# The last cell writes `summary.json` into your runs folder. The command that runs the whole course shows it at the end.

# %%
table = [{"model": "base", "score": measured["base"]["score"], "kl_nats": 0.0, "win_rate": None, "low": None, "high": None, "seconds": None},
         {"model": "tuned", "score": measured["tuned"]["score"], "kl_nats": measured["tuned"]["kl_nats_per_response"],
          "win_rate": result.rate, "low": result.low, "high": result.high, "seconds": ppo_lines[-1].get("seconds")}]  # fmt: skip
look_at = "notebooks/07_did_it_work.ipynb (the judge is simulated; judge twenty pairs yourself in section 2)"
folder().mkdir(parents=True, exist_ok=True)
(folder() / "summary.json").write_text(
    json.dumps({"rows": table, "look_at": look_at}, indent=1) + "\n"
)
pd.DataFrame(table).set_index("model").drop(columns="seconds").round(3)

# %% [markdown]
# ## Recap
#
# - Judge blind, on new prompts, with a judge who had no part in training. The reward model is not one.
# - Uncover the sides before you count. A result near 50 % is either no effect or a forgotten swap.
# - Wilson's interval keeps its promise with few pairs and near 100 %. It covers the luck of the prompts, not the luck of training.
# - A dozen pairs show a large effect; a small one needs thousands. Decide before you judge.
# - Report score and KL together. Best of n and the reweighted base policy tell you what a nat could have bought.
# - Count what the reward model ignores. Read the losses.
#
# | change one knob | and look at |
# |---|---|
# | the judge's `temperature` (0, 1.8, 5) | the win rate: how much of the missing part is the judge's noise? |
# | the judge's utility: `labelers.descriptiveness` | is the tuned model better, worse or equal in what nobody asked for? |
# | the seed of `test` | the win rate against its interval |
# | `task.temperature` in sampling, 0.7 to 1 | KL, distinct-2 and win rate together |
#
# **Questions.** (1) A judge with noise prefers the happier of two texts only most of the time. What win rate could a *perfect* policy
# reach with ours? (2) You judged twenty pairs and found 65 %. You judge twenty more "to be sure". What is wrong with the interval of all
# forty? (3) The tuned model's answers are two words longer. How would you find out whether length alone explains the wins? (4) Two
# policies have the same score, one at 3 nats and one at 12. Which would you publish, and what would you look at first?
#
# **Further reading.** Ziegler et al. (2019), arXiv 1909.08593: the results on stylistic continuation, the figure of reward against KL on
# mock sentiment, and the sections on online data collection. Wilson (1927), *Probable inference, the law of succession, and statistical
# inference*. Stiennon et al. (2020), arXiv 2009.01325, for over-optimisation measured with people, and control for length.
#
# **Next**: [back to the reward model with your new labels](03_reward_model.ipynb).
