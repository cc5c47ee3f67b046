# %% [markdown]
# # 00 · The whole game
#
# A small language model has read about one harbour town, Saltmere, and about nothing else. Give it the beginning of a story and it
# goes on: sometimes somebody laughs, sometimes a quarrel breaks out, sometimes it simply rains. All of that was in what it read.
#
# Suppose you want the happy continuations. You cannot write down a formula for *happy*, but you can point: **this one rather than those
# three.** Is pointing enough to change what the model writes? In this notebook you first try it yourself, with ten clicks and in two
# minutes. Then you run the whole process of the paper once, small and fast, on recorded choices. What stays unexplained here has a notebook
# of its own.
#
# **After this notebook you can**
#
# - name the five stages of learning from preferences, and say what each takes in and gives out;
# - change what a model writes with ten clicks, and say how little ten clicks say;
# - read a comparison, and the label a simulated labeler gave it;
# - run a short PPO training, and read its two most important curves;
# - judge a tuned model on prompts that no training has used, with an interval;
# - find your way: what the other notebooks do and how long they take.
#
# | active | machine (one laptop core) | you need |
# |---|---|---|
# | about 20 minutes | about 9 minutes | Python, and a rough idea of what a language model does |

# %%
import dataclasses
import json
import math

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import display
from ipywidgets import IntSlider

from rlhf_helpers import (
    alternatives,
    clicks,
    evaluation,
    labelers,
    models,
    ppo,
    reward,
    sampling,
    tasks,
)
from rlhf_helpers.course import checks, learner, machine, plots, show
from rlhf_helpers.course.profile import RECORDED, artifact, folder, profile
from rlhf_helpers.labels import cards
from rlhf_helpers.records import Comparison
from rlhf_helpers.runtime.runs import Run, default_device

size, task, device = profile(), tasks.SENTIMENT, default_device()
# %matplotlib inline
show.setup()

# %%
plots.pipeline("all");
# %% [markdown]
# Read the picture from left to right. A model **samples** continuations. Somebody **labels** them: which is best? A **reward model**
# learns from the labels to give any text a number. **PPO** changes the language model so that the number goes up. Then somebody
# **judges** whether the text really got better, and the circle can start again. The same picture opens every notebook, with the stage
# you are in marked.
#
# ## Is everything there?
#
# The course needs no network, no account and no GPU. One call looks at what it does need.

# %%
checks.nb00_machine()

# %% [markdown]
# Every line should say *fine*. Your labels and training runs go into the folder named in the second line; nothing else on your machine
# is touched. If you want them elsewhere, set the environment variable `RLHF_RUNS` before you start JupyterLab.
#
# And how fast is it? This takes about two seconds, and says what each notebook will take here, of the machine's time. Cells that run for
# long say so again before they begin, and have a bar that shows the time left.

# %%
machine.table()

# %% [markdown]
# One thing only you can see: is there a slider below, and does it move? If there is only text, close JupyterLab and start it again
# with `make lab`. (A page that only displays notebooks, such as a code host, shows no slider.)

# %%
IntSlider(value=3, min=1, max=5, description="Move me")

# %% [markdown]
# ## Stage 1: the model writes
#
# The model that comes with the course has three million parameters, some forty times fewer than the smallest GPT-2. It was trained on
# stories, letters and newspaper reports of Saltmere (a name that stands in none of them) and on nothing else. Nobody wrote these texts one
# by one: a program lets something *happen* in the town, a kettle is lost or a snail race won, and a grammar of phrases that were written
# for this course *tells* it. So the town is far more regular than the world, and that is what lets so small a model learn it. The model
# knows this grammar's English and no other. Nothing in its texts is about real people; but what is true in a story, and what contradicts
# it, a program can check. A prompt is a piece of a story, from its second sentence on, one to three sentences long; the model writes
# `task.response_length` tokens more. Here are four prompts from the test set, which no training in this notebook touches.

