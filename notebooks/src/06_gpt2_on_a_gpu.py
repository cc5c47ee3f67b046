# %% [markdown]
# # 06 · Towards GPT-2: memory, launching, checkpoints
#
# The model that you tuned knows one harbour town. The paper tuned GPT-2, which was trained on eight million web pages. The code for that is the
# code you have read: not one line of `ppo.step` is different. What does differ is the size of everything. A model a hundred times larger
# does not fit where the small one did, it trains for hours instead of minutes, and a run of hours is one that gets interrupted. This
# notebook is about these three things: memory, launching, and stopping without losing anything. Look at the last row of the table:

# %%
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import display
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from rlhf_helpers import hub, labelers, models, ppo, presets, reward, sampling, tasks
from rlhf_helpers.cli import options
from rlhf_helpers.course import checks, plots, show
from rlhf_helpers.course.profile import RECORDED, folder
from rlhf_helpers.runtime import memory, pretrained, runs, seeds
from rlhf_helpers.runtime.files import read_metrics
from rlhf_helpers.runtime.optim import TensorFlowAdam
from rlhf_helpers.runtime.ranks import Ranks
from rlhf_helpers.runtime.runs import Run

device, GB = runs.default_device(), memory.GB
# %matplotlib inline
show.setup()

# %%
# the released code's style tasks, 64 rows at a time
style_step = {"batch": 512, "query": 64, "response": 24, "micro_batch": 64}
bundled = models.Policy.load().lm.config
shapes = {"bundled": bundled} | {f"GPT-2 {name}": config for name, config in memory.SIZES.items()}
maps = {name: memory.memory_map(config, **style_step) for name, config in shapes.items()}
rows = {}
for name, c in shapes.items():
    weights, total = maps[name]["policy"] / 4e6, maps[name]["total"] / GB
    rows[name] = (c.n_layer, c.n_embd, f"{c.vocab_size:,}", f"{weights:,.1f}", f"{total:.1f}")
names = ["blocks", "width", "vocabulary", "weights, million", "GB for a step of PPO"]
pd.DataFrame(rows, index=names)

# %%
plots.pipeline("sample+reward+ppo");
# %% [markdown]
# No GPT-2 was loaded for this: the last row is computed from the shape of the model alone, for the released code's batch of 512, of which 64
# rows are computed at a time. By the end of this notebook you can compute most of it on paper.
#
# **After this notebook you can**
# - switch from the bundled model to GPT-2, or to another causal language model;
# - read the memory bill of PPO line by line, check it, and make a plan that fits a given GPU;
# - say what micro-batches, checkpointing, LoRA and bf16 change in the *result*, and what only in the machine;
# - launch on one GPU, eight, two machines or Slurm;
# - stop a run, resume it, and check that nothing was lost.
#
# **Time:** 45 minutes of yours, about 2 of the machine's; no GPU is needed. **Before this:** notebook 05.
#
# **What this notebook cannot show you.** It contains neither GPT-2 nor a GPU. No GPU was at hand while this course was written, so there is
# **no recorded run of GPT-2**, neither of 124M nor larger. Runs on many ranks were tested with processes on CPUs, other families of models
# at small sizes with random weights, and the loaders of the paper's texts on small files in the published format. Every cell below runs
# on the bundled model.
#
# ## 1. One switch

# %% tags=["parameters"]
base, version = "bundled", "bundled"  # with a network: "openai-community/gpt2", "released"

# %%
place = models.BASE if base == "bundled" else base
tokenizer, preset = models.load_tokenizer(place), presets.get("sentiment", version)
task, draw = preset.task, tasks.queries if version == "bundled" else hub.queries


def begin(**options):
    return models.Policy.load(place, **options).to(device)


policy = begin()
pool = draw(task, tokenizer, 64, seed=100)
models.check_pair(policy, tokenizer)

# %% [markdown]
# That is all. `place` may be a folder or a name on the Hub. The tokenizer always comes from the same place as the model, because token number
# 700 is one word for one tokenizer and quite another for the next; `check_pair` rejects a pair that does not belong together. For the
# same reason a reward model must be fitted on the base model whose texts it is to score. Yours, from notebook 03, can only read the
# tokens of the bundled model.
#
# The second word, `version`, chooses the settings. What changes with it?

# %%
meant_for = {"bundled": "3M", "released": "124M", "paper": "774M"}
columns = {}
for name, weights in meant_for.items():
    p = presets.get("sentiment", name)
    columns[f"{name}, for {weights}"] = {
        "texts": p.task.dataset,
        "query and response, tokens": f"{p.task.query_length} + {p.task.response_length}",
        "labels": f"{p.labels:,}",
        "episodes": f"{p.ppo.episodes:,}",
        "batch": p.ppo.batch,
        "learning rate": f"{p.ppo.lr:g}",
        "KL target, nats": p.ppo.kl_target,
    }
pd.DataFrame(columns)

