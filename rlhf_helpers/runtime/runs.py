"""One run of training: where its files are, on which device, from which seed, how large (the
profile), how to go on.

A run's folder holds `run.json` (what and with which versions), `metrics.jsonl` (one line per step,
units in the names) and `checkpoint/`.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rlhf_helpers.runtime import files, ranks

ROOT = Path(__file__).resolve().parents[2]


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Run:
    """A seed, a device, a folder; the only place that knows files. Without a folder nothing is
    written and nothing can be resumed."""

    def __init__(
        self, folder: Path | str | None = None, *, seed: int = 0,
        device: torch.device | str | None = None, checkpoint_every: int = 25, config: Any = None,
        quiet: bool = False, tensorboard: bool = False,
        on_log: Callable[[dict[str, float]], None] | None = None, micro_batch: int | None = None,
    ):  # fmt: skip
        """Open a run. `tensorboard` writes the same numbers for TensorBoard too; `on_log` is called
        with every line (a live view).

        `micro_batch`: how many rows are computed at a time, where memory is short; the result is
        that of the whole batch. Started by `torchrun` or `accelerate launch`, the run is one of
        several ranks: same model, a sampling seed of its own, files by the first.
        """
        self.folder = Path(folder) if folder is not None else None
        if checkpoint_every < 1:
            raise ValueError(
                f"a checkpoint every {checkpoint_every} steps cannot be: give 1 or more"
            )
        self.seed, self.checkpoint_every, self.config = seed, checkpoint_every, config
        self.ranks, self.device = ranks.from_environment(device, micro_batch)
        self.quiet = quiet or not self.ranks.is_first
        self.generator = torch.Generator(self.device).manual_seed(
            seed + ranks.SEED_STRIDE * self.ranks.rank
        )
        self._lines: list[dict[str, float]] = []
        self.on_log, self._board = (
            on_log,
            _board(self.folder) if tensorboard and self.ranks.is_first else None,
        )
        if self.folder is not None and self.ranks.is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "run.json").exists():
                files.replace_json(self.folder / "run.json", self._description())

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

    def describe(self, **settings: Any) -> None:
        """Write what is about to be done into run.json; training does it, so that a folder says
        what made it.

        Raises ValueError if the folder holds a checkpoint made with other settings: going on would
        mix the two.
        """
        if self.folder is None or not self.ranks.is_first:
            return
        described = files.read_json(self.folder / "run.json", keys=("seed",))
        settings = {name: _plain(value) for name, value in settings.items()}
        before, now = (
            {"seed": described["seed"]} | described.get("settings", {}),
            {"seed": self.seed} | settings,
        )
        begun = any(
            (self.folder / name / "state.json").exists()
            for name in ("checkpoint", "checkpoint.old")
        )
        if begun and "settings" in described and before != now:
            raise ValueError(
                f"{self.folder} holds a run with other settings ({_difference(before, now)}): "
                "choose another folder for the new run, "
                "or the old settings to go on with the old one"
            )
        # of the attempt that trains
        about = (described if begun else self._description()) | {
            "seed": self.seed,
            "settings": settings,
        }
        if about != described:
            files.replace_json(self.folder / "run.json", about)

    # ---- numbers ---------------------------------------------------------------------------------

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Append one JSON line to the metrics file (and remember it)."""
        line = {"step": step} | numbers
        self._lines.append(line)
        if self.folder is not None and self.ranks.is_first:
            with (
                files.on_disk(f"the line of step {step}"),
                (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file,
            ):
                file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        if self.on_log is not None:
            self.on_log(line)

    def metrics(self) -> list[dict[str, float]]:
        """Return every line logged so far, those of an earlier, resumed part included."""
        return list(self._lines)

    def progress(self, start: int, stop: int, title: str) -> Iterator[int]:
        """Count from `start` to `stop` behind a progress bar that shows the time left and the
        newest score and KL."""
        from tqdm.auto import tqdm

        if start >= stop and not self.quiet:
            print(f"{title}: the run in {self.folder} has already finished; nothing done.")
        with tqdm(total=stop, initial=start, desc=title, disable=self.quiet, leave=False) as bar:
            for i in range(start, stop):
                yield i
                bar.update()
                newest = self._lines[-1] if self._lines else {}
                shown = {
                    "score": "score",
                    "kl_nats_per_response": "KL",
                    "loss": "loss",
                    "accuracy": "accuracy",
                }
                bar.set_postfix(
                    {
                        short: f"{newest[long]:.2f}"
                        for long, short in shown.items()
                        if long in newest
                    }
                )

    def batch_rows(self, pool: int, count: int, step: int) -> Tensor:
        """Say which `count` of `pool` prompts step number `step` uses: passes over the pool, each
        in a fresh order.

        A function of the seed and the step alone, so that a resumed run meets the same prompts.
        Returns (count,) long on the CPU.
        """
        first, last = step * count // pool, ((step + 1) * count - 1) // pool
        orders = [
            torch.randperm(pool, generator=torch.Generator().manual_seed(self.seed * 100_003 + p))
            for p in range(first, last + 1)
        ]
        begin = step * count - first * pool
        return torch.cat(orders)[begin : begin + count]

    def save_json(self, name: str, content: Any) -> None:
        """Keep something small beside the metrics, as JSON, whole or not at all."""
        if self.folder is not None and self.ranks.is_first:
            files.replace_json(self.folder / f"{name}.json", content)

    def load_json(self, name: str, otherwise: Any) -> Any:
        """Read what `keep` wrote under this name, of the same type as `otherwise`."""
        path = self.folder / f"{name}.json" if self.folder is not None else None
        return (
            files.read_json(path, type(otherwise))
            if path is not None and path.exists()
            else otherwise
        )

    # ---- checkpoints -----------------------------------------------------------------------------

    def is_checkpoint(self, step: int, steps: int) -> bool:
        return self.folder is not None and (
            (step + 1) % self.checkpoint_every == 0 or step + 1 == steps
        )

    def save(
        self,
        steps_done: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        controller: Any = None,
    ) -> None:
        """Write a checkpoint beside the old one and swap them, so that a kill at any moment leaves
        a whole one. Every rank must call it."""
        if self.folder is None:
            return
        new, old, final = (
            self.folder / name for name in ("checkpoint.new", "checkpoint.old", "checkpoint")
        )
        tensors = {f"model.{k}": self.ranks.to_first(v) for k, v in model.state_dict().items()}
        state = optimizer.state_dict()
        moments = {
            f"optimizer.{i}.{k}": self.ranks.to_first(v)
            for i, entry in state["state"].items()
            for k, v in entry.items()
        }
        # (ranks, bytes)
        generators = self.ranks.gather(self.generator.get_state().to(self.device).unsqueeze(0))
        if not self.ranks.is_first:
            return
        with files.on_disk(f"the checkpoint of step {steps_done}", new):
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            tensors |= moments | {"generator": generators.cpu()}
            save_file(
                {k: v.contiguous().clone() for k, v in tensors.items()}, new / "state.safetensors"
            )
            about = {
                "steps_done": steps_done,
                "beta": getattr(controller, "beta", None),
                "lines": self._lines,
            }
            files.write_json(
                new / "state.json",
                about | {"param_groups": state["param_groups"], "optimizer_tensors": len(moments)},
            )
            # before the old one goes, or a power cut could take both
            files.to_disk(new / "state.safetensors", new / "state.json")
        # otherwise the old one is all there is, left by a kill between the two renames below
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        new.rename(final)
        shutil.rmtree(old, ignore_errors=True)

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, controller: Any = None
    ) -> int:
        """Put everything back as the last checkpoint left it and return the number of steps done (0
        without a checkpoint)."""
        if self.folder is None:
            return 0
        folders = [
            f
            for name in ("checkpoint", "checkpoint.old")
            if ((f := self.folder / name) / "state.json").exists()
        ]
        state = _read_state(folders[0] / "state.json") if folders else {"steps_done": 0}
        self.ranks.check_same("the steps already done", state["steps_done"])
        if not folders:
            if self.ranks.is_first:
                (self.folder / "metrics.jsonl").unlink(missing_ok=True)
            return 0
        tensors = _read_tensors(folders[0] / "state.safetensors", state)
        saved = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        if {k: v.shape for k, v in saved.items()} != {
            k: v.shape for k, v in model.state_dict().items()
        }:
            raise ValueError(
                f"the checkpoint in {self.folder} belongs to another model: choose another folder "
                "or remove it"
            )
        for name, weight in model.state_dict().items():
            weight.copy_(ranks.sharded_like(saved[name], weight))
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                entries.setdefault(int(index), {})[key] = ranks.sharded_like(
                    value, weights[int(index)]
                )
        optimizer.load_state_dict({"state": entries, "param_groups": state["param_groups"]})
        if tensors["generator"].shape == (self.ranks.count, len(self.generator.get_state())):
            self.generator.set_state(tensors["generator"][self.ranks.rank].clone())
        # another number of ranks than before, or a CPU after a GPU: new seeds, none of which was in
        # use
        else:
            self.generator.manual_seed(
                self.seed + ranks.SEED_STRIDE * (self.ranks.rank + 1_000 * state["steps_done"])
            )
        if controller is not None:
            controller.beta = state["beta"]
        self._lines = state["lines"]
        if not self.ranks.is_first:
            return state["steps_done"]
        # without lost steps
        with (
            files.on_disk("metrics.jsonl"),
            (self.folder / "metrics.jsonl").open("w", encoding="utf-8") as file,
        ):
            file.writelines(json.dumps(line) + "\n" for line in self._lines)
        return state["steps_done"]


