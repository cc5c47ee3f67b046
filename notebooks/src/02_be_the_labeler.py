# %% [markdown]
# # 02 · Be the labeler
#
# Below you will see the beginning of a story and four ways to go on, all written by the same small language model. Which one is
# best? The question cannot be answered yet. Best at what, and for whom? Somebody has to decide, write it down, and then sit down and
# choose, again and again. In the paper that this course follows, people made about 5,000 such choices for each style. In this
# notebook the person is you.
#
# **After this notebook you can**
#
# - write a rubric that two people read alike;
# - label comparisons with the keyboard, and say what the store keeps of it;
# - measure how consistent a labeler is, and how far two labelers agree beyond luck;
# - see position bias and length bias, and say which of them a shuffle cures;
# - explain why labels on which two people agree four times in ten can still teach a model.
#
# | active | machine (two laptop cores) | you need |
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

from rlhf_helpers import labelers, tasks
from rlhf_helpers.course import checks, plots, show
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
plots.pipeline("label")

# %%
comparisons, recorded_labels = labelers.recorded(task)
example = comparisons[0]
print("...", example.query.strip())
pd.DataFrame({"continuation": [option.strip() for option in example.options]})

# %% [markdown]
# The language model is small (a few million parameters), so expect some odd words. Read the four again and pick one. Now pick
# the one that a *cautious* reader would like best, and the one that a child would. If your choice moved, you have met the first
# problem of learning from people: the answer depends on the question.

# %% [markdown]
# ## 1. What to ask
#
# A **comparison** is a prompt (the query) with a few continuations (the options). A **label** is one person's choice among them. We
# never ask for a mark out of ten: people use marks differently, and the same person uses them differently after lunch. "Which of
# these?" is a question that everybody understands in the same way, or nearly.
#
# The paper (Ziegler et al., 2019, section 3.1.2) asked for two styles. For *sentiment*, labelers chose the continuation that is most
# positive and happy; for *descriptiveness*, the most physically vivid one. Four options, one choice. Our card asks the same and
# shows this rubric beside the question:

# %%
print(frontend.QUESTIONS[task.name], frontend.RUBRICS[task.name], sep="\n\n")

# %% [markdown]
# A good rubric does four things.
#
# 1. It says **what counts**, in words that two people read alike. "Happy for whom?" must have an answer: the people in the story, not
#    you.
# 2. It says **what does not count**. Here: style, length, whether you like the plot.
# 3. It **settles the hard cases** before they come up: two equally happy texts, a text that makes no sense, joy at somebody's
#    misfortune.
# 4. It fits on one screen. A rule that labelers do not remember is no rule.
#
# **Your turn** (5 minutes, ●○○○○). Write your own, with at least one hard case. It is saved beside your labels, because labels
# without their question are worth little a year later.

# %%
rubric = """
Choose the continuation in which the people of the story feel best.
Judge the feeling, not the grammar and not the length.
Hard case: joy at somebody else's misfortune does not count as happy.
Hard case: if two are equally happy, take the one that fits the beginning better.
"""

# %%
folder().mkdir(parents=True, exist_ok=True)
(folder() / "rubric_sentiment.md").write_text(rubric, encoding="utf-8")
# %% [markdown]
# ## 2. Label
#
# Click the card once; then **1 to 4** chooses, **t** says "cannot tell", **s** skips, **u** takes the last answer back, **Esc**
# leaves the card. Every answer is written to the file `labels.db` in your runs folder before the next comparison appears; the card names
# the file. Close the laptop, restart the kernel, run the notebook again up to the card: you go on where you stopped.
#
# ![The labelling card: a question, a prompt, four continuations with the numbers 1 to 4 to choose by click or key, and buttons for cannot tell, skip, flag and undo](../docs/card.png)
#
# The options stand in a random order that is stored with your answer. And a few comparisons will come back later, unmarked, in
# another order. You will see why.
#
# Your labels carry a name, so that those of a whole class can be poured together. Choose a **pseudonym** that nobody else in your class has
# and write it between the quotes below; leave it empty and one is made up. It is kept in your runs folder, and notebooks 03 and 07 use it
# too.

# %%
pseudonym = cards.me("")
print("Your labels carry the name", pseudonym)

