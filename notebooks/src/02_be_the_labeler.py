# %% [markdown]
# # 02 · Be the labeler
#
# Below you will see a piece of a story and four ways to go on, all written by the same small language model. Which one is
# best? As it stands, the question has no answer. Best at what, and for whom? Somebody has to decide that, write it down, and then choose,
# again and again. In the paper that this course follows, people made about 5,000 such choices for each style. In this notebook the person
# who chooses is you.
#
# **After this notebook you can**
#
# - write a rubric that two people understand alike;
# - label comparisons with the keyboard, and say what the store records;
# - measure how consistent a labeler is, and how far two labelers agree beyond chance;
# - see position bias and length bias, and say which of them a shuffle cures;
# - explain why labels on which two people agree four times in ten can still teach a model.
#
# The labels that you give here are not practice. Notebook 03 fits a taste to them, 05 tunes the model on that taste, and in 07 you judge
# blind whether it now writes what you like.
#
# | active | machine (one laptop core) | you need |
# |---|---|---|
# | about 60 minutes | about 1 minute | notebook 01: probabilities, softmax, temperature; a little pandas |

# %%
import json
import math
import random
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from rlhf_helpers import labelers, models, tasks
from rlhf_helpers.course import checks, learner, mirror, plots, show
from rlhf_helpers.course.profile import folder, profile
from rlhf_helpers.labels import agreement as measures  # you will write a function of that name
from rlhf_helpers.labels import cards, frontend, handin, reports
from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.store import LabelStore

size = profile()
task = tasks.SENTIMENT
# %matplotlib inline
show.setup()

# %%
plots.pipeline("label");

# %%
comparisons, recorded_labels = labelers.recorded(task)
fair = labelers.simulated(task)
example = comparisons[show.clear_case(comparisons, fair)]
show.wrapped("... " + example.query.strip())
pd.DataFrame({"continuation": [option.strip() for option in example.options]})

# %% [markdown]
# The language model is small (a few million parameters), so expect some odd words, and a sentence that forgets the one before. (Of the
# first twenty comparisons this is the one whose options differ most for a simulated labeler.) Read the four again and pick one. Now pick
# the one that a *cautious* reader would like best, and then the one that a child would. If your choice changed on the way, you have met the
# first problem of learning from people: the answer depends on the question.

# %% [markdown]
# ## 1. What to ask
#
# A **comparison** is a prompt (the query) with a few continuations (the options). A **label** is one person's choice among them. We
# never ask for a mark out of ten. One person's seven is another's nine, and the same person is more generous after lunch than before it.
# "Which of these is best?" asks for no scale that people would have to share, and so it means nearly the same to everybody.
#
# The paper (Ziegler et al., 2019, section 3.1.2) asked for two styles. For *sentiment*, labelers chose the continuation that is most
# positive and happy; for *descriptiveness*, the most physically vivid one. Four options, one choice. Our card asks the same and
# shows this rubric beside the question:

# %%
print(frontend.QUESTIONS[task.name], frontend.RUBRICS[task.name], sep="\n\n")

# %% [markdown]
# A good rubric does four things.
#
# 1. It says **what counts**, in words that two people understand alike. "Happy for whom?" must have an answer: the people in the story, not
#    you.
# 2. It says **what does not count**. Here: style, length, whether you like the plot.
# 3. It **settles the hard cases** before they come up: two equally happy texts, a text that makes no sense, joy at somebody's
#    misfortune.
# 4. It fits on one screen: labelers cannot follow a rule that they do not remember.
#
# **Your turn** (5 minutes, ●○○○○). What do *you* want this model to write? Ask it in one sentence: "Which one would make a child laugh?",
# "Which one is the gloomiest?", "Which one would Grandmother tell?" It need not be something that a program could count. Leave it empty to
# ask for the happiest. Then write the rubric, with at least one hard case. Both are saved beside your labels: a year later, labels are
# worth little if nobody knows what the question was.
#
# A small number of clicks teaches some tastes better than others. A *manner* (talk, length, mood, vividness) shows in almost every
# text, so every click says something about it. A *thing* (animals, food) stands in few texts, and takes more clicks. What has to do
# with the beginning of the story ("the same people as before") is hardly learned at all: what notebook 03 looks at in an answer says
# little about that.

# %%
own_question = ""  # in your own words; empty asks for the happiest
question = learner.question(own_question, task=task)
rubric = """
Choose the continuation in which the people of the story feel best.
Judge the feeling, not the grammar and not the length.
Hard case: joy at somebody else's misfortune does not count as happy.
Hard case: if two are equally happy, take the one that fits the beginning better.
"""

