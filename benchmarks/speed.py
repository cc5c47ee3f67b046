"""How fast we sample, fit rewards and do PPO: against a plain implementation, TRL's trainers and
the machine's floor, side by side.

    python benchmarks/speed.py                         the bundled model, in a few minutes
    python benchmarks/speed.py --model 124M --batch 8  GPT-2's shapes, random weights
    python benchmarks/speed.py --model 774M --device cuda --batch 512 --query 64 --micro-batch 64

Everybody gets the same weights, the same token ids (prompts of one length, no pads) and the same
number of passes. Built one after the other, then run in turns; the median of the ratios within the
rounds counts. TRL's PPO needs TRL 1.12 (see `peers.py`).
"""

from __future__ import annotations

import argparse
import copy
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import lean
import peers
import plain
import torch
import transformers
from floor import Machine, ppo_seconds, reward_seconds, sampling_seconds
from rounds import CLOCKS, Build, Measured, compare, ratio
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    PreTrainedModel,
)

from rlhf_helpers import models, ppo, reward, sampling
from rlhf_helpers.models import Policy, RewardModel
from rlhf_helpers.records import Queries
from rlhf_helpers.reward import Encoded
from rlhf_helpers.runtime import bf16, memory
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task

TOY = GPT2Config(
    vocab_size=3072, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
)
SHAPES = {"toy": TOY, **memory.SIZES}
PARTS = ("sampling", "reward", "pairs", "ppo", "grouped")
PRECISIONS = ("fp32", "bf16")
LR = 1e-6  # something to do for the optimizer, without moving the models to where numbers end


@dataclass(frozen=True)
class Work:
    """What is done in one round. Rows of `query` + `response` tokens, in batches of `batch`."""

    model: str = "base"
    device: torch.device = torch.device("cpu")
    batch: int = 64
    query: int = 32
    response: int = 24
    epochs: int = 4
    steps: int = 1  # batches in a round
    micro_batch: int | None = None  # ours only; the others take a batch at once
    temperature: float = 0.7

    def language_model(self) -> PreTrainedModel:
        """Make the same language model again and again, as transformers has it."""
        torch.manual_seed(0)
        if self.model == "base":
            lm = AutoModelForCausalLM.from_pretrained(models.BASE, dtype=torch.float32)
        else:
            config = copy.deepcopy(SHAPES[self.model])
            config.pad_token_id, config.resid_pdrop, config.embd_pdrop, config.attn_pdrop = (
                1,
                0.0,
                0.0,
                0.0,
            )
            lm = AutoModelForCausalLM.from_config(config)
        return lm.to(self.device)

    def classifier(self) -> PreTrainedModel:
        """Make the reward model that starts from it, as transformers has it."""
        lm = self.language_model()
        config = copy.deepcopy(lm.config)
        config.num_labels = 1
        found = AutoModelForSequenceClassification.from_config(config).to(self.device)
        found.base_model.load_state_dict(lm.base_model.state_dict())
        return found

    def ids(self, *shape: int) -> Tensor:
        """Draw token ids, without the special ones; time does not ask what they say."""
        size = 3072 if self.model == "base" else SHAPES[self.model].vocab_size
        return torch.randint(3, size, shape, generator=torch.Generator().manual_seed(1)).to(
            self.device
        )

    @property
    def precisions(self) -> tuple[str, ...]:
        """Without bf16 where it takes more than twice as long: the benchmark would never end."""
        return PRECISIONS if bf16.speedup(self.device.type) > 0.5 else PRECISIONS[:1]

    def queries(self, rows: int) -> Queries:
        tokens = self.ids(rows, self.query)
        return Queries(tokens, torch.ones_like(tokens, dtype=torch.bool))

    def run(self) -> Run:
        return Run(quiet=True, device=self.device, micro_batch=self.micro_batch)


# ---- the parts: what is counted, who takes part, and the least time it could take ----------------

# unit, how many in a round, contenders, floor in seconds
Part = tuple[str, float, dict[str, Build], Callable[[Machine, str], float]]