# %% [markdown]
# *Before you begin, write down two guesses*: on how many of ten repeated comparisons will you choose the same text again? How often
# will you agree with a stranger who was given the same rubric?

# %%
held_out = comparisons[-1000:]  # notebook 03 does not train on these
asked = held_out[: size.own_labels]
store = LabelStore(folder() / "labels.db")
card = cards.label(asked, task, pseudonym, store=store, rubric=rubric, repeat_every=4)
card

# %% [markdown]
# When the card is done (or when you have had enough: half of them will do), run the cells below.
#
# If there are no labels of yours, because this notebook runs without anybody at the keyboard, or because you only want to look
# ahead, a **simulated labeler** sits down at the same card in your place. It counts happy and sad words and then chooses with a good
# deal of noise. Its answers go into a file of their own and are marked as simulated. They are never mixed with yours.


# %%
def stand_in(path):
    """Let the simulated labeler work through the same comparisons; on repeats it draws afresh, like a person who has forgotten."""
    desk = LabelStore(path)
    desk.add(asked)
    session = Session(desk, task.name, "simulated", asked, simulated=True, repeat_every=4)
    first = {label.comparison_id: label.choice for label in recorded_labels}
    afresh = labelers.simulated(task, seed=1)
    while session.current is not None:
        choice = afresh.choose(session.current) if session.repeat else first[session.current.id]
        session.answer("choose", session.order.index(choice), seconds=0.0)
    return session


# %%
me, desk, path = pseudonym, card.session, folder() / "labels.db"
if len(desk.labels()) < size.own_labels // 2:
    me, path = "simulated", folder() / "labels_stand_in.db"
    desk = stand_in(path)
whose = (
    "your own labels" if me == pseudonym else "SIMULATED labels, because there are too few of yours"
)
print("From here on this notebook looks at", whose)

# %% [markdown]
# **Hand in.** If a teacher collects the labels of your class, do not send `labels.db`. This cell writes all your answers, with their whole
# history, to one file in your runs folder, reads the file back and counts. The receipt says what is inside; compare its first digits of the
# hash if you want to know that the same file has arrived.

# %%
handin.hand_in(desk.store, me, folder())

# %% [markdown]
# ## 3. What the store holds
#
# A label store is a single SQLite file, and once an answer is shown as saved, it is in that file. Nothing hides in it: open it with Python's
# own `sqlite3` and read it with pandas. The table `comparisons` holds what was asked.

# %%
with closing(sqlite3.connect(path)) as database:
    table = pd.read_sql(
        "select position, id, task, source, round, query from comparisons limit 3", database
    )
table

# %% [markdown]
# The `id` is a hash of the content. The same comparison has the same id on every machine, so adding it twice does no harm, and the
# labels of thirty people can be poured together. `source` says which model wrote the options, `round` counts the collections.
#
# The table `events` holds what was answered. It only ever grows: an undo is one more row that points at the answer it takes back.

# %%
question = """select e.id, comparison_id, labeler, kind, choice, shown, simulated, repeat
              from events e join comparisons c on c.id = e.comparison_id where c.task = 'sentiment'"""
with closing(sqlite3.connect(path)) as database:
    events = pd.read_sql(question, database)
events.head(8)

# %% [markdown]
# Two columns deserve a second look. `choice` is the index into the comparison's **own** options; `shown` lists those indices in the
# order in which they stood on the screen. So `choice 2` with `shown [3, 2, 0, 1]` means: the second text from the top was taken. Keep
# the two apart: the reward model must learn from the first, and only the second can tell whether you favour the top of the page.

# %%
first = events[(events.kind == "choose") & (events.repeat == 0) & (events.labeler == me)].copy()
first["place"] = [
    json.loads(shown).index(choice) + 1 for shown, choice in zip(first.shown, first.choice)
]
first[["choice", "shown", "place"]].head()

# %% [markdown]
# In the package you will not need SQL. The session behind the card gives the choices that stand, oldest first; `LabelStore.labels` does
# it for a whole store. We check at once that they are among the rows of our own query (which also holds what was undone).

# %%
mine, again = desk.labels(), desk.labels(repeats=True)
assert {label.comparison_id for label in mine} <= set(first.comparison_id)
show.note(
    f"**{len(mine)}** labels, and **{len(again)}** second answers to comparisons that came back."
)