# %%
folder().mkdir(parents=True, exist_ok=True)
(folder() / "rubric_sentiment.md").write_text(rubric, encoding="utf-8");
# %% [markdown]
# ## 2. Label
#
# Click the card once; then **1 to 4** chooses, **t** says "cannot tell", **s** skips, **u** takes the last answer back, **Esc**
# leaves the card. Every answer is written to the file `labels.db` in your runs folder before the next comparison appears; the card names
# the file. Close the laptop, restart the kernel, run the notebook again up to the card: you continue where you stopped.
#
# ![The labelling card: a question, a prompt, four continuations with the numbers 1 to 4 to choose by click or key, and buttons for cannot tell, skip, flag and undo](../docs/card.png)
#
# (That is only a picture of it. The card itself, with your comparisons, comes a few cells further down.)
#
# The options are in a random order, which is stored with your answer. A few comparisons come back later, unmarked and in another order; you
# will see why. **"Cannot tell" is an answer, not a way out.** Where nothing in any of the four is what you ask for, it says that none of
# their words matter to you, and a model can learn from that as much as from a choice. A coin in its place would teach it noise. A skip
# says nothing.
#
# The comparisons are drawn at random, so that what you measure on them holds for others. At ten seconds each they take about twelve minutes.
#
# Your labels carry a name, so that those of a whole class can be merged. Choose a **pseudonym** that nobody else in your class has and write
# it between the quotes below; if you leave it empty, one is made up. It is stored in your runs folder, and notebooks 03 and 07 use it too.

# %%
pseudonym = cards.me("")
print("Your labels carry the name", pseudonym)

# %% [markdown]
# **The card can answer back.** Its switch *What it learns* (key **m**) shows after each click what a small model had expected you to choose,
# how often it was right so far, what it believes you like, and two sentences that it would pick for you. It is off at first, and with good
# reason: who is told what they like begins to like it. Leave it off for the first forty, then switch it on and watch. (The first time it
# reads all the texts, which takes half a minute; go on meanwhile.) Answers given with it on are marked, and notebook 03 leaves them out where it measures how
# well you can be foreseen. **Past answers** (key **p**) lists what you answered; you can search and change it, and both versions are kept.
#
# **It can also choose what it asks.** With `choose_next="thompson"` in the cell below the small model asks three times in four for what it is
# unsure of (give it `4 * size.own_labels` questions to choose from, and stop after sixty; whether it learns faster so depends on the taste, and
# `benchmarks/clicks.py --arms next` measures it). The fourth question stays random, and notebook 03 measures on those alone, in a wider interval: who picks their own exam questions
# cannot grade themselves on them.
#
# *Before you begin, write down two guesses*: on how many of ten repeated comparisons will you choose the same text again? How often
# would a stranger with the same question and rubric choose as you do?

# %%
held_out = comparisons[-1000:]  # notebook 03 does not train on these
asked = learner.questions(comparisons, size.own_labels)  # the first of these
store = LabelStore(folder() / "labels.db")
own = {"question": question, "rubric": rubric}
answering = mirror.Mirror(models.Policy.load(), task, asked)  # does nothing until it is switched on
card = cards.label(
    asked, task, pseudonym, store=store, repeat_every=4, mirror=answering,
    choose_next="random", **own,
)  # fmt: skip
card

# %% [markdown]
# When the card is done (or when you have had enough: half of them will do), run the cells below.
#
# If there are too few labels of yours, because this notebook runs without anybody at the keyboard or because you only want to look ahead, a
# **simulated learner** answers the same comparisons in your place. It is a program with a taste of its own, which is not happiness, and it is
# about as consistent as a careful person. What it likes is told in notebook 07, though you may find out before; until then you know as little
# about it as a teacher knows about you. Its answers go into a separate file and are marked as simulated. They are never mixed with yours.

# %%
me, desk, path = pseudonym, card.session, folder() / "labels.db"
yours = len(desk.labels()) + len(desk.ties()) >= size.own_labels // 2
if not yours:
    me, path = learner.NAME, folder() / learner.STAND_IN
    desk = learner.stand_in(asked, task)
few = "SIMULATED answers, because there are too few of yours"
whose = "your own answers" if yours else few
print("From here on this notebook looks at", whose)

# %% [markdown]
# **Hand in.** If a teacher collects the labels of your class, do not send `labels.db`. This cell writes all your answers, with their whole
# history, to one file in your runs folder, reads the file back and counts. The receipt says what is inside; compare the first digits of its
# hash if you want to know that the same file has arrived. (Where you have not labelled anything, it shows you the stand-in's file instead:
# that one is not yours to hand in.)

# %%
answered = card.session.store.events(task.name, pseudonym)  # yours, even if they are too few
handin.hand_in(*((card.session.store, pseudonym) if answered else (desk.store, me)), folder())

# %%
mine, again = desk.labels(), desk.labels(repeats=True)
show.note(
    f"**{len(mine)}** choices, 'cannot tell': **{len(desk.ties())}**, and **{len(again)}** "
    "second choices in comparisons shown again."
)

