# %% [markdown]
# # 10 · How many labels?
#
# Every number in this course was paid for with clicks: sixty of yours in notebook 02, five thousand simulated ones behind the recorded models.
# Ziegler et al. (2019) bought their clicks from people. For style (happy or vivid continuations) 5,000 were enough. For summaries they bought
# 60,000, twelve times as many. Why? And how could anybody have known before the money was spent?
#
# There are two answers that sound alike and are not. Perhaps *each label* of a summary tells less. Or perhaps there is *more to be told* about
# summaries. In this notebook you learn to tell the two apart, by measuring what a label tells in a unit that fits both: the bit.
#
# **After this notebook you can**
#
# - say how many bits a label tells, from how often its labeler would choose the same again;
# - explain why half the difference needs four times the labels, and what noise multiplies;
# - draw a learning curve, read off it how many labels a goal needs, and say what a prior bought;
# - compute what a question would tell, and see why the most uncertain one need not be the best;
# - take "summaries need more labels" apart into two factors, and measure each.
#
# | active | machine (one laptop core) | you need |
# |---|---|---|
# | about 60 minutes | about 5 minutes | notebooks 02 and 03; 09 for the labelers of summaries |

# %%
import json
import math
import statistics
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import display

from rlhf_helpers import (
    clicks,
    efficiency,
    labelers,
    models,
    posterior,
    presets,
    reward,
    sampling,
    tasks,
)
from rlhf_helpers.course import checks, learner, machine, plots, show, town
from rlhf_helpers.course.profile import RECORDED, profile
from rlhf_helpers.features import Features
from rlhf_helpers.records import Label
from rlhf_helpers.runtime.runs import Run, default_device
from rlhf_helpers.summary_labelers import ACCURACY, OURSELVES, SummaryLabeler

size, device, task = profile(), default_device(), tasks.SENTIMENT
quick = size.name == "quick"
# %matplotlib inline
show.setup()

# %%
plots.pipeline("label+reward");
# %% [markdown]
# ## 1. The bill
#
# These are the paper's own numbers: how often people preferred the tuned model to the base model, by the number of labels that its reward model had
# learned from.

# %%
paper = {
    name: {labels: wins / 100 for labels, wins in numbers.items()}
    for name, numbers in presets.WINS_BY_LABELS.items()
}
rows = [
    {"series": f"paper: {name}", "labels": labels, "share": share}
    for name, numbers in paper.items() for labels, share in numbers.items()
]  # fmt: skip
plots.label_curves(rows).axhline(0.5, color=plots.GREY, linestyle=":");
# %% [markdown]
# *How to read it:* each point is one tuned model, further right if more labels were paid for, higher if people preferred it to the base model more
# often; the dotted line is one half, no better than the base model. The horizontal axis multiplies: from 200 to 2,000 is as far as from 2,000 to
# 20,000.
#
# Two hundred labels bought nothing on sentiment (51.9 %), a thousand nearly everything (84.4 %), and between 5,000 and 20,000 fifteen thousand labels
# bought nothing that can be seen. Descriptiveness has 78.2 % after only 200, and then wobbles: each point is one training run, and runs differ. For
# summaries we have no such curve of wins, only the bill: 60,000.
#
# **Write down** which of the two answers you would bet on for summaries: each label tells less, or there is more to be told.

# %%
my_bet = ""  # for yourself: "less in a label" or "more to be told", and why

# %% [markdown]
# ## 2. What one label tells
#
# Think of a game of twenty questions. A yes or no tells you at most one **bit**: it halves what is possible. A choice among four tells at most two.
# That is the top. If the labeler would choose otherwise tomorrow, a part of the answer is noise, and noise tells nothing about taste.
#
# So take the two bits and subtract the noise. If a labeler chooses option $k$ with probability $p_k$, the noise is the *entropy* of that choice,
# $-\sum_k p_k \log_2 p_k$: 0 bits for somebody sure, 2 for a coin with four sides. What is left is the most that a label can tell about what its
# labeler wants.
#
# ### Exercise 1: bits in a label
# Difficulty ●●○○○ · importance ●●●●● · 8 minutes
#
# `chances` lists how often each of the K options would be chosen. Return $\log_2 K$ less the entropy. A chance may be 0, and then adds nothing.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The logarithm of a probability is negative, so look at your signs: somebody sure must get two bits of four options, and a coin none.
# </details>


# %% tags=["exercise"]
def bits_in_label(chances):  # list of K probabilities -> bits
    return ...


# %% tags=["solution"]
def bits_in_label(chances):  # list of K probabilities -> bits
    return math.log2(len(chances)) + sum(p * math.log2(p) for p in chances if p > 0)


# %% tags=["check"]
solved = checks.nb10_bits_in_label(bits_in_label)

# %% tags=["catch-up"]
if not solved:

    def bits_in_label(chances):
        return efficiency.bits_in_labels(torch.tensor([chances]))