# %% [markdown]
# ## 4. Do you agree with yourself?
#
# Every few answers an earlier comparison came back with its options in another order. How often was the same text chosen?

# %%
before = {label.comparison_id: label.choice for label in mine}
same = [
    before[label.comparison_id] == label.choice for label in again if label.comparison_id in before
]
chance = 1 / len(example.options)
pd.DataFrame(
    [
        {
            "repeats": len(same),
            "same text again": sum(same),
            "by blind chance": round(len(same) * chance, 1),
        }
    ]
)

# %% [markdown]
# Hold this number loosely, it rests on a handful of repeats. It is still the most useful one you can collect about a labeler: whatever you
# decide by mood is noise to everyone else. It is *not* the ceiling for a model. Say that you would choose the four texts with probabilities
# $p_1$ to $p_4$. Two answers of yours are then the same with probability $s = \sum_k p_k^2$. A model does better if it always names your
# **favourite**, the text that you choose most often: it is right with probability $\max_k p_k$, which is never less than $s$ and never
# more than $\sqrt{s}$. So **no model can agree with you more often than your own favourite does**, and $s$ tells you about where that is.
#
# The simulated labeler contradicts itself often, on purpose: its noise is set so that two of its kind agree no more than the pairs of
# people in the paper. With a clear rubric and a rested mind you can do much better.

# %% [markdown]
# ## 5. The top of the page
#
# People read from the top and get tired. Some take the first text that is good enough. This is **position bias**. To see it clearly
# we need more labels than you have patience for, so let us build a lazy simulated labeler: she likes happy words like the others, but
# whatever stands first gets a bonus.

# %%
fair = labelers.simulated(task)
crowd = comparisons[:2000]


def screen_order(comparison):
    """A shuffle that depends on the comparison alone, as the card's does."""
    return random.Random(comparison.id).sample(range(4), 4)


def lazy_place(comparison, bonus=1.0):
    """The place (0 = top) that a lazy labeler takes: softmax of utility / noise, with a bonus for the top."""
    shown = [
        fair.utility(comparison.options[k]) / fair.temperature for k in screen_order(comparison)
    ]
    weights = [math.exp(value + bonus * (place == 0)) for place, value in enumerate(shown)]
    return random.Random(f"lazy {comparison.id}").choices(range(4), weights)[0]


# %%
places = {"fair, simulated": Counter(screen_order(c).index(fair.choose(c)) + 1 for c in crowd),
          "lazy, simulated": Counter(lazy_place(c) + 1 for c in crowd),
          "you" if me == pseudonym else "stand-in, simulated": Counter(first.place)}  # fmt: skip
fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True)
for ax, (name, counts) in zip(axes, places.items()):
    plots.label_positions({place: counts[place] for place in (1, 2, 3, 4)}, ax=ax)
    ax.set_title(name)

# %% [markdown]
# *How to read it*: bars at the dashed line mean that the place does not matter. The lazy labeler's first bar sticks out, and its thin
# interval says that this is no accident. The third panel rests on few labels. Its intervals are wide: do not accuse anybody on them.
#
# Was the lazy labeler harmful? **Predict** before you run the next cell: how often did she choose each of the comparisons' own options
# 0, 1, 2 and 3?

# %%
own = Counter(screen_order(c)[lazy_place(c)] for c in crowd)
own_shares = pd.Series({f"option {k}": own[k] / len(crowd) for k in range(4)})
top = places["lazy, simulated"][1] / len(crowd)
assert (own_shares - 0.25).abs().max() < 0.1 < top - 0.25
own_shares.round(3)

# %% [markdown]
# Nearly even. The shuffle turned a *bias* into *noise*: her habit still wastes some answers, but it no longer pushes the model in any
# direction. Had the card always shown, say, the shortest text first, the model would have learned from her to be brief. That is why
# the card shuffles, and why it stores the order: what was not stored cannot be corrected for.

# %% [markdown]
# ## 6. Length
#
# The other classic is **length bias**. A longer text says more, and more of it can please; some labelers simply take the fuller one.
# Later work found that models tuned on human choices grow wordy, partly for this reason. Shuffling does not help: length travels with the
# text.
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
    """options: a list of lists of texts; choices: the chosen index of each. Returns words above the mean, averaged."""
    ...


