# %% [markdown]
# # 09 · Summaries that copy
#
# Somebody paid for sixty thousand labels on summaries. The instruction was short: the summary must be accurate. A model was tuned on the labels,
# and people preferred it, even to what humans had written. Then the authors read what it wrote. It copied: whole sentences, word for word,
# out of the text that it was to summarize. Nobody had asked for that, and nobody who labelled seems to have had a taste for copies.
#
# Where did the copying come from? This notebook follows it from the instruction to the policy. Everything is small and simulated, so that each step
# can be taken apart; and before any simulated labeler says a word, you label twenty summaries yourself.
#
# **After this notebook you can**
#
# - explain how an instruction, honest labelers and limited effort together teach a model to copy;
# - compute what a labeler believes of a summary whose facts cost effort to check;
# - measure copying: coverage, density, longest stretch, novel n-grams, and say which of them tells copies from retellings;
# - tell from twenty clicks which of two labelers somebody resembles;
# - change an instruction and foresee what the policy makes of it.
#
# | active | machine (one laptop core) | you need |
# |---|---|---|
# | about 60 minutes | about 4 minutes | notebooks 02, 03 and 05 |

# %%
import json
import math
import statistics
from collections import Counter
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import display

from rlhf_helpers import (
    copying,
    evaluation,
    labelers,
    models,
    ppo,
    presets,
    reward,
    sampling,
    summary_labelers,
    tasks,
)
from rlhf_helpers.course import checks, machine, plots, show, town
from rlhf_helpers.course.profile import RECORDED, profile
from rlhf_helpers.labels import cards
from rlhf_helpers.runtime import seeds
from rlhf_helpers.runtime.runs import Run, default_device
from rlhf_helpers.summary_labelers import ACCURACY, INSTRUCTIONS, OURSELVES, SummaryLabeler

size, device, task = profile(), default_device(), tasks.TLDR
quick = size.name == "quick"
# %matplotlib inline
show.setup()

# %%
plots.pipeline("label+ppo+judge");
# %% [markdown]
# ## 1. What was asked
#
# These are the paper's own numbers, for posts from Reddit (TL;DR) and for news (CNN/Daily Mail). *Novel* is the share of sentences that do not stand
# in the source word for word; *accurate* is how many of thirty summaries the authors themselves found correct.

# %%
paper = pd.DataFrame(
    {
        "written by": ["people (reference)", "the base model (zero-shot)", "tuned on labels",
                       "supervised", "supervised, then tuned"],
        "novel, posts %": [98.9, 96.3, 29.0, 96.9, 94.0],
        "accurate of 30, posts": ["", 6, 26, 8, 11],
        "novel, news %": [96.7, 91.7, 2.5, 83.6, 69.6],
        "accurate of 30, news": ["", 6, 29, 19, 20],
    }
)  # fmt: skip
paper

# %% [markdown]
# Look at the third row: by far the least novel, and by far the most accurate. The paper offers a reading: labelers had been told to care for
# accuracy, checking is hard work, and *a copy is easy to check*.
#
# We cannot ask the paper's labelers any more. But we can ask whether that reading is *enough*: build labelers who work in just this way, and see
# whether copying follows. Our town is the place for it, because there truth is known. The posts of Saltmere ask for advice; each tells four to six
# facts (who, a name, what, when, where, how much, what is wanted) that also stand in columns, and a reader of the town's grammar finds every fact
# that a summary states, in whatever words. The base model has seen posts with summaries, and writes them after `TL;DR:` without any tuning:

# %%
base = models.Policy.load().to(device)
tokenizer = base.tokenizer
facts = town.facts("posts")
count = 320 if not quick else 64
pool = tasks.queries(task, tokenizer, count, seed=1).to(device)
asked = labelers.collect(base, task, pool, seed=1)  # four summaries of each post


def stated(source, summary):
    found = facts(source, summary)
    return ", ".join(f"{f.name} {'true' if f.true else 'FALSE'}" for f in found) or "nothing"


# %%
def telling(c):  # one option copies a whole sentence, another has a fact wrong
    copies = [copying.measure(c.query, o).copied_sentences == 1 for o in c.options]
    wrong = [any(not f.true for f in facts(c.query, o)) for o in c.options]
    different = len(set(c.options)) == len(c.options)
    return any(copies) and any(wrong) and different and "\n" not in "".join(c.options)


example = next((c for c in asked if telling(c)), asked[0])
show.wrapped(example.query)
pd.DataFrame(
    {"summary": [o.strip() for o in example.options],
     "states": [stated(example.query, o) for o in example.options]}
)  # fmt: skip

# %% [markdown]
# (We looked for a case in which one summary copies a sentence and another has a fact wrong.) A summary ends where the model ended its document, with a
# full stop or a question mark. As in the paper a fixed number of tokens is drawn, so one that had not ended by then breaks off: judge what is there.
#
# ### Label twenty
#
# Now you. The question on the card is the one that the paper's labelers had: accuracy, nothing else. **1 to 4** chooses, **t** cannot tell, **u**
# takes back. Do it at the speed at which you would do two hundred. Section 6 compares your clicks with two simulated labelers, so do not read on
# before.