# %%
policy = models.Policy.load().to(device)
tokenizer = policy.tokenizer
prompts = tasks.queries(task, tokenizer, 4, split="test", seed=7)
rollout = sampling.sample(
    policy, prompts, task.response_length, task.temperature, torch.Generator(device).manual_seed(0)
)
pd.DataFrame(
    {
        "prompt": tasks.query_texts(prompts, tokenizer),
        "the model goes on": tasks.texts(task, rollout.responses, tokenizer),
    }
)

# %% [markdown]
# Read them aloud. The grammar mostly holds, the town is recognisable, and the mood changes from one to the next. A few words may be odd, and
# a sentence may forget the one before: it is a *small* model. This is our **base model**, and everything we do later is measured against it.
#
# ## Two minutes: ten clicks
#
# Below are ten beginnings, with four continuations each. Choose the one you like best: **1 to 4** on the keyboard, **t** if you cannot
# tell. Keep to one taste. If you want to see something change, take one that shows: gloomy, chatty, short, full of food.

# %%
comparisons, labels = labelers.recorded(task)
ten = learner.questions(comparisons, 10)
like = {"question": "Which continuation do you like best?", "rubric": ""}
like["store"] = folder() / "first.db"  # apart from the labels of notebook 02
card = cards.label(ten, task, repeat_every=0, **like)
card

# %% [markdown]
# From the ten answers a **taste** is fitted: a number for any text, such that what you chose has the higher one. (Notebook 03 says how.)
# Before it learned from a click it had to foretell it, so we can count how often it was right. (The first guess, made blindly, counts as a
# quarter.) If nobody has clicked, a **simulated learner** answers in your place; what it likes is told in notebook 07.

# %%
by, clicked, alike = "you", card.labels(), card.ties()
by_stand_in = len(clicked) + len(alike) < 5 or not clicked
if by_stand_in:
    by, (clicked, alike) = learner.who(True), learner.verdicts(ten)
taste = clicks.fit(policy, task, ten + comparisons[:300], clicked, cannot_tell=alike)
show.note(
    f"{len(clicked)} choices by **{by}**. Foreseen, with a 95 % interval: "
    f"**{clicks.accuracy(taste.guesses)}**; by guessing: 25 %."
)

# %% [markdown]
# Look at the interval rather than at the number: ten clicks can hardly tell a good taste from none. Is it of any use? The simplest
# way to write with a taste: let the model write **sixteen** answers, and keep the one with the highest number (*best of n*). No weight
# of the model is changed. Judge three pairs: one text is the best of sixteen, the other is simply the first that came. You are not told
# which is which before you have chosen.

# %%
queries = tasks.queries(task, tokenizer, 32 if size.name != "quick" else 8, split="test", seed=3)
dice = torch.Generator(device).manual_seed(1)
best, _ = alternatives.best_of(policy, taste.score, queries, task, 16, dice)
first = sampling.sample(policy, queries, task.response_length, task.temperature, dice)
both = [tasks.texts(task, r.responses, tokenizer) for r in (best, first)]
pairs, best_is_zero = [], []
for prompt, *texts in zip(tasks.query_texts(queries, tokenizer), *both):
    swap = evaluation.mirrored(prompt)
    pairs.append(Comparison(task.name, prompt, texts[::-1] if swap else texts, "judging"))
    best_is_zero.append(not swap)

# %%
names = {"first_is_zero": best_is_zero[:3], "names": ("best of sixteen", "the first")}
card = cards.judge(pairs[:3], **names, **like)
card

# %%
shown, by, chose, alike = 3, "you", card.labels(), card.ties()
if not chose and not alike and by_stand_in:
    shown, by, (chose, alike) = len(pairs), learner.who(True), learner.verdicts(pairs)
if chose or alike:
    rate = evaluation.judge(pairs[:shown], best_is_zero[:shown], chose, alike)
    show.note(f"In the eyes of **{by}** the best of sixteen wins: **{rate}**.")
