# %% [markdown]
# # 06 · GPT-2 on a GPU
#
# The model that you tuned knows one harbour town. The paper tuned GPT-2, which has read a good part of the web. The code that does it is
# the code you have read: not one line of `ppo.step` is different. The machine is. Look at the last column.

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
style_step = {
    "batch": 512,
    "query": 64,
    "response": 24,
    "micro_batch": 64,
}  # the released code's style tasks, 64 rows at a time
bundled = models.Policy.load().lm.config
shapes = {"bundled": bundled} | {f"GPT-2 {name}": config for name, config in memory.SIZES.items()}
maps = {name: memory.memory_map(config, **style_step) for name, config in shapes.items()}
pd.DataFrame({
    name: {"blocks": c.n_layer, "width": c.n_embd, "vocabulary": f"{c.vocab_size:,}", "weights, million": f"{maps[name]['policy'] / 4e6:,.1f}",
           "GB for a step of PPO": f"{maps[name]['total'] / GB:.1f}"}
    for name, c in shapes.items()
}).T  # fmt: skip

# %%
plots.pipeline("sample+reward+ppo")
# %% [markdown]
# Nobody has loaded a GPT-2 here: the last column is computed from the shape of the model alone, for the released code's batch of 512, 64 rows at a time. By the end of this notebook you can compute most of it on paper.
#
# **After this notebook you can**
# - turn one switch from the bundled model to GPT-2, or to any causal language model;
# - read the memory bill of PPO line by line, check it, and make a plan that fits a given GPU;
# - say what micro-batches, checkpointing, LoRA and bf16 change in the *result*, and what only in the machine;
# - launch on one GPU, eight, two machines or Slurm;
# - stop a run, resume it, and prove that nothing was lost.
#
# **Time:** 45 minutes of yours, about 3 of the machine's; no GPU is needed. **Before this:** notebook 05.
#
# **What this notebook cannot show you.** No GPU was at hand while this course was written, so there is **no recorded run of GPT-2**, neither
# of 124M nor larger. What the package does on many ranks was tested with processes on CPUs, other families of models at small sizes with random
# weights, loaders of the paper's texts on small files in the published format. Everything below that runs, runs on the bundled model standing in.
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
# That is all. `place` may be a folder or a name on the Hub. The tokenizer comes from the same place as the model, always: a token number means something else to
# every tokenizer, and `check_pair` refuses a pair that does not belong together. For the same reason a reward model must be fitted on the
# base model that it will judge; yours, from notebook 03, can only read the bundled model's tokens.
#
# The second word picks the numbers. What changes with it?

# %%
meant_for = {"bundled": "3M", "released": "124M", "paper": "774M"}
columns = {
    f"{name}, for {weights}": presets.get("sentiment", name) for name, weights in meant_for.items()
}
pd.DataFrame({
    name: {
        "texts": p.task.dataset, "query and response, tokens": f"{p.task.query_length} + {p.task.response_length}", "labels": f"{p.labels:,}",
        "episodes": f"{p.ppo.episodes:,}", "batch": p.ppo.batch, "learning rate": f"{p.ppo.lr:g}", "KL target, nats": p.ppo.kl_target,
    }
    for name, p in columns.items()
})  # fmt: skip

# %% [markdown]
# *Released* and *paper* differ because the paper's published code and its text do. Both take prompts from BookCorpus through `hub`, and the labels that people gave for the paper. (How large
# the runs of the *other* notebooks are is a third switch: `RLHF_PROFILE=gpu` before JupyterLab starts gives them more labels, 100,000 episodes and batches of 512. This notebook is small in every profile.)
#
# PPO needs a score for each answer, and any Python function of texts will do. Here we take the simulated labeler's own taste (it counts positive and negative words): it
# reads text, so it works with every base model.

# %%
labeler = labelers.simulated(task)


def taste(prompts, answers):
    return [labeler.utility(answer) for answer in answers]


score = reward.from_texts(taste, task, tokenizer)


def seeded(seed):
    return torch.Generator(device).manual_seed(seed)