# %% [markdown]
# ## 3. Do you agree with yourself?
#
# Every few answers an earlier comparison came back with its options in another order. How often was the same text chosen?

# %%
before = {label.comparison_id: label.choice for label in mine}
repeated = [label for label in again if label.comparison_id in before]
same = [before[label.comparison_id] == label.choice for label in repeated]
row = (len(same), sum(same), len(same) / len(example.options))
pd.DataFrame([row], columns=["repeats", "same text again", "by chance"]).round(1)

# %% [markdown]
# Do not rely on this number too much: it comes from a handful of repeats. With more of them it is the most useful number about a labeler,
# because it measures noise. It is *not* the ceiling for a model, and the difference is worth a minute. Suppose that you would choose the
# four texts with probabilities $p_1$ to $p_4$. Your two answers are two draws, and both hit the same text with probability
# $s = \sum_k p_k^2$. A model need not draw: it can always name your **favourite**, the text that you choose most often, and is right with
# probability $\max_k p_k$. That is the ceiling: no model can agree with you more often. You cannot measure it directly, but $s$ tells you
# between which bounds it lies: it is at least $s$ and at most $\sqrt{s}$. If you repeat yourself 49 % of the time, the best possible
# model is right between 49 % and 70 % of the time.
#
# In the paper, two of the authors agreed with each other about 60 % of the time. Whether you can do better with yourself depends on the
# question, on the rubric, and on how rested you are. Notebook 03 uses this number: it says how good any model of you can be.

# %% [markdown]
# ## 4. The top of the page
#
# People read from the top and get tired. Some take the first text that is good enough. This is **position bias**. To see it clearly we need
# more labels than you have patience for, so let us build a lazy simulated labeler. It likes happy words as the others do, but whatever
# stands first gets a bonus.

# %%
crowd = comparisons[:2000]


def screen_order(comparison):
    """A shuffle that depends on the comparison alone, as the card's does."""
    return random.Random(comparison.id).sample(range(4), 4)


def lazy_place(comparison, bonus=1.0):
    """The place (0 = top) that a lazy labeler takes: a softmax with a bonus for the top."""
    shown = [comparison.options[k] for k in screen_order(comparison)]
    values = [fair.utility(option) / fair.temperature for option in shown]
    weights = [math.exp(value + bonus * (place == 0)) for place, value in enumerate(values)]
    return random.Random(f"lazy {comparison.id}").choices(range(4), weights)[0]


# %%
standing = desk.store.events(task.name, me, standing=True)  # nothing that was taken back
clicks = [e for e in standing if e.kind == "choose" and not e.repeat]
my_places = Counter(e.order.index(e.choice) + 1 for e in clicks)

# %%
reader = "you" if yours else "learner, simulated"
places = {"fair, simulated": Counter(screen_order(c).index(fair.choose(c)) + 1 for c in crowd)}
places["lazy, simulated"] = Counter(lazy_place(c) + 1 for c in crowd)
places[reader] = my_places
fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True)
for ax, (name, counts) in zip(axes, places.items()):
    plots.label_positions({place: counts[place] for place in (1, 2, 3, 4)}, ax=ax)
    ax.set_title(name)

# %% [markdown]
# *How to read it*: bars at the dashed line mean that the place does not matter. The lazy labeler's first bar is clearly higher, and its narrow
# interval says that this is no accident. The third panel comes from few labels, and its intervals are wide: it proves nothing about anybody.
#
# Did the lazy labeler do harm? **Predict** before you run the next cell: how often did it choose each of the comparisons' own options 0, 1, 2
# and 3?

# %%
own = Counter(screen_order(c)[lazy_place(c)] for c in crowd)
own_shares = pd.Series({f"option {k}": own[k] / len(crowd) for k in range(4)})
top = places["lazy, simulated"][1] / len(crowd)
assert (own_shares - 0.25).abs().max() < 0.1 < top - 0.25
own_shares.round(3)

# %% [markdown]
# Nearly even. The labeler's habit has not gone away: many of its answers are still wasted on whatever happened to stand first. But because
# a shuffle decides what stands first, the habit favours no particular kind of text. The shuffle has turned a *bias* into *noise*. If the
# card had always shown, say, the shortest text first, the model would have learned to be brief. That is why the card shuffles, and why it
# stores the order: nobody can correct for what was not recorded.

# %% [markdown]
# ## 5. Length
#
# The other classic is **length bias**. A longer text has more in it that can please, and some labelers simply prefer the longer one. Later
# work found that models tuned on human choices grow wordy, partly for this reason. A shuffle does not help here: length belongs to the
# text, and the text takes it along wherever it is put.
#
# ### Exercise 1: how much longer is what was chosen? (●●○○○, important, 8 minutes)
#
# Write `length_bias(options, choices)`. For each label take the number of **words** of the chosen option minus the mean number of
# words of **all** options of that comparison. Return the mean over the labels. Zero means no taste for length, positive means a taste
# for long ones.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `len(text.split())` counts words. Make a list of the four counts first; `counts[choice]` is the chosen one,
# `sum(counts) / len(counts)` the mean.
# </details>


