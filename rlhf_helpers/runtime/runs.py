"""One run of training: its folder, its device, its seed, its numbers, and how it continues.

A run's folder holds `run.json` (what it was, and with which versions), `metrics.jsonl` (one line
per step, units in the names) and `checkpoint/`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_helpers.runtime import checkpoints, files, guards, ranks, seeds

ROOT = Path(__file__).resolve().parents[2]
BAR = {"score": "score", "kl_nats_per_response": "KL", "loss": "loss", "accuracy": "accuracy"}


def default_device() -> torch.device:
    """Return the GPU if there is one, the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Run:
    """A seed, a device and a folder; training reads and writes files only through it.

    Without a folder nothing is written and nothing can be resumed. Each training loop that is given
    a run starts it from its last checkpoint, or from the beginning: its numbers are those of one
    loop, however often it is used.
    """

    def __init__(
        self, folder: Path | str | None = None, *, seed: int = 0,
        device: torch.device | str | None = None, checkpoint_every: int = 25, config: Any = None,
        quiet: bool = False, tensorboard: bool = False,
        on_log: Callable[[dict[str, float]], None] | None = None, micro_batch: int | None = None,
    ):  # fmt: skip
        """Open a run.

        checkpoint_every: steps. tensorboard: write the numbers for TensorBoard too. on_log: called
        with every line of metrics (a live view). micro_batch: rows computed at a time, where memory
        is short; the result is that of the whole batch. Started by `torchrun` or `accelerate
        launch`, the run is one of several ranks: the same model, random numbers of its own, files
        written by the first.
        """
        if checkpoint_every < 1:
            raise ValueError(f"checkpoint_every is {checkpoint_every} steps: give 1 or more")
        self.folder = Path(folder) if folder is not None else None
        self.seed, self.checkpoint_every, self.config = seed, checkpoint_every, config
        self.ranks, self.device = ranks.from_environment(device, micro_batch)
        self.quiet = quiet or not self.ranks.is_first
        self.on_log, self._board = on_log, None
        if tensorboard and self.ranks.is_first:
            self._board = _board(self.folder)
        self._lines: list[dict[str, float]] = []
        # a hash of seed and rank; the released code adds 100,003 per rank to the seed, where sums
        # for different purposes can meet
        self.generator = seeds.generator(seed, "rank", self.ranks.rank, self.device)
        if self.folder is not None and self.ranks.is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "run.json").exists():
                files.replace_json(self.folder / "run.json", self._description())

    # ---- what it is ------------------------------------------------------------------------------

    def _description(self) -> dict[str, Any]:
        import transformers

        versions = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        return {
            "seed": self.seed,
            "device": str(self.device),
            "versions": versions,
            "config": _plain(self.config),
            "git": git_revision(),
        }

    def record_settings(self, **settings: Any) -> None:
        """Write the settings of training into run.json; every rank must call it.

        Raises ValueError if the ranks differ, or if the folder holds a run with other settings:
        continuing would mix the two.
        """
        mine = _plain(settings)
        alike = {"micro_batch": self.ranks.micro_batch, "checkpoint_every": self.checkpoint_every}
        self.ranks.check_same("settings", {"seed": self.seed} | alike | mine)
        if self.folder is None or not self.ranks.is_first:
            return
        described = files.read_json(self.folder / "run.json", keys=("seed",))
        before = {"seed": described["seed"]} | described.get("settings", {})
        now = {"seed": self.seed} | mine
        if self.begun and "settings" in described and before != now:
            raise ValueError(
                f"{self.folder} holds a run with other settings ({_difference(before, now)}): "
                "choose another folder for the new run, or the old settings to continue the old one"
            )
        # what describes the attempt that trains
        about = described if self.begun else self._description()
        about = about | {"seed": self.seed, "settings": mine}
        if about != described:
            files.replace_json(self.folder / "run.json", about)

    @property
    def begun(self) -> bool:
        """Whether the folder holds a checkpoint, or questions that online training has asked."""
        if self.folder is None:
            return False
        return checkpoints.find(self.folder) is not None or (self.folder / "rounds").exists()

    # ---- numbers ---------------------------------------------------------------------------------

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Append one line to the metrics file, and remember it."""
        line = {"step": step} | numbers
        self._lines.append(line)
        if self.folder is not None and self.ranks.is_first:
            path = self.folder / "metrics.jsonl"
            with (
                files.writing(f"the line of step {step}"),
                path.open("a", encoding="utf-8") as file,
            ):
                file.write(files.metrics_line(line))
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        if self.on_log is not None:
            self.on_log(line)

    def metrics(self) -> list[dict[str, float]]:
        """Return every line logged so far, those from before an interruption included."""
        return list(self._lines)

    def progress(self, start: int, stop: int, title: str) -> Iterator[int]:
        """Count from `start` to `stop` behind a progress bar with the latest score and KL."""
        from tqdm.auto import tqdm

        if start >= stop and not self.quiet:
            print(f"{title}: the run in {self.folder} has already finished; nothing to do.")
        if start >= stop and self.on_log is not None and self._lines:
            self.on_log(self._lines[-1])  # or a view of this run would wait for ever
        with tqdm(total=stop, initial=start, desc=title, disable=self.quiet, leave=False) as bar:
            for i in range(start, stop):
                yield i
                bar.update()
                latest = self._lines[-1] if self._lines else {}
                bar.set_postfix({BAR[k]: f"{latest[k]:.2f}" for k in BAR if k in latest})

    def batch_indices(self, pool: int, size: int, step: int) -> Tensor:
        """Return the `size` of `pool` rows that step number `step` uses.

        Passes over the pool, each in a new random order that depends on the seed and on the number
        of the pass alone, so that a resumed run uses the same rows. (size,) long on the CPU.
        """
        first, last = step * size // pool, ((step + 1) * size - 1) // pool
        orders = [
            torch.randperm(pool, generator=seeds.generator(self.seed, "pass", number))
            for number in range(first, last + 1)
        ]
        begin = step * size - first * pool
        return torch.cat(orders)[begin : begin + size]

    # ---- checkpoints -----------------------------------------------------------------------------

    def checkpoint_due(self, step: int, steps: int) -> bool:
        """Say whether to save after step number `step` of `steps`."""
        regular = (step + 1) % self.checkpoint_every == 0
        return self.folder is not None and (regular or step + 1 == steps)

    def save(
        self, steps_done: int, model: nn.Module, optimizer: torch.optim.Optimizer,
        controller: Any = None,
    ) -> None:  # fmt: skip
        """Replace the checkpoint; a kill at any moment leaves a complete one. All ranks call it."""
        if self.folder is None:
            return
        tensors = checkpoints.collect(model, optimizer, self.ranks)
        mine = self.generator.get_state().to(self.device).unsqueeze(0)
        generators = self.ranks.gather(mine)  # (ranks, bytes)
        if self.ranks.is_first:
            tensors["generator"] = generators.cpu()
            beta, groups = getattr(controller, "beta", None), optimizer.state_dict()["param_groups"]
            checkpoints.write(self.folder, steps_done, tensors, beta, groups)

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, controller: Any = None
    ) -> int:
        """Put everything back as the last checkpoint left it; return the number of steps done.

        Without a checkpoint the run starts again: no numbers, the generator at its seed, 0 steps.
        """
        found = checkpoints.find(self.folder) if self.folder is not None else None
        state = checkpoints.read_state(found) if found else {"steps_done": 0}
        self.ranks.check_same("the steps already done", state["steps_done"])
        if self.folder is None or found is None:
            self._lines = []
            self.generator.manual_seed(seeds.derive(self.seed, "rank", self.ranks.rank))
            if self.folder is not None and self.ranks.is_first:
                (self.folder / "metrics.jsonl").unlink(missing_ok=True)
            return 0
        lines = checkpoints.read_metrics(self.folder, state)
        tensors = checkpoints.read_tensors(found, state)
        checkpoints.put_back(model, optimizer, tensors, state["param_groups"], self.folder)
        self._restore_generator(tensors["generator"], state["steps_done"])
        if controller is not None:
            controller.beta = state["beta"]
        self._lines = lines
        if self.ranks.is_first and (self.folder / "metrics.jsonl").exists():
            # the steps after the checkpoint will be done again
            os.truncate(self.folder / "metrics.jsonl", state["metrics_bytes"])
        return state["steps_done"]

    def _restore_generator(self, saved: Tensor, steps_done: int) -> None:
        """Set the generator to its saved state, or to a new seed if there is none for this rank."""
        if saved.shape == (self.ranks.count, len(self.generator.get_state())):
            self.generator.set_state(saved[self.ranks.rank].clone())
        else:  # another number of ranks than before, or a CPU after a GPU
            new = seeds.derive(self.seed, f"rank {self.ranks.rank} resumed", steps_done)
            self.generator.manual_seed(new)


def git_revision() -> str | None:
    """Return the commit of the checkout, with "+" if files differ from it; None without git."""
    questions = (
        ["rev-parse", "--short=12", "HEAD"],
        ["status", "--porcelain", "--untracked-files=no"],
    )
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(ROOT), *words],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for words in questions
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changes else "")


def _board(folder: Path | None) -> Any:
    """Open TensorBoard's writer in the folder of a run."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "tensorboard is not installed: pip install tensorboard, or leave tensorboard=False"
        ) from error
    if folder is None:
        raise ValueError("TensorBoard needs a place for its files: give the run a folder")
    return SummaryWriter(str(folder / "tensorboard"))


def _plain(settings: Any) -> Any:
    """Return settings as they come back from JSON."""

    def plain(value: Any) -> Any:
        is_config = is_dataclass(value) and not isinstance(value, type)
        return asdict(value) if is_config else str(value)

    return json.loads(json.dumps(settings, default=plain))


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Name the settings that differ, as `ppo.lr is 0.1 there and 0.2 now`."""
    kinds = {"ppo": "PPO", "reward": "the fit of a reward model"}
    there, here = (next((k for k in kinds if k in x), None) for x in (before, now))
    if there and here and there != here:
        return f"that was {kinds[there]}, this is {kinds[here]}"
    old, new = guards.differing(before, now)
    return ", ".join(f"{k} is {old.get(k)} there and {new.get(k)} now" for k in old | new)