rollout = sampling.sample(
    policy, pool[:16].to(device), task.response_length, task.temperature, seeded(0)
)
prompts = ["... " + text[-60:] for text in tasks.query_texts(rollout.queries, tokenizer)]
pd.DataFrame(
    {
        "end of the prompt": prompts,
        "response": tasks.texts(task, rollout.responses, tokenizer),
        "score": score(rollout).tolist(),
    }
).head(4)

# %% [markdown]
# Remember this rollout of 16 rows; we use it to the end.
#
# ## 2. Reading a memory bill
#
# A GPU has 24 or 80 GB, and a run that needs one byte more stops. So count first. A GPT-2 of width $d$ holds:
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
print(
    f"bundled: {counted(bundled):,} by this count, {models.Policy.load().lm.num_parameters():,} in the file"
)

# %% [markdown]
# The names 124M to 774M are your counts, rounded. The bundled model has more than the formula says. **Guess why**, then look:

# %%
more = models.Policy.load().lm.num_parameters() - counted(bundled)
print(
    f"{more:,} more = {more / bundled.n_embd:,.0f} x {bundled.n_embd}; the vocabulary has {bundled.vocab_size:,} tokens; tied: {bundled.tie_word_embeddings}"
)

# %% [markdown]
# Its output head is a table of its own. A formula for one family is a formula for one family; the package counts real modules.
#
# ### The five lines that are held throughout
#
# PPO keeps three models, and trains one of them:
#
# - **policy**: its weights, in float32, four bytes each;
# - **reference**: a copy of the policy, never trained;
# - **reward model**: a trunk of the same size with one number on top, not trained here either;
# - **gradients**: one float32 for each weight that is *trained*;
# - **optimizer**: Adam remembers two float32 for each weight that is trained, the running mean of its gradient and of its square.
#
# **Exercise 2: the bill.** Difficulty ●○○○○ · importance ●●●●● · 5 minutes
#
# Return the five lines in bytes, in this order, for a policy and a reward model of so many weights.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Two of the five lines belong to models that nobody trains: weights, and nothing else. One line holds two numbers for each weight.
# </details>


# %% tags=["exercise"]
def my_bill(
    policy, reward
):  # how many weights each has -> [policy, reference, reward model, gradients, optimizer]
    return ...


# %% tags=["solution"]
def my_bill(
    policy, reward
):  # how many weights each has -> [policy, reference, reward model, gradients, optimizer]
    return [4 * policy, 4 * policy, 4 * reward, 4 * policy, 8 * policy]


# %% tags=["check"]
solved = checks.nb06_bill(my_bill)

# %% tags=["catch-up"]
if not solved:

    def my_bill(policy, reward):
        return [4 * n for n in (policy, policy, reward, policy, 2 * policy)]

# %% [markdown]
# Now against the package. `memory.memory_map` builds the model without contents and counts what is there. Besides GPT-2's own weights the policy has a value head
# ($d$ weights and a bias), the reward model $d$ weights for its one number.

# %%
held = memory.PARTS[:5]
for name, config in memory.SIZES.items():
    mine = [
        int(line)
        for line in my_bill(counted(config) + config.n_embd + 1, counted(config) + config.n_embd)
    ]
    theirs = memory.memory_map(config, **style_step)
    checks.nb05_same(
        f"GPT-2 {name}, {sum(mine) / GB:.1f} GB held throughout",
        mine,
        [theirs[part] for part in held],
        tolerance=0,
    )

# %% [markdown]
# Byte for byte. And is the map true? Ask the real thing: one backward pass and one optimizer step of the policy, then add up the bytes of every tensor that is there.