# %% tags=["exercise"]
def length_bias(options, choices):
    """Words of the chosen option above the mean of its comparison, averaged."""
    ...


# %% tags=["solution"]
def length_bias(options, choices):
    """Words of the chosen option above the mean of its comparison, averaged."""
    excess = []
    for texts, choice in zip(options, choices):
        counts = [len(text.split()) for text in texts]
        excess.append(counts[choice] - sum(counts) / len(counts))
    return sum(excess) / len(excess)


# %% tags=["check"]
solved = checks.nb02_length_bias(length_bias)

# %% tags=["catch-up"]
if not solved:

    def length_bias(options, choices):
        counts = [[len(text.split()) for text in texts] for texts in options]
        return sum(row[c] - sum(row) / len(row) for row, c in zip(counts, choices)) / len(choices)

# %% [markdown]
# Three labelers: you (or the simulated learner), the recorded simulated one, and one who adds a quarter of a point for every word.


# %%
def likes_words(text):
    return labelers.sentiment(text) + 0.25 * len(text.split())


wordy = labelers.SimulatedLabeler("wordy", likes_words, fair.temperature)
texts = {c.id: list(c.options) for c in comparisons}
groups = {whose.split(",")[0]: mine, "simulated, sentiment only": fair.label(crowd)}
groups["simulated, likes words"] = wordy.label(crowd)
length = {}
for name, labels in groups.items():
    options, choices = [texts[x.comparison_id] for x in labels], [x.choice for x in labels]
    length[name] = float(length_bias(options, choices))
assert length["simulated, likes words"] > length["simulated, sentiment only"] + 0.2
pd.Series(length, name="words above the mean").round(2).to_frame()

# %% [markdown]
# Be careful: a difference is not yet a bias. Perhaps longer continuations of this model simply are happier. To tell the two apart you must
# compare texts that are equally happy and differ in length.

# %% [markdown]
# ## 6. Two labelers
#
# Anna and Ben are simulated labelers with the same taste and the same amount of noise, drawn independently. Each labels a part of the
# comparisons, in a different order, and the parts overlap, as they would in practice.

# %%
anna = labelers.simulated(task, name="Anna", seed=1)
ben = labelers.simulated(task, name="Ben", seed=2)
anna_said = {label.comparison_id: label.choice for label in anna.label(comparisons[:1500])}
ben_said = {label.comparison_id: label.choice for label in ben.label(comparisons[2000:299:-1])}
both = anna_said.keys() & ben_said.keys()
print(f"Labelled by Anna: {len(anna_said):,}, by Ben: {len(ben_said):,}, by both: {len(both):,}")

# %% [markdown]
# ### Exercise 2: agreement (●○○○○, important, 5 minutes)
#
# Write `agreement(first, second)`. Both are dictionaries from comparison to choice. Return the share of equal choices among the
# comparisons that **both** have labelled.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `first.keys() & second.keys()` is the set of shared comparisons. A sum of `True` and `False` counts the `True`.
# </details>


# %% tags=["exercise"]
def agreement(first, second):
    """Share of equal choices among the comparisons in both dictionaries."""
    ...


# %% tags=["solution"]
def agreement(first, second):
    """Share of equal choices among the comparisons in both dictionaries."""
    shared = first.keys() & second.keys()
    return sum(first[key] == second[key] for key in shared) / len(shared)


# %% tags=["check"]
solved = checks.nb02_agreement(agreement)

# %% tags=["catch-up"]
if not solved:

    def agreement(first, second):
        shared = first.keys() & second.keys()
        return sum(first[key] == second[key] for key in shared) / len(shared)

# %% [markdown]
# The package has the same function for lists of labels. The two must say the same.

# %%
measured = float(agreement(anna_said, ben_said))
lists = anna.label(comparisons[:1500]), ben.label(comparisons[300:2001])
assert math.isclose(measured, labelers.agreement(*lists), abs_tol=1e-5) and 0.32 < measured < 0.44
show.note(f"Anna and Ben agree on **{measured:.1%}** of the comparisons. Chance would give 25 %.")

# %% [markdown]
# Real labelers are no better. In the paper, a labeler and an author chose the same of four sentiment continuations **38 %** of the time; on
# the summaries of TL;DR it was 46 %; two authors agreed with each other about 60 % of the time. The noise of our labelers was set so that
# they reach the first of these figures. How often do you (or the simulated learner) choose the same as Anna, who wants the *happiest*? If
# you asked another question, this is no measure of care: it says how far one question can stand in for another.