# %%
twenty = [c for c in asked if len(set(c.options)) == len(c.options)][:20]
card = cards.label(
    twenty, task, cards.me(), repeat_every=0,
    question="Which summary is accurate?",
    rubric="An accurate summary says only what the text says. Nothing else counts.",
)  # fmt: skip
card

# %% [markdown]
# ## 2. How to check a fact when time is short
#
# Think of what you just did. "On Monday my cousin broke the lid of my teapot": if these very words stand in the post, your eye finds them in one
# go, and you are done. "A relative smashed some crockery": now you have to look for it, translate, and decide; with two hundred more to go, you
# sometimes decide wrongly.
#
# That is the whole mechanism of our simulated labelers. For each fact that a summary states:
#
# - if its words lie inside a **copied stretch** (seven words or more in a row that also stand in the source), it is believed at sight;
# - otherwise it is **looked up**. The labeler's effort is shared by all facts that need it, and with effort $a$ for each the answer is wrong at the
#   rate $q = (1/2)^{1+a}$: no better than a coin without effort, half as often wrong with every unit of it.
#
# Nowhere is there a term for copying. The labeler is no fool either: knowing that its answers may be wrong, it weighs them against what it
# knows of such summaries. Let $p$ be its **trust**, the share of facts that are true before anybody looks.
#
# ### Exercise 1: belief after a look
# Difficulty ●●○○○ · importance ●●●●○ · 8 minutes
#
# Return the probability that a fact is true after a look that says *true* (or *false*), and that is wrong at the rate `error` either way.
# Draw 100 facts on paper first: how many are true and found true, how many false and found true?

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Bayes' rule. Of all ways to get this answer, which share comes from a true fact? Found true: $p\,(1 - q)$ against $(1 - p)\,q$.
# </details>


# %% tags=["exercise"]
def believed(found_true, trust, error):  # bool, share, rate -> probability
    return ...


# %% tags=["solution"]
def believed(found_true, trust, error):  # bool, share, rate -> probability
    true, false = (1 - error, error) if found_true else (error, 1 - error)
    return trust * true / (trust * true + (1 - trust) * false)


# %% tags=["check"]
solved = checks.nb09_believed(believed)

# %% tags=["catch-up"]
if not solved:
    believed = summary_labelers.believed

# %% [markdown]
# ### Exercise 2: belief in a whole summary
# Difficulty ●●●○○ · importance ●●●●● · 10 minutes
#
# A summary has `copied` facts in copied stretches, and others that were looked up with these `answers` (a list of True and False). How likely is
# it, for the labeler, that *all* of it is true? One special case: a summary that states no fact at all is accurate about nothing and gets 0.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Copied facts are surely true, so they change nothing in a product. `error = 0.5 ** (1 + effort / n)` with n facts to look up.
# </details>


# %% tags=["exercise"]
def impression(copied, answers, trust, effort):  # int, list of bool, share, effort -> share
    return ...


# %% tags=["solution"]
def impression(copied, answers, trust, effort):  # int, list of bool, share, effort -> share
    if copied + len(answers) == 0:
        return 0.0
    error = 0.5 ** (1 + effort / max(1, len(answers)))
    return math.prod(believed(found, trust, error) for found in answers)


# %% tags=["check"]
solved = checks.nb09_impression(impression)

# %% tags=["catch-up"]
if not solved:

    def impression(copied, answers, trust, effort):
        error = 0.5 ** (1 + effort / max(1, len(answers)))
        beliefs = [believed(found, trust, error) for found in answers]
        return math.prod(beliefs) if copied or answers else 0.0


# %% [markdown]
# Take the kindest case: a retelling whose facts are all true *and* are all found true. What does the labeler believe of it, beside a copy?
# **Sketch the curves first**: three facts to look up, a trust of 0.85, effort from none to sixteen.

# %%
efforts = [0, 1, 2, 4, 8, 16]
kind = {n: [impression(0, [True] * n, ACCURACY.trust, e) for e in efforts] for n in (1, 3, 5)}
_, ax = plt.subplots(figsize=(6.6, 3))
ax.axhline(1, color=plots.BLACK, label="a copy")
for (n, line), style, colour in zip(kind.items(), ("-", "--", ":"), plots.COLOURS):
    ax.plot(efforts, line, style, marker="o", color=colour, label=f"retold, facts: {n}")
ax.set(xlabel="effort for a summary", ylabel="belief that all is true", ylim=(0, 1.05))
ax.set_title("True, retold, and doubted")
ax.legend(loc="lower right");
# %% [markdown]
# *How to read it:* the line at the top is a copied sentence, believed whatever the effort. Below it are true retellings with one, three and five
# facts, each found true. The more a summary tells in its own words, the more it is doubted, and only effort closes the gap.
#
# So an honest labeler in a hurry prefers a copy to an equally true retelling. Here are our labelers' settings. `ACCURACY` stands for
# the people of the paper; `OURSELVES` for its authors, who look everything up, and who want a summary in its own words, and a brief one.
# In the table, `effort` and `trust` you know; `at_sight` says whether a copied stretch is believed without a look; `coverage` (not the measure of
# section 4) is paid for each fact told, `brevity` taken off for each word, `own_words` paid for the share of words outside copied stretches;
# `temperature` is the noise of the choice.