# %% [markdown]
# *Released* and *paper* differ because the code that the authors published differs from what they wrote. Both take their prompts from
# BookCorpus through `hub`, and use the labels that people gave for the paper. (The size of the *other* notebooks' runs is a separate
# setting: with `RLHF_PROFILE=gpu`, set before JupyterLab starts, they use more labels, 100,000 episodes and batches of 512. This notebook
# is small in every profile.)
#
# PPO needs a score for each answer, and any Python function of texts will do. Here we use the simulated labeler's utility (positive minus negative
# words; and, as always, -1 for an answer without an end): it reads text, so it works with every base model.

# %%
labeler = labelers.simulated(task)


def taste(prompts, answers):
    return [labeler.utility(answer) for answer in answers]


score = reward.from_texts(taste, task, tokenizer)


def seeded(seed):
    return torch.Generator(device).manual_seed(seed)


queries = pool[:16].to(device)
rollout = sampling.sample(policy, queries, task.response_length, task.temperature, seeded(0))
table = {"end of the prompt": [show.ending(t, 60) for t in tasks.query_texts(queries, tokenizer)]}
table["response"] = tasks.texts(task, rollout.responses, tokenizer)
pd.DataFrame(table | {"score": score(rollout).tolist()}).head(4)

# %% [markdown]
# This rollout of 16 rows stays with us to the end of the notebook.
#
# ## 2. Reading a memory bill
#
# A GPU has, say, 24 or 80 GB, and a run that needs more stops with an error. It would be a pity to find that out after renting the machine,
# so count first. Everything begins with the number of weights. The package does not use a formula for it, because every family of models
# has a formula of its own. It builds the model without contents (tensors that have a shape but no numbers take no memory) and counts what
# is there:

# %%
def counted(config):
    """How many weights a language model of this shape has, counted on one without contents."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config).num_parameters()


for name, config in memory.SIZES.items():
    print(f"GPT-2 {name}: {counted(config):,} weights")
print(f"bundled: {counted(bundled):,} weights")

# %% [markdown]
# The names 124M to 774M are these counts, rounded.
#
# ### The five parts that stay in memory throughout
#
# PPO keeps three models, and trains one of them:
#
# - **policy**: its weights, in float32, four bytes each;
# - **reference**: a copy of the policy, never trained;
# - **reward model**: a trunk of the same size with one number on top, not trained here either;
# - **gradients**: one float32 for each weight that is *trained*;
# - **optimizer**: Adam keeps two float32 for each weight that is trained, running means of its gradient and of its square.
#
# **Exercise 1: the bill.** Difficulty ●○○○○ · importance ●●●●● · 5 minutes
#
# Return the five lines in bytes, in this order, for a policy and a reward model of so many weights.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Two of the five parts are models that are not trained: weights, and nothing else. One part has two numbers for each weight.
# </details>


# %% tags=["exercise"]
def my_bill(policy, reward):  # how many weights the two models have -> a list of five
    return ...


# %% tags=["solution"]
def my_bill(policy, reward):  # how many weights the two models have -> a list of five
    return [4 * policy, 4 * policy, 4 * reward, 4 * policy, 8 * policy]


# %% tags=["check"]
solved = checks.nb06_bill(my_bill)

# %% tags=["catch-up"]
if not solved:

    def my_bill(policy, reward):
        return [4 * n for n in (policy, policy, reward, policy, 2 * policy)]

# %% [markdown]
# Compare with the package. Besides GPT-2's own weights the policy has a value head (for a model of width $d$: $d$ weights and a bias), and the
# reward model has $d$ weights for its one number.

# %%
held = memory.PARTS[:5]
for name, config in memory.SIZES.items():
    weights, d = counted(config), config.n_embd
    mine = [int(line) for line in my_bill(weights + d + 1, weights + d)]
    parts = memory.memory_map(config, **style_step)
    title = f"GPT-2 {name}, {sum(mine) / GB:.1f} GB held throughout"
    checks.nb05_same(title, mine, [parts[part] for part in held], tolerance=0)

# %% [markdown]
# Your bill and the package's agree to the byte. But they might both be wrong. So check them on a real model: make one backward pass and one
# optimizer step of the policy, then add up the bytes of all its tensors.


# %%
def bytes_of(tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


optimizer = TensorFlowAdam(policy.parameters(), lr=1e-5)
now = sampling.replay(policy, rollout, task.temperature)
(now.logprobs.mean() + now.values.mean()).backward()
optimizer.step()
moments = [v for state in optimizer.state.values() for v in state.values() if v.dim()]
real = {"policy": policy, "reference": policy.frozen_copy()}
real["reward model"] = models.RewardModel.from_policy(policy)
real = {part: list(model.parameters()) for part, model in real.items()}
real |= {"gradients": [p.grad for p in policy.parameters()], "optimizer": moments}

lengths = {"query": rollout.queries.tokens.shape[1], "response": task.response_length}
here = memory.memory_map(policy.lm.config, batch=16, **lengths)
for part, tensors in real.items():
    title = f"{part}, {here[part] / 1e6:.1f} MB"
    checks.nb05_same(title, bytes_of(tensors), here[part], tolerance=0)

# %% [markdown]
# Why is the reward model smaller than the policy here? The bundled model has an output layer of its own, 3,072 $\times$ 192 weights, which a reward
# model has no use for. GPT-2 uses its token embedding for that, so nothing falls away.
#
# ### The two parts that come and go
#
# - **activations**: to compute a gradient, the backward pass needs the intermediate results of the forward pass, so these must be kept until
#   then. How many there are grows with rows $\times$ tokens $\times$ blocks $\times$ width.
# - **sampling**: the keys and values of every token so far, kept so that they need not be computed again (notebook 01). Sampling computes no
#   gradients, and so it keeps no activations.
#
# A step first samples and then learns, so the two are never in memory at the same time, and only the larger counts for the `total`. Neither
# has a simple formula. The map therefore runs the real forward pass on tensors that have shapes but no contents, and adds up what would be
# stored. Tests compare it with what torch's allocator reports for small models on a CPU: activations agree to 15 %, sampling to a factor
# of 1.7.

# %%
plots.memory_bars(memory.rows(), memory.PARTS);
# %% [markdown]
# *How to read it:* each bar is the memory that one GPU needs for PPO with a batch of 512, 64 + 24 tokens, 64 rows at a time, for GPT-2 of 124M to
# 1.5B; the colours and hatchings are the parts of the bill. Dashed lines mark GPUs of 24 and 80 GB.
#
# At 124M every setting fits on either GPU. Now look at 774M and the line of 24 GB. Two settings stay clearly below it: LoRA, and eight GPUs instead
# of one. With checkpointing the bar ends just before the line. (There sampling has become the larger of the two.) That is too close: an allocator
# always wastes some memory, and the little that is left would not be enough for it. And the plain `bf16` bars are hardly shorter than those of fp32.
# With bf16 only the calculations are done in half precision; the weights and the optimizer's numbers, which make up most of the bar, stay in fp32.
#
# ## 3. Four arguments that change the bill
#
# Micro-batches, checkpointing, LoRA and bf16 are arguments of `Policy.load`, of `Run` and of the command line. Here they are as the command line
# has them, with its comments:

# %%
show.source(options.Hardware)

# %% [markdown]
# The comment on top makes a claim: the result stays the same, with two exceptions. Let us check both halves of it. By the "result" we mean the
# gradient of PPO's loss on our rollout, written as one long vector: two settings that give the same gradient train the same model.
#
# ### Micro-batches
#
# If 512 rows do not fit at once, compute 64 at a time and add up the gradients: eight passes, then one step of the optimizer. But what exactly
# must be added up? Each part gives the *mean* loss over its own tokens, and parts need not have the same number of tokens. A mean of means
# would give the tokens of a small part more weight than those of a large one.
#
# **Exercise 2: combine the loss.** Difficulty ●●○○○ · importance ●●●●○ · 5 minutes
#
# From each part's mean loss and its number of tokens, return the mean over all tokens.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Mean times count is a sum. Add the sums, then divide once.
# </details>


# %% tags=["exercise"]
def my_whole_loss(means, counts):  # (parts,) float, (parts,) long -> scalar
    return ...


# %% tags=["solution"]
def my_whole_loss(means, counts):  # (parts,) float, (parts,) long -> scalar
    return (means * counts).sum() / counts.sum()


# %% tags=["check"]
solved = checks.nb06_whole_loss(my_whole_loss)

# %% tags=["catch-up"]
if not solved:

    def my_whole_loss(means, counts):
        return (means * counts / counts.sum()).sum()

# %% [markdown]
# In the package, `ppo.step` weights each part by its share of the tokens. The advantages are whitened *before* the minibatch is cut into parts:
# whitened part by part, they would be other advantages, because each part has a mean and a spread of its own. So the losses of the parts
# add up to the loss of the whole, and so do their gradients:

# %%
config = ppo.PPOConfig(batch=16, minibatches=1, episodes=16)
start, reference = begin(), begin().frozen_copy()
with torch.no_grad():
    far = sampling.replay(reference, rollout, task.temperature).logprobs
rewards = ppo.shape_rewards(score(rollout), rollout.logprobs, far, rollout.mask, config.kl_coef)


def gradient(policy, parts):
    """Add up the gradients of the parts; returns one long vector and the seconds it took."""
    policy.zero_grad()
    began = time.perf_counter()
    advantages, returns = ppo.targets(rollout, rewards, config)
    for part in parts:
        weight = rollout.mask[part].sum() / rollout.mask.sum()
        learned = advantages[part], returns[part]
        loss, _ = ppo.losses(policy, rollout[part], *learned, task, config)
        (weight * loss).backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters()]), time.perf_counter() - began


# %% [markdown]
# With several GPUs each runs a process of its own, called a *rank*. From the point of view of the gradient a rank is nothing but a micro-batch on
# another machine: `Ranks(rank, count)` takes its share of the rows, and in the end all gradients are added up. So we can imitate two ranks
# in one process. **Predict** for each line how large the difference is: none at all, the last digits, or more?

# %%
ways = {
    "16 rows at once": (start, [slice(0, 16)]),
    "micro-batches of 5, 5, 5 and 1": (start, list(Ranks(micro_batch=5).micro_batches(16))),
    "two ranks": (start, [*Ranks(0, 2).micro_batches(16), *Ranks(1, 2).micro_batches(16)]),
    "checkpointing": (begin(checkpointing=True), [slice(0, 16)]),
    "bf16": (begin(precision="bf16"), [slice(0, 16)]),
}
whole, _ = gradient(*ways["16 rows at once"])  # once to warm up
measured = {}
for name, way in ways.items():
    vector, seconds = gradient(*way)
    measured[name] = (((vector - whole).norm() / whole.norm()).item(), seconds)
rows = [(name, f"{off:.1e}", f"{seconds:.2f}") for name, (off, seconds) in measured.items()]
pd.DataFrame(rows, columns=["way", "difference / length of the gradient", "seconds"])

# %%
off = {name: difference for name, (difference, _) in measured.items()}
assert off["bf16"] > 1e-4 and all(value < 1e-4 for name, value in off.items() if name != "bf16")
print("same up to rounding:", ", ".join(name for name, value in off.items() if value < 1e-4))

# %% [markdown]
# Micro-batches and ranks change the order in which numbers are added, and with floating-point numbers that changes the last digits. Checkpointing
# computes the same thing twice, and gets the same numbers twice. `bf16` is another matter: it keeps only 8 bits of precision in each
# product, and the gradient differs visibly. This is common practice on GPUs, and it does little harm where weights, logits and updates stay
# in float32, as here. But do not expect the same numbers.
#
# A CPU without fast bf16 prints a warning above the table. The warning is honest, and so is the column of seconds: a bare product of two matrices,
# which the warning has measured, takes longer by far more than the whole gradient does (the table), because not all of the gradient is
# such products. On a GPU bf16 is the fast one.
#
# ### Checkpointing: less memory for more time
#
# Most of the activations are intermediate results inside a block, and a block can be computed again from its input. So store the inputs only,
# and when the backward pass arrives at a block, run that block's forward pass once more. It costs time and saves memory. How much, compared
# with smaller micro-batches?

# %%
rows = [512, 128, 64, 16]
_, ax = plt.subplots(figsize=(8, 3.4))
ways = {"plain": {}, "checkpointing": {"checkpointing": True}, "LoRA 16": {"lora": 16}}
looks = ((plots.BLUE, "o-"), (plots.RED, "s--"), (plots.GREEN, "D-."))
for (name, extra), (colour, style) in zip(ways.items(), looks):
    settings = style_step | extra | {"precision": "bf16"}
    bills = [memory.memory_map(memory.SIZES["774M"], **settings | {"micro_batch": n}) for n in rows]
    ax.loglog(rows, [bill["total"] / GB for bill in bills], style, color=colour, label=name)
for limit in (24, 80):
    ax.axhline(limit, color=plots.GREY, linestyle=":")
    ax.annotate(f"{limit} GB", (16, limit), va="bottom", fontsize=8.5, color=plots.GREY)
ax.set(xlabel="rows at a time", ylabel="GB", title="GPT-2 774M, batch 512, bf16")
ax.set_xticks(rows, rows)
ax.set_yticks([16, 32, 64, 128], [16, 32, 64, 128])
ax.minorticks_off()
ax.legend();

# %% [markdown]
# *How to read it:* both axes are logarithmic; the dotted lines are GPUs of 24 and 80 GB. From right to left the micro-batch gets smaller, and the
# total falls towards what stays in memory throughout. That is a floor of 18.6 GB, and no micro-batch, however small, gets below it. At 64
# rows the plain run lies 14 GB above the floor, the run with checkpointing 4 GB. Only LoRA lowers the floor itself, because it changes what
# stays in memory. So with few rows LoRA saves more than checkpointing; somewhere between 64 and 128 rows the two lines cross, and with many
# rows checkpointing saves more.
#
# ### LoRA: train less
#
# Three of the five parts of the bill exist because every weight is trained: its gradient, Adam's two numbers, and a reference that must be a
# second copy. So train fewer weights. LoRA freezes a layer $W$ (inputs $\times$ outputs) and trains two thin matrices beside it:
# $W + AB$, with $A$ of inputs $\times$ rank and $B$ of rank $\times$ outputs. $B$ starts at 0, so at first nothing is different. (The
# package doubles the product, $W + 2AB$: its `lora_alpha` is twice the rank.) A layer of 1,280 $\times$ 1,280 has 1.6 million weights; with
# rank 16 only 41,000 numbers are trained in its place.
#
# Now gradients and Adam's numbers are needed for $A$ and $B$ only, and the reference is the policy with $AB$ left out. But this is the one
# argument that changes what is learned: the change of each layer is confined to `rank` directions.
# %%
modules = start.lm.base_model.modules()
layers = [tuple(m.weight.shape) for m in modules if isinstance(m, pretrained.LINEAR)]
light = begin(lora=4)
trained = sum(p.numel() for p in light.parameters() if p.requires_grad)
value_head = sum(p.numel() for p in light.value_head.parameters())
by_hand = sum(4 * (inputs + outputs) for inputs, outputs in layers) + value_head
title = f"LoRA of rank 4 and the value head: {trained:,} weights"
checks.nb05_same(title, by_hand, trained, tolerance=0)
every = sum(p.numel() for p in start.parameters())
print(f"{trained / every:.1%} of all weights, in {len(layers)} layers")

# %%
before = {name: p.clone() for name, p in light.named_parameters()}
brief = replace(config, episodes=32, lr=1e-3)
lines = ppo.tune(light, score, pool, task, brief, Run(seed=1, quiet=True))
moved = [name for name, p in light.named_parameters() if not torch.equal(p, before[name])]
assert all("lora_" in name or "value_head" in name for name in moved)
print(f"After {len(lines)} steps {len(moved)} of {len(before)} tensors have changed,")
print("all of them LoRA's or the value head's.")

# %% [markdown]
# ### Will it fit?
#
# `python -m rlhf_helpers tune` consults the map before it loads anything. This is what it would tell you about 355M with all 512 rows at once, on
# 24 GB:

# %%
all_at_once = style_step | {"micro_batch": None, "precision": "bf16"}
try:
    memory.check(memory.SIZES["355M"], int(24 * GB), **all_at_once)
except MemoryError as error:
    show.wrapped(str(error))

# %% [markdown]
# **Exercise 3: a plan.** Difficulty ●●●○○ · importance ●●●●● · 8 minutes
#
# You have one GPU of 24 GB and want PPO on 774M with the released code's batch of 512. Leave a tenth of the GPU free, for what allocators waste.
# Choose from `precision` ("fp32", "bf16"), `checkpointing` (True), `lora` (a rank) and `micro_batch` (rows). There are several answers, but
# change no more than you need: if one of your settings can be taken back, or the rows doubled, and it still fits, that is a better plan.
# Say to yourself what your plan costs.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Read the two figures above at 774M. What stays in memory throughout without LoRA, and how much of the 21.6 GB that you may use does that leave for activations or sampling, whichever is larger?
# The lines of a plan: `memory.memory_map(memory.SIZES["774M"], **style_step | my_plan)`.
# </details>

# %% tags=["exercise"]
my_plan = {"micro_batch": ...}

# %% tags=["solution"]
# the same result for one more forward pass; without it, 8 rows fit
my_plan = {"checkpointing": True, "micro_batch": 32}

# %% tags=["check"]
solved = checks.nb06_plan(my_plan)

# %% tags=["catch-up"]
if not solved:
    my_plan = {"checkpointing": True, "micro_batch": 32}

# %%
bill = memory.memory_map(memory.SIZES["774M"], **style_step | my_plan)
row = {part: bill[part] / GB for part in (*memory.PARTS, "total")}
pd.DataFrame(row, index=["GB"]).round(1)

# %% [markdown]
# Without LoRA, what stays in memory throughout takes 18.6 of the 21.6 GB, so there is little room for anything else. There are three ways out.
#
# - Make the micro-batch small. Eight rows at a time fit with no other change, but so few rows keep most of the GPU idle.
# - Switch checkpointing on. Then 32 rows fit, for the price of one more forward pass. In both of these cases the gradient is that of the whole
#   batch.
# - Use LoRA. It leaves the most room, but it trains a different model.
#
# bf16 does not help here. It halves the activations, but for the calculations it needs a second copy of all the weights, in bf16, beside those
# in fp32. With so few rows the activations are small to begin with, and the copy takes more memory than they give back. If none of this suits
# you, rent a larger GPU, or several of them with `--sharded`.
#
# ## 4. Launching
#
# Start a long run from the command line and not from a notebook, so that closing the browser does not end it. One GPU, for 124M with the released
# settings:
#
# ```bash
# python -m rlhf_helpers fit-reward --model openai-community/gpt2 --preset released --labels released --precision bf16 --out runs/gpt2-reward
# python -m rlhf_helpers tune --model openai-community/gpt2 --preset released --reward runs/gpt2-reward --precision bf16 --micro-batch 128 --out runs/gpt2-tuned
# ```
#
# Eight GPUs, here for 774M: the same two commands behind `torchrun`, which starts one process for each GPU. (Where a whole copy of the model does
# not fit on each GPU, `--sharded` spreads the weights over all of them.)
#
# ```bash
# torchrun --standalone --nproc-per-node 8 -m rlhf_helpers fit-reward --model openai-community/gpt2-large --preset paper --labels released --precision bf16 --out runs/large-reward
# torchrun --standalone --nproc-per-node 8 -m rlhf_helpers tune --model openai-community/gpt2-large --preset paper --reward runs/large-reward --precision bf16 --micro-batch 64 --out runs/large-tuned
# ```
#
# Two machines: the same line on both, with the address of the first; under Slurm the batch script fills it in:
#
# ```bash
# torchrun --nnodes 2 --nproc-per-node 8 --rdzv-id 7 --rdzv-backend c10d --rdzv-endpoint FIRST_MACHINE:29500 -m rlhf_helpers tune ...
# ```
#
# [docs/launch.md](../docs/launch.md) has all commands in full, with the batch script for Slurm and a table of what can go wrong. Without a network,
# `--model` and `--data-dir` take folders. We have run none of this on GPUs.
#
# What is different with eight processes? Each loads the same model and takes its share of the paper's batch of 1,024:

# %%
crew = [Ranks(rank, 8) for rank in range(8)]
shares = []
for r in crew:
    rows = r.local_rows(1024)
    shares.append((r.rank, f"{rows.start} to {rows.stop - 1}", seeds.derive(0, "rank", r.rank)))
columns = ["rank", "rows of the batch", "seed of its sampler (--seed 0)"]
pd.DataFrame(shares, columns=columns).set_index("rank").T

# %% [markdown]
# Some things must differ between ranks, and others must not. The random numbers must differ: with one seed for all, every rank would draw the
# same ones, and eight GPUs would write the same kind of luck eight times over. (The released code adds 100,003 to the seed for each rank.
# Such sums can collide, so that the second rank of one run draws the numbers of another run. Here a seed is a hash of `--seed`, of what it
# is for, and of the rank.)
#
# Whitening, the KL and the controller must *not* differ. They are computed from the rows of *all* ranks, which are gathered first. Otherwise a
# response would be compared with the 127 others of its rank instead of all 1,023, every rank would arrive at a beta of its own, and the
# result would depend on the number of GPUs. (The released code whitens rank by rank.) Once that is settled, the gradients of the ranks add
# up to those of one process, as you saw with "two ranks" above.
#
# ## 5. Stop and resume
#
# A run that takes a day is likely to be interrupted: the job reaches its time limit, the machine is taken away, you press the wrong key. So every
# few steps `ppo.tune` writes a checkpoint. What must be in it, so that the run **ends bit for bit** as if nothing had happened?
#
# **Exercise 4: what a checkpoint contains.** Difficulty ●●●○○ · importance ●●●●○ · 6 minutes
#
# Choose what is needed, and nothing that can be recomputed or read from elsewhere: *weights* (of policy and value head), *moments* (of Adam),
# *gradients*, *beta*, *reference*, *reward model*, *last rollout*, *learning rate*, *steps done*, *generator* (the state of the sampler's
# random numbers), *order of prompts*.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# For each of them ask where the *next* step takes it from. The learning rate falls along a straight line, so it is computed from the number of the
# step. Which prompts come next follows from the seed and that number, too.
# </details>

# %% tags=["exercise"]
my_checkpoint = {...}  # for instance {"weights", "gradients"}

# %% tags=["solution"]
my_checkpoint = {"weights", "moments", "beta", "generator", "steps done"}

# %% tags=["check"]
solved = checks.nb06_checkpoint(my_checkpoint)

# %% tags=["catch-up"]
if not solved:
    my_checkpoint = {"weights", "moments", "beta", "generator", "steps done"}

# %% [markdown]
# Here is the loop. Look for the line that saves, and for each thing on your list find out *why* the next step needs it. That line names nearly all
# of them, but not the one that people forget.

# %%
show.source(ppo.tune)

# %% [markdown]
# Now try it, with eight small steps and a checkpoint after every second one. The first run is left in peace. The second is stopped by a Ctrl-C in
# its sixth step; then the same call is made once more.

# %%
short = ppo.PPOConfig(batch=8, minibatches=1, episodes=64, epochs=2, kl_target=6.0, kl_horizon=100)
scratch = tempfile.TemporaryDirectory()


def train(name, stop_in=None):
    def before_step(step):
        if step == stop_in:
            raise KeyboardInterrupt  # what Ctrl-C does

    place, fresh = Path(scratch.name) / name, begin()
    run = Run(place, seed=3, config=short, checkpoint_every=2, quiet=True)
    try:
        ppo.tune(fresh, score, pool, task, short, run, before_step=before_step)
    except KeyboardInterrupt:
        print(f"{name}: stopped after {len(run.metrics())} steps")
    return fresh, run.metrics()


# %% tags=["slow"]
straight, straight_lines = train("straight")
_, stopped_lines = train("stopped", stop_in=5)
left_behind = shutil.copytree(Path(scratch.name) / "stopped", Path(scratch.name) / "kept")
resumed, resumed_lines = train("stopped")


# %%
def farthest(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values())
    return max((x - y).abs().max().item() for x, y in pairs)


print("largest difference in any weight:", farthest(straight, resumed))
print("all lines of metrics equal:", straight_lines == resumed_lines)
if device.type == "cpu":
    assert farthest(straight, resumed) == 0 and straight_lines == resumed_lines

# %% [markdown]
# Every bit of every weight is equal. (That holds on a CPU. A GPU may add numbers in another order each time, so there the last digits differ.) The
# sixth step had never been finished, and the fifth was lost with it, because the last checkpoint had been written after the fourth. Both
# were done again, with the same random numbers. What is in the folder?

# %%
files = sorted(path for path in left_behind.rglob("*") if path.is_file())
rows = [(path.relative_to(left_behind).as_posix(), path.stat().st_size / 1e6) for path in files]
pd.DataFrame(rows, columns=["file", "MB"]).round(3)

# %% [markdown]
# `run.json` says what was trained, with which settings, versions and commit. If you call the command with other settings, it refuses to continue.
# The large file holds the weights and Adam's two moments for each of them: three times the size of the policy.
#
# Now remove one thing at a time from the stopped run's checkpoint, and resume. **Predict** for each: does the next *response* change, or only what
# comes later?


# %%
def forget(what):
    place = Path(shutil.copytree(left_behind, Path(scratch.name) / what)) / "checkpoint"
    tensors = load_file(place / "state.safetensors")
    state = json.loads((place / "state.json").read_text())
    if what == "moments":
        tensors = {name: t for name, t in tensors.items() if not name.startswith("optimizer.")}
    elif what == "generator":
        tensors["generator"] = seeded(99).get_state().unsqueeze(0)
    elif what == "beta":
        state["beta"] = short.kl_coef
    save_file(tensors, place / "state.safetensors")
    (place / "state.json").write_text(json.dumps(state))


# %% tags=["slow"]
careless = {}
for what in ("moments", "beta", "generator"):
    forget(what)
    careless[what] = train(what)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.2))
runs = {"not interrupted": straight_lines, "stopped and resumed": resumed_lines}
runs |= {f"{what} forgotten": lines for what, (_, lines) in careless.items()}
looks = [(plots.BLACK, "-"), (plots.BLUE, "o"), (plots.RED, "x--"), (plots.GREEN, "x-.")]
looks.append((plots.ORANGE, "x:"))
panels = (("score", "Score", "mean score"),
          ("kl_nats_per_response", "KL from the reference", "nats"))  # fmt: skip
for ax, (column, title, unit) in zip(axes, panels):
    for (name, lines), (colour, style) in zip(runs.items(), looks):
        first = 4 if "forgotten" in name else 0
        y = [line[column] for line in lines[first:]]
        ax.plot(range(first, 8), y, style, color=colour, label=name)
    ax.axvline(3.5, color=plots.GREY, linewidth=1)
    ax.set(xlabel="step", ylabel=unit, title=title)
below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "frameon": False}
figure.legend(*axes[0].get_legend_handles_labels(), ncols=3, fontsize=9, **below);
# %% [markdown]
# *How to read it:* the black line is the run that was never stopped; the blue dots, the resumed one, lie on it. To the right of the grey line are
# the runs with something missing. (The axis counts steps from 0, so the sixth is 5.)
#
# Without the generator the very next responses are different ones, and so is their KL. (Their mean score may be the same by chance: it counts
# words.) Without the moments or without beta, the next responses are still the same, because the same weights draw with the same random numbers;
# only what is *learned* from them differs. Without the moments that shows one step later in the KL, and in the score once a token is drawn
# differently. Without beta it shows last, and least in the weights, because beta has moved so little in so few steps. (The KL is an estimate from
# eight responses: it may be negative, as you saw in notebook 04.) The table shows all three:

# %%
rows = []
for what, (tuned, lines) in careless.items():
    assert farthest(straight, tuned) > 0
    nats = "kl_nats_per_response"  # of the responses: other tokens, another number
    same = lines[4][nats] == straight_lines[4][nats]
    rows.append((what, same, f"{farthest(straight, tuned):.1e}"))
columns = ["forgotten", "next responses the same", "largest difference in a weight at the end"]
pd.DataFrame(rows, columns=columns)

# %% [markdown]
# None of the three stopped with an error, and none of the curves looks wrong: you would never have noticed. So do not trust a resume until you have
# compared it, once, with a run that was not interrupted.
#
# The checkpoint contains whole weights even if they were sharded, so a run can be resumed on another number of GPUs. It is then as good a run, but
# not the same one: each rank has another share of the rows, and draws other random numbers for them.
#
# ## 6. A recorded run, and yours
#
# Here is the recorded run that the notebooks use where you have none. `make recorded` made it on one CPU core, with **the bundled model of 3
# million weights** and a reward model fitted on 5,000 **simulated** comparisons.

# %%
recorded = read_metrics(RECORDED / "ppo_sentiment.jsonl")
results = json.loads((RECORDED / "results.json").read_text())
(r,) = [r for r in results if r["task"] == "sentiment" and r.get("kept")]
print(f"{r['episodes']:,} episodes in {r['tune_seconds']:.0f} s, {r['precision']}, {r['machine']}")
show.wrapped(
    f"at the end: {r['kl_nats']:.1f} nats, preferred by a simulated judge without noise in "
    f"{r['win_rate']:.0%} ({r['low']:.0%} to {r['high']:.0%})"
)
plots.training_curves(recorded);
# %% [markdown]
# *How to read it:* the nine curves of notebook 05, of the recorded run of the bundled model. Its beta was fixed, so there is no KL target.
# A run of GPT-2 logs the same nine, over about a hundred times as many episodes.
#
# And what it wrote, before and after, on prompts that training has not seen:

# %%
saltmere, reader = tasks.SENTIMENT, models.load_tokenizer()
unseen = tasks.queries(saltmere, reader, 4, split="test", seed=6).to(device)
table = {"end of the prompt": [show.ending(t, 60) for t in tasks.query_texts(unseen, reader)]}
lengths = saltmere.response_length, saltmere.temperature
for name, source in (("before", models.BASE), ("after", RECORDED / "policy_sentiment")):
    writer = models.Policy.load(source).to(device)
    said = sampling.sample(writer, unseen, *lengths, seeded(0))
    table[name] = tasks.texts(saltmere, said.responses, reader)
pd.DataFrame(table)

# %% [markdown]
# A run of GPT-2 is yours to make. Run the two commands of section 4 on a machine with a GPU and copy `runs/gpt2-tuned` into your runs folder; then
# this cell shows it beside the recorded one:

# %%
own = folder() / "gpt2-tuned"
if (own / "metrics.jsonl").exists():
    about = json.loads((own / "run.json").read_text())
    facts = {"device": about["device"], "seed": about["seed"], **about["versions"]}
    display(pd.Series(facts, name="your run").to_frame())
    mine = read_metrics(own / "metrics.jsonl")
    plots.training_curves({"bundled, recorded": recorded, "yours": mine})
else:
    print("There is no run of GPT-2 in your runs folder (gpt2-tuned/metrics.jsonl).")

# %% [markdown]
# While it runs, `python -m rlhf_helpers summarize-run runs/gpt2-tuned` shows how far it is. Afterwards
# `python -m rlhf_helpers judge --model openai-community/gpt2 --preset released --tuned runs/gpt2-tuned --by me` asks you, blind, which of two
# texts is better.
#
# ## What costs what
#
# | argument | memory | time | result |
# |---|---|---|---|
# | `micro_batch` | fewer activations | none, unless the GPU is left idle | the same up to rounding |
# | `checkpointing` | far fewer activations | one more forward pass | the same up to rounding |
# | `precision="bf16"` | fewer activations, but copies of the weights | much faster on a GPU | nearly the same |
# | `lora` | no reference, few gradients and moments | a little less | a different one |
# | more GPUs | a share of the rows each | divided among them | the same up to rounding, with other random numbers |
# | `--sharded` | a share of the weights each | communication between GPUs | the same up to rounding |
#
# ## Recap
#
# - The base model is a name; tokenizer, prompts, reward model and settings follow from it. The algorithm does not change.
# - Throughout a run, each weight that is trained takes 16 bytes, and each that is only read takes 4. The larger of activations and sampling comes
#   on top.
# - A batch may be computed in parts if each part is weighted by its tokens and the whitening comes first. Ranks are such parts.
# - LoRA is the one argument here that changes what is learned; bf16 changes the numbers a little.
# - A checkpoint contains weights, moments, beta, the generator and the step. Compare a resumed run with an uninterrupted one, once, bit for bit.
#
# ## Questions
#
# 1. DPO, another method with the same goal, needs a policy and a reference, but no reward model and no sampling. Which parts of the bill are left?
# 2. What would your bill be if the weights, too, were kept in bf16? Which updates would be lost? (Near 1, bf16 has steps of 1/128.)
# 3. PPO could compute the reference's log-probabilities with LoRA switched off. Which part of the map already assumes that?
# 4. Two ranks with the same sampling seed: which of the nine curves would tell you?
# 5. Why may the order of prompts be left out of a checkpoint here, and when may it not?
# 6. A token costs about two operations a weight forward, and four backward. With four epochs, how many operations a weight does one token of a PPO step cost? Which of the passes is slower than this count says, and why?
#
# ## Further reading
#
# - Ziegler et al. 2019, [Fine-Tuning Language Models from Human Preferences](https://arxiv.org/abs/1909.08593): section 2 (the method) and the appendix for batch sizes and learning rates of 774M.
# - Hu et al. 2021, [LoRA: Low-Rank Adaptation of Large Language Models](https://arxiv.org/abs/2106.09685): section 4.
# - Chen et al. 2016, [Training Deep Nets with Sublinear Memory Cost](https://arxiv.org/abs/1604.06174): checkpointing.
# - Rajbhandari et al. 2020, [ZeRO: Memory Optimizations Toward Training Trillion Parameter Models](https://arxiv.org/abs/1910.02054): section 3, a memory bill like ours, and section 5, shards.
# - Micikevicius et al. 2018, [Mixed Precision Training](https://arxiv.org/abs/1710.03740): why master weights stay in float32.
#
# **Next:** notebook 07 asks whether a tuned model is really better.