# %% tags=["solution"]
def length_bias(options, choices):
    """options: a list of lists of texts; choices: the chosen index of each. Returns words above the mean, averaged."""
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
# Three labelers: you (or the stand-in), the recorded simulated one, and one who adds a quarter of a point for every word.

# %%
wordy = labelers.SimulatedLabeler(
    "wordy", lambda text: labelers.sentiment(text) + 0.25 * len(text.split()), fair.temperature
)
texts = {c.id: list(c.options) for c in comparisons}
groups = {
    whose.split(",")[0]: mine,
    "simulated, sentiment only": fair.label(crowd),
    "simulated, likes words": wordy.label(crowd),
}
length = pd.Series({name: length_bias([texts[x.comparison_id] for x in labels], [x.choice for x in labels])
                    for name, labels in groups.items()}, name="words above the mean")  # fmt: skip
assert length.iloc[2] > length.iloc[1] + 0.2
length.round(2).to_frame()

# %% [markdown]
# Be careful with the reading. A difference is not yet a fault: perhaps longer continuations of this model simply are happier. To tell
# taste from merit you must compare texts that are equally happy and differ in length. We come back to this in notebook 08, where a
# model learns from biased labels and shows you what it made of them.

# %% [markdown]
# ## 7. Two labelers
#
# Anna and Ben are simulated labelers with the same taste and the same noise, but their own dice. They label the same comparisons, not
# all of them both, and not in the same order. That is how it goes in real life.

# %%
anna, ben = (
    labelers.simulated(task, name="Anna", seed=1),
    labelers.simulated(task, name="Ben", seed=2),
)
anna_said = {label.comparison_id: label.choice for label in anna.label(comparisons[:1500])}
ben_said = {label.comparison_id: label.choice for label in ben.label(comparisons[2000:299:-1])}
print(
    len(anna_said),
    "comparisons labelled by Anna,",
    len(ben_said),
    "by Ben,",
    len(anna_said.keys() & ben_said.keys()),
    "by both",
)

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
measured = agreement(anna_said, ben_said)
assert measured == labelers.agreement(
    anna.label(comparisons[:1500]), ben.label(comparisons[300:2001])
)
assert 0.32 < measured < 0.44
show.note(
    f"Anna and Ben agree on **{measured:.1%}** of the comparisons. Blind chance would give 25 %."
)

# %% [markdown]
# This is not a badly built example. In the paper, labelers and authors chose the same of four sentiment continuations **38 %** of the
# time; on the summaries of TL;DR it was 46 %; two authors agreed with each other about 60 % of the time. Our labelers' noise was set
# to give the first of these figures. Compare your own guess from section 2 with the next line: how often do `mine` and Anna agree?

# %%
anna_on_mine = {label.comparison_id: label.choice for label in anna.label(asked)}
print(
    f"Anna (simulated) and {whose.split(',')[0]}: {agreement(before, anna_on_mine):.0%} of {len(mine)} comparisons"
)

# %% [markdown]
# ## 8. Agreement beyond luck
#
# Raw agreement flatters people with habits. Imagine two labelers who never read. Carl and Dora take the top text seven times in ten,
# and this time both were shown the options in the *same* order. Their places on the screen:

# %%
dice = random.Random(0)
carl, dora = (dice.choices([1, 2, 3, 4], [7, 1, 1, 1], k=1000) for _ in range(2))
print(
    f"raw agreement of two labelers who read nothing: {agreement(dict(enumerate(carl)), dict(enumerate(dora))):.0%}"
)

# %% [markdown]
# They agree more often than Anna and Ben, who did their best! **Cohen's kappa** takes the luck out. Let $p_o$ be the observed
# agreement, and $p_e$ what two people with these habits would reach by luck: the sum over places of (share of the first) times (share
# of the second). Then
#
# $$\kappa = \frac{p_o - p_e}{1 - p_e}.$$
#
# The numerator is what they have beyond luck, the denominator what there was to gain. Luck alone gives 0, perfect agreement 1.
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
    luck = sum(first.count(k) * second.count(k) for k in set(first) | set(second)) / n**2
    return (observed - luck) / (1 - luck)


# %% tags=["check"]
solved = checks.nb02_kappa(kappa)

# %% tags=["catch-up"]
if not solved:

    def kappa(first, second):
        n = len(first)
        observed = sum(a == b for a, b in zip(first, second)) / n
        luck = sum(first.count(k) * second.count(k) for k in set(first) | set(second)) / n**2
        return (observed - luck) / (1 - luck)