# %%
settings = pd.DataFrame({"ACCURACY": vars(ACCURACY), "OURSELVES": vars(OURSELVES)}).astype(str)
settings

# %%
judges = {
    "accuracy": SummaryLabeler("accuracy", facts, ACCURACY, seed=1_000),
    "ourselves": SummaryLabeler("ourselves", facts, OURSELVES, seed=1_000),
}
seen = {name: [judge.impression(example.query, o) for o in example.options]
        for name, judge in judges.items()}  # fmt: skip
pd.DataFrame(
    {"summary": [o.strip() for o in example.options]}
    | {f"true? {name}": [round(x.accuracy, 2) for x in found] for name, found in seen.items()}
    | {"own words": [round(x.own_words, 2) for x in seen["accuracy"]]}
)

# %% [markdown]
# A copied sentence is believed with 1.00, unseen. Ourselves, who look everything up, give 0 to whatever says something false. In a hurry even that
# often gets almost a half: with one fact to look up, a look that says *false* errs one time in eight, and so it does not outweigh a trust of
# 0.85. (Two wordings of one mishap count as the same: in our town *made soup of my cucumber* is *ate my cucumber*, and *left it on a
# stranger's doorstep* is *took it to the wrong house*.)
#
# How often do two of them choose the same of four? A coin would in one case of four.

# %%
agree = {
    "two in a hurry": [ACCURACY, ACCURACY], "two of ourselves": [OURSELVES, OURSELVES],
    "one of each": [ACCURACY, OURSELVES],
}  # fmt: skip
shares = {}
for name, both in agree.items():
    said = [SummaryLabeler(f"{name} {i}", facts, x).label(asked) for i, x in enumerate(both)]
    shares[name] = labelers.agreement(*said)
chosen_alike = pd.DataFrame({"here": shares})
chosen_alike["in the paper"] = ["not told", "about 0.60", "0.46 (posts)"]
chosen_alike.round(2)

# %% [markdown]
# The noise was set so that two of ourselves agree about as often as two of the authors did. Two in a hurry agree less often, because each makes
# mistakes of their own in looking things up; the paper does not say how often its labelers agreed with each other. And ours are caricatures in one
# respect: two people of the paper, a labeler and an author, had more in common than one of each kind has here, who choose alike less often than that
# coin. Expect every quarrel below to be louder than a real one.
#
# ## 3. What wins, before anything is trained
#
# A policy tuned on labels drifts to what wins. So look at what wins already, among four summaries of the *base* model. For comparison: all four,
# which is what a coin would choose. And a dial: the same labeler with more and more effort. **Write down**: how much effort until copies have no
# advantage?


# %%
def winners(instructions, name="accuracy"):
    chosen = SummaryLabeler(name, facts, instructions).label(asked)
    return [(c.query, c.options[x.choice]) for c, x in zip(asked, chosen)]


def accurate(source, summary):
    found = facts(source, summary)
    return bool(found) and all(f.true for f in found)


def share_accurate(pairs):
    return statistics.mean(accurate(*pair) for pair in pairs)


def mean_longest(pairs):
    return statistics.mean(copying.measure(*pair).longest for pair in pairs if pair[1].strip())


every = [(c.query, o) for c in asked for o in c.options]
dial = [winners(replace(ACCURACY, effort=e)) for e in efforts]
own = winners(OURSELVES, "ourselves")

# %%
_, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), sharex=True)
for ax, measure in ((left, mean_longest), (right, share_accurate)):
    ax.plot(efforts, [measure(x) for x in dial], "o-", color=plots.BLUE, label="accuracy only")
    ax.axhline(measure(own), linestyle="--", color=plots.RED, label="ourselves")
    ax.axhline(measure(every), linestyle=":", color=plots.GREY, label="all four (a coin)")
    ax.set(xlabel="effort for a summary")
left.set(title="Longest copied stretch", ylabel="words")
right.set(title="States only true facts", ylabel="share of winners")
right.legend();
# %% [markdown]
# *How to read it:* each dot is the labeler who was asked for accuracy, with more effort towards the right; dashed are ourselves, dotted what a coin
# would choose. On the left, how long the longest stretch is that the chosen summary shares with its source; on the right, how many of the
# chosen summaries state a fact and only true ones.

# %%
longest = {"all four": mean_longest(every), "no effort": mean_longest(dial[0]),
           "ours": mean_longest(dial[2]), "ourselves": mean_longest(own)}  # fmt: skip
if not quick:
    assert longest["no effort"] > longest["ours"] > longest["all four"] > longest["ourselves"]
    assert share_accurate(dial[2]) > share_accurate(every)