# %%
anna_on_mine = {label.comparison_id: label.choice for label in anna.label(asked)}
together = float(agreement(before, anna_on_mine))
print(f"Anna (simulated) and {whose.split(',')[0]}: {together:.0%} of {len(mine)} choices")

# %% [markdown]
# ## 7. Agreement beyond chance
#
# Raw agreement flatters labelers who share a habit. Imagine two who never read. Carl and Dora take the top text seven times in ten, and
# this time both are shown the options in the *same* order. How often do they take the same place on the screen?

# %%
dice = random.Random(0)
carl, dora = (dice.choices([1, 2, 3, 4], [7, 1, 1, 1], k=1000) for _ in range(2))
blind = float(agreement(dict(enumerate(carl)), dict(enumerate(dora))))
print(f"raw agreement of two labelers who read nothing: {blind:.0%}")

# %% [markdown]
# They agree more often than Anna and Ben, who did read! **Cohen's kappa** corrects for chance. Let $p_o$ be the observed agreement, and $p_e$
# the agreement that two people with these habits would reach by chance: the sum over places of (share of the first) times (share of the
# second). Then
#
# $$\kappa = \frac{p_o - p_e}{1 - p_e}.$$
#
# Read it as "how much of the way": the denominator is the distance from chance to perfect agreement, and the numerator is how much of it
# the two have covered. Chance alone gives 0, perfect agreement 1.
#
# ### Exercise 3: kappa (●●○○○, 10 minutes)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `first.count(k) / n` is how often the first labeler used `k`. Sum over every `k` that occurs, `set(first) | set(second)`.
# </details>


# %% tags=["exercise"]
def kappa(first, second):
    """Cohen's kappa of two lists of choices for the same items."""
    ...


# %% tags=["solution"]
def kappa(first, second):
    """Cohen's kappa of two lists of choices for the same items."""
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second)) / n
    chance = sum(first.count(k) * second.count(k) for k in set(first) | set(second)) / n**2
    return (observed - chance) / (1 - chance)


# %% tags=["check"]
solved = checks.nb02_kappa(kappa)

# %% tags=["catch-up"]
if not solved:

    def kappa(first, second):
        n = len(first)
        observed = sum(a == b for a, b in zip(first, second)) / n
        chance = sum(first.count(k) * second.count(k) for k in set(first) | set(second)) / n**2
        return (observed - chance) / (1 - chance)


# %%
said = [[labels[i] for i in sorted(both)] for labels in (anna_said, ben_said)]
kappas = {"Anna and Ben": float(kappa(*said)), "Carl and Dora": float(kappa(carl, dora))}
assert abs(kappas["Carl and Dora"]) < 0.1 < kappas["Anna and Ben"]
pd.Series(kappas, name="kappa").round(2).to_frame()

# %% [markdown]
# Carl and Dora fall to about zero: all their agreement was habit. On our card nobody can reach agreement that way, because each person sees
# the options in an order of their own. There the agreement by chance is close to one in four, and kappa is close to
# $(p_o - 0.25) / 0.75$.

# %% [markdown]
# ## 8. How much agreement should we expect?
#
# A simulated labeler has a taste and some noise. The taste is a **utility** $u$, a number for each text; the noise is a temperature $T$. It
# chooses option $k$ with probability $p_k = \mathrm{softmax}(u / T)_k$: usually the text of highest utility, and the others more often the
# closer they come to it. You know the formula from sampling, where a model chose among tokens in the same way. The reward model of
# notebook 03 assumes that people choose like this.

# %%
table = pd.DataFrame({"text": [option.strip() for option in example.options]})
table["utility"] = [fair.utility(option) for option in example.options]
for noisy in (labelers.simulated(task, temperature=0.5), fair):
    table[f"T = {noisy.temperature}"] = noisy.probabilities(example.options)
table.round(2)

# %% [markdown]
# If two people choose independently, one from $p$ and one from $q$, both choose option $k$ with probability $p_k q_k$.
#
# ### Exercise 4: expected agreement (●●●○○, important, 10 minutes)
#
# Write `expected_agreement(first, second)`. Both are lists with one row of probabilities per comparison. Return how often the two are
# expected to choose the same option, averaged over the comparisons.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Within a comparison, add the probabilities over the options. Only then take the mean over comparisons.
# </details>


# %% tags=["exercise"]
def expected_agreement(first, second):
    """Expected share of equal choices, from one row of K probabilities per comparison."""
    ...


# %% tags=["solution"]
def expected_agreement(first, second):
    """Expected share of equal choices, from one row of K probabilities per comparison."""
    meet = [sum(a * b for a, b in zip(p, q)) for p, q in zip(first, second)]
    return sum(meet) / len(meet)


