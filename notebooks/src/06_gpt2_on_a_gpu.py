# %% [markdown]
# # 06 · GPT-2 on a GPU
#
# The model that you tuned knows one harbour town. The paper tuned GPT-2, which was trained on a good part of the web. The code is the code you
# have read: not one line of `ppo.step` is different. What differs is the memory it needs: look at the last row.

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
# No GPT-2 was loaded here: the last row is computed from the shape of the model alone, for the released code's batch of 512, 64 rows at a time.
# By the end of this notebook you can compute most of it on paper.
#
# **After this notebook you can**
# - switch from the bundled model to GPT-2, or to any causal language model;
# - read the memory bill of PPO line by line, check it, and make a plan that fits a given GPU;
# - say what micro-batches, checkpointing, LoRA and bf16 change in the *result*, and what only in the machine;
# - launch on one GPU, eight, two machines or Slurm;
# - stop a run, resume it, and check that nothing was lost.
#
# **Time:** 45 minutes of yours, about 3 of the machine's; no GPU is needed. **Before this:** notebook 05.
#
# **What this notebook cannot show you.** No GPU was at hand while this course was written, so there is **no recorded run of GPT-2**, neither
# of 124M nor larger. Runs on many ranks were tested with processes on CPUs, other families of models at small sizes with random weights,
# and the loaders of the paper's texts on small files in the published format. Every cell below runs on the bundled model instead.
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
# That is all. `place` may be a folder or a name on the Hub. The tokenizer always comes from the same place as the model: a token id means something
# different to every tokenizer, and `check_pair` rejects a pair that does not belong together. For the same reason a reward model must be
# fitted on the base model whose texts it scores; yours, from notebook 03, can only read the bundled model's tokens.
#
# The second word chooses the settings. What changes with it?

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
# *Released* and *paper* differ because the paper's published code differs from its text. Both take prompts from BookCorpus through `hub`, and the
# labels that people gave for the paper. (The size of the *other* notebooks' runs is a separate setting: with `RLHF_PROFILE=gpu`, set before
# JupyterLab starts, they use more labels, 100,000 episodes and batches of 512. This notebook is small in every profile.)
#
# PPO needs a score for each answer, and any Python function of texts will do. Here we use the simulated labeler's utility (positive minus negative
# words): it reads text, so it works with every base model.

# %%
labeler = labelers.simulated(task)


def taste(prompts, answers):
    return [labeler.utility(answer) for answer in answers]


score = reward.from_texts(taste, task, tokenizer)


def seeded(seed):
    return torch.Generator(device).manual_seed(seed)


queries = pool[:16].to(device)
rollout = sampling.sample(policy, queries, task.response_length, task.temperature, seeded(0))
table = {"end of the prompt": ["... " + t[-60:] for t in tasks.query_texts(queries, tokenizer)]}
table["response"] = tasks.texts(task, rollout.responses, tokenizer)
pd.DataFrame(table | {"score": score(rollout).tolist()}).head(4)

# %% [markdown]
# We use this rollout of 16 rows to the end of the notebook.
#
# ## 2. Reading a memory bill
#
# A GPU has, say, 24 or 80 GB, and a run that needs more stops with an error. So count first. A GPT-2 of width $d$ consists of:
#
# | piece | how many | numbers in each |
# |---|---|---|
# | table of tokens | 1 | vocabulary $\times d$ |
# | table of positions | 1 | positions $\times d$ |
# | attention: queries, keys, values | 1 in each block | $d \times 3d$, and $3d$ biases |
# | attention: mixing the heads | 1 in each block | $d \times d$, and $d$ biases |
# | MLP, up and down | 1 of each in each block | $d \times 4d$ and $4d$ biases; $4d \times d$ and $d$ biases |
# | layer norm | 2 in each block, 1 after the last | $d$ gains and $d$ biases |
# | output head | 0 | it is the table of tokens, used a second time |
#
# **Exercise 1: count GPT-2.** Difficulty ●●○○○ · importance ●●●○○ · 8 minutes

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# One block: its matrices add up to $12 d^2$. Its biases and layer norms are multiples of $d$; add them up from the table.
# </details>


# %% tags=["exercise"]
def my_weights(vocabulary, positions, width, layers):
    return ...


# %% tags=["solution"]
def my_weights(vocabulary, positions, width, layers):
    block = 12 * width**2 + 9 * width + 4 * width  # matrices, their biases, two layer norms
    return (vocabulary + positions) * width + layers * block + 2 * width


# %% tags=["check"]
solved = checks.nb06_weights(my_weights)