show.note(
    f"The labeler in a hurry chooses summaries whose longest copied stretch has "
    f"**{longest['ours']:.1f}** words; a coin chooses {longest['all four']:.1f}, ourselves "
    f"{longest['ourselves']:.1f}. **{share_accurate(dial[2]):.0%}** of its choices are "
    f"accurate, against {share_accurate(every):.0%} of all summaries. With an effort of "
    f"{efforts[-1]} the stretch still has {mean_longest(dial[-1]):.1f} words."
)

# %% [markdown]
# At no effort on the dial, then: the curve comes near the coin's line and stays above it. And two things happened at once, and for one reason: the
# labeler gets more accurate summaries than a coin, *and* longer copies. Nobody lied, nobody was lazy beyond measure, and the question was a good one.
# Yet the labels now contain something that the instruction does not. (A part of it remains with the greatest effort: this base model's copies are
# true and its retellings not always, so whoever wants the truth gets some copies with it.)
#
# ## 4. How much is copied?
#
# "It copies" needs a number. Cut a summary into the stretches that it shares with its source, from the left, always the longest possible. With
# their lengths (Grusky et al. 2018) define
#
# - **coverage**: the share of its words that stand in a shared stretch;
# - **density**: the mean length of the stretch that a word of it stands in;
# - **longest**: the longest stretch; and **novel n-grams**: those that the source does not have.

# %%
for option in example.options[:2]:
    own_words = copying.words(option)
    found = copying.fragments(copying.words(example.query), own_words)
    show.wrapped(" | ".join(
        " ".join(own_words[f.summary_at : f.summary_at + f.length]) for f in found
    ))  # fmt: skip
    print("lengths", [f.length for f in found], "of", len(own_words), "words\n")

# %% [markdown]
# ### Exercise 3: density
# Difficulty ●●○○○ · importance ●●●●○ · 6 minutes
#
# From the lengths of the stretches and the number of words, the mean over *words*: a word in a stretch of ten says ten, a word of the summary's own
# says zero.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# A stretch of n words has n words, and each of them says n.
# </details>


# %% tags=["exercise"]
def density(lengths, count):  # list of int, words of the summary -> number
    return ...


# %% tags=["solution"]
def density(lengths, count):  # list of int, words of the summary -> number
    return sum(n * n for n in lengths) / count


# %% tags=["check"]
solved = checks.nb09_density(density)

# %% tags=["catch-up"]
if not solved:

    def density(lengths, count):
        return sum(n**2 for n in lengths) / count


# %% [markdown]
# ### Exercise 4: novel n-grams
# Difficulty ●●○○○ · importance ●●●○○ · 6 minutes
#
# Both texts are lists of words. Return the share of the summary's runs of n words that the source does not have.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `tuple(summary[i : i + n])` for i from 0 to `len(summary) - n`. A set of the source's runs makes the search quick; the summary's may come twice.
# </details>


# %% tags=["exercise"]
def novel(source, summary, n):  # two lists of words, length of a run -> share
    return ...


# %% tags=["solution"]
def novel(source, summary, n):  # two lists of words, length of a run -> share
    theirs = {tuple(source[i : i + n]) for i in range(len(source) - n + 1)}
    own = [tuple(summary[i : i + n]) for i in range(len(summary) - n + 1)]
    return sum(run not in theirs for run in own) / len(own)


# %% tags=["check"]
solved = checks.nb09_novel(novel)

# %% tags=["catch-up"]
if not solved:
    novel = copying.novelty

# %%
source, summary = copying.words(example.query), copying.words(example.options[0])
lengths = [f.length for f in copying.fragments(source, summary)]
theirs = copying.measure(example.query, example.options[0])
checks.nb04_equal("density", torch.tensor(density(lengths, len(summary))), theirs.density)
checks.nb04_equal("novel pairs", torch.tensor(novel(source, summary, 2)), theirs.novel_2)

# %% [markdown]
# Which of the measures tells a copy from a retelling? Take posts that nobody was trained on (the validation split), and write under each the
# **reference**, the **lead** (its first sentence), a **copied sentence** drawn blindly, and what the base model writes. Guess first which column
# hardly moves.

# %%
tests = 128 if not quick else 24
test = tasks.queries(task, tokenizer, tests, split="validation", seed=0).to(device)
sources = tasks.query_texts(test, tokenizer)
reference_of = {r["text"]: r["summary"] for r in tasks.bundled("posts", "validation")}


def written(policy, name):
    dice = seeds.generator(0, f"summaries of {name}", 0, device)
    rollout = sampling.sample(policy, test, task.response_length, task.temperature, dice)
    return rollout, tasks.texts(task, rollout.responses, tokenizer)


def sentence(source, i):
    parts = copying.SENTENCE.split(source)
    return parts[i % len(parts)]


texts = {
    "reference": [reference_of[source] for source in sources],
    "lead": [sentence(source, 0) for source in sources],
    "a sentence": [sentence(source, 7 * i + 1) for i, source in enumerate(sources)],
    "zero-shot": written(base, "zero-shot")[1],
}


# %%
def takes_opening(source, summary):  # its first seven words, in a row
    return copying.contains(copying.words(summary), copying.words(sentence(source, 0))[:7])