# %% [markdown]
# Our labelers are **simulated**, so we know their chances; for people one would have to ask the same question again and again. Three kinds of
# label: sentiment and descriptiveness from the labelers of notebook 03, summaries from the labelers in a hurry of notebook 09, who were asked for
# accuracy. All three were made about as noisy as people are: two of them choose the same of four in roughly two cases of five. **Guess** which of
# the three labels tells most, and whether any of them tells a whole bit.

# %%
base = models.Policy.load().to(device).requires_grad_(False)
tokenizer = base.tokenizer
comparisons, labels = labelers.recorded(task)
count, others, posts = (1_000, 300, 360) if not quick else (64, 24, 40)
pool, pool_labels = comparisons[:count], labels[:count]
held = comparisons[5_000 : 5_000 + others]  # on other prompts

facts = town.facts("posts")
hurried = SummaryLabeler("in a hurry", facts, ACCURACY)
queries = tasks.queries(tasks.TLDR, tokenizer, posts, seed=10).to(device)
summaries = labelers.collect(base, tasks.TLDR, queries, seed=10)
held_summaries = summaries[2 * len(summaries) // 3 :]

# %%
happy, vivid = labelers.simulated(task), labelers.simulated(tasks.DESCRIPTIVENESS)
chances = {
    "sentiment": [happy.probabilities(c.options) for c in held],
    "descriptiveness": [vivid.probabilities(c.options) for c in held],
    "summaries": [hurried.chances(c) for c in held_summaries],
}
in_a_label = {kind: statistics.mean(map(bits_in_label, rows)) for kind, rows in chances.items()}
chances = {kind: torch.tensor(rows) for kind, rows in chances.items()}
again = {kind: p.square().sum(1).mean().item() for kind, p in chances.items()}
pd.DataFrame({"two choose the same": again, "bits in a label": in_a_label}).round(2)

# %%
for kind, p in chances.items():
    checks.nb04_equal(kind, torch.tensor(in_a_label[kind]), efficiency.bits_in_labels(p))

# %% [markdown]
# Less than you would think: somebody reads four texts with care, and of the two bits that fit into the answer most are noise. It cannot be
# otherwise. Where two readers agree with probability $a$, a label tells at most $\log_2 (K a)$ bits: 0.68 if four options bring them together in
# two cases of five. If a label of a summary told far *less* than one of style, you would see it in this table already.
#
# ## 3. Why the square root, and what noise multiplies
#
# Why thousands, then? Toss a coin a hundred times and it will be off by about five from fifty; ten thousand times, off by about fifty from five
# thousand. The error grows, but only with the *square root* of the tosses. So the share of heads is known to $0.5 / \sqrt n$: to see a difference
# half as large, you need four times the tosses.
#
# A noisy labeler makes differences smaller. Let a share $c$ of all labels be clicked blindly. Then a text that a reader would choose with
# probability one half plus $d$ is chosen with one half plus $(1 - c)\,d$.
#
# ### Exercise 2: labels to see a difference
# Difficulty ●●○○○ · importance ●●●●● · 8 minutes
#
# Two texts; the better one is chosen with probability `0.5 + difference` by a labeler who reads, and a share `coin` of the labels is blind. After
# how many labels is the lead that you expect over one half **two standard errors** of the share? (Take $0.5/\sqrt n$ for the standard error.)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Write down the equation: what is left of the difference = 2 · 0.5 / √n. Then solve it for n.
# </details>


# %% tags=["exercise"]
def labels_to_see(difference, coin):  # lead over one half, share of blind labels -> labels
    return ...


# %% tags=["solution"]
def labels_to_see(difference, coin):  # lead over one half, share of blind labels -> labels
    return 1 / ((1 - coin) * difference) ** 2


# %% tags=["check"]
solved = checks.nb10_labels_to_see(labels_to_see)

# %% tags=["catch-up"]
if not solved:

    def labels_to_see(difference, coin):
        return (2 * 0.5 / (difference - coin * difference)) ** 2


# %%
coins = (0.0, 0.2, 0.5, 0.55, 0.8)
blind = {c: (1 - c) * chances["sentiment"] + c / 4 for c in coins}
told = {c: efficiency.bits_in_labels(p) / in_a_label["sentiment"] for c, p in blind.items()}
needed = {c: labels_to_see(0.1, c) for c in coins}
table = pd.DataFrame({"labels to see 60 : 40": needed, "bits, of those without": told})
table["(1 - c) squared"] = [(1 - c) ** 2 for c in coins]
table.rename_axis("blind share c").round({"labels to see 60 : 40": 0}).round(2)

# %% [markdown]
# One blind label in five sounds harmless. It costs more than a third of all the bits, because it is not only lost itself: nobody knows *which* one it
# is, so it waters down the four others. With 55 % blind labels everything costs five times as many. The last two columns nearly agree: counted in
# bits or in standard errors, the loss is the same. So before you buy more labels, look whether you can buy better ones.
#
# ## 4. A learning curve of your own
#
# What does a model make of labels? Two learners from notebook 03. The **full fit** changes three million weights. The **few-click model** leaves
# the language model alone and weighs features that are there already. Both get the *same* labels in growing numbers, and are measured on other
# prompts.
#
# Their labeler is known, so nothing about the test has to be left to chance. How often is a model's favourite the one that is clicked? That is the
# mean of the labeler's own chance for it. And how many bits of a label does a model foresee? Two bits less its loss, as in section 2 with the
# model's probabilities in the logarithm. (A model that is too sure of itself is brought to scale first, on the other half of the comparisons. We
# ask what it knows, not how loud it says it.)

# %%
show.source(efficiency.bits_foreseen)


# %%
def measured(series, count, rewards, kind="sentiment"):
    """How often a model's favourite is chosen, and the bits that it foresees."""
    p = chances[kind]
    share = p.gather(1, rewards.argmax(1, keepdim=True)).mean().item()
    return {"series": series, "labels": count, "share": share,
            "bits": efficiency.bits_foreseen(rewards, p)}  # fmt: skip


features = Features(base, task, pool)  # the model reads all texts once
few_counts = (25, 50, 100, 200, 500) if not quick else (8, 16, 32)
tastes = {
    n: clicks.fit(base, task, pool, pool_labels[:n], features=features, predict=False)
    for n in few_counts
}
found = [measured("few-click model", n, taste.rewards(held)) for n, taste in tastes.items()]
few_bits = [row["bits"] for row in found]
pd.DataFrame(found).round(3)

# %% [markdown]
# **Predict**, before the slow cell: from how many labels on is the full fit ahead? Write a number down.

# %%
my_crossing = None  # labels

# %% [markdown]
# | machine | the next cell takes |
# |---|---|
# | one laptop core | about 2 minutes |
# | `RLHF_PROFILE=quick` | seconds, and nothing is learned |

# %% tags=["slow"]
machine.announce("full fits by number of labels")
data = reward.encode(task, pool, pool_labels, tokenizer)
unlabelled = [Label(c.id, "nobody", 0, simulated=True) for c in held]
test = reward.encode(task, held, unlabelled, tokenizer)
full_fits = {}
for n in (100, 300, 1_000) if not quick else (16, 48):
    passes = max(2, math.ceil(480 / n)) if not quick else 1  # sixty steps at least
    config = replace(reward.RewardConfig(), epochs=passes)
    full_fits[n] = models.RewardModel.from_policy(base, seed=0)
    run = Run(seed=0, device=device, quiet=True)
    reward.fit(full_fits[n], data[slice(0, n)], config, run)
recorded = models.RewardModel.load(RECORDED / "reward_sentiment").to(device)
full_fits[5_000] = recorded  # fitted beforehand
found += [measured("full fit", n, reward.predictions(m, test)) for n, m in full_fits.items()]

# %% [markdown]
# And you? Your clicks answer a question of your own, so nobody knows your chances. But the few-click model can foretell each of your clicks before
# it learns it (notebook 03), and the second half of those forecasts says how far it had come by then. Where you have not clicked, a **simulated
# learner** stands in.

# %%
asked = learner.questions(comparisons, size.own_labels)
own = learner.answers(asked, task, at_least=size.own_labels // 2)
known = own.comparisons + pool[:300]
mine = clicks.learn(Features(base, task, known), {c.id: c for c in known}, own.given)
swayed = own.mirrored | own.picked
fair = [g for g in mine.guesses if g.comparison_id not in swayed] or mine.guesses
late = clicks.accuracy(fair[len(fair) // 2 :])
print(own)
print(f"foreseen in the second half: {late}")

# %%
who = "simulated learner" if own.simulated else "your clicks"
point = (who, len(mine.guesses), late.rate, late.low, late.high)
top = chances["sentiment"].amax(1).mean().item()
pair = ("few-click model", "full fit")
plots.label_curves(
    found, value="share of choices foreseen", cross=pair, own=point,
    lines={"knows the taste": top, "chance": 0.25},
).set_title("What labels buy");
# %% [markdown]
# *How to read it:* one line for each learner, by the number of labels on an axis that multiplies; the upper horizontal line is the labeler's own
# taste without its noise, the lower one chance. The star with its interval is the learner's own clicks. They follow another taste with a noise of its
# own, so the upper line is no limit for them. If the full fit overtakes the few-click model where both have been measured, a dotted line says where.
# (The few-click model ends at 500 here: its exact fit grows with the cube of the labels. A crossing further right is for the record in section 9.)
#
# Nobody starts at once. With 25 and 50 labels the few-click model foresees no more than chance; at 100 it is clearly above, and with 500 it foresees
# 34 % where 50 % is all there is. The full fit needs about a thousand to leave the line of chance, and even then it is behind the few-click model
# with 200. So the crossing lies beyond a thousand labels, where this figure has no points of both. How far off was your number?
#
# The few-click model knows from the stories what texts are like: there every word was a lesson, and nobody had to click. That is what a **prior**
# buys, labels that need not be paid. Its price is the other end: it can only weigh what it was given. The full fit starts late and has the longer way
# before it. And taste matters: the simulated learner's sixty clicks went further than sixty clicks for happiness. (The paper's reward model is a full
# fit of a model that had read far more than ours. Even so, 200 labels bought it next to nothing on sentiment.)
#
# ### Exercise 3: reading off the axis
# Difficulty ●●○○○ · importance ●●●○○ · 8 minutes
#
# How many labels for a goal between two points of a curve? The axis is logarithmic: halfway between 100 and 10,000 stands 1,000. Go as far along
# the axis as the goal lies on the way from `low` to `high`.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Which share of the way from `low` to `high` is the goal? On this axis a way is a factor: all the way from 100 to 10,000 multiplies by 100, and half
# of it by the *root* of that, 10.
# </details>


# %% tags=["exercise"]
def labels_at(goal, few, low, many, high):  # low at few labels, high at many -> labels
    return ...


# %% tags=["solution"]
def labels_at(goal, few, low, many, high):  # low at few labels, high at many -> labels
    return few * (many / few) ** ((goal - low) / (high - low))


# %% tags=["check"]
solved = checks.nb10_labels_at(labels_at)

# %% tags=["catch-up"]
if not solved:

    def labels_at(goal, few, low, many, high):
        return efficiency.labels_for((few, many), (low, high), goal)


# %%
ends = (200, paper["sentiment"][200], 500, paper["sentiment"][500])
show.note(
    f"On the paper's curve sentiment reaches 70 % at about **{labels_at(0.7, *ends):.0f}** labels, "
    f"if it rises evenly between its points. Descriptiveness is there before the first one."
)

# %% [markdown]
# ## 5. What ignorance costs
#
# "Foresees so many bits" is a picture of one moment. Where do all the labels go? Keep an account. Before each click a learner says how likely it
# holds each option. Then the click comes, and its *surprise* is $-\log_2 p$ of what was chosen. A part of the surprise is noise, which whoever knew
# everything would pay, too. **The rest is the price of not knowing the taste yet.**
#
# Here is the beautiful part. Take a learner who is Bayesian, with a prior that is right: one who foretells by averaging over every taste that is
# still possible. What it pays for a click beyond the noise is, on average, exactly what the click *tells* it about the taste. It pays a tenth of a
# bit for ignorance, and owns a tenth of a bit more of the taste. Added up over all clicks, that is the mutual information of labels and taste. So the
# same account shows what was paid and what was learned. (A learner whose prior is wrong pays more than it gets.) At first the next label tells nearly
# all that is in a label. Later, less and less.
#
# ### Exercise 4: the account
# Difficulty ●●○○○ · importance ●●●●○ · 8 minutes
#
# `chosen` are the probabilities that had been given to the options that were then chosen; `noise` are the bits of noise in a label. Return the
# total paid beyond the noise.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The surprise of a click is $-\log_2 p$. Mind how often the noise is to be taken off.
# </details>


# %% tags=["exercise"]
def bits_paid(chosen, noise):  # probabilities, bits of noise in a label -> bits
    return ...


# %% tags=["solution"]
def bits_paid(chosen, noise):  # probabilities, bits of noise in a label -> bits
    return sum(-math.log2(p) - noise for p in chosen)


# %% tags=["check"]
solved = checks.nb10_bits_paid(bits_paid)

# %% tags=["catch-up"]
if not solved:

    def bits_paid(chosen, noise):
        return -sum(map(math.log2, chosen)) - noise * len(chosen)


# %% [markdown]
# The account of the few-click model on sentiment. It foretells with 400 tastes drawn from those that its posterior leaves open, and takes the average
# of their probabilities, as a Bayesian should. **Sketch two lines before you run**: what does somebody pay who always says a quarter for each option,
# and what the few-click model?


# %%
def averaged(guess, draws=400):
    """What a click is expected to be, in the mean over the tastes that are still possible."""
    covariance = guess.covariance + 1e-6 * torch.eye(3)
    still_possible = torch.distributions.MultivariateNormal(guess.mean, covariance)
    rewards = still_possible.sample((draws,)) @ posterior.contrasts(4).T  # (draws, 4)
    return rewards.softmax(-1).mean(0)


torch.manual_seed(0)
clicked = 150 if not quick else 24
step_by_step = clicks.fit(base, task, pool, pool_labels[:clicked], features=features)
forecasts = [averaged(g)[g.choice].item() for g in step_by_step.guesses]
noise = statistics.mean(2 - bits_in_label(happy.probabilities(c.options)) for c in pool[:clicked])

# %%
paid = [bits_paid(forecasts[:n], noise) for n in range(1, len(forecasts) + 1)]
_, ax = plt.subplots(figsize=(6.6, 3.2))
ax.plot(range(1, len(paid) + 1), paid, color=plots.BLUE, label="the few-click model")
never = [n * (2 - noise) for n in (0, len(paid))]
ax.plot((0, len(paid)), never, "--", color=plots.GREY, label="who never learns: always 1/4 each")
ax.axhline(0, color=plots.BLACK, linewidth=1, label="who knows the taste, in the mean")
ax.set(xlabel="clicks", ylabel="bits paid beyond the noise", title="What ignorance costs")
ax.legend();
# %% [markdown]
# *How to read it:* the solid line adds up, click by click, what the few-click model paid beyond the noise. The dashed line is a learner that never
# learns and pays every bit that is in a label; the line at zero is one who knew the taste from the start. Where the solid line is less steep than the
# dashed one, forecasts are better than none; where it is steeper, they are worse; where it is level, little is left to learn.
#
# Did you expect that? The few-click model pays *more* than somebody who never learns. It is not the Bayesian of the beautiful part, for its prior is
# not right for this labeler. Nor is it bad luck: with the right prior one falls $b$ bits or more behind any other forecaster with a probability of at
# most $2^{-b}$, and this gap is more than a dozen bits wide. The likeliest reason: it expects texts to lie far apart, so it takes noise for taste and
# is too sure. (The prior is one of the knobs at the end.) It does not follow that it learns nothing. The account charges for what a model does not
# know *and* for saying it too loudly. In section 4 every model was brought to scale before it was asked, and then this one knew something after a
# hundred labels.
#
# The line is not smooth either: a click tells a fraction of a bit, and its surprise swings by whole bits. On held-out comparisons, and brought to
# scale, the same model is seen more quietly:

# %%
plots.bits_still_told(few_counts, few_bits, in_a_label["sentiment"]);
# %% [markdown]
# *How to read it:* the line is how many bits of a label the few-click model foresees after so many labels; the dashed line is what there is in one.
# The hatched gap between them is what the next label could still tell. A wide gap that no longer narrows means that the learner cannot take it in.
#
# This one still narrows, slowly: after 500 labels one bit in seven is foreseen. Most of what these labels say is still to be learned.
#
# ## 6. Ask better questions
#
# So far chance chose what was asked. But why pay for a comparison whose answer you can foresee, or for four texts that nobody could tell apart?
# With the account of section 5 a question has a value *before* it is asked: what its answer would tell, on average, over the tastes that are still
# possible.
#
# ### Exercise 5: what a question would tell
# Difficulty ●●●○○ · importance ●●●●○ · 10 minutes
#
# There are several tastes, likely by `weights`. `chances[t]` lists how often taste t would choose each option. Return the surprise that you expect
# from the answer (the entropy of the *mixture* of all tastes) less the part of it that is noise (the *mean* of the tastes' own entropies).

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Mixture: for option k, the sum of `w * row[k]` over tastes. Then twice the entropy of exercise 1: once of the mixture, once of each taste,
# weighed.
# </details>


# %% tags=["exercise"]
def tells(weights, chances):  # T weights, T lists of K chances -> bits
    return ...


# %% tags=["solution"]
def tells(weights, chances):  # T weights, T lists of K chances -> bits
    def entropy(p):
        return -sum(x * math.log2(x) for x in p if x > 0)

    mixture = [sum(w * row[k] for w, row in zip(weights, chances)) for k in range(len(chances[0]))]
    return entropy(mixture) - sum(w * entropy(row) for w, row in zip(weights, chances))


# %% tags=["check"]
solved = checks.nb10_told(tells)

# %% tags=["catch-up"]
if not solved:

    def tells(weights, chances):
        return efficiency.information(torch.tensor(weights), torch.tensor(chances)).item()


# %% [markdown]
# Two tastes, *cheerful* and *vivid*, equally likely so far. Three questions. On which one would you spend a label?

# %%
questions = {
    "both sure, and of different texts": [[0.9, 0.1], [0.1, 0.9]],
    "both sure, and of the same text": [[0.9, 0.1], [0.9, 0.1]],
    "all texts alike to both": [[0.5, 0.5], [0.5, 0.5]],
}
rows = {}
for question, table in questions.items():
    surprise = 1 - bits_in_label([sum(column) / 2 for column in zip(*table)])
    rows[question] = {"surprise": surprise, "tells": tells([0.5, 0.5], table)}
worth = pd.DataFrame(rows).T
assert worth["surprise"].iloc[0] == worth["surprise"].iloc[2]
assert worth["tells"].iloc[0] > 0.5 and worth["tells"].iloc[1:].abs().max() < 1e-9
worth.round(2)

# %% [markdown]
# The first and the third are equally uncertain: heads or tails. But the third is uncertain for *ever*. **"Ask what you are unsure of" is nearly
# right: ask where the tastes that are still possible are each sure, and disagree.**
#
# `clicks.next` does it with two draws from the posterior: it asks where the favourite of one draw looks worst to the other (Thompson). It asks ten
# questions at a time and then learns, as the paper's authors recommend. Against it, questions drawn by chance; three seeds, which are other labelers
# and other draws. Both are measured by the *share of the utility*: how far the model's favourites lie above the mean of the four, where 1 is always
# the best of the four and 0 a text drawn blindly. **Predict** it after the last label, for both, and how far the *seeds* differ.


# %%
values = torch.tensor([[happy.utility(o) for o in c.options] for c in held]).double()


def ask(how, seed, counts):
    """Ask in tens, learn after each ten; the share of the attainable utility at these counts."""
    who, fitted, chosen, shares = labelers.simulated(task, seed=seed), None, [], {}
    while len(chosen) < max(counts):
        for _ in range(10):
            ids = {c.id for c in chosen}
            question = clicks.next(fitted, pool, ids, how=how, random_share=0.0, seed=seed)
            chosen.append(question.comparison)
        fitted = clicks.fit(base, task, pool, who.label(chosen), features=features,
                            previous=fitted, predict=False)  # fmt: skip
        if len(chosen) in counts:
            shares[len(chosen)] = efficiency.share_attained(fitted.rewards(held), values)
    return shares


# %% tags=["slow"]
machine.announce("asking by chance and by choice")
stops = (50, 100) if not quick else (10, 20)
ways = {"by chance": "random", "by choice": "thompson"}
shares = {
    (name, seed): ask(how, seed, stops) for name, how in ways.items() for seed in range(3)
}
pd.DataFrame(shares).T.rename_axis(["asked", "seed"]).round(2)

# %%
gained = [shares["by choice", s][stops[-1]] - shares["by chance", s][stops[-1]] for s in range(3)]
show.note(
    f"After {stops[-1]} labels the questions that the model chose are ahead by "
    f"{', '.join(f'{x:+.2f}' for x in gained)} of the attainable utility, seed by seed."
)

# %% [markdown]
# Choosing did not help here. After 50 labels the chosen questions are behind in every seed; after 100 once far behind, and twice level. And the seeds
# of one way differ about as much as the two ways do: one seed alone would have told you that choosing harms, another that it changes nothing.
#
# Does that refute exercise 5? No: what a question tells was computed there with tastes and weights that are *right*. A model can only ask where *it*
# believes that tastes disagree, and the account of section 5 showed a model that is too sure of them. Besides, whoever asks ten at a time may ask
# nearly the same ten times. Both are guesses; the last table has knobs for them. (Section 9 has the verdict of an experiment with words that were
# fixed before, where it has been recorded.)
#
# ## 7. Summaries
#
# Back to the bet. The same few-click model, the same numbers of labels, and labelers of about the same noise. Only the task is another.

# %%
asked_posts = summaries[: len(summaries) - len(held_summaries)]
post_labels = hurried.label(asked_posts)
post_features = Features(base, tasks.TLDR, asked_posts)
post_counts = [n for n in few_counts if n <= len(asked_posts)]
ourselves = SummaryLabeler("ourselves", facts, OURSELVES)
wanted, wished = (
    torch.tensor([[w.mean_utility(c.query, o) for o in c.options] for c in held_summaries])
    for w in (hurried, ourselves)
)
post_rows = []
for n in post_counts:
    taste = clicks.fit(base, tasks.TLDR, asked_posts, post_labels[:n], features=post_features,
                       predict=False)  # fmt: skip
    rewards = taste.rewards(held_summaries)
    row = measured("summaries", n, rewards, "summaries")
    for name, utilities in (("utility", wanted), ("to ourselves", wished)):
        row[name] = efficiency.share_attained(rewards, utilities)
    post_rows.append(row)

# %%
n = post_counts[-1]
style_rewards = tastes[n].rewards(held)
style_row = measured("sentiment", n, style_rewards)
style_row["utility"] = efficiency.share_attained(style_rewards, values)
both = {"sentiment": style_row, "summaries": post_rows[-1]}
side_by_side = pd.DataFrame(
    {"bits in a label": in_a_label,
     f"foreseen after {n}": {kind: row["bits"] for kind, row in both.items()},
     "share of utility": {kind: row["utility"] for kind, row in both.items()}}
).loc[list(both)]  # fmt: skip
side_by_side.round(3)

# %% [markdown]
# The first column answers one half of the question, the others the second half. Labels needed are at least a quotient:
#
# $$\text{labels} \ge \frac{\text{bits that have to be told}}{\text{bits in a label}}$$
#
# (At least, for no label tells more than is in it, and later ones tell less: what they say is partly known by then.)
#
# Both halves can make a task dear. A small denominator is the *labelers'* side: noise, haste, options that are too much alike. It is cured by
# better instructions, clearer options, easier checking. A large numerator is the *learner's* side: what people want is far from anything that the
# model has a feature for. It is cured by a better start (a model that has read more, or that was trained on summaries before), or else by thousands
# of labels.
#
# Hold your bet against the table. *Our* summaries come out cheap: a label tells a little more than one of style, and two hundred of them carry the
# same model further. Should that not be the harder task? Whether a summary says what the post says is no property of the summary at all, but of a
# summary and its source: that has to be built before it can be weighed. But is it what these labels reward? In notebook 09 you saw what wins with
# labelers in a hurry: copies, which they believe at sight. A copy is a matter of manner, and manners are learned soon. So the table does not measure
# "summaries". It measures the taste of *these labelers*, which may be far easier to learn than what they were asked for. The same models, judged by
# *ourselves* of notebook 09, who want summaries that are accurate, brief and in their own words. **Guess**: does that column climb, too?

# %%
pd.DataFrame(post_rows)[["labels", "bits", "utility", "to ourselves"]].round(3)

# %% [markdown]
# *utility* is the share of what the labelers in a hurry want, *to ourselves* the share of what the authors of the instruction had wished for; 0 is
# what chance gets, and less than 0 is worse than chance. Read the two columns together from top to bottom. The first climbs from a tenth to more than
# four tenths. The second stays about where it was, near two tenths. More labels bring a model nearer to those who labelled; whether that is nearer to
# you as well, no number of labels decides. A cheap curve is no proof that the right thing was learned.
#
# A few hundred labels give you a direction, not a verdict. That is what the record is for.
#
# ## 8. From labels to wins
#
# The paper counted wins, not bits. The shortest way from a reward model to wins is the best of 16 (notebook 04). For each reward model let it
# choose among 16 answers of the base model, and let a noisy judge compare its choice with one answer more.

# %%
prompts, tries = (128 if not quick else 12), 16
test_queries = tasks.queries(task, tokenizer, prompts, split="validation", seed=3).to(device)
dice = torch.Generator(device).manual_seed(3)
rollout = sampling.sample(
    base, test_queries, task.response_length, task.temperature, dice, answers=tries + 1
)
texts = tasks.texts(task, rollout.responses, tokenizer)
ended = tasks.truncate(task, rollout.responses, tokenizer)[1].cpu().view(-1, tries + 1)[:, :tries]
groups = [
    labelers.Comparison(task.name, q, tuple(texts[i * (tries + 1) :][:tries]))
    for i, q in enumerate(tasks.query_texts(test_queries, tokenizer))
]
rivals = texts[tries :: tries + 1]


def wins(rewards):
    """How often a noisy judge prefers the best of 16 to one answer more; computed, not drawn."""
    best = rewards.masked_fill(~ended, -torch.inf).argmax(1).tolist()
    pairs = [(c.options[k], rival) for c, k, rival in zip(groups, best, rivals)]
    return statistics.mean(happy.probabilities(pair)[0] for pair in pairs)


# %%
unread = [Label(c.id, "nobody", 0, simulated=True) for c in groups]
encoded = reward.encode(task, groups, unread, tokenizer, keep_equal=True)
won = [
    {"series": "few-click model", "labels": n, "share": wins(taste.rewards(groups))}
    for n, taste in tastes.items()
]
won += [
    {"series": "full fit", "labels": n, "share": wins(reward.predictions(m, encoded, 32))}
    for n, m in full_fits.items()
]
perfect = wins(torch.tensor([[happy.utility(o) for o in c.options] for c in groups]))
by_chance = wins(torch.rand(len(groups), tries, generator=torch.Generator().manual_seed(0)))
pd.DataFrame(won).pivot(index="labels", columns="series", values="share").round(3)

# %%
if not quick:
    assert perfect > max(row["share"] for row in won)
show.note(
    f"Who knows the taste exactly wins **{perfect:.0%}** of the noisy judge's pairs with the best "
    f"of 16; one of the 16 drawn blindly wins {by_chance:.0%}. All labels of the world buy "
    "the way from here to there."
)

# %% [markdown]
# Look back at the table. With 25 or 50 labels the wins are a coin's; with 500 the few-click model is nearly half of the way up from one half to
# whoever knows the taste exactly, and the full fit with 5,000 about two thirds. It is the order of section 4 again, in the paper's own currency.
#
# ## 9. At full length
#
# The experiment that this notebook made in small: from 25 to 20,000 labels, three tasks, three seeds, other noise, chosen questions, policies tuned
# offline and online. Its claims, and what would earn each word of a verdict, were written down before it ran. **This copy of the course may not
# contain the record. The next line says so; then the two tables at the end are missing, and the figure shows the live rows.**

# %%
path = RECORDED / "label_counts.json"
record = json.loads(path.read_text()) if path.exists() else None
if record is None:
    show.note(
        f"**Not recorded here**: `{path.name}` is missing, so this section shows the live rows "
        "alone. `python data/make_label_counts.py` makes it in some hours, and goes on where it "
        "stopped."
    )
else:
    show.note(f"*{record['question']}* Every label is simulated.")

# %%
def recorded_rows(name):
    """The best of 16 of every reward model of a task: the labelers as recorded, asked by chance."""
    kinds = {"few": "few-click model", "full": "full fit"}
    return [
        {"series": kinds[r["learner"]], "labels": r["labels"], "share": r["best_noisy"][0]}
        for r in record["reward_models"]
        if r["task"] == name and r["learner"] in kinds
        and (r["noise"], r["asking"]) == ("recorded", "random")
    ]  # fmt: skip


shown = {"sentiment": won} if record is None else {
    name: recorded_rows(name) for name in record["settings"]["tasks"]
}  # fmt: skip
_, axes = plt.subplots(1, len(shown), figsize=(max(7, 4.6 * len(shown)), 4), sharey=True)
for ax, (name, rows) in zip([axes] if len(shown) == 1 else axes, shown.items()):
    theirs = {name: paper[name]} if name in paper else None
    plots.label_curves(rows, paper=theirs, cross=pair, ax=ax).set_title(name)
    ax.axhline(0.5, color=plots.GREY, linewidth=1)
# %% [markdown]
# *How to read it:* wins of the best of 16 over the base model in the eyes of a noisy simulated judge, by the number of labels, for both learners;
# hollow and grey are the wins of the paper's tuned models in the eyes of people. Bars reach from the lowest to the highest seed. Where the record is
# missing, the lines are the live rows of section 8, with one seed and no bars.
#
# Read the shapes and not the heights: the paper tuned a model of 774 million weights by two million episodes, we chose among sixteen. What can be
# compared is *where* the curves rise, and where more labels no longer matter.

# %%
if record is not None:
    display(pd.DataFrame(record["sizes"]).dropna(subset=["bits_in_label"]).round(2))

# %%
if record is not None:
    keys = ("why", "measure", "who", "than", "expected", "differences", "verdict")
    display(pd.DataFrame([{k: v[k] for k in keys} for v in record["verdicts"]]))

# %% [markdown]
# With the record, the first table has both halves of section 7: labels until half of what can be foreseen is foreseen, and the bits paid until then
# (none where no count was enough). The second one answers the claims: *more* or *less* if the whole 95 % interval over the seeds lies on one side of
# zero, *no difference seen* if it contains zero and lies within a margin fixed beforehand, *inconclusive* otherwise. A claim that failed stays in the
# table.
#
# How would you plan a budget of your own? Label fifty comparisons, a few of them twice. The repeats tell what is in a label, the forecasts what a
# learner makes of it. Draw the curve, extend it *on the logarithmic axis*, and do not believe it further than one factor of ten. Then look at the
# cheaper of the two cures before you pay for the dearer one.
#
# | change one knob | and look at |
# |---|---|
# | `labelers.simulated(task, temperature=0.5)` as `happy` | bits in a label, and where the full fit rises |
# | `effort=16` in ACCURACY (`dataclasses.replace`) | does a label of a summary tell more if checking is cheap? |
# | `posterior.PRIORS`, a tenth as wide | the account of section 5: does the line come below the dashed one? And section 6? |
# | ten questions at a time, to one or fifty | what asking in batches costs |
# | `tries`, to 4 or 64 | how much of a better reward model arrives in wins |
#
# ## Recap
#
# - A label of four options has room for two bits, most of it noise. What it tells is at most $\log_2 K$ less the entropy of the labeler's choice.
# - Differences are seen with the square root of the labels: half the difference, four times the labels. A blind share $c$ leaves $(1 - c)^2$ of the value.
# - A prior is labels that need not be paid. It starts earlier and ends earlier; a full fit starts late and goes further.
# - Beyond the noise, a Bayesian with the right prior pays for each click, on average, what the click tells. Whoever is too sure pays more than that.
# - A good question is one on which possible tastes are each sure, and disagree. A model can only ask by its own beliefs, and need not gain by it.
# - Labels needed: at least the bits that have to be told / bits in a label. Measure both, and ask whose taste it is, before you buy.
#
# ## Questions
#
# 1. Your labelers agree with each other in 30 % of four-way comparisons. What is the first thing you do, and what would you expect of doubling the labels?
# 2. A colleague drops all comparisons in which all four texts are nearly alike. What does that do to the bits in a label, and what to the model?
# 3. Why does the paper's curve for sentiment stop rising at 5,000 labels? Give two reasons, and an experiment that tells them apart.
# 4. A model that chooses its own questions is measured on the questions that it chose. Which way is the measurement wrong?
# 5. Online, the labels compare what the policy writes *now*. When would you expect that to matter more than their number?
# 6. Somebody offers to ask each comparison three times and to keep the majority. Is it worth it, for training and for testing?
#
# ## Further reading
#
# - Ziegler et al. 2019, [Fine-Tuning Language Models from Human Preferences](https://arxiv.org/abs/1909.08593): section 3.1 and its figure on data volume; section 4, on what was hard.
# - Houlsby et al. 2011, [Bayesian Active Learning for Classification and Preference Learning](https://arxiv.org/abs/1112.5745): exercise 5, and why it is not uncertainty.
# - Stiennon et al. 2020, [Learning to summarize from human feedback](https://arxiv.org/abs/2009.01325): what better labels, not only more, did for summaries.
#
# **Next:** [11, other roads](11_other_roads.ipynb).