# %% tags=["catch-up"]
if not solved:

    def my_weights(vocabulary, positions, width, layers):
        return (vocabulary + positions) * width + layers * (12 * width**2 + 13 * width) + 2 * width


# %%
def counted(config):
    return my_weights(config.vocab_size, config.n_positions, config.n_embd, config.n_layer)


for name, config in memory.SIZES.items():
    print(f"GPT-2 {name}: {counted(config):,} weights")
in_file = models.Policy.load().lm.num_parameters()
print(f"bundled: {counted(bundled):,} by this count, {in_file:,} in the file")

# %% [markdown]
# The names 124M to 774M are your counts, rounded. The bundled model has more than the formula says. **Guess why**, then look:

# %%
more = in_file - counted(bundled)
print(f"{more:,} more = {more / bundled.n_embd:,.0f} x {bundled.n_embd}")
print(f"vocabulary: {bundled.vocab_size:,} tokens; tied: {bundled.tie_word_embeddings}")

# %% [markdown]
# Its output head is not tied to the table of tokens: it is a second table. Your formula holds for GPT-2's architecture only, so the package does not
# use a formula: it builds the model without contents and counts its tensors.
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
# **Exercise 2: the bill.** Difficulty ●○○○○ · importance ●●●●● · 5 minutes
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
# Compare with the package. `memory.memory_map` builds the model without contents and counts what is there. Besides GPT-2's own weights the policy has a value head
# ($d$ weights and a bias), the reward model $d$ weights for its one number.

# %%
held = memory.PARTS[:5]
for name, config in memory.SIZES.items():
    weights, d = counted(config), config.n_embd
    mine = [int(line) for line in my_bill(weights + d + 1, weights + d)]
    parts = memory.memory_map(config, **style_step)
    title = f"GPT-2 {name}, {sum(mine) / GB:.1f} GB held throughout"
    checks.nb05_same(title, mine, [parts[part] for part in held], tolerance=0)

# %% [markdown]
# Equal to the byte. And is the map right? Check it on a real model: one backward pass and one optimizer step of the policy, then add up the bytes of
# all its tensors.


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
# ### The two parts that come and go
#
# - **activations**: what the forward pass must store for the backward pass. Grows with rows $\times$ tokens $\times$ blocks $\times$ width.
# - **sampling**: keys and values of every token so far, so that they need not be computed again. No gradients, hence no activations.
#
# They are never in memory at the same time, so only the larger counts for the `total`. Neither has a simple formula: the map runs the real forward pass
# on tensors that have shapes but no contents, and adds up what would be stored. Tests compare it with what torch's allocator reports for
# small models on a CPU: activations agree to 15 %, sampling to a factor of 1.7.

# %%
plots.memory_bars(memory.rows(), memory.PARTS);
# %% [markdown]
# *How to read it:* each bar is the memory that one GPU needs for PPO with a batch of 512, 64 + 24 tokens, 64 rows at a time, for GPT-2 of 124M to 1.5B; the
# colours and hatchings are the parts of the bill. Dashed lines mark GPUs of 24 and 80 GB. At 124M everything fits. At 774M on a GPU of
# 24 GB, two ways fit: LoRA, or eight GPUs. Checkpointing fits on paper, but it leaves so little room that the memory which allocators waste
# would not fit. The plain `bf16` bars are hardly shorter than fp32, because weights and optimizer stay in fp32.
#
# ## 3. Four arguments that change the bill
#
# They are arguments of `Policy.load`, `Run` and the command line. Here they are as the command line has them, with its comments:

# %%
show.source(options.Hardware)