# %% tags=["check"]
solved = checks.nb02_expected_agreement(expected_agreement)

# %% tags=["catch-up"]
if not solved:

    def expected_agreement(first, second):
        return sum(sum(a * b for a, b in zip(p, q)) for p, q in zip(first, second)) / len(first)

# %% [markdown]
# The formula must fit what Anna and Ben did, up to chance (three standard errors).

# %%
shared = [c for c in comparisons[:2001] if c.id in both]
tables = [[person.probabilities(c.options) for c in shared] for person in (anna, ben)]
expected = float(expected_agreement(*tables))
assert abs(expected - measured) < 3 * math.sqrt(expected * (1 - expected) / len(shared))
print(f"expected {expected:.3f}, measured {measured:.3f}")

# %% [markdown]
# Now change the noise. **Predict**: what is the agreement of two labelers without noise ($T$ near 0)? And with very much noise?

# %%
noise = [0.05, 0.3, 0.6, 1, 1.4, fair.temperature, 2.5, 4, 8, 16]
curve = []
for temperature in noise:
    noisy = labelers.simulated(task, temperature=temperature)
    rows = [noisy.probabilities(c.options) for c in comparisons[:1000]]
    curve.append(float(expected_agreement(rows, rows)))

# %%
fig, ax = plt.subplots(figsize=(7, 3))
ax.plot(noise, curve, "o-", color=plots.BLUE, label="two equal labelers")
ax.axhline(0.38, linestyle=":", color=plots.RED, label="paper: 38 %")
ax.axhline(0.25, linestyle="--", color=plots.BLACK, linewidth=1, label="chance: 25 %")
ax.set(xscale="log", xlabel="noise T of both labelers (log scale)")
ax.set(ylabel="expected agreement", ylim=(0, 1))
ax.legend();
# %%
assert 0.25 <= curve[-1] < 0.28 and 0.33 < curve[5] < 0.43 and 0.5 < curve[0] < 0.95
assert all(a > b for a, b in zip(curve, curve[1:]))

# %% [markdown]
# *How to read it*: more noise, less agreement, down to one in four on the right. The left end may surprise you: without any noise the agreement
# is **not** 1. In many comparisons two or three options have exactly the same utility, and then chance settles the tie. So two careful
# people can disagree for no other reason than that the *question* has no answer. More careful labelers would not help there. Better
# comparisons would, and so would a "cannot tell" key.

# %% [markdown]
# ## 9. Why noisy labels still teach
#
# Two labelers agree on four labels in ten: why would anybody train on that? Think of a coin that is slightly bent. One toss tells you nothing
# about it, and two people who toss it once agree little more often than chance. A thousand tosses tell you almost exactly how it is bent.
# Labels are like that. The noise of one label has nothing to do with the noise of the next, so over many labels it cancels; the taste is
# in all of them, so it adds up. Counting is enough to show it. For every word: **when an option contained this word, how often was that
# option chosen?** By chance, one time in four.


# %%
def count_words(comparisons, labels):
    """How often options with each word were shown, and how often they were chosen."""
    shown, chosen = Counter(), Counter()
    for comparison, label in zip(comparisons, labels):
        for k, option in enumerate(comparison.options):
            vocabulary = set(labelers.words(option))
            shown.update(vocabulary)
            chosen.update(vocabulary if k == label.choice else ())
    return shown, chosen


# %%
shown, chosen = count_words(comparisons[:5000], recorded_labels[:5000])
words = pd.DataFrame({"shown": shown, "chosen": chosen}).fillna(0).astype(int).query("shown >= 40")
words["share"] = (words.chosen / words.shown).round(2)
words = words.sort_values("share", ascending=False)
pd.concat([words.head(6), words.tail(6)])

# %% [markdown]
# Nobody told the counter what happiness is. It found the happy and the sad words in (simulated) labels that look useless one at a time. Two
# of the twelve do not belong there: to the labeler, *smoked* and *overturned* mean nothing. But in this town a cart overturns with a *terrible*
# crash: counting cannot tell a word from its company. *Smoked* has slightly happier company than most words, but most of its place up there
# is luck: by the labeler's own probabilities it should have been chosen 12 times, not 22. Among more than a thousand words some are lucky.
#
# Now let the counts serve as a crude reward model. A word that was chosen more often than one time in four gets a positive weight, one that
# was chosen less often a negative one, and an option's score is the sum over its words. Is it any good on 1,000 comparisons that it has not
# seen? We compare with what the labeler would choose *without* noise, which we know only because the labeler is simulated.


# %%
def count_model(number):
    """Score texts by their words' log share against chance, shrunk a little towards chance."""
    shown, chosen = count_words(comparisons[:number], recorded_labels[:number])
    weight = {word: math.log((chosen[word] + 5) / (shown[word] + 20) * 4) for word in shown}
    return lambda text: sum(weight.get(word, 0.0) for word in set(labelers.words(text)))


