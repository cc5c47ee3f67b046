# %% [markdown]
# # 07 · Did it work?
#
# The score went up: you saw it in notebook 05, step by step. But PPO was trained to raise exactly that score. So the score cannot tell us
# whether the texts got better. For that we need a reader who sees one answer of the base model and one of the tuned model without being
# told which is which, and says which one they like better. In this notebook you are that reader first: the model was tuned on what *you*
# clicked, so nobody else can say whether it worked. Then a simulated judge takes over, on a model whose labels were simulated and whose
# truth is therefore known. How sure can you be, after twenty pairs, or five hundred?
#
# **After this notebook you can**
#
# - set up a blind test: new prompts, hidden sides, a judge who had no part in training;
# - put an interval around a win rate, and say how many pairs are enough before you start;
# - find out whether a model learned what you like, or what you happened to click;
# - compare what the reward model believes with what the judge says;
# - measure how far the policy has moved, and what each nat of KL bought;
# - look for side effects: length, repetition, unfinished answers;
# - start a second round of labelling.
#
# | active | machine (one laptop core) | you need |
# |---|---|---|
# | about 60 minutes | about 4 minutes | notebooks 02, 03 and 05, or only their ideas: recorded models stand in for yours |

# %%
import json
import math
import re
from collections import Counter

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import display

from rlhf_helpers import evaluation, labelers, models, reward, sampling, tasks
from rlhf_helpers.course import checks, learner, machine, plots, show
from rlhf_helpers.course.profile import RECORDED, artifact, beside, folder, own, profile
from rlhf_helpers.labels import cards, frontend
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.runtime import seeds
from rlhf_helpers.runtime.runs import default_device

size, task, device = profile(), tasks.SENTIMENT, default_device()
# %matplotlib inline
show.setup()

# %%
plots.pipeline("judge");
# %% [markdown]
# ## 1. What is compared
#
# Several things come from earlier notebooks: the model tuned on your taste, and the taste; a model tuned on a reward model of many labels,
# that reward model, and the curves of its run. Each line says which it is, and how it was made; the recorded ones take the place of what is
# missing, and a recorded policy brings the reward model that paid it.

# %%
base = models.Policy.load().to(device)
tokenizer = base.tokenizer
found = artifact("policy_sentiment")
tuned = models.Policy.load(found).to(device)
# the reward model that paid it, and its curves: another fit has another unit
reward_model = models.RewardModel.load(beside(found, "reward_sentiment")).to(device)
ppo_lines = [json.loads(x) for x in beside(found, "ppo_sentiment.jsonl").read_text().splitlines()]
taste, is_simulated = learner.taste(base)
path = own("policy_taste") if taste else None
yours = models.Policy.load(path).to(device) if path else tuned
taste = taste if path else None

# %%
whose = learner.of_whom(is_simulated) if taste else "the reward model of sentiment"
show.note(f"Section 2 judges the model that was tuned on **{whose}**.")

# %% [markdown]
# The prompts come from the **test** split. No model in this course has been trained on these stories, neither the base model nor the reward
# model nor PPO. (They tell of wagers, mysteries and confessions, of which no training story tells, and hardly a sentence of theirs stands
# in one; but the same grammar tells both.) Both policies answer the same prompts. Do not print the answers yet: once you have seen which
# model writes what, you can no longer judge blind.

# %%
test = tasks.queries(task, tokenizer, size.judged, split="test", seed=0)
prompts = tasks.query_texts(test, tokenizer)
rollouts, answers = {}, dict.fromkeys(("base", "tuned"))
drawn = [("tuned", tuned, 0), ("base", base, 1)] + ([("yours", yours, 0)] if taste else [])
for name, policy, number in drawn:
    dice = seeds.generator(0, "judged answers", number, device)  # as in section 2
    rollouts[name] = sampling.sample(policy, test, task.response_length, task.temperature, dice)
    answers[name] = tasks.texts(task, rollouts[name].responses, tokenizer)

# %% [markdown]
# ## 2. A blind test
#
# The rules, each of which has been broken in print:
#
# 1. **New prompts.** Not those of training.
# 2. **Another judge.** Not the reward model. Best a person.
# 3. **Hidden sides.** A coin decides for every pair which text is on the left; nobody is told until the end.
# 4. **A number fixed beforehand.** If you stop when the result looks good, you will often find good results.
# 5. **No second try.** One sample per prompt, none drawn again.
#
# The package keeps rule 3 with a coin that depends on the pair alone, so that the test can be repeated exactly.

# %%
show.source(evaluation.mirrored, evaluation.pairs)

# %%
pairs, tuned_is_zero = evaluation.pairs(tuned, base, test, task, seed=0)
assert [p.options[0 if zero else 1] for p, zero in zip(pairs, tuned_is_zero)] == answers["tuned"]
print(f"{len(pairs)} pairs; the tuned model stands first in {sum(tuned_is_zero)} of them")
all_yours, yours_is_zero = evaluation.pairs(yours, base, test, task, seed=0)
your_pairs, your_zero = all_yours[:20], yours_is_zero[:20]