# %% [markdown]
# The comment on top makes a claim: *the result is the same*. Let us check it. "Result" means the gradient of PPO's loss on our rollout, as one long
# vector.
#
# ### Micro-batches
#
# 512 rows at once do not fit, so compute 64 at a time and add up the gradients: eight passes, then one optimizer step. But what exactly must be added
# up? Each part gives the *mean* over its own tokens, and parts need not have the same size.
#
# **Exercise 3: combine the loss.** Difficulty ●●○○○ · importance ●●●●○ · 5 minutes
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
# In the package `ppo.step` weights each part, *after* the advantages were whitened over the whole minibatch. (Whitened part by part, they would be
# different advantages.) So the losses of the parts add up, and so do their gradients:

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
# A rank is a micro-batch on another machine: `Ranks(rank, count)` takes its share of the rows, and all gradients are added up. So we can imitate two
# ranks in one process. **Predict** for each line: exactly the same gradient, the same up to rounding, or a different one?

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
# Micro-batches and ranks change the order in which numbers are added, which changes the last digits. Checkpointing computes the same thing twice. `bf16`
# keeps 8 bits of precision in each product, and that makes a visible difference. It is common practice on GPUs and does little harm where
# weights, logits and updates stay in float32, as here; but do not expect the same numbers.
#
# ### Checkpointing: less memory for more time
#
# Only the input of each block is stored; in the backward pass the block is computed again. How much memory does that save, compared with smaller
# micro-batches?

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
# *How to read it:* from right to left the micro-batch gets smaller and the total falls towards what stays in memory throughout: 18.6 GB, and no
# micro-batch gets below that. At 64 rows the plain run is 14 GB above that floor, checkpointing 4 GB. Only LoRA lowers the floor, because it
# changes what stays in memory. Both axes are logarithmic; the dotted lines are GPUs of 24 and 80 GB.
#
# ### LoRA: train less
#
# Freeze a layer $W$ (inputs $\times$ outputs), and train two thin matrices beside it: $W + AB$, with $A$ of inputs $\times$ rank and $B$ of rank $\times$
# outputs. $B$ starts at 0, so at first nothing changes.
# (The package doubles the product, $W + 2AB$: its `lora_alpha` is twice the rank.)
# Gradients and Adam's numbers are needed for $A$ and $B$ only, and the reference can share $W$ with the policy. But the training itself is different: the
# change of each layer is limited to `rank` directions.
#
# **Exercise 4: what LoRA trains.** Difficulty ●○○○○ · importance ●●●○○ · 4 minutes

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# `for inputs, outputs in layers`: how many numbers are in $A$, how many in $B$? Add, do not multiply.
# </details>


# %% tags=["exercise"]
def my_lora_weights(layers, rank):  # layers: a list of (inputs, outputs)
    return ...


# %% tags=["solution"]
def my_lora_weights(layers, rank):  # layers: a list of (inputs, outputs)
    return sum(rank * (inputs + outputs) for inputs, outputs in layers)


# %% tags=["check"]
solved = checks.nb06_lora(my_lora_weights)

# %% tags=["catch-up"]
if not solved:

    def my_lora_weights(layers, rank):
        return sum(rank * inputs + rank * outputs for inputs, outputs in layers)


# %%
modules = start.lm.base_model.modules()
layers = [tuple(m.weight.shape) for m in modules if isinstance(m, pretrained.LINEAR)]
light = begin(lora=4)
trained = sum(p.numel() for p in light.parameters() if p.requires_grad)
value_head = sum(p.numel() for p in light.value_head.parameters())
title = f"LoRA of rank 4 and the value head: {trained:,} weights"
checks.nb05_same(title, my_lora_weights(layers, 4) + value_head, trained, tolerance=0)
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
# `python -m rlhf_helpers tune` asks the map before it loads anything. This is what you would be told about 355M with all 512 rows at once, on 24 GB:

# %%
all_at_once = style_step | {"micro_batch": None, "precision": "bf16"}
try:
    memory.check(memory.SIZES["355M"], int(24 * GB), **all_at_once)
except MemoryError as error:
    show.wrapped(str(error))

# %% [markdown]
# **Exercise 5: a plan.** Difficulty ●●●○○ · importance ●●●●● · 8 minutes
#
# You have one GPU of 24 GB, want to leave a tenth of it free (allocators waste some), and want PPO on 774M with the released code's batch of 512. Choose from `precision` ("fp32", "bf16"), `checkpointing` (True),
# `lora` (a rank) and `micro_batch` (rows). There are several answers. Change as little as you can (the plan must no longer fit when you take one setting back, or double the rows), and say what it costs.

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
    my_plan = {"lora": 16, "micro_batch": 32}

# %%
bill = memory.memory_map(memory.SIZES["774M"], **style_step | my_plan)
row = {part: bill[part] / GB for part in (*memory.PARTS, "total")}
pd.DataFrame(row, index=["GB"]).round(1)