def hits(pick, held_out):
    """Share of the comparisons with a single happiest option in which `pick` finds it."""
    found = []
    for comparison in held_out:
        utilities = [fair.utility(option) for option in comparison.options]
        if utilities.count(max(utilities)) == 1:
            found.append(utilities[pick(comparison)] == max(utilities))
    return sum(found) / len(found)


# %%
numbers = [20, 50, 100, 200, 500, 1000, 2000, 5000]
found = []
for n in numbers:
    model = count_model(n)
    found.append(hits(lambda c, f=model: max(range(4), key=lambda k: f(c.options[k])), held_out))
one_person = hits(fair.choose, held_out)

# %%
fig, ax = plt.subplots(figsize=(7, 3))
ax.plot(numbers, found, "o-", color=plots.BLUE, label="counting words in n labels")
ax.axhline(one_person, linestyle=":", color=plots.RED, label="one labeler, one answer")
ax.axhline(0.25, linestyle="--", color=plots.BLACK, linewidth=1, label="chance")
ax.set(xscale="log", xlabel="labels counted (log scale)")
ax.set(ylabel="finds the happiest option", ylim=(0, 1))
ax.legend();
# %%
assert found[-1] > one_person + 0.05 and found[-1] > found[0] + 0.1 and found[3] > 0.3
show.note(
    f"From {numbers[3]} noisy labels the counter finds the happiest option in **{found[3]:.0%}** of "
    f"new comparisons, from {numbers[-1]:,} in **{found[-1]:.0%}**; the labeler whose answers it "
    f"counted, in **{one_person:.0%}**. All labels here are simulated."
)

# %% [markdown]
# *How to read it*: on the left the counter knows very little; with more labels it rises above the dotted line. **The pupil overtakes the
# teacher.** That is no paradox. The teacher's single answer contains all of the teacher's noise; the pupil has seen thousands of answers
# and keeps only what they have in common. Sixty labels, like yours, are near the left end of the curve. Notebook 03 shows how to get
# further with them than by counting words.
#
# There is a catch, and you saw it in section 5. Taste is not the only thing that labels have in common: a *bias* that labelers share adds up
# in just the same way. More labels take away noise. They do not take away bias.

# %% [markdown]
# ## Appendix A. What the store contains (optional, 5 minutes)
#
# A label store is a single SQLite file, and once an answer is shown as saved, it is in that file. You can open it with Python's own `sqlite3`
# and read it with pandas. The table `comparisons` contains what was asked.

# %%
with closing(sqlite3.connect(path)) as database:
    columns = "position, id, task, source, round, query"
    table = pd.read_sql(f"select {columns} from comparisons limit 3", database)
table

# %% [markdown]
# The `id` is a hash of the content. The same comparison has the same id on every machine, so adding it twice does no harm, and the labels of
# thirty people can be merged. `source` says which model wrote the options; `round` counts the rounds of collecting.
#
# The table `events` contains the answers. Rows are only ever added: an undo is one more row, and its column `undoes` names the answer that it
# takes back.

# %%
question = """
    select e.id, comparison_id, labeler, kind, choice, shown, simulated, repeat, undoes
    from events e join comparisons c on c.id = e.comparison_id where c.task = 'sentiment'
"""
with closing(sqlite3.connect(path)) as database:
    events = pd.read_sql(question, database)
events.head(8)

# %% [markdown]
# Look at two columns again. `choice` is the index into the comparison's **own** options; `shown` lists those indices in the order on the
# screen. So `choice 2` with `shown [3, 2, 0, 1]` means that the second text from the top was chosen. Keep the two apart: the reward model
# must learn from the first, and only the second can tell whether you favour the top of the page.

# %%
stands = (events.kind == "choose") & (events.repeat == 0) & ~events.id.isin(events.undoes)
chosen_rows = events[stands & (events.labeler == me)].copy()
both_columns = zip(chosen_rows.shown, chosen_rows.choice)
chosen_rows["place"] = [json.loads(shown).index(choice) + 1 for shown, choice in both_columns]
assert {label.comparison_id for label in mine} <= set(chosen_rows.comparison_id)
chosen_rows[["choice", "shown", "place"]].head()

# %% [markdown]
# In the package you do not need SQL: `LabelStore.labels` gives the choices that stand, and `LabelStore.events` the whole history.

# %% [markdown]
# ## Appendix B. The labels of a class (optional, 10 minutes)
#
# In a class everybody labels in a file of their own, and every comparison goes to two people. Let four **simulated** students do that with
# the session behind the card. Three choose like the labelers above, with independent noise. The fourth, called gull, never reads: it
# takes the top text, fast. And all four forgot to choose a pseudonym.