# %% [markdown]
# **Judge twenty pairs** of your model and the base model. The card is the one of notebook 02 with two options: **1** and **2** choose, **t**
# cannot tell (that is half a win for each), **u** takes back. It asks the question that you asked there, and your rubric is in the fold.
# At the end, and not before, the card says who was who. *Write down first*: how often will you prefer the tuned model?
#
# How blind is it? The card shows no names, and no table of this notebook has shown you any. But you have met tuned answers in notebooks 00
# and 05. If one sentence came back again and again there, you may recognise its writer, and then your verdict is about the writer and no
# longer about the text. If you can, let somebody judge who has never seen these models: their twenty verdicts are worth more than yours.

# %%
pseudonym = cards.me()  # your pseudonym of notebook 02
written = folder() / "rubric_sentiment.md"
rubric = written.read_text(encoding="utf-8") if written.exists() else None
question = learner.question(task=task) if taste else frontend.QUESTIONS[task.name]
about = {"question": question, "rubric": rubric}
sides = {"first_is_zero": your_zero, "names": ("tuned", "base")}
card = cards.judge(your_pairs, pseudonym, **about, **sides)
card

# %% [markdown]
# Nobody at the keyboard? Where the taste is that of the simulated learner of notebook 02, the **same simulated learner** judges the twenty
# pairs, on another day: its noise is drawn anew. Where there is no taste, a simulated judge looks for happy words. But where the taste is
# yours, nobody can judge in your place, and what follows waits for you.

# %%
judge = labelers.simulated(task, name="held-out judge", seed=1_000)
by, mine, undecided = "you", card.labels(), card.ties()
if not mine and not undecided:
    by = "nobody yet"
    if taste is None:
        by, mine = "a SIMULATED judge", judge.label(your_pairs)
    elif is_simulated:
        by, (mine, undecided) = learner.who(True), learner.verdicts(your_pairs)
judged_yours = bool(mine or undecided)
print(f"{len(mine)} verdicts by {by}, and {len(undecided)} pairs where they could not tell")

# %% [markdown]
# Twenty pairs take you a few minutes; for five hundred you would need an evening. To learn what an evaluation can tell, sections 3 to 10 look at the model
# tuned on **sentiment**, whose labels were simulated, and let a **simulated judge** read 512 pairs in a second: a counter of happy and
# sad words with the noise of the labelers in notebook 02. It is *held out*: none of its choices trained the reward model. But its taste
# is exactly the one that the reward model was taught. A judge with any other taste would have less reason to like what PPO has made, so
# expect real readers to be less impressed.

# %%
verdicts = judge.label(pairs)
print(f"{len(verdicts)} verdicts of a SIMULATED judge")

# %% [markdown]
# ## 3. Uncover the sides
#
# A verdict is 0 or 1: the pair's first or second text. `tuned_is_zero` says for every pair whether the tuned model wrote the first.
#
# ### Exercise 1: who won? (●○○○○, important, 5 minutes)
#
# Write `uncover(choices, tuned_is_zero)`: for every pair `True` if the **tuned** model was preferred, otherwise `False`. The line is short, but
# without it you count how often the text on the *left* was preferred. On shuffled sides that is about 50 % for any model, give or take the
# chance of a finite number of pairs, and no error message tells you.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# There are four cases. Choice 0 and tuned first: won. Choice 1 and tuned second: won. What do these two have in common?
# </details>


# %% tags=["exercise"]
def uncover(choices, tuned_is_zero):
    """Say for each pair whether the tuned model won; it wrote text 0 where tuned_is_zero."""
    ...


# %% tags=["solution"]
def uncover(choices, tuned_is_zero):
    """Say for each pair whether the tuned model won; it wrote text 0 where tuned_is_zero."""
    return [(choice == 0) == zero for choice, zero in zip(choices, tuned_is_zero)]


# %% tags=["check"]
solved = checks.nb07_uncover(uncover)

# %% tags=["catch-up"]
if not solved:

    def uncover(choices, tuned_is_zero):
        return [(choice == 0) == zero for choice, zero in zip(choices, tuned_is_zero)]

# %% [markdown]
# Two equal texts cannot be told apart, so such a pair counts as half a win, whatever the judge said; so does a pair where a judge could not tell
# (the simulated one always can). With that, your function must give exactly the package's win rate.

# %%
equal = [p.options[0] == p.options[1] for p in pairs]
won = [bool(w) for w in uncover([verdict.choice for verdict in verdicts], tuned_is_zero)]
wins = sum(0.5 if tie else float(w) for w, tie in zip(won, equal))
result = evaluation.judge(pairs, tuned_is_zero, verdicts)
assert wins == result.successes and len(pairs) == result.total

# %%
left = sum(verdict.choice == 0 for verdict in verdicts) / len(verdicts)
show.note(
    f"The simulated judge preferred the tuned model in **{result.rate:.1%}** of {result.total} "
    f"pairs. Without uncovering you would have read **{left:.1%}**: the share of the left side."
)

# %% [markdown]
# ### Yours: did it learn what you like?
#
# Now your model (or the simulated learner's). First the twenty verdicts, with an interval. Then what the taste had expected of each pair,
# before anybody judged: the probability that the tuned model's text is preferred. (The names are told once you have judged. If you ran
# all cells at once, judge, and run this cell and the next ones again.)

# %%
told = card.session.current is None or frontend.headless()


def rewards_of(asked):
    """What pays the policy finds of each option: (N, K)."""
    if taste:
        return taste.rewards(asked)
    rows = [labelers.Label(c.id, "nobody", 0) for c in asked]
    encoded = reward.encode(task, asked, rows, tokenizer, keep_equal=True)
    return reward.predictions(reward_model, encoded).cpu()