# %%
shared = sorted(anna_said.keys() & ben_said.keys())
kappas = {
    "Anna and Ben": kappa([anna_said[i] for i in shared], [ben_said[i] for i in shared]),
    "Carl and Dora": kappa(carl, dora),
}
assert abs(kappas["Carl and Dora"]) < 0.1 < kappas["Anna and Ben"]
pd.Series(kappas, name="kappa").round(2).to_frame()

# %% [markdown]
# Carl and Dora fall to about zero, where they belong. On our real data nobody can earn agreement by habit, since each person sees
# another order. Then luck is close to one in four, and kappa is close to $(p_o - 0.25) / 0.75$.

# %% [markdown]
# ## 9. How much agreement should we expect?
#
# A simulated labeler has a **utility** $u$, a number for each text, and noise, a temperature $T$. It chooses option $k$ with
# probability $p_k = \mathrm{softmax}(u / T)_k$. This is more than a toy. It is exactly the model of people that the reward model's
# loss assumes (notebook 03), and the one you know from sampling.

# %%
pd.DataFrame({
    "text": [option.strip() for option in example.options],
    "utility": [fair.utility(option) for option in example.options],
    "T = 0.5": labelers.simulated(task, temperature=0.5).probabilities(example.options),
    f"T = {fair.temperature}": fair.probabilities(example.options),
}).round(2)  # fmt: skip

# %% [markdown]
# If two people draw independently, one from $p$ and one from $q$, they meet on option $k$ with probability $p_k q_k$.
#
# ### Exercise 4: expected agreement (●●●○○, important, 10 minutes)
#
# Write `expected_agreement(first, second)`. Both are lists with one row of probabilities per comparison. Return how often the two are
# expected to choose the same option, averaged over the comparisons.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Within a comparison the chances to meet on different options add up. Only afterwards take the mean over comparisons.
# </details>


# %% tags=["exercise"]
def expected_agreement(first, second):
    """first, second: one row of K probabilities per comparison. Returns the expected share of equal choices."""
    ...


# %% tags=["solution"]
def expected_agreement(first, second):
    """first, second: one row of K probabilities per comparison. Returns the expected share of equal choices."""
    meet = [sum(a * b for a, b in zip(p, q)) for p, q in zip(first, second)]
    return sum(meet) / len(meet)


# %% tags=["check"]
solved = checks.nb02_expected_agreement(expected_agreement)

# %% tags=["catch-up"]
if not solved:

    def expected_agreement(first, second):
        return sum(sum(a * b for a, b in zip(p, q)) for p, q in zip(first, second)) / len(first)

# %% [markdown]
# The formula must fit what Anna and Ben did, up to the luck of the draw (three standard errors).

# %%
both = [c for c in comparisons[:2001] if c.id in anna_said and c.id in ben_said]
expected = expected_agreement(
    [anna.probabilities(c.options) for c in both], [ben.probabilities(c.options) for c in both]
)
assert abs(expected - measured) < 3 * math.sqrt(expected * (1 - expected) / len(both))
print(f"expected {expected:.3f}, measured {measured:.3f}")

# %% [markdown]
# Now turn the knob. **Predict**: what is the agreement of two labelers without noise ($T$ near 0)? And with endless noise?

# %%
noise = [0.05, 0.3, 0.6, 1, 1.4, fair.temperature, 2.5, 4, 8, 16]
curve = []
for temperature in noise:
    rows = [
        labelers.simulated(task, temperature=temperature).probabilities(c.options)
        for c in comparisons[:1000]
    ]
    curve.append(expected_agreement(rows, rows))

# %%
fig, ax = plt.subplots(figsize=(7, 3))
ax.plot(noise, curve, "o-", color=plots.BLUE, label="two equal labelers")
ax.axhline(0.38, linestyle=":", color=plots.RED, label="paper: 38 %")
ax.axhline(0.25, linestyle="--", color=plots.BLACK, linewidth=1, label="chance: 25 %")
ax.set(
    xscale="log",
    xlabel="noise T of both labelers (log scale)",
    ylabel="expected agreement",
    ylim=(0, 1),
)
ax.legend()
# %%
assert 0.25 <= curve[-1] < 0.28 and 0.33 < curve[5] < 0.43 and 0.5 < curve[0] < 0.95
assert all(a > b for a, b in zip(curve, curve[1:]))