# %% [markdown]
# All weights with gradients and moments take 18.6 GB, which leaves little room. Eight rows at a time fit with no other change, but keep the GPU idle most
# of the time; with checkpointing 32 fit, for one more forward pass. Either way the result is that of the whole batch. bf16 saves no memory
# here. It makes activations smaller, but it also needs a copy of the weights in bf16 beside those in fp32; with so few rows the activations
# are small, and the copies cost more than they save. LoRA leaves more room, but trains differently. If you want neither, rent a larger GPU,
# or several, with `--sharded`.
#
# ## 4. Launching
#
# Start a long run from the command line, not from a notebook, so that closing the browser does not end it. One GPU, for 124M with the released settings:
#
# ```bash
# python -m rlhf_helpers fit-reward --model openai-community/gpt2 --preset released --labels released --precision bf16 --out runs/gpt2-reward
# python -m rlhf_helpers tune --model openai-community/gpt2 --preset released --reward runs/gpt2-reward --precision bf16 --micro-batch 128 --out runs/gpt2-tuned
# ```
#
# Eight GPUs, here for 774M: the same two commands behind `torchrun`, which starts one process for each GPU (`--sharded` spreads the weights where one copy on each does not fit):
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
# With one seed for all, every rank would draw the same random numbers. (The released code adds 100,003 to the seed for each rank. Such sums can meet: the seed of one run's second rank is another run's own. Here a seed is a hash of `--seed`, what it is for, and a number.) But whitening, KL and the controller are computed from the rows of *all* ranks, which are gathered first. Whitened rank by rank, a
# response would be compared with 127 others instead of 1,023 (the released code whitens so; here the number of GPUs should not change the result), and beta would drift apart. As you saw with "two ranks" above, the gradients then add up to those of one process.
#
# ## 5. Stop and resume
#
# A run of a day is likely to be interrupted: a job reaches its time limit, a machine is taken away, you press the wrong key. Every few steps `ppo.tune`
# writes a checkpoint:

# %%
show.source(ppo.tune)

# %% [markdown]
# What must be in it, so that the run **ends bit for bit** as if nothing had happened?
#
# **Exercise 6: what a checkpoint contains.** Difficulty ●●●○○ · importance ●●●●○ · 6 minutes
#
# Choose what is needed, and nothing that can be recomputed or read from elsewhere: *weights* (of policy and value head), *moments* (of Adam), *gradients*, *beta*, *reference*, *reward model*, *last rollout*, *learning rate*, *steps done*,
# *generator* (the state of the sampler's random numbers), *order of prompts*.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# For each of them ask where the *next* step takes it from. In `ppo.tune` above, what is computed from `i`, the number of the step? `run.batch_indices` says which prompts come next, from seed and step alone.
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
# Now try it. Eight small steps, a checkpoint after every second. One run is not interrupted. Another gets a Ctrl-C in the sixth step; then the same call
# is made once more.

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
# Every bit of every weight is equal. (On a CPU. GPUs add numbers in an order that may vary, so there the last digits differ.) The sixth step was never
# finished, and the fifth was lost with it, because the last checkpoint was written after the fourth; both were done again, with the same
# random numbers. What is in the folder?

# %%
files = sorted(path for path in left_behind.rglob("*") if path.is_file())
rows = [(path.relative_to(left_behind).as_posix(), path.stat().st_size / 1e6) for path in files]
pd.DataFrame(rows, columns=["file", "MB"]).round(3)

# %% [markdown]
# `run.json` says what was trained, with which settings, versions and commit; with other settings the command refuses to continue. Weights and Adam's two
# moments make up the rest: three times the policy.
#
# Now remove one thing from the stopped run's checkpoint, and resume. **Predict** for each: does the next *score* change, or only what comes later?


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
titles = {"score": "Score", "kl_nats_per_response": "KL from the reference"}
for ax, (column, title) in zip(axes, titles.items()):
    for (name, lines), (colour, style) in zip(runs.items(), looks):
        first = 4 if "forgotten" in name else 0
        y = [line[column] for line in lines[first:]]
        ax.plot(range(first, 8), y, style, color=colour, label=name)
    ax.axvline(3.5, color=plots.GREY, linewidth=1)
    ax.set(xlabel="step", title=title)
below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "frameon": False}
figure.legend(*axes[0].get_legend_handles_labels(), ncols=5, fontsize=8, **below);
# %% [markdown]
# *How to read it:* the black line is the run that was never stopped; the blue dots, the resumed one, lie on it. To the right of the grey line are the runs
# with something missing. Without the generator the very next responses, and so the next score, are different. Without the moments or beta
# the next responses are still the same, because the same weights draw with the same random numbers; what is *learned* from them differs.
# Without the moments that shows one step later. Without beta it hardly shows at all, because in so few steps beta has changed little; the
# table has the difference.

# %%
rows = []
for what, (tuned, lines) in careless.items():
    assert farthest(straight, tuned) > 0
    same = lines[4]["score"] == straight_lines[4]["score"]
    rows.append((what, same, f"{farthest(straight, tuned):.1e}"))
columns = ["forgotten", "next score the same", "largest difference in a weight at the end"]
pd.DataFrame(rows, columns=columns)