# %%
def bytes_of(tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


optimizer, now = (
    TensorFlowAdam(policy.parameters(), lr=1e-5),
    sampling.replay(policy, rollout, task.temperature),
)
(now.logprobs.mean() + now.values.mean()).backward()
optimizer.step()
moments = [v for state in optimizer.state.values() for v in state.values() if v.dim()]
real = {"policy": policy.parameters(), "reference": policy.frozen_copy().parameters(), "reward model": models.RewardModel.from_policy(policy).parameters(),
        "gradients": [p.grad for p in policy.parameters()], "optimizer": moments}  # fmt: skip

here = memory.memory_map(
    policy.lm.config, batch=16, query=rollout.queries.tokens.shape[1], response=task.response_length
)
for part, tensors in real.items():
    checks.nb05_same(
        f"{part}, {here[part] / 1e6:.1f} MB", bytes_of(tensors), here[part], tolerance=0
    )

# %% [markdown]
# ### The two lines that come and go
#
# - **activations**: what the forward pass must remember until the backward pass. Grows with rows $\times$ tokens $\times$ blocks $\times$ width.
# - **sampling**: keys and values of every token so far, so that they need not be computed again. No gradients, hence no activations.
#
# They take turns, so only the larger counts for the `total`. Neither has a simple formula; the map runs the real forward pass on tensors that have shapes but no contents, and adds up what
# would be kept. Tests hold it against what torch's allocator reports on small models on a CPU: activations to 15 %, sampling to a factor of 1.7.

# %%
plots.memory_bars(memory.rows(), memory.PARTS)
# %% [markdown]
# *How to read it:* each bar is what one GPU must hold for PPO with a batch of 512, 64 + 24 tokens, 64 rows at a time, for GPT-2 of 124M to 1.5B; a colour and hatching for each line of the bill.
# Dashed lines mark GPUs of 24 and 80 GB. At 124M everything fits. At 774M on 24 GB what uses LoRA or eight GPUs fits, and checkpointing so narrowly that no allocator would manage. Look at the plain `bf16` bars: they are hardly shorter than fp32,
# because weights and optimizer stay in fp32.
#
# ## 3. Four arguments that change the bill
#
# They are plain arguments of `Policy.load`, `Run` and the command line. These are the command line's, comments and all:

# %%
show.source(options.Hardware)

# %% [markdown]
# The comment on top makes a claim: *the result is the same*. Let us hold them to it. "Result" means the gradient, as one long vector, of PPO's loss on our rollout.
#
# ### Micro-batches
#
# 512 rows at once do not fit, so compute 64 at a time and add up gradients: eight passes, then one optimizer step. But what exactly must be added up? Each part
# gives the *mean* over its own tokens, and parts need not have the same size.
#
# **Exercise 3: put the loss together.** Difficulty ●●○○○ · importance ●●●●○ · 5 minutes
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
# In the package `ppo.step` weights each part, *after* the advantages were whitened over the whole minibatch. (Whiten each part for itself and you train on something else.)
# So the losses of parts add up, and so do their gradients:

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
# A rank is nothing else than a micro-batch on another machine: `Ranks(rank, count)` takes its share of the rows, and all gradients are added up. So we can play two ranks in one process. **Predict** for
# each line: exactly the same gradient, the same up to rounding, or another one?

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
    measured[name] = {
        "difference / length of the gradient": ((vector - whole).norm() / whole.norm()).item(),
        "seconds": seconds,
    }
pd.DataFrame(
    {
        name: {
            column: f"{value:.1e}" if "difference" in column else f"{value:.2f}"
            for column, value in line.items()
        }
        for name, line in measured.items()
    }
).T

# %%
off = {name: line["difference / length of the gradient"] for name, line in measured.items()}
assert off["bf16"] > 1e-4 and all(value < 1e-4 for name, value in off.items() if name != "bf16")
print("same up to rounding:", ", ".join(name for name, value in off.items() if value < 1e-4))

# %% [markdown]
# Micro-batches and ranks change the order in which numbers are added, which changes the last digits. Checkpointing computes the same thing twice. `bf16` keeps 8 bits of precision in each product, and that is a change one can see. It
# is common practice on GPUs and does little harm where weights, logits and updates stay in float32, as here; but do not expect the same numbers.
#
# ### Checkpointing: pay in time
#
# Of each block only the input is kept; in the backward pass the block is computed again. How much memory does it save, against smaller micro-batches?

# %%
rows = [512, 128, 64, 16]
_, ax = plt.subplots(figsize=(8, 3.4))
for (name, extra), style, marker in zip(
    {"plain": {}, "checkpointing": {"checkpointing": True}, "LoRA 16": {"lora": 16}}.items(),
    ("-", "--", "-."),
    "osD",
):
    totals = [
        memory.memory_map(
            memory.SIZES["774M"], **style_step | extra | {"micro_batch": n}, precision="bf16"
        )["total"]
        / GB
        for n in rows
    ]
    ax.loglog(rows, totals, style, marker=marker, label=name)
for limit in (24, 80):
    ax.axhline(limit, color=plots.GREY, linestyle=":")
    ax.annotate(f"{limit} GB", (16, limit), va="bottom", fontsize=8.5, color=plots.GREY)
ax.set(
    xlabel="rows at a time",
    ylabel="GB",
    title="GPT-2 774M, batch 512, bf16",
    xticks=rows,
    xticklabels=rows,
    yticks=[16, 32, 64, 128],
    yticklabels=[16, 32, 64, 128],
)
ax.minorticks_off()
ax.legend()

# %% [markdown]
# *How to read it:* from right to left the micro-batch gets smaller and the total falls, towards what is held throughout: 18.6 GB, and no micro-batch gets below that.
# At 64 rows the plain run is 14 GB above that floor, checkpointing 4 GB. Only LoRA lowers the floor, because it changes what is held throughout. Both axes are logarithmic; the dotted lines are GPUs of 24 and 80 GB.
#
# ### LoRA: train less
#
# Hold a layer $W$ (inputs $\times$ outputs) still, and train two thin matrices beside it: $W + AB$, with $A$ of inputs $\times$ rank and $B$ of rank $\times$ outputs. $B$ starts at 0, so at first nothing changes.
# (The package doubles the product, $W + 2AB$: its `lora_alpha` is twice the rank.)
# Gradients and Adam's numbers are needed for $A$ and $B$ only, and the reference can share $W$ with the policy. It is *another* training, though: the change of each layer is confined to `rank` directions.
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
layers = [
    tuple(m.weight.shape) for m in start.lm.base_model.modules() if isinstance(m, pretrained.LINEAR)
]
light = begin(lora=4)
trained = sum(p.numel() for p in light.parameters() if p.requires_grad)
value_head = sum(p.numel() for p in light.value_head.parameters())
checks.nb05_same(
    f"LoRA of rank 4 and the value head: {trained:,} weights",
    my_lora_weights(layers, 4) + value_head,
    trained,
    tolerance=0,
)
print(
    f"{trained / sum(p.numel() for p in start.parameters()):.1%} of all weights, in {len(layers)} layers"
)

# %%
before = {name: p.clone() for name, p in light.named_parameters()}
lines = ppo.tune(
    light, score, pool, task, replace(config, episodes=32, lr=1e-3), Run(seed=1, quiet=True)
)
moved = [name for name, p in light.named_parameters() if not torch.equal(p, before[name])]
assert all("lora_" in name or "value_head" in name for name in moved)
print(
    f"After {len(lines)} steps {len(moved)} of {len(before)} tensors have moved, all of them LoRA's or the value head's."
)

# %% [markdown]
# ### Will it fit?
#
# `python -m rlhf_helpers tune` asks the map before it loads anything. This is what you would be told about 355M with all 512 rows at once, on 24 GB:

# %%
try:
    memory.check(
        memory.SIZES["355M"], int(24 * GB), batch=512, query=64, response=24, precision="bf16"
    )
except MemoryError as error:
    print(error)

# %% [markdown]
# **Exercise 5: a plan.** Difficulty ●●●○○ · importance ●●●●● · 8 minutes
#
# You have one GPU of 24 GB, want a tenth of it free (allocators waste some), and want PPO on 774M with the released code's batch of 512. Choose from `precision` ("fp32", "bf16"), `checkpointing` (True),
# `lora` (a rank) and `micro_batch` (rows). There are several answers. Change as little as you can (the plan must no longer fit when you take one setting back, or double the rows), and say what it costs.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Read the two figures above at 774M. What is held throughout without LoRA, and how much of the 21.6 GB that you may use does that leave for activations or sampling, whichever is larger?
# The lines of a plan: `memory.memory_map(memory.SIZES["774M"], **style_step | my_plan)`.
# </details>

# %% tags=["exercise"]
my_plan = {"micro_batch": ...}

# %% tags=["solution"]
my_plan = {
    "checkpointing": True,
    "micro_batch": 32,
}  # the same result for one more forward pass; without it, 8 rows fit

# %% tags=["check"]
solved = checks.nb06_plan(my_plan)

# %% tags=["catch-up"]
if not solved:
    my_plan = {"lora": 16, "micro_batch": 32}

# %%
bill = memory.memory_map(memory.SIZES["774M"], **style_step | my_plan)
pd.Series({part: bill[part] / GB for part in (*memory.PARTS, "total")}, name="GB").round(
    1
).to_frame().T

# %% [markdown]
# All weights with gradients and moments take 18.6 GB, so little room is left. Eight rows at a time fit as they are, but keep a GPU hardly busy; with checkpointing 32 fit, for one more forward pass. Either way the result is that of the whole batch. bf16 saves no memory here: beside the weights in fp32 it holds copies in bf16, for sampling too, and so few rows save less than that. LoRA leaves more room and is another training. If you want neither, rent a larger GPU, or several and `--sharded`.
#
# ## 4. Launching
#
# A long run is started from the command line, not from a notebook: a closed lid must not end it. One GPU, for 124M with the released settings:
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
# Two machines: the same lines on both, with an address where they meet; Slurm types it for you:
#
# ```bash
# torchrun --nnodes 2 --nproc-per-node 8 --rdzv-id 7 --rdzv-backend c10d --rdzv-endpoint FIRST_MACHINE:29500 -m rlhf_helpers tune ...
# ```
#
# [docs/launch.md](../docs/launch.md) has all of them in full, with the batch script for Slurm and a table of what can go wrong. Without a network, `--model` and `--data-dir` take folders. None of this was run by us on GPUs.
#
# What do eight processes do differently? Each loads the same model and takes its share of the paper's batch of 1,024:

# %%
crew = [Ranks(rank, 8) for rank in range(8)]
shares = [
    (
        r.rank,
        f"{r.local_rows(1024).start} to {r.local_rows(1024).stop - 1}",
        seeds.derive(0, "rank", r.rank),
    )
    for r in crew
]
pd.DataFrame(
    shares, columns=["rank", "rows of the batch", "seed of its sampler (--seed 0)"]
).set_index("rank").T

# %% [markdown]
# With one seed for all, every rank would roll the same dice. (The released code adds 100,003 to the seed for each rank. Such sums can meet: the seed of one run's second rank is another run's own. Here a seed is a hash of `--seed`, what it is for, and a number.) But whitening, KL and the controller are computed from the rows of *all* ranks, which are gathered first. Whitened rank by rank, a
# response would be compared with 127 others instead of 1,023 (the released code whitens so; here the number of GPUs should not change the result), and beta would drift apart. As you saw with "two ranks" above, the gradients then add up to those of one process.
#
# ## 5. Stop and resume
#
# A run of a day will be stopped: a job ends at its time limit, a machine is taken back, you press the wrong key. Every few steps `ppo.tune` writes a checkpoint:

# %%
show.source(ppo.tune)

# %% [markdown]
# What must be in it, so that the run **ends bit for bit** as if nothing had happened?
#
# **Exercise 6: what a checkpoint holds.** Difficulty ●●●○○ · importance ●●●●○ · 6 minutes
#
# Keep what is needed, and nothing that can be had otherwise: *weights* (of policy and value head), *moments* (of Adam), *gradients*, *beta*, *reference*, *reward model*, *last rollout*, *learning rate*, *steps done*,
# *generator* (the state of the sampler's dice), *order of prompts*.

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
# Now live. Eight small steps, a checkpoint after every second. One run goes straight through. Another gets a Ctrl-C in the sixth step; then the same call is made once more.

# %%
short = ppo.PPOConfig(batch=8, minibatches=1, episodes=64, epochs=2, kl_target=6.0, kl_horizon=100)
scratch = tempfile.TemporaryDirectory()


def train(name, stop_in=None):
    def before_step(step):
        if step == stop_in:
            raise KeyboardInterrupt  # what Ctrl-C does

    run, fresh = (
        Run(Path(scratch.name) / name, seed=3, config=short, checkpoint_every=2, quiet=True),
        begin(),
    )
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
    return max(
        (x - y).abs().max().item() for x, y in zip(a.state_dict().values(), b.state_dict().values())
    )


print(
    "largest difference in any weight:",
    farthest(straight, resumed),
    "- all lines of metrics equal:",
    straight_lines == resumed_lines,
)
if device.type == "cpu":
    assert farthest(straight, resumed) == 0 and straight_lines == resumed_lines

# %% [markdown]
# Not "close": equal, every bit of every weight. (On a CPU. GPUs add numbers in an order that may vary, so there the last digits differ.) The sixth step was never finished, the fifth was lost with it, as the last
# checkpoint was written after the fourth; both were done again, with the same dice. What lies in the folder?

# %%
files = sorted(path for path in left_behind.rglob("*") if path.is_file())
pd.DataFrame(
    [
        (path.relative_to(left_behind).as_posix(), f"{path.stat().st_size / 1e6:.3f}")
        for path in files
    ],
    columns=["file", "MB"],
)

# %% [markdown]
# `run.json` says what was trained, with which settings, versions and commit; start the command with other settings and it refuses to go on. The weights and Adam's two moments make up the rest: count them, it is three times the policy.
#
# Now let us be careless. We take the stopped run, remove one thing from its checkpoint, and resume. **Predict** for each: does the next *score* change, or only what comes later?


# %%
def forget(what):
    place = Path(shutil.copytree(left_behind, Path(scratch.name) / what)) / "checkpoint"
    tensors, state = (
        load_file(place / "state.safetensors"),
        json.loads((place / "state.json").read_text()),
    )
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
for ax, column, title in zip(
    axes, ("score", "kl_nats_per_response"), ("Score", "KL from the reference")
):
    ax.plot(
        [line[column] for line in straight_lines],
        "-",
        color=plots.BLACK,
        linewidth=2.5,
        label="straight through",
    )
    ax.plot(
        [line[column] for line in resumed_lines], "o", color=plots.BLUE, label="stopped and resumed"
    )
    for (what, (_, lines)), colour, style in zip(
        careless.items(), (plots.RED, plots.GREEN, plots.ORANGE), ("--", "-.", ":")
    ):
        ax.plot(
            range(4, 8),
            [line[column] for line in lines[4:]],
            style,
            marker="x",
            color=colour,
            label=f"{what} forgotten",
        )
    ax.axvline(3.5, color=plots.GREY, linewidth=1)
    ax.set(xlabel="step", title=title)
figure.legend(
    *axes[0].get_legend_handles_labels(),
    loc="upper center",
    bbox_to_anchor=(0.5, 0.0),
    ncols=5,
    fontsize=8,
    frameon=False,
)
# %% [markdown]
# *How to read it:* the black line is the run that was never stopped; the blue dots, the resumed one, lie on it. Right of the grey line are the careless ones. Without the generator the very next responses, and so the next score, are others.
# Without the moments or beta the next responses are still the same, as the same weights roll the same dice; what is *learnt* from them differs.
# Without the moments that shows a step later. Without beta it hardly shows at all, perhaps as a last KL a little off the line, for in so few steps beta has moved little; the table has the difference.

# %%
next_score = {
    what: lines[4]["score"] == straight_lines[4]["score"] for what, (_, lines) in careless.items()
}
assert all(farthest(straight, tuned) > 0 for tuned, _ in careless.values())
pd.DataFrame(
    {
        what: {
            "next score the same": next_score[what],
            "largest difference in a weight at the end": f"{farthest(straight, tuned):.1e}",
        }
        for what, (tuned, _) in careless.items()
    }
).T

# %% [markdown]
# None of the three stopped with an error, and none of the curves looks ill. A resume that has never been compared with a straight run is a rumour.
#
# The checkpoint holds whole weights even if they were sharded, so it can be resumed on another number of GPUs. That run is as good, but not the same: with other shares the dice are dealt differently.
#
# ## 6. A recorded run, and yours
#
# Here is the run that notebooks fall back on. Say what a record was made on, always: **the bundled model of 3 million weights**, on one CPU core; a reward model fitted on 5,000 **simulated** comparisons; written by `make recorded`.

# %%
recorded = [
    json.loads(line) for line in (RECORDED / "ppo_sentiment.jsonl").read_text().splitlines()
]
(result,) = [
    r
    for r in json.loads((RECORDED / "results.json").read_text())
    if r["task"] == "sentiment" and r.get("kept")
]
print(
    f"{result['episodes']:,} episodes in {result['tune_seconds']:.0f} s ({result['episodes_per_second']:.1f} a second), {result['precision']}, {result['machine']}"
)
print(
    f"at the end: {result['kl_nats']:.1f} nats, preferred by a simulated judge without noise in {result['win_rate']:.0%} ({result['low']:.0%} to {result['high']:.0%})"
)
plots.training_curves(recorded, kl_target=ppo.PPOConfig().kl_target)
# %% [markdown]
# *How to read it:* the eight curves of notebook 05, of the recorded run of the bundled model; the dotted line in the second panel is the KL target. Expect the same eight from GPT-2, on other scales and over a hundred times as many episodes.
#
# And what it wrote, before and after, on prompts that training has not seen:

# %%
saltmere, reader = tasks.SENTIMENT, models.load_tokenizer()
unseen = tasks.queries(saltmere, reader, 4, split="test", seed=6).to(device)
table = {"end of the prompt": ["... " + text[-60:] for text in tasks.query_texts(unseen, reader)]}
for name, source in (("before", models.BASE), ("after", RECORDED / "policy_sentiment")):
    said = sampling.sample(
        models.Policy.load(source).to(device),
        unseen,
        saltmere.response_length,
        saltmere.temperature,
        seeded(0),
    )
    table[name] = tasks.texts(saltmere, said.responses, reader)
pd.DataFrame(table)

# %% [markdown]
# For a run of GPT-2 you need your own. Type the two commands of section 4 on a machine with a GPU, copy `runs/gpt2-tuned` into your runs folder, and this cell shows it beside the recorded one:

# %%
own = folder() / "gpt2-tuned"
if (own / "metrics.jsonl").exists():
    about = json.loads((own / "run.json").read_text())
    display(
        pd.Series(
            {"device": about["device"], "seed": about["seed"], **about["versions"]}, name="your run"
        ).to_frame()
    )
    mine = read_metrics(own / "metrics.jsonl")
    plots.training_curves({"bundled, recorded": recorded, "yours": mine})
else:
    print(
        "There is no run of GPT-2 in your runs folder (gpt2-tuned/metrics.jsonl), and none comes with the course."
    )

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
# | `lora` | no reference, few gradients and moments | a little less | another training |
# | more GPUs | a share of the rows each | shared out | the same up to rounding, with other dice |
# | `--sharded` | a share of the weights each | talk between GPUs | the same up to rounding |
#
# ## Recap
#
# - The base model is a name; tokenizer, prompts, reward model and settings follow from it. The algorithm does not change.
# - Held throughout: 16 bytes for each trained weight, 4 for each that only answers. On top: the larger of activations and sampling.
# - Parts of a batch add up if each counts by its tokens and whitening came first. Ranks are parts.
# - LoRA is the one argument here that changes what is learnt.
# - A checkpoint holds weights, moments, beta, dice and the step. Compare a resumed run with a straight one, once, bit for bit.
#
# ## Questions
#
# 1. DPO, another road to the same goal, needs a policy and a reference, no reward model and no sampling. Which lines of the bill are left?
# 2. What would your bill be if the weights, too, were kept in bf16? Which updates would get lost? (Near 1, bf16 has steps of 1/128.)
# 3. PPO could compute the reference's log-probabilities with LoRA switched off. Which line of the map already counts on that?
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