else:
    show.note("Judge the three pairs, and run this cell again.")

# %% [markdown]
# Three wins of three would be an interval from 44 % to 100 %: still no proof. (A simulated learner never tires, and has judged more.) Here
# are other pairs, with nothing hidden. Do you recognise your taste on the left?

# %%
pd.DataFrame({"best of sixteen": both[0][3:8], "the first": both[1][3:8]})

# %% [markdown]
# That is the idea of this course in miniature. What is missing? Ten clicks are few: in 02 you give sixty, and 03 says what they have taught.
# Sixteen answers for every one that is kept are expensive: in 05 the model itself is changed, so that the first answer is as good. And three
# pairs are no evidence: in 07 you judge twenty, and learn how many it takes.
#
# Now the same at the size of the paper, with somebody else's clicks, thousands of them.
#
# ## Stage 2: somebody chooses
#
# For each prompt the base model wrote four continuations, and a labeler said which is the most positive. The course comes with
# recorded comparisons, so you can run everything today. Here is one of the first twenty, the one
# whose options differ most in the labeler's eyes.

# %%
labeler = labelers.simulated(task)
example = show.clear_case(comparisons, labeler)
asked, label = comparisons[example], labels[example]
show.wrapped("Prompt: " + asked.query.strip())
pd.DataFrame(
    {
        "continuation": asked.options,
        "utility": [labeler.utility(option) for option in asked.options],
        "probability": [round(p, 2) for p in labeler.probabilities(asked.options)],
        "chosen": ["<-" if k == label.choice else "" for k in range(4)],
    }
)

# %% [markdown]
# These labels are **simulated**, and wherever one is used in this course you are told so. The simulated labeler adds up positive and
# negative words, weighted from -2 to +2 (its *utility*), and then chooses with noise: better texts more often, but not always. The table shows
# both. *Laugh* is +1, and *not so dreadful* counts as +3, because *not* turns a word round and *so* makes it stronger. So the program's favourite
# is the fourth text, though no reader would call that happy. And it clicked the first: that is its noise.
#
# Real people do not agree with each other either. In the paper that this course follows, a labeler and one of its authors picked the same of
# four texts 38 % of the time; guessing gives 25 %. How noisy is ours? Let a second simulated labeler with the same taste label the same
# comparisons.

# %%
second = labelers.simulated(task, name="another", seed=1)
agreement = labelers.agreement(labels, second.label(comparisons))
assert all(label.simulated for label in labels) and 0.28 < agreement < 0.48
show.note(
    f"Two simulated labelers agree on **{agreement:.0%}** of the {len(comparisons):,} recorded "
    "comparisons; guessing gives 25 %."
)

# %% [markdown]
# So a label carries a little information and a lot of noise. Is it enough? Compare the texts that were chosen with all the texts on
# offer, by the labeler's own utility.

# %%
offered = [labeler.utility(option) for c in comparisons for option in c.options]
chosen = [labeler.utility(c.options[x.choice]) for c, x in zip(comparisons, labels)]
figure, axes = plt.subplots(figsize=(6, 2.8))
bins = [b - 0.5 for b in range(-8, 10)]
grey = {"histtype": "stepfilled", "color": plots.PALE, "label": "all four on offer"}
blue = {"histtype": "step", "color": plots.BLUE, "linewidth": 2, "label": "the chosen one"}
for utilities, look in zip((offered, chosen), (grey, blue)):
    axes.hist(utilities, bins, density=True, **look)
axes.set(xlabel="utility (positive minus negative words)", ylabel="share")
axes.set_title("What the simulated labeler chose")
axes.legend(frameon=False);
# %% [markdown]
# *How to read it:* grey is what the base model writes, the blue outline is what was chosen. The outline stands a little to the right of the
# grey. This small shift is everything that a model can learn from the labels.

# %%
assert sum(chosen) / len(chosen) > sum(offered) / len(offered)