# %% [markdown]
# None of the three stopped with an error, and none of the curves looks wrong. So do not trust a resume until you have compared it with an uninterrupted
# run.
#
# The checkpoint contains whole weights even if they were sharded, so it can be resumed on another number of GPUs. That run is as good, but not the same:
# with other shares each rank draws other random numbers.
#
# ## 6. A recorded run, and yours
#
# Here is the recorded run that the notebooks use where you have none. It was made with **the bundled model of 3 million weights**, on one CPU core, and a
# reward model fitted on 5,000 **simulated** comparisons, by `make recorded`.

# %%
recorded = read_metrics(RECORDED / "ppo_sentiment.jsonl")
results = json.loads((RECORDED / "results.json").read_text())
(r,) = [r for r in results if r["task"] == "sentiment" and r.get("kept")]
print(f"{r['episodes']:,} episodes in {r['tune_seconds']:.0f} s, {r['precision']}, {r['machine']}")
show.wrapped(
    f"at the end: {r['kl_nats']:.1f} nats, preferred by a simulated judge without noise in "
    f"{r['win_rate']:.0%} ({r['low']:.0%} to {r['high']:.0%})"
)
plots.training_curves(recorded, kl_target=ppo.PPOConfig().kl_target);
# %% [markdown]
# *How to read it:* the eight curves of notebook 05, of the recorded run of the bundled model; the dotted line in the second panel is the KL target. A run of
# GPT-2 logs the same eight, over a hundred times as many episodes; how they will look we do not know.
#
# And what it wrote, before and after, on prompts that training has not seen:

# %%
saltmere, reader = tasks.SENTIMENT, models.load_tokenizer()
unseen = tasks.queries(saltmere, reader, 4, split="test", seed=6).to(device)
table = {"end of the prompt": ["... " + text[-60:] for text in tasks.query_texts(unseen, reader)]}
lengths = saltmere.response_length, saltmere.temperature
for name, source in (("before", models.BASE), ("after", RECORDED / "policy_sentiment")):
    writer = models.Policy.load(source).to(device)
    said = sampling.sample(writer, unseen, *lengths, seeded(0))
    table[name] = tasks.texts(saltmere, said.responses, reader)
pd.DataFrame(table)

# %% [markdown]
# A run of GPT-2 you have to make yourself. Run the two commands of section 4 on a machine with a GPU, copy `runs/gpt2-tuned` into your runs folder, and
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
    print("There is no run of GPT-2 in your runs folder (gpt2-tuned/metrics.jsonl),")
    print("and none comes with the course.")

# %% [markdown]
# While it runs: `python -m rlhf_helpers summarize-run runs/gpt2-tuned`. Afterwards `python -m rlhf_helpers judge --model openai-community/gpt2 --preset released --tuned runs/gpt2-tuned --by me` asks you, blind, which of two texts is better.
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
# - In memory throughout: 16 bytes for each trained weight, 4 for each that is only read. On top: the larger of activations and sampling.
# - Parts of a batch add up if each is weighted by its tokens and whitening comes first. Ranks are parts.
# - LoRA is the one argument here that changes what is learned.
# - A checkpoint contains weights, moments, beta, the generator and the step. Compare a resumed run with an uninterrupted one, once, bit for bit.
#
# ## Questions
#
# 1. DPO, another method with the same goal, needs a policy and a reference, but no reward model and no sampling. Which parts of the bill are left?
# 2. What would your bill be if the weights, too, were kept in bf16? Which updates would be lost? (Near 1, bf16 has steps of 1/128.)
# 3. PPO could compute the reference's log-probabilities with LoRA switched off. Which part of the map already assumes that?
# 4. Two ranks with the same sampling seed: which of the eight curves would tell you?
# 5. Why may the order of prompts be left out of a checkpoint here, and when may it not?
# 6. A token costs about two operations a weight forward, and four backward. With four epochs, how many operations a weight does one token of a PPO step cost? Which of the passes is slower than this count says, and why?
#
# ## Further reading
#
# - Ziegler et al. 2019, *Fine-Tuning Language Models from Human Preferences*: section 2 (the method) and the appendix for batch sizes and learning rates of 774M.
# - Hu et al. 2021, *LoRA: Low-Rank Adaptation of Large Language Models*: section 4.
# - Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*: checkpointing.
# - Rajbhandari et al. 2020, *ZeRO: Memory Optimizations Toward Training Trillion Parameter Models*: section 3, a memory bill like ours, and section 5, shards.
# - Micikevicius et al. 2018, *Mixed Precision Training*: why master weights stay in float32.
#
# **Next:** notebook 07 asks whether a tuned model is really better.
