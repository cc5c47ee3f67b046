# %% [markdown]
# # 08 · When it goes wrong
#
# Here is a training that looks like a triumph. A policy was tuned on the recorded reward model, with no price on the KL. Look at its score, and
# at how often a simulated judge preferred its answers. Then read them.

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
    alternatives,
    clicks,
    evaluation,
    features,
    labelers,
    models,
    ppo,
    presets,
    sampling,
    tasks,
)
from rlhf_helpers.course import checks, machine, plots, readers, show
from rlhf_helpers.course.profile import RECORDED, profile
from rlhf_helpers.runtime.runs import Run, default_device

size, device, task = profile(), default_device(), tasks.SENTIMENT
quick = size.name == "quick"
# %matplotlib inline
show.setup()

# %%
triumph = json.loads((RECORDED / "no_penalty.json").read_text(encoding="utf-8"))
won = pd.DataFrame(triumph["measured"]).T[["score", "win_rate", "kl_nats_per_response"]]
won.round(2)

# %%
pd.DataFrame(triumph["texts"])[["with the penalty", "without"]].head(4)

# %% [markdown]
# Notebook 00 showed you this column as a warning. But look at the judge: it did not warn anybody. It counts happy and sad words,
# as the labels did that the reward model was fitted on, and so both were fooled by the same trick. **You cannot see a failure with an
# instrument that has the same blind spot.** In this notebook you build an instrument that has not, cause a failure under its eyes, find
# out what kind it is, and mend it.
#
# **After this notebook you can**
#
# - measure over-optimisation: what is maximised and what is wanted, against the distance travelled, and where the two part;
# - tell four kinds of it apart, and say which of them more labels cure;
# - explain why choosing among samples and PPO go wrong at different distances;
# - stop a training by held-out judgement, without looking into the future;
# - say what a flipped sign does, for each of two signs;
# - find a labeler's habit in the labels, in the reward model and in the policy, and take it out;
# - search for the fault of an RLHF run in the right order.
#
# | active | machine (one laptop core) | you need |
# |---|---|---|
# | about 60 minutes | about 4 minutes | notebooks 03, 04 and 05; 07 helps |

# %%
plots.pipeline("reward+ppo");
# %% [markdown]
# ## 1. A reader who is not fooled
#
# Our reader likes happy words, as the judge above does. But it is bored by whatever it has been told before: a word of four letters or more
# that comes a second time costs three points, as much as the happiest word can win.

# %%
show.source(readers.repeats, readers.contentment)

# %%
rows = []
for name, texts in triumph["texts"].items():
    if name != "prompt":
        rows.append(
            {"written by": name,
             "happy words": statistics.mean(map(labelers.sentiment, texts)),
             "repetitions": statistics.mean(map(readers.repeats, texts)),
             "contentment": statistics.mean(map(readers.contentment, texts))}
        )  # fmt: skip
seen = pd.DataFrame(rows).set_index("written by")
assert seen.loc["without", "happy words"] > seen.loc["with the penalty", "happy words"]
assert seen.loc["without", "contentment"] < seen.loc["with the penalty", "contentment"]
seen.round(1)

# %% [markdown]
# Same texts, two verdicts. Nothing about this reader is exotic: nobody who asked for happy continuations wanted the same happy words again
# and again. It simply never came up, because the base model hardly ever repeats itself.
#
# From now on two numbers go with every answer:
#
# - **gold**: the reader's contentment, without noise. It is what we want. With people you never have it; we have it because the reader is **simulated**.
# - **proxy**: what a reward model says that was fitted to some *clicks* of this reader. It is what we can maximise.
#
# Both are counted in deviations of the base model's answers, so that for those both have mean 0 and deviation 1. The reader is as noisy as people
# are, and gives us 100 clicks. Our proxy is the model of few clicks from notebook 03, a taste: a weighted sum of features, fitted in a second.

# %%
base = models.Policy.load().to(device).frozen_copy()
tokenizer, reader = base.tokenizer, readers.reader()
comparisons, _ = labelers.recorded(task)  # their texts; the reader labels them anew
read = 400 if not quick else 48
known = features.Features(base, task, comparisons[:read])


def taste_of(labeler, count):  # a SIMULATED labeler's first clicks
    asked = comparisons[:count]
    given = labeler.label(asked)
    return clicks.fit(base, task, asked, given, features=known, predict=False)


taste = taste_of(reader, 100 if not quick else 24)

# %% [markdown]
# ## 2. Choosing by a proxy
#
# Draw many answers of the base model to each of some prompts, once. From this pool we can work out the best of $n$ for every $n$ (notebook 04):
# the answer with the highest *proxy*. What is its *gold*?
#
# **Guess first.** The best of 64 lies about 2.4 deviations above the mean in proxy, if scores are spread like a bell. How far in gold?

