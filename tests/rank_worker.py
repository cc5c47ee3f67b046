"""What the processes of `test_ranks.py` do: two or more ranks on one machine, with gloo."""

import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from rlhf_helpers import models, ppo, reward, sampling
from rlhf_helpers.ppo import PPOConfig
from rlhf_helpers.records import Comparison, Label, Queries
from rlhf_helpers.reward import RewardConfig
from rlhf_helpers.runtime import ranks
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task

TASK = Task(
    "toy",
    "none",
    query_length=6,
    response_length=5,
    truncate_text=".",
    truncate_after=2,
    temperature=0.7,
)
CONFIG = PPOConfig(
    episodes=64, batch=16, minibatches=2, epochs=2, lr=1e-2, kl_target=1.0, kl_horizon=100
)


def pool():
    rows = [[3, 9, 2, 15, 4, 7], [5], [8, 2, 11], [6, 6, 13, 2]] * 8
    tokens, mask = torch.zeros(32, 6, dtype=torch.long), torch.zeros(32, 6, dtype=torch.bool)
    for i, row in enumerate(rows):
        tokens[i, 6 - len(row) :], mask[i, 6 - len(row) :] = torch.tensor(row), True
    return Queries(tokens, mask)


def policy(**options):
    made = models.tiny_policy(layers=2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return made


def score(rollout):
    return (rollout.responses % 2 == 0).float().sum(-1)


def tune(folder, *, config=CONFIG, score=score, sharded=False, quiet=True, micro_batch=None):
    """Tune the toy policy in `folder`; returns policy and lines, and writes down what each rank
    sampled first."""
    run = Run(
        folder, seed=7, device="cpu", checkpoint_every=2, quiet=quiet, micro_batch=micro_batch
    )
    first = []

    def watched(rollout):
        first.append(rollout.responses.clone())
        return score(rollout)

    made = policy()
    reference = made.frozen_copy()
    if sharded:
        ranks.shard(made, made.lm, ("hidden", "logits", "values"), run.ranks.count)
    lines = ppo.tune(made, watched, pool(), TASK, config, run, reference=reference)
    weights = {name: ranks.full_tensor(w).detach().clone() for name, w in made.state_dict().items()}
    return weights, lines, first, run


def fit(folder, micro_batch=None):
    """Fit the toy reward model; returns weights and lines."""
    comparisons = [
        Comparison("toy", "abc"[: 1 + i % 3], ("ab.", "cde.", f"f{'abcdefg'[i % 7]}."))
        for i in range(21)
    ]
    labels = [Label(c.id, "x", i % 3) for i, c in enumerate(comparisons)]
    from conftest import Letters

    data = reward.encode(TASK, comparisons, labels, Letters())
    model = models.RewardModel.from_policy(policy(), seed=3)
    run = Run(folder, device="cpu", quiet=True, micro_batch=micro_batch)
    lines = reward.fit(model, data, RewardConfig(batch=6, epochs=2, lr=1e-3), run)
    return dict(model.state_dict()), lines


def train_to_nan(what, folder, rank):
    """Train with a loss or score that is not a number on rank 1, from its third call on."""
    calls = []

    def spoilt(real):
        def function(*args):
            calls.append(1)
            factor = float("nan") if rank == 1 and len(calls) > 2 else 1.0
            result = real(*args)
            return (factor * result[0], *result[1:]) if what == "nan in ppo" else factor * result

        return function

    if what == "nan score":
        tune(folder / "run", score=spoilt(score))
    elif what == "nan in the fit":
        reward.choice_loss = spoilt(reward.choice_loss)
        fit(folder / "run")
    elif what == "nan in ppo":
        ppo.losses = spoilt(ppo.losses)
        tune(folder / "run")
    else:
        ppo.policy_loss = spoilt(ppo.policy_loss)
        tune(folder / "run", sharded=True)


def main(what, folder, rank):
    folder = Path(folder)
    if what in ("tune", "sharded"):
        weights, lines, first, run = tune(folder / "run", sharded=what == "sharded")
        generator = {"generator": run.generator.get_state(), "seed": run.generator.initial_seed()}
        torch.save(
            {"weights": weights, "lines": lines, "first": first} | generator, folder / f"{rank}.pt"
        )
    elif what == "fit":
        weights, lines = fit(None)
        torch.save({"weights": weights, "lines": lines}, folder / f"{rank}.pt")
    elif what == "lost":
        calls = []

        def dying(rollout):
            calls.append(1)
            if rank == 1 and len(calls) == 4:
                os._exit(17)  # as if the machine were gone
            return score(rollout)

        tune(folder / "run", score=dying)
    # of a forward pass with gradients, whose weights are in shards
    elif what == "lost in the middle":
        calls, real = [], sampling.replay

        def dying_replay(*args, **kwargs):
            calls.extend([1] * torch.is_grad_enabled())
            if rank == 1 and len(calls) == 14:
                os._exit(17)
            return real(*args, **kwargs)

        sampling.replay = dying_replay
        tune(folder / "run", sharded=True)
    elif what.startswith("nan"):
        train_to_nan(what, folder, rank)
    elif what == "unequal micro-batches":
        tune(folder / "run", micro_batch=4 // (1 + rank))
    elif what == "from first":
        together = Run(device="cpu").ranks

        def fail():
            raise ValueError(f"rank {rank} alone did this")

        torch.save([together.from_first(lambda: f"by rank {rank}")], folder / f"{rank}.pt")
        together.from_first(fail)
    elif what == "mismatched":
        tune(folder / "run", config=replace(CONFIG, lr=1e-2 * (1 + rank)))
    ranks.shut_down()


def begin(what, folder, rank, count, port):
    """Be one rank, in a process of its own that was forked from the tests."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)} | where
    sys.stderr = open(folder / f"{rank}.txt", "w")  # noqa: SIM115
    torch.set_num_threads(1)
    code = 0
    try:
        main(what, folder, rank)
    except (ranks.RankLost, ValueError, FloatingPointError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = 3
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)