def git_revision() -> str | None:
    """Return the commit of the checkout, with "+" if files differ from it; None outside a checkout
    or without git."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(ROOT), *words],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for words in (
                ["rev-parse", "--short=12", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changes else "")


def _board(folder: Path | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "tensorboard is not installed: pip install tensorboard, or leave tensorboard=False"
        ) from error
    if folder is None:
        raise ValueError("TensorBoard needs a place: give the run a folder")
    return SummaryWriter(str(folder / "tensorboard"))


def _read_state(path: Path) -> dict[str, Any]:
    """Read what a checkpoint says of itself; raises ValueError if that contradicts itself."""
    state = files.read_json(path, keys=("steps_done", "beta", "lines", "param_groups"))
    done = state["steps_done"]
    if type(done) is not int or done < 0:
        raise ValueError(files.damaged(path, f"steps_done is {done!r}"))
    match state["lines"]:
        case []:  # a loop that logs nothing
            return state
        case [*_, {"step": last}] if last == done - 1:
            return state
    raise ValueError(
        files.damaged(
            path, f"steps_done is {done}, but the last of its lines is not of step {done - 1}"
        )
    )


def _read_tensors(path: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    """Read a checkpoint's tensors; raises ValueError without the generator, or with some of the
    optimizer's only."""
    tensors = files.read_tensors(path)
    if "generator" not in tensors:
        raise ValueError(files.damaged(path, "it has no generator"))
    found = sum(name.startswith("optimizer.") for name in tensors)
    # an older checkpoint does not tell; weights without a gradient have none
    wanted = state.get("optimizer_tensors", found)
    if found not in (0, wanted):
        raise ValueError(
            files.damaged(
                path, f"it has {found} tensors of the optimizer, and {wanted} were written"
            )
        )
    return tensors


def _plain(settings: Any) -> Any:
    """Return settings as JSON gives them back."""
    whole = (
        asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else settings
    )
    return json.loads(json.dumps(whole, default=str))


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    old, new = (
        {
            k: v
            for name, part in x.items()
            for k, v in (part.items() if isinstance(part, dict) else [(name, part)])
        }
        for x in (before, now)
    )
    if "ppo" in before and "reward" in now or "reward" in before and "ppo" in now:
        return f"it is one of {'PPO' if 'ppo' in before else 'a reward model'}, and now it is {'PPO' if 'ppo' in now else 'a reward model'}"
    return ", ".join(
        f"{k} is {old.get(k)} there and {new.get(k)} now"
        for k in old | new
        if old.get(k) != new.get(k)
    )