def measured(summaries):
    pairs = [(a, b) for a, b in zip(sources, summaries) if copying.words(b)]
    found = copying.average(*zip(*pairs))
    row = {name: found[name].value for name in ("coverage", "density", "longest", "novel_2")}
    true = [{f.name for f in facts(*pair) if f.true} for pair in pairs]
    return row | {
        "whole sentences": found["copied_sentences"].value,
        "takes the opening": statistics.mean(takes_opening(*pair) for pair in pairs),
        "accurate": share_accurate(pairs),
        "facts": statistics.mean(map(len, true)), "words": found["words"].value,
    }  # fmt: skip


before = pd.DataFrame({name: measured(found) for name, found in texts.items()}).T
before.round(2)

# %% [markdown]
# Of the measures of copying, coverage moves least: a good retelling uses the names, places and things of its source, so most of its words stand
# there. **Density and the longest stretch** are the ones to look at, with novel pairs of words beside them. And the blindly drawn sentence is a
# warning about *accurate*: a copy is true, whatever it is about, so long as it states anything. Accuracy says nothing about whether a summary was
# worth reading. The column `facts` says a little more. (About a quarter of our references are themselves a copied sentence, as `whole sentences`
# says; the base model has learned it from such.)
#
# The usual measure of that in print is ROUGE: shared words (1), shared pairs (2) and the longest common subsequence (L) with one reference.

# %%
def rouge(summaries):
    from torchmetrics.functional.text import rouge_score  # slow to import

    kinds = ("rouge1", "rouge2", "rougeL")
    found = rouge_score(list(summaries), texts["reference"], rouge_keys=kinds)
    return {name: found[f"{name}_fmeasure"].item() for name in kinds}


pd.DataFrame({name: rouge(found) for name, found in texts.items()}).T.round(2)

# %% [markdown]
# One reference is one of many good summaries, and ROUGE pays for its words, not for the truth. A summary may name the wrong day and lose next to
# nothing.
#
# ## 5. Tuned on them
#
# Tune a policy on what these labelers prefer. The long way leads over labels: they choose one of four for some thousands of posts, a reward model is
# fitted, PPO asks it. That takes hours; section 7 shows it where it has been recorded. Here there is time for a few hundred labels, and what a reward
# model does not learn from them would be mixed up with what labelers want.
#
# So here we take the short way that the paper took in its mock task (notebook 07, section 9). The choice model of notebook 03 says that labelers
# choose by the softmax of a reward. Ours do so by construction: softmax of *utility* over temperature. Hence a reward model with endless labels would
# end near the labeler's utility, averaged over the luck of the looks, up to scale and zero, and we pay PPO that utility at once, shifted and scaled
# as in notebook 03: mean 0 and deviation 1 over the base model's summaries.

# %%
show.source(SummaryLabeler.utility)

# %% [markdown]
# Belief first; the rest is small change: 0.05 for each fact told, 0.005 for each word saved. **Write down first**, as numbers: the longest stretch and
# the share of accurate summaries after tuning. The table of section 4 has the values before.

# %%
my_forecast = {"longest": None, "accurate": None}