def expects(asked):
    """How likely each option is to be chosen, as the taste or the reward model sees it: (N, K)."""
    if taste:
        return taste.probabilities(asked)
    return (rewards_of(asked) / reward_model.gain.item()).softmax(-1)


# %%
column = torch.tensor([0 if zero else 1 for zero in your_zero])
foretold = expects(your_pairs).gather(1, column.unsqueeze(1)).squeeze(1)  # of the tuned text
verdict = dict.fromkeys(undecided, "cannot tell")
for x, zero in zip(your_pairs, your_zero):
    for label in mine:
        if label.comparison_id == x.id:
            verdict[x.id] = "tuned" if (label.choice == 0) == zero else "base"
if judged_yours and told:
    in_eyes = evaluation.judge(your_pairs, your_zero, mine, undecided)
    show.note(
        f"In the eyes of **{by}** the tuned model wins in **{in_eyes}**. Before that, "
        f"{whose} had expected **{foretold.mean():.0%}**."
    )
else:
    show.note("Not judged yet: judge the twenty pairs in section 2 first.")

# %%
rows = []
for x, zero, p in zip(your_pairs, your_zero, foretold.tolist()):
    tuned_text, base_text = x.options if zero else x.options[::-1]
    rows.append((tuned_text, base_text, p, verdict.get(x.id, "-")))
columns = ["tuned", "base", "expected for tuned", "preferred"]
table = pd.DataFrame(rows, columns=columns)
surprise = table["expected for tuned"].where(table["preferred"] == "base")
surprise = surprise.fillna((1 - table["expected for tuned"]).where(table["preferred"] == "tuned"))
order = surprise.sort_values(ascending=False).index
table.loc[order].head(6).round(2) if told and judged_yours else None

# %% [markdown]
# At the top are the pairs in which the verdict was least expected. Read them one by one: **did it learn what you like, or what you happened to
# click?** If you prefer a text that the taste thinks little of, what has it that no word, length or manner shows? And where it expected
# you to like a text that you did not: was it paid for a *sign* of what you like (a quotation mark, a favourite word) in the place of the
# thing itself? Sixty clicks on texts of the base model could not tell the two apart, because there they went together. PPO has
# looked for texts in which they do not.
#
# Twenty pairs leave a wide interval. Where the learner is simulated, its hidden taste can be told now, and asked without noise about all pairs.

# %%
if taste and is_simulated:
    likes = torch.tensor([[learner.utility(o) for o in x.options] for x in all_yours])
    where = torch.tensor([0 if zero else 1 for zero in yours_is_zero]).unsqueeze(1)
    gained = (likes.gather(1, where) - likes.gather(1, 1 - where)).squeeze(1)
    ties = (gained == 0).sum().item()
    sure = evaluation.wilson((gained > 0).sum().item() + ties / 2, len(gained), ties)
    show.note(
        f"The simulated learner likes **{learner.HIDDEN}**. Without noise it prefers the tuned "
        f"model in **{sure}**."
    )
    counts = {
        name: {
            "answers with speech": sum('"' in t for t in texts) / len(texts),
            "words": sum(len(labelers.words(t)) for t in texts) / len(texts),
        }
        for name, texts in (("base", answers["base"]), ("yours", answers["yours"]))
    }
    display(pd.DataFrame(counts).round(2))

# %%
if size.name == "laptop" and taste and is_simulated:
    assert sure.low > 0.5
paid_by = taste.scorer(ranked=True) if taste else reward.scorer(reward_model, task)
moved_yours = evaluation.measure(yours, base, test, task, paid_by)
show.note(
    f"It stands **{moved_yours['kl_nats_per_response']:.1f} nats** from the base model, with a "
    f"score of {moved_yours['score']:.2f} by {whose}."
)

# %% [markdown]
# ### Back to the known case
#
# The first five pairs of the model tuned on sentiment: not the best five, which would prove nothing.

# %%
named = pd.DataFrame({"prompt": prompts, "base": answers["base"], "tuned": answers["tuned"]})
named.head(5) if told else show.note("The names are not told before you have judged, in section 2.")

# %% [markdown]
# Before you compare a win rate with the paper's 88 % for sentiment, ask who the judge was. The paper's judges are people, and people are
# noisy: shown the same four texts, two of them often choose differently. The simulated judge above is about as noisy. A judge without
# noise, who always takes the text of higher utility, sees more of the difference in the same pairs:

# %%
never_wrong = labelers.simulated(task, name="judge without noise", seed=1_000, temperature=0)
sharp = evaluation.judge(pairs, tuned_is_zero, never_wrong.label(pairs))
show.note(f"With noise: **{result}**. Without noise, the same pairs: **{sharp}**.")

# %% [markdown]
# A win rate is a property of the model *and* of the judge. It is the first of the two numbers that belongs beside the paper's.
#
# ## 4. How sure?
#
# A win rate is an estimate: with other prompts it would differ. The textbook interval, rate ± 1.96 standard errors, fails exactly where we need it:
# with 20 wins of 20 the standard error is zero, and the interval says that you are certain. The fault is that it computes the standard
# error from the *measured* rate, which may itself be far off. **Wilson's interval** asks a better question: *for which true rates $p$
# would this result not be surprising?* For each candidate $p$ we know how much a measured rate $\hat p$ would scatter around it, so we
# keep the candidates with $|\hat p - p| \le z \sqrt{p(1-p)/n}$. Solve for $p$ and you get
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
low, high = wilson(result.successes, result.total)
assert max(abs(low - result.low), abs(high - result.high)) < 1e-3
print("your interval and the package's:", result)