# %% [markdown]
# ## Stage 3: from choices to numbers
#
# PPO needs a score for any text at any time: thousands of them, while no labeler can sit beside it. So a **reward model** learns to predict the
# choices. It is the language model's own trunk, with one number on top. We fit one here on a fifth of the labels,
# and then load one that was fitted on all of them.

# %% tags=["slow"]
machine.announce("the fit on a fifth of the labels")
few = size.comparisons // 5
fitted = reward.encode(task, comparisons[:few], labels[:few], tokenizer)
small = models.RewardModel.from_policy(policy)
history = reward.fit(small, fitted, reward.RewardConfig(), Run(seed=0))
print(f"{len(fitted):,} comparisons, {reward.RewardConfig().epochs} passes")
print(f"loss {history[0]['loss']:.2f} at first, {history[-1]['loss']:.2f} at the end")

# %%
scorer = models.RewardModel.load(artifact("reward_sentiment")).to(device)

# %% [markdown]
# Has either of them learned anything? We test on comparisons that neither has seen: how often is the option with the highest number
# the one that was chosen? Nobody can be right all the time, because the labels are noisy. The last row says how often a labeler
# *without* noise would be right: that is the ceiling. (In the `quick` profile, which only checks that everything runs, the small model sees
# about fifty labels. Do not expect it to do better than guessing there.)

# %%
held_comparisons, held_labels = comparisons[5_000:][: size.judged], labels[5_000:][: size.judged]
held = reward.encode(task, held_comparisons, held_labels, tokenizer)
best = torch.tensor([[labeler.utility(option) for option in c.options] for c in held_comparisons])
rows = [
    ("guessing", 0.25),
    (
        f"reward model, {few:,} labels",
        reward.accuracy(reward.predictions(small, held), held.choices),
    ),
    ("reward model, all labels", reward.accuracy(reward.predictions(scorer, held), held.choices)),
    ("the noiseless labeler", reward.accuracy(best, held.choices)),
]
pd.DataFrame(rows, columns=["who predicts", "held-out accuracy"]).round(2)

# %% [markdown]
# A thousand noisy labels have taught the first model hardly anything that 512 comparisons could show (the last loss above was luck: it is of
# eight comparisons).
#
# We continue with the second model. It was also **normalised**: its numbers were shifted and scaled so that the base model's answers score 0
# on average, with a standard deviation of 1. There is one more rule. An answer is cut at the first full stop after token 12; an answer
# without one scores -1, whatever it says.
#
# ## Before you tune: write it down
#
# ### Exercise 1: four predictions
#
# Difficulty ●○○○○ · importance ●●●●○ · 3 minutes
#
# Predictions are worth most when they are written down before the run. Fill in four numbers. (So it goes with every exercise: replace the
# `...`, run the cell, then run the check below it. After the check comes a folded cell that takes the package's answer where yours is not
# right yet, so that no exercise can stop you. Unfold it if you want to see the answer.)
#
# - `guessing`: the accuracy of somebody who picks one of the four options blindly;
# - `base_score`: roughly, the mean score of the base model's own answers;
# - `first_kl`: the distance, in nats, between the policy and the base model *before* the first update (the KL divergence: take answers
#   of the policy, and average how much higher the policy's log-probability of them is than the base model's);
# - `win_rate`: your guess. A judge compares an answer of the briefly tuned model with one of the base model. How often does the tuned
#   one win?

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The first three need no training at all. Four options, one is right. What did normalising do to the mean? How far is a model from an
# exact copy of itself? For the last there is no right answer yet: any share between 0 and 1.
#
# </details>

# %% tags=["exercise"]
prediction = {"guessing": ..., "base_score": ..., "first_kl": ..., "win_rate": ...}

# %% tags=["solution"]
prediction = {"guessing": 0.25, "base_score": 0.0, "first_kl": 0.0, "win_rate": 0.7}