# %% [markdown]
# *How to read it*: more noise, less agreement, down to one in four on the right. The left end may surprise you. Without any noise the
# agreement is **not** 1: many comparisons have two or three options with exactly the same number of happy words, and a tie must be
# settled by a coin. Two careful people can disagree because the *question* has no answer. More careful labelers would not help;
# better comparisons, or a "cannot tell" key, would.

# %% [markdown]
# ## 10. Why noisy labels still teach
#
# Four labels in ten the same: why would anyone train on that? Because the noise of different labels is independent and the taste is
# shared. Noise averages out; taste adds up. To see it with nothing but counting, ask of every word: **when an option contained this
# word, how often was that option chosen?** By chance, one time in four.


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
# Nobody told the counter what happiness is. The words that win and the words that lose have sorted themselves out of (simulated)
# labels that look hopeless one at a time. Now use the counts as a crude reward model: an option's score is the sum of its words' log
# odds against chance. Is it any good on 1,000 comparisons it has not seen? We compare with what the labeler would choose *without*
# noise, which we can know only because the labeler is simulated.


# %%
def count_model(number):
    """Score texts by the words' log share against chance, learned from the first `number` labels (a little shrunk towards chance)."""
    shown, chosen = count_words(comparisons[:number], recorded_labels[:number])
    weight = {word: math.log((chosen[word] + 5) / (shown[word] + 20) * 4) for word in shown}
    return lambda text: sum(weight.get(word, 0.0) for word in set(labelers.words(text)))


def hits(pick, held_out):
    """Share of comparisons in which `pick` finds an option of the highest utility, where one stands out alone."""
    clear = [
        c
        for c in held_out
        if sorted(map(fair.utility, c.options))[-2] < max(map(fair.utility, c.options))
    ]
    return sum(
        fair.utility(c.options[pick(c)]) == max(map(fair.utility, c.options)) for c in clear
    ) / len(clear)


# %%
numbers = [20, 50, 100, 200, 500, 1000, 2000, 5000]
scores = [(n, count_model(n)) for n in numbers]
found = [
    hits(lambda c, f=f: max(range(4), key=lambda k: f(c.options[k])), held_out) for _, f in scores
]
one_person = hits(fair.choose, held_out)

# %%
fig, ax = plt.subplots(figsize=(7, 3))
ax.plot(numbers, found, "o-", color=plots.BLUE, label="counting words in n labels")
ax.axhline(one_person, linestyle=":", color=plots.RED, label="one labeler, one answer")
ax.axhline(0.25, linestyle="--", color=plots.BLACK, linewidth=1, label="chance")
ax.set(
    xscale="log",
    xlabel="labels counted (log scale)",
    ylabel="finds the happiest option",
    ylim=(0, 1),
)
ax.legend()
# %%
assert found[-1] > one_person + 0.05 and found[-1] > found[0] + 0.1
show.note(
    f"From 5,000 noisy labels the counter finds the happiest option in **{found[-1]:.0%}** of new comparisons; "
    f"the labeler whose answers it counted, in **{one_person:.0%}**. All labels here are simulated."
)

# %% [markdown]
# *How to read it*: to the left the counter knows next to nothing; with more labels it climbs past the dotted line. **The pupil
# overtakes the teacher**, because it has seen thousands of answers and keeps only what they have in common. Your 40 labels stand near
# the left end. That is honest, too: on their own they will not train a good model. Notebook 03 shows how far they go.
#
# There is a catch, and you saw it in section 6. What labels have in common is not only taste but also shared *bias*. Noise averages
# out, bias does not.

# %% [markdown]
# ## 11. The labels of a class (optional, 10 minutes)
#
# In a class everybody labels in a file of their own, and some comparisons go to two people. Let four **simulated** students do that at the
# card's own session. Three choose like the labelers above, each with dice of their own. The gull never reads: it takes the top text, fast.
# And all four forgot to choose a pseudonym.

# %%
place, people = Path(tempfile.mkdtemp()), ["heron", "otter", "wren", "gull"]
given = measures.assign(crowd[: 2 * size.own_labels], people, overlap=2)