# %% tags=["slow"]
machine.announce("a pool of answers of the base model")
prompts, samples = (64, 64) if not quick else (8, 16)
ahead = tasks.queries(task, tokenizer, prompts, split="test", seed=77).to(device)
dice = torch.Generator(device).manual_seed(1)
options = (task.response_length, task.temperature, dice)
pool = sampling.sample(base, ahead, *options, answers=samples)
kept, finished = tasks.truncate(task, pool.responses, tokenizer)
phi = known.of_rollout(pool, kept).cpu()  # every answer as features, read once
written = tasks.texts(task, pool.responses, tokenizer)
unit = readers.Gold.of(written)  # mean 0 and deviation 1 on this pool


# %%
def proxy_of(taste):  # -> (prompts, samples); an answer without an end gets the penalty
    t = taste.tensors
    rewards = phi @ t["weights"] * t["gain"] + t["bias"]
    return torch.where(finished.cpu(), rewards, task.penalty).view(prompts, samples)


proxy, gold = proxy_of(taste), unit(written).view(prompts, samples)
alike = torch.corrcoef(torch.stack([proxy.flatten(), gold.flatten()]))[0, 1].item()
show.note(f"Over single answers, proxy and gold have a correlation of **{alike:.2f}**.")

# %% [markdown]
# ### Exercise 1: chosen by one, judged by the other
# Difficulty ●●●○○ · importance ●●●●● · 10 minutes
#
# For one prompt you have N answers, with their proxies and golds. Return the mean gold of the best of n *by proxy*, over all ways to take n of the
# N. For 64 answers there are too many ways to list, and no need to: sort the answers by proxy. The i-th lowest ($i = 1, \dots, N$) is
# the best of exactly those subsets whose other $n - 1$ members are lower, so of $\binom{i-1}{n-1}$ among $\binom{N}{n}$.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `sorted(zip(proxy, gold))` gives pairs in the order of the proxy; `enumerate(..., 1)` counts from 1; `math.comb(a, b)` is 0 if b is larger than a.
# </details>


# %% tags=["exercise"]
def gold_of_best(proxy, gold, n):  # two lists of N numbers, n -> one number
    return ...


# %% tags=["solution"]
def gold_of_best(proxy, gold, n):  # two lists of N numbers, n -> one number
    ranked = enumerate(sorted(zip(proxy, gold)), 1)
    total = sum(math.comb(i - 1, n - 1) * g for i, (_, g) in ranked)
    return total / math.comb(len(gold), n)


# %% tags=["check"]
solved = checks.nb08_gold_of_best(gold_of_best)

# %% tags=["catch-up"]
if not solved:

    def gold_of_best(proxy, gold, n):
        return alternatives.expected_best(torch.tensor(proxy), n, torch.tensor(gold)).item()


# %%
def best_of(proxy, n):
    """Proxy and gold of the best of n, over all prompts."""
    p, g = proxy.tolist(), gold.tolist()
    return {
        "series": "best of n", "n": n, "kl_nats": alternatives.best_of_kl_bound(n),
        "proxy": statistics.mean(gold_of_best(a, a, n) for a in p),
        "gold": statistics.mean(gold_of_best(a, b, n) for a, b in zip(p, g)),
    }  # fmt: skip


chosen = [best_of(proxy, n) for n in (1, 2, 4, 8, 16, 32, 64) if n <= samples]
plots.over_optimisation(chosen, "best of n");
# %% [markdown]
# *How to read it:* right is further from the base model, in $d = \sqrt{\mathrm{KL}}$; hollow and dotted is the proxy, which is maximised, filled
# is the gold, which is wanted. Best of $n$ for $n = 1$ on the left, each mark doubles it. A star would mark where the gold is highest.

# %%
last = chosen[-1]
if not quick:
    assert 0 < last["gold"] < 0.8 * last["proxy"]
show.note(
    f"The best of {last['n']} has a proxy of **{last['proxy']:.1f}** and a gold of "
    f"**{last['gold']:.1f}**: a share of {last['gold'] / last['proxy']:.0%}."
)

# %% [markdown]
# Where has the rest gone? An answer has a high proxy because it is good, or because the reward model errs in its favour. Whoever takes the highest
# gets both. Among all answers with proxy $s$ the mean gold is only the correlation times $s$ (both have deviation 1): a straight line, less
# steep than one would like. Choosing harder moves you along this line. The gold still grows; it is taxed at a fixed rate.
#
# That is the mildest of four kinds of **Goodhart's law** ("when a measure becomes a target, it ceases to be a good measure"), as Manheim and
# Garrabrant sorted them:
#
# | kind | what happens | in this notebook | do more labels help? |
# |---|---|---|---|
# | **regressional** | the proxy is gold plus error; whoever selects the sum selects the error too | section 2 | yes: less error |
# | **extremal** | far from where it was learned, the proxy follows another rule | section 3 | only labels from out there |
# | **causal** | something goes with the gold in the data, and pushing it does not push the gold | section 7 | no: they all have it |
# | **adversarial** | somebody searches for the proxy's mistakes | PPO, whenever nothing holds it | they make the search longer |
#
# ## 3. Searching without a price
#
# Now PPO, on the same proxy, with a price of zero. On the way we look at it from time to time: 128 answers to new prompts, the proxy and the gold
# of one half, and for the other half a held-out labeler, noisy as people are, who says whether it prefers them to the base model's.
#
# **Write down** before you run it: where will the gold be highest, and where will it end?