# %% [markdown]
# Does a 95 % interval contain the truth in 95 of 100 evaluations, as it should? We need no simulation: for a true rate of 88 % (the paper's for
# sentiment) we add up the probabilities of all outcomes whose interval contains 0.88.


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
formulas = {"plain": plain, "Wilson": wilson}
kept = {name: [coverage(formula, n) for n in totals] for name, formula in formulas.items()}
fig, ax = plt.subplots(figsize=(7, 3))
ax.plot(totals, kept["plain"], "--", color=plots.RED, label="rate ± 1.96 standard errors")
ax.plot(totals, kept["Wilson"], color=plots.BLUE, label="Wilson")
ax.axhline(0.95, color=plots.GREY, linestyle=":", label="intended: 95 %")
ax.set(xlabel="pairs judged", ylabel="share that contains the truth", ylim=(0.4, 1.0))
ax.set_title("True win rate 88 %")
ax.legend();
# %%
assert kept["plain"][totals.index(20)] < 0.93 < kept["Wilson"][totals.index(20)]
assert sum(kept["plain"]) / len(totals) < sum(kept["Wilson"]) / len(totals)

# %% [markdown]
# *How to read it*: the closer to the dotted line, the better. The saw teeth come from the fact that wins are whole numbers. With few pairs the
# plain interval contains the truth much too seldom; Wilson's stays close to 95 %.
#
# Here are the results as a picture, with yours if you have judged.

# %%
rows = [{"model": "sentiment, simulated judge", "wins": result.successes, "total": result.total}]
if judged_yours:
    in_eyes = evaluation.judge(your_pairs, your_zero, mine, undecided)
    rows.append({"model": f"section 2, {by}", "wins": in_eyes.successes, "total": in_eyes.total})
else:
    print("You have judged no pairs yet, so there is only the simulated judge's bar.")
plots.win_rates(rows);

# %% [markdown]
# *How to read it*: if the black interval crosses the dashed line, these pairs cannot tell the two models apart. That does not mean that they are
# equal.

# %% [markdown]
# ## 5. How many pairs are enough?
#
# Ask before you judge, not after. Say the true win rate is $p$. We will claim a difference if the result is significant at 5 %, and we
# want to succeed with probability 80 % (the **power**). If there is no difference, the measured win rate has standard deviation
# $0.5/\sqrt n$; if the true rate is $p$, it has $\sqrt{p(1-p)}/\sqrt n$. For significance the measured rate must lie 1.96 of the first
# away from one half; for that to happen in 80 % of the evaluations, $p$ must lie another 0.84 of the second further out. So the distance
# $|p - 0.5|$ is the sum of the two, and solving for $n$ gives
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
needed = {rate: pairs_needed(rate) for rate in true_rates}
pd.DataFrame(needed, index=["pairs needed"]).rename_axis(columns="true win rate")

# %% [markdown]
# About a dozen pairs tell an 88 % model from the base model. So your own twenty verdicts are enough for a large effect. Small effects need far
# more: half the distance from one half takes four times as many pairs.
#
# Now read the paper's own result: how often people preferred the tuned model to the untuned one, by the number of labels it had learned from.
# The intervals are ours, computed for 1,024 judged excerpts a point.

# %%
labels_used = [200, 500, 1_000, 2_500, 5_000, 10_000, 20_000]
paper = {
    "sentiment": [51.9, 74.9, 84.4, 86.2, 87.9, 86.8, 87.1],
    "descriptiveness": [78.2, 76.2, 82.3, 72.7, 86.3, 86.3, 84.6],
}
fig, ax = plt.subplots(figsize=(7, 3.4))
looks = ((0.97, plots.BLUE, "o-"), (1.03, plots.RED, "s-"))
for (name, percent), (shift, colour, style) in zip(paper.items(), looks):
    found = [evaluation.wilson(p / 100 * 1_024, 1_024) for p in percent]
    bars = [[f.rate - f.low for f in found], [f.high - f.rate for f in found]]
    x, y = [n * shift for n in labels_used], [f.rate for f in found]
    ax.errorbar(x, y, yerr=bars, fmt=style, color=colour, capsize=3, label=name)
ax.axhline(0.5, color=plots.GREY, linestyle="--", label="no better")
ax.set(xscale="log", xlabel="labels (log scale)", ylabel="preferred to the untuned model")
ax.set_title("Ziegler et al. 2019")
ax.legend();
# %%
rates = (51.9, 84.4, 87.9)
from_200, from_1000, from_5000 = (evaluation.wilson(p / 100 * 1_024, 1_024) for p in rates)
assert from_200.low < 0.5 < from_200.high and from_1000.low > 0.8
assert from_5000.high - from_5000.low < 0.05

# %% [markdown]
# *How to read it*: for sentiment 200 labels are not enough to see anything (the interval contains one half), a thousand do most of the
# work, and beyond 5,000 the curve is flat. Descriptiveness varies more than its intervals allow: the dip at 2,500 is real *for that one run*.
# An interval over excerpts does not include the randomness of training. For that you need several runs, with different seeds.

# %% [markdown]
# ## 6. The reward model's view and the judge's view
#
# Now let the reward model judge the same pairs. It was trained to predict choices, so it also gives probabilities: a softmax over the two
# rewards, on the scale of its training (`normalize` has multiplied them by the gain, so we divide by it).