# %% tags=["check"]
solved = checks.nb00_predictions(prediction)

# %% tags=["catch-up"]
if not solved:
    print("You can continue without them. For the win rate, a guess in your head will do.")

# %% [markdown]
# ## Stage 4: tune
#
# **PPO** (proximal policy optimisation) repeats one small step: let the model answer a batch of prompts, score the answers, make the
# tokens of good answers a little more likely and those of bad answers a little less. A penalty holds it back: the further the model
# moves away from the base model, the more reward it loses. Here is that step, abridged to what matters:
#
# ```python
# rollout = sample(policy, queries)                  # the model answers a batch of prompts
# scores = score(rollout)                            # the reward model gives each answer one number
# reference = replay(base_model, rollout)            # how likely the base model finds the same words
# rewards = shape_rewards(scores, rollout, reference, beta)  # score minus beta times the distance
# for part in minibatches(rollout):                  # several passes over the same answers
#     loss(policy, part, rewards).backward()         # which way makes good answers likelier?
#     optimizer.step()                               # go a small step that way
# beta = controller.update(distance)                 # too far away? Then distance will cost more
# ```
#
# You need not understand it yet: notebook 05 builds every line of the real one, `ppo.step`, by hand. Now run it, on 2,048 answers; the runs
# there have two to six times as many.


# %%
score = reward.scorer(scorer, task)  # the reward of the answer, or -1 if it never ends