def sampling_part(work: Work) -> Part:
    def ours(precision: str):
        policy, queries = (
            Policy(work.language_model(), precision),
            work.queries(work.batch * work.steps),
        )
        return lambda: sampling.sample(
            policy,
            queries,
            work.response,
            work.temperature,
            micro_batch=work.micro_batch or work.batch,
        )

    def theirs(autocast: bool):
        lm, tokens = work.language_model().eval(), work.queries(work.batch * work.steps).tokens

        def run():
            with torch.autocast(work.device.type, torch.bfloat16, enabled=autocast):
                for part in tokens.split(work.batch):
                    plain.generate(lm, part, work.response, work.temperature)

        return run

    def written_out(precision: str):
        lm, tokens = work.language_model().eval(), work.queries(work.batch * work.steps).tokens
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        uniform = torch.rand(len(tokens), work.response, device=work.device)
        parts = list(zip(tokens.split(work.batch), uniform.split(work.batch), strict=True))
        return lambda: [lean.sample(lm, *part, work.temperature, dtype) for part in parts]

    def trl():
        lm, tokens = work.language_model().eval(), work.queries(work.batch * work.steps).tokens
        return peers.generation(lm, tokens, work.batch, work.response, work.temperature, pad=1)

    contenders = _ours(work, ours) | {
        "`generate`" + ", bf16 autocast" * (name == "bf16"): partial(theirs, name == "bf16")
        for name in work.precisions
    }
    contenders |= {
        f"GPT-2's layers written out, {precision}": partial(written_out, precision)
        for precision in work.precisions
    }
    if peers.has_ppo():
        contenders["`generate` as TRL calls it"] = trl

    def least(machine: Machine, precision: str) -> float:
        config = work.language_model().config
        return work.steps * sampling_seconds(
            machine, config, work.batch, work.query, work.response, precision
        )

    return "new tokens/s", work.batch * work.steps * work.response, contenders, least


def reward_part(work: Work, options: int = 4) -> Part:
    rows = work.batch * work.steps

    def data() -> tuple[Tensor, Tensor]:
        tokens = work.ids(rows, options, work.query + work.response)
        tokens[:, :, : work.query] = tokens[:, :1, : work.query]  # one query for all options
        return tokens, torch.arange(rows, device=work.device) % options

    def ours(precision: str):
        model = RewardModel(work.classifier(), precision)
        tokens, choices = (x.cpu() for x in data())
        encoded = Encoded(tokens, torch.ones_like(tokens, dtype=torch.bool), choices, work.query)
        return lambda: reward.fit(
            model, encoded, reward.RewardConfig(work.batch, 1, LR), work.run()
        )

    def theirs():
        classifier = work.classifier()
        optimizer = torch.optim.Adam(classifier.parameters(), lr=LR)
        return lambda: plain.fit_reward(classifier, optimizer, *data(), work.batch)

    def trl():
        return peers.reward(work.classifier(), models.load_tokenizer(), *data(), work.batch, LR)

    contenders = _ours(work, ours) | {"plain, K rows": theirs}
    if options == 2 and peers.version():
        contenders[f"TRL {peers.version()}"] = trl

    def least(machine: Machine, precision: str) -> float:
        config = work.language_model().config
        return work.steps * reward_seconds(
            machine, config, work.batch, options, work.query, work.response, precision
        )

    return "comparisons/s", rows, contenders, least