# %%
my_forecast = {"highest gold": None, "gold at the end": None}
episodes, count = (1_536, 128) if not quick else (64, 16)
test = tasks.queries(task, tokenizer, count, split="test", seed=1).to(device)
mine = tasks.queries(task, tokenizer, max(64, episodes // 4), seed=100).to(device)
dice = torch.Generator(device).manual_seed(2)
half = sampling.sample(base, test[: count // 2], task.response_length, task.temperature, dice)
rivals = tasks.texts(task, half.responses, tokenizer)
judge = readers.reader("held-out judge", seed=1_000)
config = replace(presets.KEPT, episodes=episodes, batch=min(64, episodes // 2), lr=3e-4)


# %%
def follow(score, price, name, looks=8):
    """Tune the base model on a score, and look at it on the way."""
    policy, points = models.Policy.load().to(device), []
    at = {round(config.steps * (i / looks) ** 1.5) for i in range(looks + 1)}

    def look(step):
        if step in at:
            seen = readers.look(policy, base, test, task, score, unit, rivals, judge=judge)
            points.append({"series": name, "step": step} | seen)

    ppo.tune(
        policy, score, mine, task, replace(config, kl_coef=price), Run(seed=0, quiet=True),
        before_step=look, kl_limit=math.inf, min_entropy=-math.inf,
    )  # fmt: skip
    look(config.steps)
    return points


# %% [markdown]
# | machine | the next cell takes |
# |---|---|
# | one laptop core | about a minute |
# | `RLHF_PROFILE=quick` | seconds, and nothing is learned |

# %% tags=["slow"]
machine.announce("PPO without a price")
free = follow(taste.score, 0.0, "no price")

# %%
columns = ["step", "proxy", "gold", "wins", "kl_nats", "entropy_nats", "distinct_bigrams",
           "repeats"]  # fmt: skip
pd.DataFrame(free)[columns].round(2)

# %%
plots.over_optimisation(free, "rl");
# %% [markdown]
# *How to read it:* as before, with PPO's distance on the axis and looks along its training as marks. The line through the filled marks is a curve
# with two numbers, fitted to the gold; the star is where it turns.
#
# And now the texts, which no curve replaces: the same prompt, answered again and again.

# %%
show.wrapped("... " + tasks.query_texts(test[:1], tokenizer)[0][-150:])
said = {f"step {p['step']}, gold {p['gold']:+.1f}": p["texts"][0] for p in free[::2]}
pd.Series(said, name="answer").to_frame()

# %%
ends, highest = free[-1], max(free, key=lambda p: p["gold"])
if not quick:
    assert ends["proxy"] > free[0]["proxy"] + 1.5 and ends["proxy"] > last["proxy"]
    assert ends["gold"] < highest["gold"] - 0.5 and ends["repeats"] > free[0]["repeats"] + 1
show.note(
    f"The proxy rose from {free[0]['proxy']:.1f} to **{ends['proxy']:.1f}**. The gold was "
    f"highest at step {highest['step']} ({highest['gold']:+.2f}) and ended at "
    f"**{ends['gold']:+.2f}**."
)

# %% [markdown]
# This is **over-optimisation**: the proxy still climbs while the gold falls. It is not a tax any more. The hundred clicks were about texts of the base
# model, in which hardly a word comes twice, so nothing in them could say what a repetition costs. The taste extends its rule, *more of
# these words is better*, to texts where it no longer holds. That is the extremal kind, and PPO got there because it searches.
#
# ### Two forms, two turning points
#
# Gao, Schulman and Hilton (2022) measured many such curves and found that two numbers describe each of them, $u$ for the rise and $v$ for the
# bend (they call them alpha and beta; ours is taken by the price):
#
# $$\text{best of } n:\quad d\,(u - v\,d) \qquad\qquad \text{RL}:\quad d\,(u - v \log d), \qquad d = \sqrt{\mathrm{KL}}.$$
#
# Why the square root? The best of $n$ bell-shaped scores lies at about $\sqrt{2 \log n}$, and its KL is about $\log n$. So in $d$ an honest proxy
# is nearly a straight line, and whatever bends is Goodhart's.
#
# ### Exercise 2: where it turns
# Difficulty ●●○○○ · importance ●●●●○ · 6 minutes
#
# Set the derivative by $d$ to zero, on paper, for both forms. Return the $d$ at which the gold is highest.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The derivative of $d^2$ is $2d$; that of $d \log d$ is $\log d + 1$.
# </details>


# %% tags=["exercise"]
def turning_point(rise, bend, form):  # u, v, "best of n" or "rl" -> d
    return ...


# %% tags=["solution"]
def turning_point(rise, bend, form):  # u, v, "best of n" or "rl" -> d
    return rise / (2 * bend) if form == "best of n" else math.exp(rise / bend - 1)


# %% tags=["check"]
solved = checks.nb08_turning_point(turning_point)

# %% tags=["catch-up"]
if not solved:

    def turning_point(rise, bend, form):
        return math.sqrt(evaluation.GoldCurve(form, rise, bend).turning_point()[0])


# %%
ways, rows = {"best of n": (chosen, "best of n"), "PPO, no price": (free, "rl")}, {}
for name, (points, form) in ways.items():
    kl, height = (torch.tensor([p[k] for p in points]) for k in ("kl_nats", "gold"))
    if (kl > 1e-3).sum() < 2:
        continue  # in the quick profile a policy hardly moves
    curve = evaluation.fit_gold(kl, height - height[0], form)
    turns = turning_point(curve.rise, curve.bend, form) if curve.bend > 0 else math.inf
    rows[name] = {"rise": curve.rise, "bend": curve.bend, "turns at d": turns,
                  "measured up to d": kl.max().item() ** 0.5}  # fmt: skip
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# A turning point beyond what was measured is a guess: compare the last two columns before you believe one. (`inf`: this curve does not bend down
# at all.)
#
# Do not compare the two rows as if $d$ were the same thing in both. Put gold against *proxy* instead, and the distance drops out:

# %%
cloud = (proxy.flatten(), gold.flatten())
plots.gold_against_proxy([*chosen, *free], cloud=cloud);
# %% [markdown]
# *How to read it:* small grey dots are single answers of the base model with the line that fits them best; marks are means over many answers. On
# the dashed diagonal a deviation of proxy would be a deviation of gold. Marks that leave the cloud to the right have a proxy that no base
# answer has.
#
# Here you see why PPO turns where best of $n$ does not:
#
# - **Best of $n$ stays inside the cloud.** No answer can become more than $n$ times as likely as it was. It walks along the grey line, and
#   a pool of 64 is over before the cloud is.
# - **PPO walks out of the cloud.** It changes every token a little, and reaches answers that the base model would write once in $e^{\mathrm{KL}}$
#   tries. Out there the line means nothing.
# - **PPO's distance is longer.** It pays nats for wandering (notebook 04, section 6), which buy no proxy at all. So its $d$ counts road, not progress.
#
# ## 4. Mend it
#
# First: when would you have noticed, *without* the gold? Look at the table of section 3 once more. The proxy says that all is well. KL, entropy, variety
# and the texts do not; and there is one column with an opinion of its own, `wins`, from a judge who was not asked in training.
#
# ### Exercise 3: stop in time
# Difficulty ●●○○○ · importance ●●●●● · 8 minutes
#
# Win rates come one by one, oldest first. Training stops as soon as `patience` of them in a row have not beaten the best so far. Return the number of
# the policy to keep: the best one *up to then*, and of equal ones the earlier, which is nearer to the base model.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Keep the index of the best so far. If the new one is not strictly better, ask how long ago the best one was: `i - best`.
# </details>


# %% tags=["exercise"]
def stop_at(judged, patience):  # list of win rates, int -> index of the policy to keep
    return ...


# %% tags=["solution"]
def stop_at(judged, patience):  # list of win rates, int -> index of the policy to keep
    best = 0
    for i, rate in enumerate(judged):
        if rate > judged[best]:
            best = i
        elif i - best >= patience:
            break
    return best


# %% tags=["check"]
solved = checks.nb08_stop_at(stop_at)

# %% tags=["catch-up"]
if not solved:
    stop_at = evaluation.stop_at

# %%
stopped = free[stop_at([p["wins"] for p in free], patience=2)]
show.note(
    f"The judge would have kept step **{stopped['step']}**, with a gold of {stopped['gold']:+.2f} "
    f"on prompts that it did not see; the end had {ends['gold']:+.2f}."
)

# %% [markdown]
# (The gold is measured on other prompts than the judge saw. Measured on the same ones, whatever was picked as the best looks better than it is.)
#
# Now choose **one remedy**, and write down what the gold will be at the end:
#
# | remedy | idea | kind that it is made for |
# |---|---|---|
# | `"a price"` | each nat costs 0.25: stay where the proxy was learned | extremal, adversarial |
# | `"more clicks"` | four times as many | regressional |
# | `"rank"` | pay the share of base answers that are worse: an upper end (notebook 05) | extremal |
# | `"lower bound"` | take off a deviation of what the taste is unsure of | all that it knows to be unsure |

# %%
remedy = "a price"  # or another of the table
my_gold = None  # your forecast for its end
remedies = {
    "a price": lambda: (taste.score, 0.25),
    "more clicks": lambda: (taste_of(reader, read).score, 0.0),
    "rank": lambda: (taste.scorer(ranked=True), 0.0),
    "lower bound": lambda: (taste.scorer(lower_bound=1.0), 0.0),
}

# %% tags=["slow"]
machine.announce("PPO with a remedy")
mended = follow(*remedies[remedy](), remedy)

# %%
both = pd.DataFrame([ends, mended[-1]]).set_index("series")[columns[1:]]
if not quick and remedy == "a price":
    assert mended[-1]["gold"] > ends["gold"] + 0.5 and mended[-1]["kl_nats"] < ends["kl_nats"]
both.round(2)

# %%
pd.DataFrame({"no price": ends["texts"], remedy: mended[-1]["texts"]})

# %%
plots.gold_against_proxy([*free, *mended]);
# %% [markdown]
# *How to read it:* as the last figure, without the cloud: the run that nothing held, and yours with the remedy. (A remedy that changes the reward
# has another proxy: compare heights, not widths.)
#
# Ask two things of any remedy. Is the *end* better? And is the *path* another one, more gold for the same proxy, or the same path with an earlier
# end? A price mostly does the second: it is a brake. Only what makes the proxy better moves the path.
#
# ## 5. At full length
#
# One seed of a small run proves little. The recorded experiment fits reward models to few, some and many labels of this reader, follows the best of
# $n$ and PPO at two prices, and tries the remedies, three seeds each. Its claims, margins and words were written down before it ran.

# %%
path = RECORDED / "failures.json"
record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
if record is None:
    show.note(
        f"**Not recorded here**: `{path.name}` is missing, so sections 5 to 7 show their live "
        "part alone. `python data/make_failures.py` makes it in some hours, and goes on where it "
        "stopped."
    )
else:
    show.note(f"*{record['question']}* Every label and every judgement is simulated.")

# %%
if record is not None:
    names = ("few labels", "some labels", "many labels")
    named = {k: f"{n:,} labels" for k, n in zip(names, record["settings"]["sizes"])}
    _, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    many_n = [
        {"series": named[c["series"]]} | p for c in record["best_of_n"] for p in c["points"]
    ]
    plots.over_optimisation(many_n, "best of n", ax=axes[0])
    along = [
        {"series": f"{r['labels']:,} labels"} | p for r in record["runs"] for p in r["points"]
        if r["part"] == "curve" and r["price"] == 0
    ]  # fmt: skip
    plots.over_optimisation(along, "rl", ax=axes[1])
    for ax, title in zip(axes, ("Best of n", "PPO, no price")):
        ax.set_title(title)

# %% [markdown]
# *How to read it:* as in sections 2 and 3, a colour and a marker for each number of labels, all seeds together; hollow and dotted is the proxy, the
# line is fitted to the gold, a star marks a turning point that was reached, and the legend names the others. Where the recorded experiment
# is missing, there is no figure.

# %%
if record is not None:
    shown = [r for r in record["runs"] if r["part"] == "curve" and r["price"] == 0]
    texts = {
        f"{r['labels']:,} labels": {f"step {p['step']}": p["texts"][0] for p in r["points"][::4]}
        for r in shown if r["seed"] == record["settings"]["seeds"][0]
    }  # fmt: skip
    display(pd.DataFrame(texts))


def answered(measures, about=lambda claim: True):
    """The verdicts on these measures, as a table."""
    keys = ("measure", "who", "than", "expected", "differences", "verdict")
    rows = [v for v in record["verdicts"] if v["measure"] in measures and about(v)]
    return pd.DataFrame([{k: v[k] for k in keys} for v in rows])


# %%
if record is not None:
    others = ("reward", "first", "longer")  # of sections 6 and 7
    here = ("gold", "gap", "kl_nats")
    display(answered(here, lambda claim: not any(w in claim["who"] for w in others)))

# %% [markdown]
# Each verdict compares two rows seed by seed: *more* or *less* if the whole 95 % interval lies on one side of zero, *no difference seen* if it
# contains zero and lies within the margin, *inconclusive* otherwise. Hold the column `expected` against the last one. A claim that failed
# stays in the table. Which remedy would you have bet on?
#
# ## 6. Two signs
#
# Overnight a training of the paper's authors went wrong in a way that nobody had planned. A change of the code had flipped the sign of the reward,
# and that of the KL penalty with it. In the morning the policy wrote fluent English, and the very texts that labelers had been told to
# rate lowest. Why *fluent*? Return to the forecaster of notebook 04, whose 125 forecasts can be listed, and maximise
#
# $$\pm\,\mathbb{E}_\pi[r] \;\pm\; \beta\,\mathrm{KL}(\pi\,|\,\rho)$$
#
# exactly, with all four pairs of signs.

# %%
words = ("sun", "breeze", "cloud", "rain", "storm")
forecasts = torch.cartesian_prod(*[torch.arange(5)] * 3)  # (125, 3)
before = torch.cat([torch.full((125, 1), 2.5), forecasts[:, :2]], 1)
common = torch.tensor([0.0, 0.4, 0.9, 0.9, 0.0])
logits = common - 0.6 * (torch.arange(5) - before[..., None]).abs()  # (125, 3, 5)
log_rho = logits.log_softmax(-1).gather(-1, forecasts[..., None]).sum((-1, -2))  # (125,)
nice = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0])[forecasts]
raw = nice.sum(-1) + nice[:, -1]
raw = raw - (log_rho.exp() * raw).sum()
r = raw / (log_rho.exp() * raw**2).sum().sqrt()  # mean 0, deviation 1 under the base model

# %% [markdown]
# ### Exercise 4: four ends
# Difficulty ●●●○○ · importance ●●●●○ · 10 minutes
#
# `reward` and `kl` are +1 or -1. Return the best policy, as probabilities. With `kl = -1` distance costs, and notebook 04 has the answer. With
# `kl = +1` distance is *paid for*. Then the sum is convex in the probabilities: a mixture of two answers never earns more than the better of
# the two alone. So the best policy is a single answer. Which? The KL of a policy that always writes $y$ is $-\log\rho(y)$.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# For `kl = -1`: a softmax of `log_rho + reward * r / beta`. For `kl = +1`: one number for each answer, what it earns alone, and a 1 at the largest
# (`torch.nn.functional.one_hot(index, len(r))`).
# </details>


# %% tags=["exercise"]
def where_it_ends(log_rho, r, beta, reward, kl):  # (Y,) (Y,) float, +1 or -1, +1 or -1 -> (Y,)
    return ...


# %% tags=["solution"]
def where_it_ends(log_rho, r, beta, reward, kl):  # (Y,) (Y,) float, +1 or -1, +1 or -1 -> (Y,)
    if kl < 0:
        return (log_rho + reward * r / beta).softmax(-1)
    alone = reward * r - beta * log_rho
    return torch.nn.functional.one_hot(alone.argmax(), len(r)).float()


# %% tags=["check"]
solved = checks.nb08_where_it_ends(where_it_ends)

# %% tags=["catch-up"]
if not solved:

    def where_it_ends(log_rho, r, beta, reward, kl):
        priced = alternatives.optimal_logprobs(log_rho, reward * r, beta).exp()
        corner = torch.zeros_like(r)
        corner[(reward * r - beta * log_rho).argmax()] = 1.0
        return priced if kl < 0 else corner


# %%
signs, rows = [(1, -1), (-1, -1), (1, 1), (-1, 1)], []
for reward_sign, kl_sign in signs:
    pi = where_it_ends(log_rho, r, 0.5, reward_sign, kl_sign)
    top = pi.argmax()
    rows.append({
        "reward": reward_sign, "kl": kl_sign, "gold": (pi * r).sum().item(),
        "surprise_nats": -(pi * log_rho).sum().item(),
        "share of the likeliest": pi[top].item(),
        "likeliest forecast": " ".join(words[k] for k in forecasts[top]),
    })  # fmt: skip
usual = {"gold": 0.0, "surprise_nats": -(log_rho.exp() * log_rho).sum().item()}
plots.four_signs([*rows, usual]);
# %% [markdown]
# *How to read it:* up is a better forecast, right is stranger to the base model: how many nats it is surprised by. The grey bar is as strange as the
# base model's own forecasts are.

# %%
ended = pd.DataFrame(rows).set_index(["reward", "kl"])
assert ended.loc[(-1, -1), "gold"] < -1 < 1 < ended.loc[(1, -1), "gold"]
assert ended.loc[(1, 1), "surprise_nats"] > ended.loc[(1, -1), "surprise_nats"] + 1
ended.round(2)

# %% [markdown]
# The second row is the story: the reward is turned round, the price still holds. The policy seeks the worst *within* the base model's language. A
# single wrong sign, before the whole sum, is the fourth row: that policy is paid for leaving, ends in one outlandish answer, and somebody
# notices within minutes. **Two bugs together were harder to see than one**, because fluency is what we look at first. What protects
# you is not the loss and not the KL, but somebody who reads, and a curve of a held-out judge that goes *down*.

# %%
if record is not None:
    cells = []
    for run in record["runs"]:
        if run["part"] == "signs" or run["who"] == "fair":
            end = run["points"][-1]
            kl_sign = -1 if run["price"] > 0 else 1
            cells.append({"reward": run["sign"], "kl": kl_sign, "seed": run["seed"],
                          "gold": end["gold"], "surprise_nats": end["surprise_nats"],
                          "kl_nats": end["kl_nats"], "an answer": end["texts"][0]})  # fmt: skip
    table = pd.DataFrame(cells).sort_values(["kl", "reward", "seed"], ascending=[True, False, True])
    display(table[table["seed"] == table["seed"].min()].round(1))
    display(answered(("gold", "surprise_nats"), lambda claim: "reward" in claim["who"]))

# %% [markdown]
# (Where the recorded experiment is there, these are the same four on texts, at a small budget.)
#
# ## 7. A habit in the labels
#
# The reader has three colleagues with the same taste and noise. One is **lazy**: what stands first on the card is better by as much as the noise
# (notebook 02). This lazy one works on a card that always begins with the *shortest* text. A second lazy one has a **shuffled** card.
# The third likes **longer** texts, by a quarter of a point for every word. Each gives us clicks on the same comparisons. **Guess** in
# which of the three policies you will find the habit, and in which direction.

# %%
noise, likes = reader.temperature, readers.contentment
crew = {
    "fair": reader,
    "lazy, shortest first": readers.LazyLabeler("reader", likes, noise, 0, readers.shortest_first),
    "lazy, shuffled": readers.LazyLabeler("reader", likes, noise, 0, readers.shuffled),
    "longer": labelers.SimulatedLabeler("reader", readers.wordy, noise),
}
lengths = torch.tensor([float(len(labelers.words(t))) for t in written])
asked = comparisons[: 300 if not quick else 24]


def words_above(c, choice):
    counts = [len(labelers.words(o)) for o in c.options]
    return counts[choice] - statistics.mean(counts)


def line_slope(x, y):
    apart = x - x.mean()
    return ((apart * y).sum() / apart.square().sum()).item()


# %%
def found(scores):
    """The habit in the model, and in a policy: the best of 16 by these scores."""
    best = scores.view(prompts, samples)[:, :16].argmax(-1) + samples * torch.arange(prompts)
    done = finished.cpu()
    return {
        "model: deviations per word": line_slope(lengths[done], scores.flatten()[done]),
        "policy: words": lengths[best].mean().item(),
        "policy: gold": gold.flatten()[best].mean().item(),
    }  # fmt: skip


rows, scores = {}, {}
for name, labeler in crew.items():
    scores[name] = proxy_of(taste_of(labeler, len(asked))).flatten()
    picked = [words_above(c, x.choice) for c, x in zip(asked, labeler.label(asked))]
    labels_say = {"labels: words above the mean": statistics.mean(picked)}
    rows[name] = labels_say | found(scores[name])
habits = pd.DataFrame(rows).T
habits.round(3)

# %%
if not quick:
    per_word = habits["model: deviations per word"]
    assert per_word["lazy, shortest first"] < per_word["fair"] < per_word["longer"]
    assert habits.loc["longer", "policy: words"] > habits.loc["fair", "policy: words"] + 1

# %% [markdown]
# Read each row from left to right: in the labels, in the reward model, in the policy. The lazy one's habit was never about length. It became a rule
# about length because the *card* tied the first place to it, and the shuffle unties them: the habit is still there and costs clicks, but it
# no longer has a direction. This is the same labeler, so the shuffle is a proof of what caused what. Length itself no shuffle cures: the
# text takes it along.
#
# What can be done about length? If the habit is known, take out of the reward what goes with it: fit a line of the reward against the length, and
# subtract its slope.
#
# ### Exercise 5: the reward without length
# Difficulty ●●○○○ · importance ●●●●○ · 8 minutes
#
# Return the rewards less the slope of the least-squares line times (length minus mean length). The mean of the rewards must stay where it was: the
# penalty of -1 for an answer without an end counts from there.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The slope is the covariance of length and reward over the variance of the length. With `apart = lengths - lengths.mean()` it is
# `(apart * rewards).sum() / (apart * apart).sum()`.
# </details>


# %% tags=["exercise"]
def residual(rewards, lengths):  # (N,) (N,) -> (N,)
    return ...


# %% tags=["solution"]
def residual(rewards, lengths):  # (N,) (N,) -> (N,)
    apart = lengths - lengths.mean()
    slope = (apart * rewards).sum() / (apart * apart).sum()
    return rewards - slope * apart


# %% tags=["check"]
solved = checks.nb08_residual(residual)

# %% tags=["catch-up"]
if not solved:

    def residual(rewards, lengths):
        return rewards - line_slope(lengths, rewards) * (lengths - lengths.mean())


# %%
done = finished.cpu()
without = scores["longer"].clone()
without[done] = residual(without[done], lengths[done])
removed = {"labels: words above the mean": math.nan} | found(without)
habits.loc["longer, length removed"] = pd.Series(removed)
if not quick:
    assert abs(removed["model: deviations per word"]) < 1e-3
    assert removed["policy: words"] < habits.loc["longer", "policy: words"] - 1
habits.iloc[:, 1:].round(3)

# %% [markdown]
# The slope is gone, and most of the words with it. Look at the gold, too: the line takes *everything* that goes with length, also what was honest. (A
# longer text has room for one more happy word.) The row of the fair labeler says how much of the slope that was. You can only subtract the
# habit alone if you know a labeler who has not got it.

# %%
if record is not None:
    fitted = pd.DataFrame([m for m in record["models"] if not m["taste"] and not m["member"]])
    fitted = fitted[fitted["labels"] == max(record["settings"]["sizes"])]
    means = fitted.groupby("labeler")[["words_chosen", "place_chosen", "per_word"]].mean()
    display(means.round(3))
    display(answered(("words",)))

# %% [markdown]
# ## 8. How to look for a fault
#
# Nothing crashes in RLHF. So look in an order in which each step rules something out for the next:
#
# 1. **Read ten labels.** Would you have clicked so? Then the reward model's accuracy against the ceiling (03).
# 2. **Best of 16, before any PPO.** If its texts disappoint, the reward is to blame and no training will help. Beside it a blind one of 16.
# 3. **Step 0.** KL 0, ratio 1, mean score near 0. If not: temperature, mask, slice, normalisation (05).
# 4. **Twenty steps against a run that is known to work**, same seed. Then one change at a time.
# 5. **A held-out judge on the way**, and ten answers to the same prompts at every look.
#
# | what you see | suspect | cheapest test |
# |---|---|---|
# | score and KL both flat | learning rate; a reward that says the same to everything | the spread of the score over 16 answers |
# | KL above 0 at step 0 | temperature or mask of the reference | replay a rollout twice |
# | score falls from the start, text fluent | sign of the reward | read best and worst of 16 by score |
# | KL runs away, the score hardly rises | sign of the KL, or no price | is the mean of the penalty negative? |
# | score rises, wins fall | over-optimisation | keep an earlier checkpoint; ask where it turned |
# | score rises, one opening everywhere | price too low; a few words that weigh much | count openings, distinct-2 (07) |
# | score rises, so does the length | a habit in the labels | slope of the score on length, on base answers |
# | score and wins rise, you dislike it | judge and labels share a blind spot | judge twenty yourself; change the question (09) |
#
# | change one knob | and look at |
# |---|---|
# | 100 clicks in section 1, to 25 or 400 | the correlation, and the slope of the grey line |
# | `remedy`, the other three | end and path of the last figure of section 4 |
# | `readers.BOREDOM`, to 0 | does the gold still turn? Who is fooled now? |
# | `patience`, to 1 or 4 | which step is kept |
# | `0.5` in section 6, to 0.1 or 5 | whether the corners change |
#
# ## Recap
#
# - Gold is what is wanted, the proxy is what can be maximised. Only an instrument with other blind spots sees them part.
# - Choosing by a proxy is taxed: gold grows with the correlation. More labels lower the tax.
# - Searching leaves the texts on which the proxy was learned. Then the gold turns, and the proxy does not notice.
# - $d\,(u - v\,d)$ for the best of $n$, $d\,(u - v\log d)$ for RL. A turning point beyond the measurement is a guess.
# - A price is a brake. Better labels move the path. A held-out judge says when to stop.
# - A flipped reward under a price that holds is fluent and wrong; a flipped price is noticed at once.
# - A habit becomes a rule where the card ties it to the text. A shuffle unties places, not lengths.
#
# ## Questions
#
# 1. A colleague stops at the best of forty checkpoints, judged on fifty pairs each, and reports that win rate. What is wrong, and what would you report?
# 2. Twice the labels make the correlation of proxy and gold grow from .5 to .6. What does that change for the best of 64, and what for a policy at 60 nats?
# 3. Gao's curve for RL rises infinitely steeply at $d = 0$. Is that plausible? What does it say about reading $v$ from few points?
# 4. Why is the strictest of three reward models of the *same* labels no cure for the lazy labeler on the sorted card?
# 5. Your labelers see the longer text first in three of four cards, and nobody stored the order. What can you still find out, and what not?
# 6. You add "less 3 for every repeated word" to the reward of PPO. Which kind of Goodhart do you cure, and where will the next failure be?
#
# ## Further reading
#
# - Gao, Schulman, Hilton 2022, [Scaling laws for reward model overoptimization](https://arxiv.org/abs/2210.10760): the two forms, and how their numbers move with labels and size.
# - Manheim, Garrabrant 2018, [Categorizing variants of Goodhart's law](https://arxiv.org/abs/1803.04585): the four kinds.
# - Coste et al. 2023, [Reward model ensembles help mitigate overoptimization](https://arxiv.org/abs/2310.02743): mean, strictest, uncertainty-weighted.
# - Ziegler et al. 2019, [Fine-Tuning Language Models from Human Preferences](https://arxiv.org/abs/1909.08593): section 4, "bugs can optimize for bad behavior".
#
# **Next:** [09, summaries that copy](09_summaries_that_copy.ipynb), where nothing is broken and the result is still not what was wanted.