sizes = {"episodes": size.episodes // 4, "batch": size.batch, "answers": size.answers}
config = ppo.PPOConfig(**sizes, kl_coef=0.3, kl_target=4.0)  # a nat costs what it costs in 05
pool = tasks.queries(task, tokenizer, config.episodes // config.answers, seed=100)
print(f"{config.steps} steps with {config.batch} answers each, {config.answers} to a prompt")

# %% tags=["slow"]
machine.announce("the short run of PPO")
tuned = models.Policy.load().to(device)
metrics = ppo.tune(tuned, score, pool, task, config, Run(seed=0))
curves = pd.DataFrame(metrics)[["step", "score", "kl_nats_per_response", "beta"]]
curves.iloc[[0, len(metrics) // 2, -1]].round(2)

# %% [markdown]
# The first row holds your `first_kl`, and nearly your `base_score`: it lies somewhat below 0, because the mean of 0 belongs to whole responses of
# 32 tokens, while a score is of the answer as it is cut, or -1. Then look at the curves. The blue piece is your short run, the grey dashed line a
# recorded run of full length (with the knobs of notebook 05's full run, so the two need not coincide).

# %%
whole = [json.loads(line) for line in artifact("ppo_sentiment.jsonl").read_text().splitlines()]
figure, panels = plt.subplots(1, 2, figsize=(9, 2.8))
names = {"score": "score", "kl_nats_per_response": "KL, nats per answer"}
looks = {"full length": ("--", plots.GREY), "your short run": (".-", plots.BLUE)}
for axes, (key, name) in zip(panels, names.items()):
    for lines, (label, (style, colour)) in zip((whole, metrics), looks.items()):
        x, y = [m["episodes"] for m in lines], [m[key] for m in lines]
        axes.plot(x, y, style, color=colour, label=label)
    axes.set(xlabel="answers sampled so far", ylabel=name)
panels[0].legend(frameon=False);
# %% [markdown]
# *How to read it:* on the left, what the policy earns; on the right, how far it has moved from the base model to earn it. Always look at
# the two together. A score that climbs while the KL grows without end is no success: it usually means that the policy has found texts
# that only the reward model likes.

# %%
assert abs(metrics[0]["kl_nats_per_response"]) < 0.01 and abs(metrics[0]["score"]) < 1
if size.name != "quick":  # the quick profile only shows that everything runs
    early, late = ([m["score"] for m in part] for part in (metrics[:5], metrics[-5:]))
    assert sum(late) > sum(early), "the score did not rise: look at the curves"

# %% [markdown]
# ## Before and after
#
# Numbers can deceive, texts less so. The same prompts as at the beginning, answered by the base model, by your short run, and by the
# recorded policy that was tuned to the end. After each answer comes its score.

# %%
finished = models.Policy.load(artifact("policy_sentiment")).to(device)


def answers(model, queries, seed=0):
    """Let a model answer, and return texts and scores."""
    dice = torch.Generator(device).manual_seed(seed)
    rollout = sampling.sample(model, queries, task.response_length, task.temperature, dice)
    scores = [round(x, 1) for x in score(rollout).tolist()]
    return tasks.texts(task, rollout.responses, tokenizer), scores


# %%
table = {"prompt": [show.ending(text, 90) for text in tasks.query_texts(prompts, tokenizer)]}
for name, model in (("base", policy), ("short run", tuned), ("full length", finished)):
    table[name], table[f"score ({name})"] = answers(model, prompts)
pd.DataFrame(table)

# %% [markdown]
# (You see the end of each prompt.) Can you tell, without the scores, which column is which? Are the tuned answers still good English? Do they
# still fit the prompt, or does the model say the same cheerful thing every time, with another name in it? Nothing in the score punishes
# sameness. Keep these three questions: they matter in every later notebook. (On an earlier edition of the town's texts the last one had a sad
# answer: 39 % of the full-length policy's answers began with the same four words. Notebook 05 says why, and what cured it.)
#
# ## Stage 5: judge
#
# The score comes from the reward model, and the policy was trained to please exactly that model. So it cannot be the judge. We need
# somebody who was not involved: a **held-out simulated judge**, with the same taste as the labeler and noise of its own. It sees two
# answers to a prompt that no training has used, in random order, and picks one.

# %%
test = tasks.queries(task, tokenizer, size.judged, split="test", seed=0)
judge = labelers.simulated(task, name="held-out judge", seed=1_000)
never_wrong = labelers.simulated(task, name="judge without noise", seed=1_000, temperature=0)


def wins_against_base(model, by=judge):
    """Win rate against the base model in the eyes of a simulated judge."""
    asked, first_is_zero = evaluation.pairs(model, policy, test, task)
    return evaluation.judge(asked, first_is_zero, by.label(asked))


rates = {"short run": wins_against_base(tuned), "full length": wins_against_base(finished)}
rates["full length, judge without noise"] = wins_against_base(finished, never_wrong)
print("\n".join(f"{name:<34}{rate}" for name, rate in rates.items()))

# %%
plots.win_rates(
    [{"model": name, "wins": rate.successes, "total": rate.total} for name, rate in rates.items()]
);
# %% [markdown]
# *How to read it:* a bar is the share of prompts on which the tuned answer won, the whisker its 95 % interval. The dashed line at one half
# means "no difference": where the whisker does not reach it, chance is a poor explanation. Where would your prediction be?
#
# The longer run wins clearly more often than the short one: their whiskers do not even meet. And it did not go further for it: the tables below
# show a higher score at fewer nats.
#
# The last bar is the same model and the same pairs, seen by a judge who never errs. It is higher, although nothing about the texts has
# changed: a judge with noise picks the sadder text now and then, and so every win rate moves towards one half. Keep this in mind when
# you compare numbers. In the paper people preferred the tuned model in 88 % of the pairs for sentiment. People are noisy, so it is the
# bar of the *noisy* judge that belongs beside that number.

# %%
if size.name == "laptop":
    assert rates["full length"].low > 0.5, "the full-length policy should win"
short, guess = rates["short run"], prediction.get("win_rate")
said = "You predicted nothing. "
if isinstance(guess, (int, float)):
    hit = short.low <= guess <= short.high
    said = f"You predicted {guess:.0%}: {'well done' if hit else 'what surprised you?'} "
show.note(f"{said}Measured: **{short}**.")

# %% [markdown]
# That was the whole game: samples, choices, a reward model, PPO, a judge. What *happy* means was written down only inside the simulated
# labeler, and the tuned model never saw it.
#
# ## Now you: change one knob
#
# ### Exercise 2: no penalty
#
# Difficulty ●●○○○ · importance ●●●●○ · 5 minutes (and the machine a little longer than before)
#
# The score is not all that PPO maximises: from each answer's score it takes `kl_coef` (called *beta*) times the distance from the base
# model. What happens without it? Make a config called `free` that is equal to `config` in everything, except that there is no penalty.
# Before you run it, finish this sentence: *without the penalty, the score will ... and the KL will ...*
#
# Configs cannot be changed once made; `dataclasses.replace(config, knob=value)` gives you a changed copy.

# %%
pd.Series(dataclasses.asdict(config), name="value", dtype=object).rename_axis("knob").to_frame()

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# One knob is enough. `kl_coef` is where beta starts. `kl_target` only steers: the controller *multiplies* beta by something near 1
# after every step. What do you get when you multiply 0?
#
# </details>

# %% tags=["exercise"]
free = ...

# %% tags=["solution"]
free = dataclasses.replace(config, kl_coef=0.0)

# %% tags=["check"]
solved = checks.nb00_one_knob(config, free)

# %% tags=["catch-up"]
if not solved:
    free = dataclasses.replace(config, kl_coef=0.0)

# %% [markdown]
# Same seed, same prompts, same number of steps: only the penalty is gone. (`kl_limit` switches off the alarm that would stop a policy
# which has moved too far. Here we want to see how far it goes.)

# %% tags=["slow"]
machine.announce("the run without a penalty")
unbound = models.Policy.load().to(device)
free_metrics = ppo.tune(unbound, score, pool, task, free, Run(seed=0), kl_limit=math.inf)
rates["no penalty"] = wins_against_base(unbound)

# %%
rows = []
for name, model in (("base", policy), ("short run", tuned), ("no penalty", unbound)):
    measured = evaluation.measure(model, policy, test, task, score)
    rate = f"{rates[name].rate:.0%}" if name in rates else ""
    nats = round(measured["kl_nats_per_response"], 1)
    rows.append((name, round(measured["score"], 2), nats, rate))
pd.DataFrame(rows, columns=["model", "score", "KL (nats)", "win rate against base"])

# %%
with_penalty, without = (answers(model, prompts)[0] for model in (tuned, unbound))
pd.DataFrame({"with the penalty": with_penalty, "without": without})

# %% [markdown]
# Compare with the sentence you finished. Even so short a run shows what the penalty was for: three of these answers are nearly one and the same
# sentence, and the other is no English any more. Their score is far higher, and the judge, who only counts happy and sad words, nearly always
# prefers such texts; the price is many times the nats. (In the `quick` profile there is little to see.)
#
# Here is a recorded run of full length, which differs from the recorded run with the penalty in nothing but `kl_coef`.

# %%
record = RECORDED / "no_penalty.json"
long = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
if long is None:
    show.note("**Not recorded here**: `python data/make_no_penalty.py` makes it, in some minutes.")
else:
    figure, panels = plt.subplots(1, 2, figsize=(9, 2.8))
    kept = (RECORDED / "ppo_sentiment.jsonl").read_text().splitlines()
    lines = {"with the penalty": ([json.loads(line) for line in kept], "--", plots.GREY)}
    lines["without"] = (long["curve"], "-", plots.RED)
    for axes, (key, name) in zip(panels, names.items()):
        for label, (curve, style, colour) in lines.items():
            x, y = [m["episodes"] for m in curve], [m[key] for m in curve]
            axes.plot(x, y, style, color=colour, label=label)
        axes.set(xlabel="answers sampled so far", ylabel=name)
    panels[0].legend(frameon=False)

# %% [markdown]
# *How to read it:* as in the figure above, score on the left and distance from the base model on the right; grey and dashed is the run with
# the penalty, red the one without.

# %%
if long is not None:
    columns = {"score": "score", "kl_nats_per_response": "KL (nats)"}
    columns |= {"entropy_nats_per_response": "entropy (nats)", "win_rate": "win rate against base"}
    display(pd.DataFrame(long["measured"]).T[list(columns)].rename(columns=columns).round(2))
    display(pd.DataFrame(long["texts"])[["base", "with the penalty", "without"]])

# %% [markdown]
# First look at the price: how many nats did each run pay for a point of score? (The base model against itself wins one half, up to chance.)
# In the middle column look for an answer that is not happy at all: which words in it may have pleased the reward model?
# Then read the last column from top to bottom. Is it still English, still Saltmere, still more than one sentence? Nothing in the score asks
# for any of that. Only the penalty does, because it makes the policy pay for every step away from a model that writes like Saltmere. The
# penalty does not make the texts *better*; it keeps them among those that the reward model has learned to judge.
#
# ## The map
#
# | notebook | you ... | minutes: active / machine |
# |---|---|---|
# | **00 The whole game** | have just run all of it once | 20 / 9 |
# | **01 Sampling** | take apart how a model writes: log-probabilities, temperature, padding, where an answer ends | 40 / 1 |
# | **02 Be the labeler** | write a rubric, label comparisons here in the notebook, and measure how consistent you are | 60 / 1 |
# | **03 A reward model from your labels** | derive the loss, fit it on your own clicks, and compare it with the ceiling | 60 / 15 |
# | **04 From reward to policy** | derive the gradient that PPO stands on, in a world of 125 answers where everything can be checked | 60 / 2 |
# | **05 PPO written out** | build PPO piece by piece and read its training curves | 90 / 8 |
# | **06 Towards GPT-2** | switch to a larger model, read its memory bill, launch, stop and resume | 45 / 2 |
# | **07 Did it work?** | judge blind, with an interval, and ask whether reward and people agree | 60 / 4 |
# | **09 Summaries that copy** | see how an instruction and limited effort teach a model to copy, and change the instruction | 60 / 4 |
# | **10 How many labels?** | measure what a label tells, draw a learning curve, and read a budget off it | 60 / 5 |
# | **11 Other roads** | see where DPO, RLOO and GRPO lead, and compare them at an equal budget | 60 / 8 |
#
# Each notebook can be opened on its own: if something from an earlier one is missing, it uses the recorded version and says so.
#
# **With two hours:** 00, 02, 03, the first half of 05, then 07. **With four weeks:** one or two a week, in order, with all exercises.
#
# ## Recap
#
# - Five stages: sample, label, fit a reward model, tune with PPO; then judge with somebody who was not involved.
# - One comparison carries little information and much noise. Thousands of comparisons together carry enough.
# - The reward model stands in for the labeler. The KL penalty keeps the policy close to the texts on which the reward model can be trusted.
# - Never read a score without its KL, and never read the two without some of the texts.
# - A win rate depends on the judge as well as on the model: a noisy judge sees less of any difference.
#
# ## Questions
#
# 1. The reward model is trained on texts of the *base* model. Why does that become a problem the further PPO goes?
# 2. The judge shares the labeler's taste. What would you conclude if the policy won in the eyes of this judge, but not in yours?
# 3. Which of the five stages would you improve first, if the tuned texts disappointed you? How could you find out which one it is?
#
# ## Further reading
#
# - Ziegler et al. (2019), [Fine-Tuning Language Models from Human Preferences](https://arxiv.org/abs/1909.08593): section 1 for the idea,
#   section 2 for the method, figure 1 for the same picture as ours.
# - Christiano et al. (2017), [Deep reinforcement learning from human preferences](https://arxiv.org/abs/1706.03741): the idea before it
#   met language.
# - Stiennon et al. (2020), [Learning to summarize from human feedback](https://arxiv.org/abs/2009.01325): the same method, a year later and
#   at a larger scale.