def ppo_part(work: Work, answers: int = 1) -> Part:
    """Tune on prompts with so many answers each; only ours computes such a prompt once."""
    tokenizer, episodes = models.load_tokenizer(), work.batch * work.steps
    task = Task(
        "benchmark", "none", work.query, work.response, ".", work.response // 2, work.temperature
    )

    def ours(precision: str, answers: int = answers):
        policy = Policy(work.language_model(), precision)
        reference = policy.frozen_copy()
        model = RewardModel(work.classifier(), precision).requires_grad_(False)
        model.tokenizer = tokenizer
        config = ppo.PPOConfig(
            episodes,
            work.batch,
            minibatches=1,
            epochs=work.epochs,
            lr=LR,
            kl_coef=0.1,
            lam=0.95,
            whiten_rewards=True,
            answers=answers,
        )
        pool, score = work.queries(episodes // answers), reward.scorer(model, task)
        return lambda: ppo.tune(
            policy, score, pool, task, config, work.run(), reference=reference, min_entropy=-1
        )

    def theirs():
        plain_ppo, queries = (
            plain.PPO(work.language_model(), work.classifier(), LR),
            work.queries(episodes // answers).repeat(answers).tokens,
        )

        def run():
            for part in queries.split(work.batch):
                plain_ppo.step(part, work.response, work.temperature, work.epochs, beta=0.1)

        return run

    def trl():
        lms, classifiers = [
            [make() for _ in range(2)] for make in (work.language_model, work.classifier)
        ]
        queries = work.queries(episodes // answers).repeat(answers).tokens
        return peers.ppo(
            *lms,
            *classifiers,
            tokenizer,
            queries,
            work.batch,
            work.response,
            work.temperature,
            work.epochs,
            LR,
        )

    contenders = _ours(work, ours) | {"plain": theirs}
    if answers > 1:
        contenders["ours, one answer to a prompt, fp32"] = partial(ours, "fp32", 1)
    if peers.has_ppo():
        contenders[f"TRL {peers.version()}"] = trl

    def least(machine: Machine, precision: str) -> float:
        config = work.language_model().config
        return work.steps * ppo_seconds(
            machine, config, work.batch, work.query, work.response, work.epochs, precision, answers
        )

    return "episodes/s", episodes, contenders, least


def _ours(work: Work, build: Callable[[str], Callable[[], object]]) -> dict[str, Build]:
    return {f"ours, {precision}": partial(build, precision) for precision in work.precisions}


MAKERS = {
    "sampling": sampling_part,
    "reward": reward_part,
    "pairs": partial(reward_part, options=2),
    "ppo": ppo_part,
    "grouped": partial(ppo_part, answers=4),
}
TITLES = {
    "sampling": "Sampling",
    "reward": "Reward model, four options",
    "pairs": "Reward model, pairs",
    "ppo": "PPO",
    "grouped": "PPO, four answers to a prompt",
}


# ---- the tables ----------------------------------------------------------------------------------


def table(unit: str, found: dict[str, Measured], floors: dict[str, float]) -> str:
    """Write a markdown table: rates, how many times as fast ours is, and the peak memory.

    floors: units a second that the machine could reach, for each precision measured.
    """
    over = " | ".join(f"ours {precision} over it" for precision in floors)
    lines = [f"| | {unit} | {over} | peak memory, MB |", "|---" * (3 + len(floors)) + "|"]
    ours = [found[f"ours, {precision}"] for precision in floors]
    for name, measured in found.items():
        ratios = " | ".join(f"{ratio(mine, measured):.2f}" for mine in ours)
        peak = "-" if measured.peak_bytes is None else f"{measured.peak_bytes / 1e6:,.0f}"
        lines.append(f"| {name} | {_number(measured.rate)} | {ratios} | {peak} |")
    for i, (precision, rate) in enumerate(floors.items()):
        shares = " | ".join(
            f"{ours[i].rate / rate:.2f}" if i == j else "" for j in range(len(ours))
        )
        lines.append(f"| machine's floor, {precision} | {_number(rate)} | {shares} | |")
    return "\n".join(lines) + "\n"


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def measure(part: str, work: Work, rounds: int, machine: Machine, clock: str = "wall") -> str:
    """Measure one part and write its table."""
    unit, units, contenders, least = MAKERS[part](work)
    found = compare(contenders, units, rounds, work.device, clock)
    floors = {precision: units / least(machine, precision) for precision in work.precisions}
    return table(unit, found, floors)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        default="base",
        choices=["base", *SHAPES],
        help="the bundled model, or random weights of these shapes",
    )
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--rounds", type=int, default=5, help="rounds in turns (default 5)")
    parser.add_argument(
        "--clock",
        default="wall",
        choices=CLOCKS,
        help="`processor` where other programs share the processor",
    )
    parser.add_argument("--device", default="cpu", type=torch.device)
    for name in ("batch", "query", "response", "epochs", "steps"):
        parser.add_argument(
            f"--{name}",
            type=int,
            default=getattr(Work, name),
            help=f"default {getattr(Work, name)}",
        )
    parser.add_argument(
        "--micro-batch", type=int, help="rows that ours computes at a time (default: all)"
    )
    # side of the largest matrix, for a quick test
    parser.add_argument("--machine-size", type=int, help=argparse.SUPPRESS)
    args = vars(parser.parse_args(arguments))
    parts, rounds, clock, machine_size = (
        args.pop(name) for name in ("parts", "rounds", "clock", "machine_size")
    )
    work = Work(**args)
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="(trl|transformers|torch|accelerate).*")
    machine = Machine.measure(work.device, clock, machine_size, work.precisions)
    speeds = ", ".join(
        f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in machine.products.items()
    )
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; measured: {speeds}, "
        f"{machine.memory / 1e9:.1f} GB/s"
    )
    print(f"{work}, {rounds} rounds, {clock} clock; TRL: {peers.version()}\n")
    for part in parts:
        print(f"### {TITLES[part]}\n\n{measure(part, work, rounds, machine, clock)}", flush=True)


if __name__ == "__main__":
    main()