# %%
judged = reward.encode(task, pairs, verdicts, tokenizer, keep_equal=True)  # a row for each pair
rewards = reward.predictions(reward_model, judged)  # (B, 2)
believed = (rewards / reward_model.gain.item()).softmax(-1)
tuned_column = torch.tensor([0 if zero else 1 for zero in tuned_is_zero])
tuned_reward = rewards.gather(1, tuned_column.unsqueeze(1)).squeeze(1)
base_reward = rewards.gather(1, 1 - tuned_column.unsqueeze(1)).squeeze(1)

# %%
better, equal = (
    x.float().mean().item() for x in (tuned_reward > base_reward, tuned_reward == base_reward)
)
expected = believed.gather(1, tuned_column.unsqueeze(1))
rows = {"reward model": better + 0.5 * equal, "simulated judge": result.rate}
rows["what the reward model expects of a judge"] = expected.mean().item()
views = pd.Series(rows, name="prefers the tuned model").to_frame()
views.map("{:.1%}".format)

# %% [markdown]
# The first line is almost always the highest, because PPO was trained to raise exactly this number. It
# does not ask by how much a text wins, and it knows no noise. The third line allows for both: it is how often the reward model *expects* a
# noisy judge to prefer the tuned text. If the reward model were right about these texts, the second and the third line would agree. Compare
# them, and then look at the picture, which compares them pair by pair.

# %%
plots.calibration(expected, torch.tensor(won).float());
# %% [markdown]
# *How to read it*: on the diagonal the reward model's probabilities are right. Points **below** it on the right mean that the reward model
# rates the tuned texts more highly than the judge does. That is the sign of over-optimisation: PPO looks for texts that the reward model
# overrates. With a nat as dear as here it finds few, and in the executed version nothing of the kind is to be seen: every point lies on the
# diagonal or above it. The tuned texts please the judge somewhat more often than the reward model expects.

# %%
gap = views.iloc[2, 0] - views.iloc[1, 0]
verdict = "as often as"
if abs(gap) > 0.03:
    verdict = "more often than" if gap > 0 else "less often than"
show.note(
    f"On these pairs the reward model expects the tuned text to win **{verdict}** the simulated "
    f"judge prefers it ({gap:+.1%})."
)

# %% [markdown]
# ## 7. How far did it move?
#
# The KL from the reference, in nats per response, says how different the tuned policy is. By hand it takes three lines: sample from the tuned
# policy, let the base model read the same tokens, sum the difference of log-probabilities over each response, and average.

# %%
dice = torch.Generator(device).manual_seed(0)  # as in evaluation.measure below
moved = sampling.sample(tuned, test, task.response_length, task.temperature, dice)
with torch.no_grad():
    read = sampling.replay(base, moved, task.temperature, micro_batch=256)
kl_each = (moved.logprobs - read.logprobs).sum(-1)  # (B,)
kl = kl_each.mean().item()


# %%
score = reward.scorer(reward_model, task)
measured = {}
for name, policy in (("base", base), ("tuned", tuned)):
    measured[name] = evaluation.measure(policy, base, test, task, score, seed=0)
assert abs(measured["tuned"]["kl_nats_per_response"] - kl) < 1e-3
assert abs(measured["base"]["kl_nats_per_response"]) < 1e-3
pd.DataFrame(measured).round(2)

# %% [markdown]
# What is a nat? The tuned policy finds its own responses, on average, $e^{\text{KL}}$ times as likely as the base model does (a geometric
# mean). At 6 nats, the paper's target for descriptiveness, that is a factor of about 400: what the tuned policy writes every time, the base
# model would have written about once in 400 samples. To move as far merely by choosing among samples, you would have to take the best of
# about a thousand (next section).
#
# `normalize` gave the base model's whole responses mean 0. Its score here is lower (-0.43 in the executed version): these are other prompts,
# an answer that never ends scores -1 (about one in seven), and the others are cut at their end.

# %%
base_scores, tuned_scores = (score(rollouts[name]).cpu() for name in ("base", "tuned"))
plots.score_histogram(base_scores, tuned_scores, names=("base", "tuned"));
# %% [markdown]
# *How to read it*: the whole distribution should have moved to the right, not only a few samples. A spike at exactly -1 comes from responses
# that never end, and so got the penalty.

# %% [markdown]
# ## 8. What did each nat buy?
#
# A score alone says little, because with a weaker penalty you can always buy a higher score for more KL. The fair picture is score
# **against** KL: what was reached, and how far from the base model one had to go for it. The PPO run on sentiment is one path in this
# picture, a point for every stretch of training. Two yardsticks come from the base model alone, without any training.
#
# - **Best of n**: draw $n$ answers, keep the one with the highest score. Its KL is at most $\log n - (n-1)/n$.
# - **The optimum**: among all policies at the same KL, the highest expected score belongs to the base policy reweighted,
#   $\rho(y|x) \, e^{r/\beta}$: every answer becomes more likely the higher its score, and none for any other reason. There is one such
#   policy for every $\beta$ (derived in section 6 of notebook 04). With many samples for each prompt we can do the reweighting on the samples, as the paper does for its figure
#   on mock sentiment.
#
# Like with like: the yardsticks are drawn for prompts from the pool on which PPO was trained, because that is where its path was measured.
#
# **Predict**: will PPO's path lie above best of n, below it, or cross it?