# %%
place, people = Path(tempfile.mkdtemp()), ["heron", "otter", "wren", "gull"]
given = measures.assign(crowd[:80], people, overlap=2)  # forty for each


def sit(person):
    """One simulated student answers the comparisons they were given, and hands in a file."""
    file, dice = LabelStore(place / f"{person}.db"), random.Random(person)
    file.add(given[person])
    session = Session(file, task.name, "me", given[person], simulated=True, repeat_every=4)
    while session.current is not None:
        choice = dice.choices(range(4), fair.probabilities(session.current.options))[0]
        spot, seconds = session.order.index(choice), dice.uniform(4, 12)
        if person == "gull":
            spot, seconds = 0, dice.uniform(0.3, 1)
        session.answer("choose", spot, seconds=seconds)
    return handin.hand_in(file, "me", place / person).path


files = [sit(person) for person in people]
together = LabelStore(place / "class.db")

# %% [markdown]
# **Predict**: what would become of four files in which everybody is called "me"?

# %%
try:
    measures.merge(together, files)
except ValueError as problem:
    show.wrapped(str(problem).replace(f"{place}/", ""))

# %% [markdown]
# The merge refuses, because it would take them for one person who answers everything twice. Here the folders have the right names, so
# `rename` takes the labelers' names from there. Merging a second time changes nothing: a student may continue labelling, write the file
# again and hand it in again.

# %%
for _ in range(2):
    conflicts = measures.merge(together, files, rename=lambda name, file: Path(file).parent.name)
labels = together.labels(task.name)
assert conflicts == [] and set(together.labelers()) == set(people)
assert len(labels) == sum(map(len, given.values()))
print("raw agreement       ", measures.raw(labels))
print("Krippendorff's alpha", measures.krippendorff(labels))

# %% [markdown]
# **Krippendorff's alpha** generalises kappa to any number of labelers, none of whom need have labelled everything: 0 is chance, 1 is perfect
# agreement. The intervals come from a bootstrap over comparisons, and they are wide. Both numbers describe the class as a whole. Which of
# the four labelers pulls them down?

# %%
rows = reports.per_labeler(together, task.name)
columns = ["labels", "median_seconds", "position_p", "consistency", "agreement", "agreement_count"]
pd.DataFrame(rows).set_index("labeler")[columns].round(2)

# %%
plots.labeler_positions(reports.positions(together, task.name));
# %%
plots.labeler_consistency(rows);

# %% [markdown]
# *How to read it*: all of the gull's choices are at the first place, and `median_seconds` says why. `position_p` is the probability of counts
# at least as uneven as these if the place made no difference: the gull's is practically 0, those of the others are not small. In the second
# figure each dot is a share with its 95 % interval, from about ten repeats and a few dozen shared comparisons. With so few labels it is the
# places and the pace that reveal the gull, not the agreement. (Its consistency of 0 is a third sign: repeats come in another order, so
# whoever always takes the top never takes the same text again.) With your own class: [Labels](../docs/labels.md).

# %% [markdown]
# ## Recap
#
# - A label answers a question. Write the question down, with its hard cases, before you collect.
# - Store what was asked, what was chosen, in which order it was shown, by whom, and whether a person or a program chose.
# - Comparisons that come back measure the noise of one person; comparisons that two people label measure how far they agree, and kappa
#   corrects that for chance.
# - A random order turns position bias into harmless noise. It does nothing against length bias.
# - For independent softmax labelers expected agreement is the mean of $\sum_k p_k q_k$. Ties keep it below 1 even without noise.
# - Independent noise averages out over many labels. Shared bias does not.
#
# | change one knob | and look at |
# |---|---|
# | `bonus` of the lazy labeler, 0 to 3 | the bars of section 4, by place and by own option |
# | the 0.25 of the wordy labeler | `length_bias`, and agreement with the fair one |
# | Ben's `temperature` | measured and expected agreement with Anna |
#
# ## Questions
#
# 1. You have money for 5,000 labels: 5,000 comparisons once, or 1,000 comparisons five times? What does section 9 suggest for training,
#    and what would you choose for *testing*?
# 2. Two labelers agree 60 % of the time, and each repeats their own choice 65 % of the time. Is it worth writing a better rubric?
# 3. A labeler answers in half a second. What in the store would tell you, and what would you do with these labels?
# 4. Your rubric's second hard case: how many of your comparisons did it decide?
#
# ## Further reading
#
# Ziegler et al. (2019), *Fine-Tuning Language Models from Human Preferences*, arXiv 1909.08593: the section on
# human labeling, and "Ambiguous tasks make labeling hard". Cohen (1960), *A coefficient of agreement for nominal scales*. Stiennon et
# al. (2020), arXiv 2009.01325, on what closer contact with labelers brings.
#
# **Next**: [03, a reward model from your labels](03_reward_model.ipynb).