def sit(person):
    """One simulated student works through what was given to them, and hands in a file."""
    file, dice = LabelStore(place / f"{person}.db"), random.Random(person)
    file.add(given[person])
    session = Session(file, task.name, "me", given[person], simulated=True, repeat_every=4)
    while session.current is not None:
        choice = dice.choices(range(4), fair.probabilities(session.current.options))[0]
        reads = person != "gull"
        session.answer(
            "choose",
            session.order.index(choice) if reads else 0,
            seconds=dice.uniform(4, 12) if reads else dice.uniform(0.3, 1),
        )
    return handin.hand_in(file, "me", place / person).path


files = [sit(person) for person in people]
together = LabelStore(place / "class.db")

# %% [markdown]
# **Predict**: what would become of four files in which everybody is called "me"?

# %%
try:
    measures.merge(together, files)
except ValueError as problem:
    print(str(problem).replace(f"{place}/", ""))

# %% [markdown]
# The merge refuses, as it would take them for one person who answers everything twice. Here the folders bear the right names, so `rename`
# takes them from there. Merging a second time changes nothing: a student may go on labelling, write the file anew and hand it in again.

# %%
for _ in range(2):
    conflicts = measures.merge(together, files, rename=lambda name, file: Path(file).parent.name)
labels = together.labels(task.name)
assert (
    conflicts == []
    and len(labels) == sum(map(len, given.values()))
    and set(together.labelers()) == set(people)
)
print("raw agreement       ", measures.raw(labels))
print("Krippendorff's alpha", measures.krippendorff(labels))

# %% [markdown]
# **Krippendorff's alpha** is kappa's relative for any number of labelers of whom nobody labelled everything: 0 is luck, 1 unanimity. The
# intervals come from a bootstrap over comparisons, and they are wide. And who is it that pulls it down?

# %%
rows = reports.per_labeler(together, task.name)
pd.DataFrame(rows).set_index("labeler")[
    ["labels", "median_seconds", "position_p", "consistency", "agreement", "agreement_count"]
].round(2)

# %%
plots.labeler_positions(reports.positions(together, task.name))
# %%
plots.labeler_consistency(rows)

# %% [markdown]
# *How to read it*: the gull's bars stand all at the first place, and `median_seconds` says why; a small `position_p` means that even bars would
# give such counts rarely. In the second figure each dot is a share with its 95 % interval, from a handful of repeats and of shared comparisons:
# with so few labels it takes the places and the pace to find the gull, not the agreement. With your own class: [Labels](../docs/labels.md).

# %% [markdown]
# ## Recap
#
# - A label answers a question. Write the question down, with its hard cases, before you collect.
# - Store what was asked, what was chosen, in which order it was shown, by whom, and whether a person or a program chose.
# - Repeats measure noise within one person, overlaps between people; kappa takes out luck.
# - A random order turns position bias into harmless noise. It does nothing against length bias.
# - For independent softmax labelers expected agreement is the mean of $\sum_k p_k q_k$. Ties keep it below 1 even without noise.
# - Independent noise averages out over many labels. Shared bias stays.
#
# | change one knob | and look at |
# |---|---|
# | `bonus` of the lazy labeler, 0 to 3 | the bars of section 5, by place and by own option |
# | the 0.25 of the wordy labeler | `length_bias`, and agreement with the fair one |
# | Ben's `temperature` | measured and expected agreement with Anna |
#
# **Questions.** (1) You have money for 5,000 labels: 5,000 comparisons once, or 1,000 comparisons five times? What does section 10
# suggest for training, and what would you choose for *testing*? (2) Two labelers agree 60 %, each agrees with herself 65 %. Is it worth
# writing a better rubric? (3) A labeler answers in half a second. What in the store would tell you, and what would you do with her
# labels? (4) Your rubric's second hard case: how many of your comparisons did it decide?
#
# **Further reading.** Ziegler et al. (2019), *Fine-Tuning Language Models from Human Preferences*, arXiv 1909.08593: the section on
# human labeling, and "Ambiguous tasks make labeling hard". Cohen (1960), *A coefficient of agreement for nominal scales*. Stiennon et
# al. (2020), arXiv 2009.01325, on what closer contact with labelers brings.
#
# **Next**: [03, a reward model from your labels](03_reward_model.ipynb).