# %% tags=["slow"]
machine.announce("128 answers to each of 64 prompts")
queries, samples = (64, 128) if size.name != "quick" else (8, 32)
trained_on = tasks.queries(task, tokenizer, 2_000, seed=100)[slice(0, queries)]  # PPO's own pool
asked, dice = trained_on.repeat(samples // 4), torch.Generator(device).manual_seed(1)
# four at a time share their prompt
many = sampling.sample(base, asked, task.response_length, task.temperature, dice, answers=4)
drawn = score(many).view(queries, samples).cpu()  # (prompts, samples)


# %%
def reweighted(beta):
    """Score and KL of the base policy reweighted by exp(score / beta), from the samples."""
    weight = (drawn / beta).softmax(-1)
    kl = (weight * (weight * samples).clamp(min=1e-12).log()).sum(-1).mean().item()
    return "optimum, by reweighting", (weight * drawn).sum(-1).mean().item(), kl


def best_of(n):
    kept = drawn.view(queries, samples // n, n).amax(-1).mean().item()
    return "best of n", kept, math.log(n) - (n - 1) / n


# %%
stretch = max(1, len(ppo_lines) // 12)
parts = [ppo_lines[i : i + stretch] for i in range(0, len(ppo_lines) - stretch + 1, stretch)]
means = [pd.DataFrame(part)[["score", "kl_nats_per_response"]].mean() for part in parts]
path = [("PPO, along training", *mean) for mean in means]
optimum = [reweighted(beta) for beta in (8, 4, 2, 1.4, 1, 0.7, 0.5)]
yardsticks = [best_of(n) for n in (1, 2, 4, 8, 16)] + optimum
now = evaluation.measure(tuned, base, trained_on.repeat(8), task, score, seed=2)
yardsticks.append(("PPO, finished, on the same prompts", now["score"], now["kl_nats_per_response"]))
columns = ["series", "score", "kl_nats_per_response"]
plots.reward_against_kl(pd.DataFrame(path + yardsticks, columns=columns));
# %%
_, scores, nats = zip(*optimum)
assert (
    list(scores) == sorted(scores) and list(nats) == sorted(nats) and nats[-1] < math.log(samples)
)

# %% [markdown]
# *How to read it*: higher is a better score, further right is a larger distance from the base model. At a given KL no policy can have a
# higher expected score than the optimum. The lines are estimates, however. The yardsticks and the single mark of the finished policy come
# from the same few dozen prompts, PPO's path from all the prompts of the pool, one batch after another. And where the optimum's KL comes near
# the logarithm of the number of samples for each prompt, its estimate is too low, because there are no better samples left to weight.
#
# Best of n comes close to the optimum: for a small KL it is an excellent policy. But every single answer costs $n$ samples, for as long as
# the model is in use. PPO pays once, in training. Its path lies far below both lines: best of 8 has nearly its final score at less than half the
# nats. The gap to the optimum is the price of training *one* network for *all* prompts, from some twelve thousand samples.
#
# Which of PPO's points would you keep? The frontier keeps those that no other beats.

# %%
keep = evaluation.frontier([dict(zip(columns, point)) for point in path])
_, final, moved = path[-1]
show.note(
    f"{len(keep)} of {len(path)} stretches of the run lie on its own frontier. The last one has a "
    f"score of **{final:+.2f}** at **{moved:.1f}** nats."
)

# %% [markdown]
# ## 9. What do labels buy?
#
# One question is still open. The tuned policy is not as good as it could be. How much of that is due to *PPO*, and how much to a reward model
# that has seen too few labels? With people the two cannot be told apart, because nobody knows their true reward. So replace the people by
# a formula. The paper does so in its one figure without people, **mock sentiment**: a scorer $r_s$ defines what is wanted, and also
# labels the comparisons, always with the best of four. Then train
#
# - PPO on $r_s$ itself, with no reward model and no labels in between;
# - PPO on reward models that have seen 300, 1,000, 5,000 and 20,000 of these simulated labels;
#
# each at several KL targets, and judge them all by $r_s$. That is many runs, three quarters of an hour on two cores, so it is recorded; the
# command is `python data/make_mock_sentiment.py --targets 3 6 --seeds 0 1`. (What is recorded stems from an earlier base model, whose answers held
# 13 nats; the command measures today's.) Our $r_s$ is the sentiment score of the simulated labeler, in
# units of its spread over the base model's responses.
#
# **Predict**: in which order will the lines be? Is the step from 300 to 1,000 labels larger than the one from 5,000 to 20,000?

# %%
recorded = RECORDED / "mock_sentiment.json"
mock = json.loads(recorded.read_text()) if recorded.exists() else None
if mock is None:
    show.note(
        f"**Not recorded here**: `{recorded.name}` is missing, so this section has no figures. "
        "`python data/make_mock_sentiment.py` makes it."
    )
else:
    runs, settings = pd.DataFrame(mock["policies"]), mock["settings"]
    show.note(
        f"{len(runs)} policies, {settings['episodes']:,} episodes each, measured on "
        f"{settings['test']} prompts of the test split. Every label is simulated."
    )

# %%
if mock is not None:
    shown = ["score", "kl_nats_per_response", "score_standard_error"]
    means = runs.groupby(["series", "kl_target"], sort=False)[shown].mean().reset_index()
    unit = "r_s, in the base model's deviations"
    plots.reward_against_kl(means, bound=mock["optimum"], unit=unit)

# %% [markdown]
# *How to read it*: each line is one source of reward, each point one KL target, averaged over the seeds; the bar is a standard error over prompts.
# No policy can lie above the black line, the base model reweighted by $e^{r_s/\beta}$.
#
# What would we *like* to read off? The gap from the black line down to PPO on $r_s$ itself is what it costs to train one network in few steps.
# The gap from there to a line of labels is what the reward model has not learned. But be careful. The bars do not include the randomness
# of training, and that is large: with 5,000 labels and a target of 6 nats, one of the two recorded seeds ended at 1.99 and the other at
# 0.83, at different KL. Two seeds cannot put lines in order that lie closer together than that. The line of 20,000 labels ends above PPO
# on $r_s$ itself. This does not show that labels beat the truth: those runs went further from the base model, and their two seeds are
# almost as far apart. Which lines can you tell apart in spite of that?

# %%
if mock is not None:
    middle = settings["targets"][len(settings["targets"]) // 2]
    plots.learning_curves(runs[runs.kl_target == middle], unit=unit)

# %% [markdown]
# *How to read it*: the same policies during training, at one of the KL targets, all judged by $r_s$ (the policies on reward models never saw it).
# The band reaches from one seed to the other. Where a line flattens early, its policy has learned what its reward model knows: more labels
# would help it, more episodes would not.

# %%
if mock is not None:
    accuracy = pd.DataFrame(mock["reward_models"]).groupby("labels").accuracy.mean()
    display(accuracy.map("{:.0%}".format).to_frame("finds one of the best of four"))

# %% [markdown]
# The reward models themselves are easier to put in order than the policies trained on them: more labels, better choices. In the paper, at 8
# nats, PPO on $r_s$ reached 3.3 (log-odds of a classifier), 20,000 labels 2.6, 5,000 labels 2.0, and the optimum 4.6.

# %% [markdown]
# ## 10. What the score does not show
#
# In the paper's experiment without a KL penalty the policy reached very high scores and wrote gibberish. Always look at the text, and count a few
# things that the reward model ignores: length, repetition, unfinished answers. **distinct-2** is the share of different word pairs among all
# word pairs: 1 means that no pair ever repeats.


# %%
def distinct(texts, n=2):
    """Share of different n-grams of words among all n-grams of a set of texts."""
    grams = Counter()
    for text in texts:
        words = labelers.words(text)
        grams.update(zip(*(words[i:] for i in range(n))))
    return len(grams) / max(1, sum(grams.values()))


def nameless(text):
    """Put a star for every capitalised word, so that texts are equal if only names differ."""
    return re.sub(r"\b[A-Z]\w+", "*", text)


def look(name):
    texts, n = answers[name], len(answers[name])
    _, finished = tasks.truncate(task, rollouts[name].responses, tokenizer)
    stars = [nameless(text) for text in texts]
    openings = Counter(" ".join(text.split()[:3]) for text in stars)
    return {
        "words": sum(len(labelers.words(text)) for text in texts) / n,
        "finished": finished.float().mean().item(),
        "distinct-2": distinct(texts),
        "different texts": len(set(stars)) / n,
        "most common opening, share": openings.most_common(1)[0][1] / n,
    }


# %%
prices = pd.DataFrame({name: look(name) for name in answers})
prices.round(3)

# %% [markdown]
# Compare the columns (*yours*, where there is one, was tuned on a taste). Some narrowing is what you asked for: happy texts share happy
# words. The warning signs are a distinct-2 that falls to a small part of the base model's, one opening that makes up a large share of all
# answers (names and other capitalised words count as one), or a length at one of its limits. Nobody asked the labeler about repetition, and a
# judge who sees one pair at a time cannot notice it: the hundredth copy of a cheerful sentence wins as easily as the first. Here the signs are
# faint: no opening has more than 6 % of the answers. But look at the words below. One tuned answer in nine asks why somebody makes such a *long
# face*, in several wordings, so that a count of openings sees only a part of it, and nobody asked for it. A count finds what
# it was made to find; the rest you have to read. (Compare distinct-2 only between sets of equal size: larger sets repeat themselves more.)
#
# Which words did the tuned model learn to use, and which to avoid?

# %%
used = {}
for name, texts in answers.items():
    used[name] = Counter(word for text in texts for word in set(labelers.words(text)))
change = pd.DataFrame(used).fillna(0).astype(int)
change["more often"] = change.tuned - change.base
change = change.sort_values("more often", ascending=False)
pd.concat([change.head(8), change.tail(8)])

# %% [markdown]
# And the texts, so that you see losses as well as wins: three pairs that the tuned model lost in the eyes of the simulated judge, and three that it
# won.

# %%
shown = named.assign(**{"tuned won": won})
shown["score base"], shown["score tuned"] = base_reward.numpy(), tuned_reward.numpy()
some = pd.concat([shown[~shown["tuned won"]].head(3), shown[shown["tuned won"]].head(3)])
some.round(1) if told else show.note("The names are not told before you have judged.")

# %% [markdown]
# ## 11. A second round
#
# The taste was learned from texts of the **base** model. The tuned policy writes other texts, on which the taste is less reliable. The
# remedy is to ask again, about the tuned policy's samples. The paper calls this online data collection: label, tune, label what the tuned
# policy writes, and so on. The columns `source` and `round` of the store record where each comparison comes from. So this card asks your question
# about what *your* model writes now.

# %%
more = tasks.queries(task, tokenizer, size.own_labels, split="train", seed=22)
second_round = labelers.collect(yours, task, more, seed=2, source="tuned", round=1)
store = LabelStore(folder() / "labels.db")
new = store.add(second_round)
assert all(c.source == "tuned" and c.round == 1 for c in second_round)
print(f"{len(second_round)} comparisons from the tuned policy, {new} of them new in your store")

# %%
card_two = cards.label(second_round, task, pseudonym, store=store, **about)
card_two

# %% [markdown]
# Label a few. Has it become harder? The taste (or the reward model) that pays the policy has an opinion, too: the mean reward of the options,
# the `spread` from the best to the worst of the four, and how sure it is of its favourite.

# %%
first_round = labelers.collect(base, task, more, seed=2)


def difficulty(asked):
    found, sure = rewards_of(asked), expects(asked).amax(-1)
    spread = found.amax(-1) - found.amin(-1)
    return {"mean reward": found.mean().item(), "spread": spread.mean().item(),
            "probability of the favourite": sure.mean().item()}  # fmt: skip


rounds = {"round 0 (base)": first_round, "round 1 (tuned)": second_round}
pd.DataFrame({name: difficulty(asked) for name, asked in rounds.items()}).round(2)

# %% [markdown]
# If the tuning worked, the mean reward has risen. Four texts that all please are harder to tell apart than one among three others. Where the
# spread has fallen, or the favourite has become less sure (in the executed version only that), each new label carries less information about
# *this* question; but it is about the texts that matter now, and the clicks of round 0 say nothing about them. Did online collection pay
# off in the paper? Hardly for style: policies of 5,000 labels collected offline and online came out at 50 to 50 on sentiment and 48 to 52 on
# descriptiveness. For summaries it did: about three points of ROUGE on CNN/DM.
#
# Notebook 03 reads all your labels in this store, from both rounds: fit again, tune again, judge again.

# %% [markdown]
# ## The result in one table
#
# The last cell writes `summary.json` into your runs folder. The command that runs the whole course shows it at the end.

# %%
names = ("model", "score", "kl_nats", "win_rate", "low", "high", "seconds")
before, after = measured["base"], measured["tuned"]
judged = (result.rate, result.low, result.high, ppo_lines[-1].get("seconds"))
rows = [("base", before["score"], 0.0, None, None, None, None)]
rows.append(("tuned", after["score"], after["kl_nats_per_response"], *judged))
if judged_yours and taste:
    mine_now = (moved_yours["score"], moved_yours["kl_nats_per_response"])
    rows.append((f"on {whose}", *mine_now, in_eyes.rate, in_eyes.low, in_eyes.high, None))
table = [dict(zip(names, row)) for row in rows]
advice = "(the judges are simulated; judge twenty pairs yourself in section 2)"
summary = {"rows": table, "look_at": f"notebooks/07_did_it_work.ipynb {advice}"}
folder().mkdir(parents=True, exist_ok=True)
(folder() / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
pd.DataFrame(table).set_index("model").drop(columns="seconds").round(3)

# %% [markdown]
# ## Recap
#
# - Judge blind, on new prompts, with a judge who had no part in training. The reward model is not one. For your taste, you are one.
# - What was clicked is only a sign of what is liked. Read the pairs in which taste and verdict differ.
# - Uncover the sides before you count. A result near 50 % means no effect, or forgotten sides.
# - Wilson's interval is reliable with few pairs and near 100 %. It covers the choice of prompts, not the randomness of training.
# - A judge with noise sees less of every difference. Compare win rates only if the judges are equally noisy.
# - A dozen pairs show a large effect; a small one needs thousands. Decide on the number before you judge.
# - Report score and KL together. Best of n and the reweighted base policy show what score was possible at that KL.
# - Count what the reward model ignores. Read the losses.
#
# | change one knob | and look at |
# |---|---|
# | the judge's `temperature` (0, 1.6, 5) | the win rate: how much of what is missing to 100 % is the judge's noise? |
# | the judge's utility: `labelers.descriptiveness` | is the tuned model better, worse or equal in what nobody asked for? |
# | the seed of `test` | the win rate against its interval |
# | `task.temperature` in sampling, 0.7 to 1 | KL, distinct-2 and win rate together |
#
# ## Questions
#
# 1. A judge with noise prefers the happier of two texts only most of the time. What win rate could a *perfect* policy reach with ours?
# 2. You judged twenty pairs and found 65 %. You judge twenty more "to be sure". What is wrong with the interval of all forty?
# 3. Suppose the tuned model's answers were two words longer. How would you find out whether length alone explains the wins?
# 4. Two policies have the same score, one at 3 nats and one at 12. Which would you publish, and what would you look at first?
# 5. The taste expects 80 % for your model, and you prefer it in 50 % of the pairs. What are the two explanations, and how do you tell them apart?
#
# ## Further reading
#
# Ziegler et al. (2019), arXiv 1909.08593: the results on stylistic continuation, the figure of reward against KL on
# mock sentiment, and the sections on online data collection. Wilson (1927), *Probable inference, the law of succession, and statistical
# inference*. Stiennon et al. (2020), arXiv 2009.01325, for over-optimisation measured with people, and control for length.
#
# **Next**: [back to the reward model with your new labels](03_reward_model.ipynb).