# %%
episodes = 1_024 if not quick else 64
batch = min(64, episodes // 2)
config = replace(presets.KEPT, episodes=episodes, batch=batch, kl_coef=0.15, lr=2e-4)
prompts = tasks.queries(task, tokenizer, max(64, episodes // 4), seed=100).to(device)


def tuned_on(instruction):
    """Tune the base model on the utility of a labeler with this instruction."""
    who = SummaryLabeler(instruction, facts, INSTRUCTIONS[instruction])
    usual = [who.utility(*pair) for pair in every]
    middle, spread = statistics.mean(usual), statistics.stdev(usual)

    def pay(posts, summaries):
        return [(who.utility(a, b) - middle) / spread for a, b in zip(posts, summaries)]

    policy, score = models.Policy.load().to(device), reward.from_texts(pay, task, tokenizer)
    lines = ppo.tune(policy, score, prompts, task, config, Run(seed=0, quiet=True))
    return policy, lines


# %% [markdown]
# | machine | the next cell takes |
# |---|---|
# | one laptop core | about 1 minute |
# | `RLHF_PROFILE=quick` | seconds, and nothing is learned |

# %% tags=["slow"]
machine.announce("tuned on labelers in a hurry")
policy, lines = tuned_on("accuracy")

# %%
rollout, texts["tuned"] = written(policy, "tuned")
with torch.no_grad():
    log_rho = sampling.replay(base, rollout, task.temperature, 64).logprobs
nats = (rollout.logprobs - log_rho).sum(-1).mean().item()
after = pd.DataFrame({name: measured(found) for name, found in texts.items()}).T
old, new = after.loc["zero-shot"], after.loc["tuned"]
show.note(
    f"The tuned policy is **{nats:.1f} nats** from the base model. Its longest copied stretch "
    f"has {new['longest']:.1f} words (before: {old['longest']:.1f}), "
    f"**{new['whole sentences']:.0%}** of its sentences are copied whole "
    f"({old['whole sentences']:.0%}), and {new['accurate']:.0%} of its summaries are accurate "
    f"({old['accurate']:.0%})."
)
pd.DataFrame({"your forecast": my_forecast, "it came": new[list(my_forecast)].round(2)})

# %%
if not quick:
    assert new["longest"] > old["longest"] + 1 and new["accurate"] > old["accurate"]
after.round(2)

# %%
for source in sources[:3]:
    show.wrapped(source)
    print()
pd.DataFrame({name: texts[name][:3] for name in ("zero-shot", "tuned")})

# %% [markdown]
# That is the paper's third row in small, though from another start: a quarter of our references are copied sentences, in the paper 1 %. No line in
# the code pays for copies; there is one that *believes* them without a look (`at_sight`). Where in the source do the summaries come from?

# %%
_, ax = plt.subplots(figsize=(6.6, 3))
bins = [i / 10 for i in range(11)]
for (name, style), colour in zip({"zero-shot": "-", "tuned": "--"}.items(), plots.COLOURS):
    at = [copying.measure(a, b).copied_from for a, b in zip(sources, texts[name]) if b.strip()]
    at = [x for x in at if not math.isnan(x)]
    ax.hist(at, bins, histtype="step", linestyle=style, linewidth=2, color=colour, label=name)
ax.set(xlabel="where the longest stretch begins (0: first word, 1: last)", ylabel="summaries")
ax.set_title("Copied from where")
ax.legend();
# %% [markdown]
# *How to read it:* left are summaries whose longest shared stretch begins at the start of the post, right those that take it from the end; solid
# before tuning, dashed after.
#
# More copies means more *openings*, since many posts come to the point at once (the column *takes the opening* in the table). The paper looked at
# those that do not. Its tuned model copied the beginning of 28 % of all posts and 78 % of all news articles, but of those that begin with an
# empty preamble ("hi", "okay") only 0.2 % and 1.4 %: the copier had become a clever one, which skips what states nothing. That half of the finding
# has no room to appear here. No reference of our town opens with a preamble, so the base model has never learned to, and the tuned one
# has nothing to unlearn.

# %% [markdown]
# ## 6. Ourselves, and you
#
# The authors of the paper read the copies and were not content; the labelers they paid were. Two judges, one set of summaries:


# %%
def wins(name, judge):
    """How often a judge prefers these summaries to the zero-shot ones."""
    pairs, first = evaluation.paired(task, sources, texts[name], texts["zero-shot"])
    return evaluation.judge(pairs, first, judges[judge].label(pairs))


contest = {
    judge: {name: str(wins(name, judge)) for name in ("reference", "lead", "tuned")}
    for judge in judges
}
pd.DataFrame(contest)

# %%
if not quick:
    assert wins("tuned", "accuracy").rate > wins("tuned", "ourselves").rate

# %% [markdown]
# Each cell: wins against the zero-shot summaries of the same posts, with a 95 % interval. Look at the first row. Every reference is true, and some of
# the zero-shot summaries are not; yet the labelers in a hurry choose the reference about as often as a coin would: told in other words, its truth
# does not show. Then at the last row: one column says that the tuning helped, the other says nothing of the kind. Which of the two columns would you
# have printed in the abstract? Neither is wrong. They answer different questions, and only one of them was put to the people who labelled.
#
# And you? Your twenty clicks have a probability under each of the two labelers. The logarithm of their ratio is the evidence for one against the
# other.
#
# ### Exercise 5: whom do you resemble?
# Difficulty ●●○○○ · importance ●●●●○ · 8 minutes
#
# `one` and `other` hold, for each comparison, the probabilities that two labelers give to its options; `choices` is what was clicked. Return the
# log-likelihood under `one` minus that under `other`.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The clicks are independent: probabilities are multiplied, so logarithms are added.
# </details>


# %% tags=["exercise"]
def evidence(one, other, choices):  # two lists of K probabilities each, clicks -> nats
    return ...


# %% tags=["solution"]
def evidence(one, other, choices):  # two lists of K probabilities each, clicks -> nats
    return sum(math.log(a[k] / b[k]) for a, b, k in zip(one, other, choices))


# %% tags=["check"]
solved = checks.nb09_evidence(evidence)

# %% tags=["catch-up"]
if not solved:

    def evidence(one, other, choices):
        rows = zip(one, other, choices)
        return math.fsum(math.log(a[k]) - math.log(b[k]) for a, b, k in rows)


# %%
def with_slips(row):  # one click in ten hits any option
    return [0.9 * p + 0.1 / len(row) for p in row]


by, clicks = "you", card.labels()
if not clicks:
    stand_in = SummaryLabeler("stand-in", facts, OURSELVES, seed=7)
    by, clicks = "a SIMULATED stand-in (of the kind of ourselves)", stand_in.label(twenty)
choice = {label.comparison_id: label.choice for label in clicks}
answered = [c for c in twenty if c.id in choice]
hurried, careful = (
    [with_slips(judges[name].probabilities(c)) for c in answered] for name in judges
)
found = evidence(careful, hurried, [choice[c.id] for c in answered])
print(f"{len(answered)} clicks by {by}")

# %% [markdown]
# We let both labelers slip now and then. Without that, a single click that one of them would never make decides everything, whatever the other
# nineteen say.
#
# How much *could* so many clicks say? If they came from ourselves, each would be worth on average the KL divergence between the two labelers'
# choices; if from the labeler in a hurry, the same the other way round.


# %%
def expected(one, other):
    """Mean and standard deviation of the evidence for `one`, if the clicks are its own."""
    mean = variance = 0.0
    for a, b in zip(one, other):
        nats = [math.log(p / q) for p, q in zip(a, b)]
        each = sum(p * x for p, x in zip(a, nats))
        mean, variance = mean + each, variance + sum(p * x * x for p, x in zip(a, nats)) - each**2
    return mean, math.sqrt(variance)


ours, ours_spread = expected(careful, hurried)
theirs, theirs_spread = expected(hurried, careful)
show.note(
    f"Evidence for *ourselves* against *accuracy in a hurry*: **{found:+.1f} nats**, by {by}. "
    f"From one of ourselves one would expect {ours:+.1f} (standard deviation {ours_spread:.1f}), "
    f"from a labeler in a hurry {-theirs:+.1f} ({theirs_spread:.1f})."
)

# %%
rows = [
    {"clicked": (text := c.options[choice[c.id]]).strip(),
     "own words": judges["ourselves"].impression(c.query, text).own_words,
     "accurate": accurate(c.query, text)} for c in answered
]  # fmt: skip
mine = pd.DataFrame(rows)
mine.head(8).round(2)

# %% [markdown]
# Near zero means that you are like neither, or like both by turns. One set of twenty may lie far from these means, even if a perfect member of either
# kind has clicked: a single click can count for more than three nats (0.925 against 0.025). Beyond a few nats in either direction, ask
# yourself: did you *check*? Whoever is neither labeler (you may look harder than the one and still not mind copies) will find evidence for the one
# that is less wrong.
#
# ## 7. At full length
#
# The experiment at its full budget: more references and labels, thousands of episodes, three seeds, with a supervised model (trained on the
# references) as a second start. What it claims, and which words an answer may have, is written down before it runs. **This copy of the course may
# not contain the record. If the next line says so, go on with section 8: nothing there depends on it.**

# %%
path = RECORDED / "copying_tldr.json"
record = json.loads(path.read_text()) if path.exists() else None
columns = ("longest", "density", "novel_2", "copied_sentences", "copies_preamble", "accurate",
           "rougeL", "words", "wins_accuracy", "wins_ourselves")  # fmt: skip


def value(cell):
    return cell[0] if isinstance(cell, list) else cell


def show_record():
    show.note(f"*{record['question']}* Every label is simulated.")
    full = [{"who": r["who"]} | {k: value(r[k]) for k in columns} for r in record["rows"]]
    display(pd.DataFrame(full).groupby("who", sort=False).mean().round(2))
    keys = ("measure", "who", "than", "expected", "differences", "verdict")
    display(pd.DataFrame([{k: v[k] for k in keys} for v in record["verdicts"]]))
    show.note(
        "The verdicts compare two rows of one measure, seed by seed: *more* or *less* if the "
        "whole 95 % interval over the seeds lies on one side of zero, *no difference seen* if it "
        "contains zero and lies within a margin fixed beforehand, *inconclusive* otherwise. Hold "
        "the column `expected` against the last one. A claim that failed stays in the table."
    )


if record is None:
    show.note(f"**Not recorded here**: `{path.name}` is missing. Go on with section 8.")
else:
    show_record()

# %% [markdown]
# ## 8. Change the question
#
# Labels do not say what people like. They say what people chose under *this* instruction, on *this* card, at *this* price of effort. All three can
# be changed without changing the people:
#
# | instruction | what is different |
# |---|---|
# | `accuracy` | the labelers of section 5 |
# | `own-words` | the same people, also asked for the summary's own words |
# | `highlighted` | the same question; the card marks where in the source each fact stands, so looking up is cheap |
# | `own-words-highlighted` | both |
# | `ourselves` | the authors of section 2, for comparison |
#
# First again what wins among the base model's summaries, under each of them:

# %%
won = {"all four (a coin)": every}
won |= {name: winners(asks, name) for name, asks in INSTRUCTIONS.items()}
pd.DataFrame(
    {"longest": {name: mean_longest(x) for name, x in won.items()},
     "accurate": {name: share_accurate(x) for name, x in won.items()}}
).round(2)  # fmt: skip

# %% [markdown]
# Look at `own-words` beside its highlighted twin: somebody who wants own words and cannot check takes a false retelling more easily. And look at
# `highlighted` alone: the question is the old one, only looking up is cheap (effort 16 in place of 2), and the longest stretch of the winners comes
# most of the way down to the coin's. (This is the last labeler of the dial in section 3, with other luck in its looks.) **Predict two rows**, for a
# policy tuned on `own-words` and for one tuned on `own-words-highlighted`: how long is its longest stretch, how many of its summaries are accurate?
# Then run.

# %%
changed = ("own-words", "own-words-highlighted")  # keys of INSTRUCTIONS

# %% [markdown]
# | machine | the next cell takes |
# |---|---|
# | one laptop core | about 2 minutes |
# | `RLHF_PROFILE=quick` | seconds, and nothing is learned |

# %% tags=["slow"]
machine.announce("tuned on other instructions")
for name in changed:
    texts[name] = written(tuned_on(name)[0], name)[1]

# %%
rows = ("zero-shot", "tuned", *changed)
final = pd.DataFrame({name: measured(texts[name]) for name in rows}).T
for judge in judges:
    final[f"wins, {judge}"] = [wins(name, judge).rate for name in rows]
final.round(2)

# %%
if not quick:
    assert all(final.loc[name, "longest"] < new["longest"] - 1 for name in changed)


def stretches(i):  # the longest copied stretch of each policy's summary of post i
    pairs = ((sources[i], texts[name][i]) for name in ("tuned", *changed))
    return [copying.measure(*pair).longest if pair[1].strip() else 0 for pair in pairs]


means = final.loc[["tuned", *changed], "longest"]
usual = sorted(range(tests), key=lambda i: sum(abs(means - stretches(i))))[:5]
pd.DataFrame(
    [[f"({n}) {texts[name][i].strip()}" for n, name in zip(stretches(i), means.index)]
     for i in usual], columns=means.index,
)  # fmt: skip

# %%
for name in ("zero-shot", "tuned", *changed):
    openings = Counter(" ".join(text.split()[:3]) for text in texts[name])
    ((most, times),) = openings.most_common(1)
    print(f"{name}: {times} of {tests} summaries begin {most!r}")

# %% [markdown]
# (In brackets, the words of the longest copied stretch. The five posts are those whose stretches come nearest to the means, so that they show each
# policy as it usually is.) Own words were asked for, and came: the longest stretch is shorter than the base model's, and no fewer summaries are
# accurate than before. Between the last two rows of the table above be careful: with one training each and 128 posts, even seven points of accuracy
# may be luck. Both tell fewer facts than the base model.
#
# And read how they begin. Each of the two has an opening in its own words that is never false (*How do I*, *I need advice*). It pays every time, so
# it comes back: three summaries in ten begin with it, where the base model's commonest opening has one in thirteen. Nobody asked for variety either.
#
# The same base model, the same posts, the same number of answers, the same people. What differs is a sentence in the
# instructions, and a coloured mark on the card. **Instructions are part of the reward**, and so is the interface: whatever makes one kind of answer
# easier to approve will be found, and optimised.
#
# It follows what to do before paying for labels. Label some yourself, under the instruction you mean to give. Let the authors and the labelers
# judge the same twenty, and look where they part. Make checking cheap, because effort will be saved in any case. And measure in the policy whatever
# you would be ashamed to find there: nobody saw the copying in the score.
#
# | change one knob | and look at |
# |---|---|
# | `trust` of ACCURACY, 0.6 or 0.95 | the figure of section 3: who copies more, the trusting or the suspicious? |
# | `summary_labelers.STRETCH`, to 4 or 12 | what a labeler takes for a copy, and what wins |
# | `brevity`, tenfold | words, and with them facts, of what wins |
# | `kl_coef`, to 0.05 or 0.5 | longest stretch against nats |
# | `changed = ("highlighted",)` | does cheap checking alone end the copying? |
#
# ## Recap
#
# - The copying was in the labels before any model was trained: a copy is verified at a glance, a retelling costs effort, and doubt counts against it.
# - No labeler wanted copies. An instruction (accuracy only) and a price (effort, which copies are spared) are enough.
# - Coverage hardly tells a copy from a retelling; density, the longest stretch and novel n-grams do.
# - A copy is accurate. Accuracy, ROUGE and wins answer different questions; say whose question a number answers.
# - Two judges with different instructions disagree about the same summaries, and twenty clicks may show which of them you are.
# - Instructions and interface are part of the reward.
#
# ## Questions
#
# 1. A colleague wants to cure the copying by doubling the number of labels. What will happen?
# 2. You may add one line to the reward of PPO that punishes copied stretches. What would you gain, and how could a policy please it without retelling anything?
# 3. In the paper the supervised model copies less after tuning than the base model tuned on the same kind of labels. Give two reasons.
# 4. Why does the paper's tuned copier skip preambles, though no labeler was asked about beginnings?
# 5. Labelers are paid by the piece. Which number of our labelers does that change, and what becomes of the policy?
# 6. How would you find out, from labels that are already there, whether labelers preferred copies because they were easy to check or because they liked their style?
#
# ## Further reading
#
# - Ziegler et al. 2019, [Fine-Tuning Language Models from Human Preferences](https://arxiv.org/abs/1909.08593): section 3.2, and the figures on copying.
# - Stiennon et al. 2020, [Learning to summarize from human feedback](https://arxiv.org/abs/2009.01325): what the same group changed in its instructions, its contact with labelers, and its result.
# - Grusky, Naaman, Artzi 2018, [Newsroom](https://arxiv.org/abs/1804.11283): coverage and density.
#
# **Next:** [10, how many labels?](10_how_many_labels.ipynb)
