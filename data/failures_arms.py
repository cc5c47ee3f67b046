"""Who learns from whom in `make_failures.py`: the settings, the reward models, the policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from rlhf_helpers import models, presets
from rlhf_helpers.course import readers
from rlhf_helpers.labelers import NOISE, SimulatedLabeler

ROLES = ("few", "some", "many")  # of the label counts
PRICE = presets.KEPT.kl_coef  # of the sign flips and of the habits
LOW = 0.1  # a price too low to hold a policy
MEMBERS = 3  # reward models in an ensemble: the same labels, another start and order
BOUND = 1.0  # deviations taken off a taste's reward
PATIENCE = 3  # judgements in a row that may be no better
PPO = replace(presets.KEPT, lr=2e-4, kl_horizon=400)  # short runs, and a controller that keeps up


@dataclass(frozen=True)
class Settings:
    """What is run: with other numbers, or another base model, it is another folder."""

    sizes: tuple[int, ...] = (100, 500, 2_500)  # labels of the reward models: few, some, many
    clicks: int = 100  # labels of the tastes
    episodes: int = 3_072  # of the policies whose proxy and gold are followed
    short: int = 2_048  # of those with a flipped sign, or paid by labelers with a habit
    prompts: int = 64  # of the pool for the best of n,
    samples: int = 256  # with so many answers to each
    judged: int = 64  # prompts on which a held-out judge compares
    test: int = 192  # other prompts, on which proxy and gold are measured
    held_out: int = 500  # comparisons on which reward models are tested
    looks: int = 12  # at a policy that is followed
    precision: str = "fp32"
    # more of these are more parts in the same folder
    seeds: tuple[int, ...] = (0, 1, 2)
    base: str = str(models.BASE)
    folder: str = ""


class Model(NamedTuple):
    """A reward model: whose labels, how many; another member starts elsewhere; a taste is the
    model of few clicks."""

    labeler: str
    size: int
    member: int = 0
    taste: bool = False

    def name(self, seed: int) -> str:
        kind = "taste" if self.taste else "model"
        member = f"-{self.member}" if self.member else ""
        return f"{kind}-{self.labeler}-{self.size}{member}-{seed}"


class Arm(NamedTuple):
    """A policy: which reward models pay it (the strictest of them), at which price of a nat."""

    who: str
    pays: tuple[Model, ...]
    price: float
    episodes: int
    part: str  # of the table: "curve", "signs", "habit", "remedy"
    sign: int = 1  # of the reward; that of the KL is the sign of the price
    target: float | None = None  # nats at which a controller holds the KL
    even: bool = False  # the reward without what it gives for length
    bound: float = 0.0  # deviations taken off a taste's reward

    def file(self, seed: int) -> str:
        return f"tuned-{self.who.replace(', ', '-').replace(' ', '_')}-{seed}.json"


def labeler(name: str, seed: int) -> SimulatedLabeler:
    """Make one of the simulated labelers; all have the reader's noise."""
    noise = NOISE["sentiment"]
    if name == "longer":
        return SimulatedLabeler(name, readers.wordy, noise, seed)
    orders = {"sorted": readers.shortest_first, "shuffled": readers.shuffled}
    if name in orders:
        return readers.LazyLabeler(name, readers.contentment, noise, seed, orders[name])
    return readers.reader(seed=seed)


def arms(s: Settings) -> Iterator[Arm]:
    """List the policies of one seed."""
    of = dict(zip(ROLES, (Model("reader", size) for size in s.sizes), strict=True))
    for role, model in of.items():
        for price, words in ((0.0, "no price"), (LOW, "a low price")):
            yield Arm(f"{role} labels, {words}", (model,), price, s.episodes, "curve")

    def short(who: str, labels: str, part: str = "habit", price: float = PRICE, **more) -> Arm:
        model = Model(labels, max(s.sizes))
        return Arm(who, (model,), price, s.short, part, **more)

    yield short("fair", "reader")  # the signs as they should be
    yield short("minus reward, minus KL", "reader", "signs", sign=-1)
    yield short("plus reward, plus KL", "reader", "signs", -PRICE)
    yield short("minus reward, plus KL", "reader", "signs", -PRICE, sign=-1)

    yield short("first, shortest first", "sorted")
    yield short("first, shuffled", "shuffled")
    yield short("longer", "longer")
    yield short("longer, length removed", "longer", even=True)

    weak, taste = of["some"], Model("reader", s.clicks, taste=True)
    together = tuple(weak._replace(member=i) for i in range(MEMBERS))
    yield Arm("KL target", (weak,), 0.25, s.episodes, "remedy", target=4.0)
    yield Arm("ensemble", together, 0.0, s.episodes, "remedy")
    yield Arm("taste", (taste,), 0.0, s.episodes, "remedy")
    yield Arm("taste, lower bound", (taste,), 0.0, s.episodes, "remedy", bound=BOUND)
