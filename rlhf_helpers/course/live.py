"""Training as it happens: a strip of curves that is redrawn about once a second.

Not a widget but an output that is replaced (no callbacks, no thread): whatever happens to the
kernel, the last drawing stays in the notebook. At the end it becomes a PNG, which every viewer of
notebooks can show.
"""

from __future__ import annotations

import base64
import html
import io
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rlhf_helpers import tasks
from rlhf_helpers.course.plots.curves import CURVES, smooth, strip
from rlhf_helpers.course.snapshots import Snapshots
from rlhf_helpers.labels import frontend
from rlhf_helpers.models import Policy
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task

EVERY_SECONDS = 1.0
POINTS = 240  # of a curve, at most
SHOWN = (
    "score", "kl_nats_per_response", "entropy_nats_per_response", "distinct_bigrams",
    "value_explained_variance",
)  # fmt: skip
PANELS = (  # the column of the metrics, the title, the unit
    *(curve[:3] for curve in CURVES if curve[0] in SHOWN),
    ("loss", "Loss", "nats per choice"),
    ("accuracy", "Accuracy", "share of the batch"),
)
WIDTH, HEIGHT = 240, 76  # of a curve, in units of the drawing
# takes a bundle by media type, and its metadata
Show = Callable[[dict[str, str], dict[str, Any]], None]


def watch(
    run: Run, steps: int, *, batch: int = 0, policy: Policy | None = None, task: Task | None = None
) -> LiveView:
    """Show the curves of a training of `steps` steps while it runs; call it just before.

    Takes the place of the progress bar. `batch` is the number of samples per step. With the policy
    that is tuned and its task, the same three prompts are answered again and again below the
    curves. Nothing is shown outside a notebook; a headless run gets the picture and the texts at
    the end only.
    """
    view = LiveView(run, steps, batch=batch, show=_output(), quiet=frontend.headless())
    if policy is not None and task is not None and view.show is not None:
        queries = tasks.queries(task, policy.tokenizer, 3, split="test", seed=1)
        view.texts, view.show_texts = Snapshots(policy, task, queries), _output()
        view.texts.take(0)
    run.on_log = view
    if frontend.in_kernel() and not frontend.headless():
        run.quiet = True  # one display of progress is enough
        view.draw()
    return view


class LiveView:
    """Listens to a run (`run.on_log`) and draws all its numbers, those before a resume included.

    A view that fails says so once and then stays silent: training goes on.
    """

    def __init__(
        self, run: Run, steps: int, *, batch: int = 0, show: Show | None = None,
        quiet: bool = False, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.run, self.steps, self.batch = run, steps, batch
        self.show, self.quiet, self.clock = show, quiet, clock
        self.started, self.drawn, self.seen = clock(), -EVERY_SECONDS, 0
        self.texts: Snapshots | None = None
        self.show_texts: Show | None = None

    def __call__(self, line: dict[str, float]) -> None:
        self.seen += 1
        over = line["step"] + 1 >= self.steps
        self._write(int(line["step"]) + 1, over)
        due = not self.quiet and self.clock() - self.drawn >= EVERY_SECONDS
        if self.show is None or not (over or due):
            return
        try:
            if over:
                self.show(*self.picture())
            else:
                self.draw()
        except Exception as error:
            self.show = None
            why = f"{type(error).__name__}: {error}"
            print(f"The live view stopped ({why}); the training goes on.", file=sys.stderr)

    def _write(self, done: int, over: bool) -> None:
        """Answer the same prompts again, about ten times in a training."""
        if self.texts is None or self.show_texts is None:
            return
        if over or done % max(1, self.steps // 10) == 0:
            try:
                self.texts.take(done)
                if over or not self.quiet:
                    self.show_texts(self.texts.bundle(), {})
            except Exception as error:
                self.show_texts = None
                why = f"{type(error).__name__}: {error}"
                print(f"No more sample texts ({why}); the training goes on.", file=sys.stderr)

    def draw(self) -> None:
        """Draw the state of now."""
        if self.show is not None:
            self.show({"text/html": self.page(), "text/plain": self.words()}, {})
        self.drawn = self.clock()

    def words(self) -> str:
        """Say in one line how far the training is, and the newest numbers."""
        panels = self._panels(self.run.metrics())
        return " · ".join([self.pace(), *(f"{title} {x[-1]:.3g}" for title, _, x in panels)])

    def pace(self) -> str:
        """Say how far the training is: steps, samples, time left."""
        lines = self.run.metrics()
        done = int(lines[-1]["step"]) + 1 if lines else 0
        parts = [f"step {done:,} of {self.steps:,}"]
        if self.batch:
            unit = "comparisons" if lines and "accuracy" in lines[-1] else "responses"
            parts.append(f"{done * self.batch:,} of {self.steps * self.batch:,} {unit}")
        spent = self.clock() - self.started
        if done >= self.steps:
            now = self.seen > 1 or self.steps == 1  # or all of it was there before
            parts.append(f"done in {_duration(spent)}" if now else "finished in an earlier run")
        elif self.seen >= 3:
            parts.append(f"{_duration(spent / self.seen * (self.steps - done))} left")
        return " · ".join(parts)

    def page(self) -> str:
        """Draw everything as HTML in the colours of the notebook's theme."""
        lines = self.run.metrics()
        share = 100 * (int(lines[-1]["step"]) + 1 if lines else 0) / max(self.steps, 1)
        panels = "".join(_panel(*panel) for panel in self._panels(lines))
        if not panels:
            panels = f'<div style="height:{HEIGHT + 60}px">The first step …</div>'
        bar = f'<div style="{_BAR};width:{share:.1f}%;background:{_ACCENT}"></div>'
        return (
            f'<div style="{_FONT}{_CARD}">'
            f'<div style="{_SMALL}">{html.escape(self.pace())}</div>'
            f'<div style="{_BAR};margin:.5rem 0 .9rem;background:{_LINE}">{bar}</div>'
            f'<div style="{_GRID}">{panels}</div></div>'
        )

    def picture(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Draw everything as a PNG, with the numbers in words as its alternative text."""
        words = self.words()
        png = _png(self.pace(), self._panels(self.run.metrics()))
        return {"text/plain": words, "image/png": png}, {"image/png": {"alt": words}}

    def _panels(self, lines: Sequence[dict[str, float]]) -> list[tuple[str, str, list[float]]]:
        found = [
            (title, unit, column) for column, title, unit in PANELS if lines and column in lines[-1]
        ]
        curves = [
            (title, unit, [x for line in lines if math.isfinite(x := line.get(column, math.nan))])
            for title, unit, column in found
        ]
        return [curve for curve in curves if curve[2]]


_INK = "var(--jp-ui-font-color1,var(--vscode-editor-foreground,CanvasText))"
_FONT = f"font-family:var(--jp-ui-font-family,system-ui,sans-serif);color:{_INK};"
_ACCENT = "var(--jp-brand-color1,var(--vscode-focusBorder,#1565c0))"
_MUTED = "color-mix(in srgb,currentColor 74%,transparent)"
_LINE = "color-mix(in srgb,currentColor 16%,transparent)"
_CARD = f"max-width:60rem;padding:.75rem 1rem;border:1px solid {_LINE};border-radius:12px"
_BAR = "height:4px;border-radius:2px"
_GRID = "display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:1rem"
_SMALL = f"font-size:.8125rem;color:{_MUTED}"
_NUMBER = "font-size:1.25rem;font-weight:600;font-variant-numeric:tabular-nums"
_UNIT = f"font-size:.75rem;font-weight:400;color:{_MUTED}"
_SPAN = f"font-size:.6875rem;color:{_MUTED};font-variant-numeric:tabular-nums"
_CURVE = f"display:block;width:100%;height:{HEIGHT}px;border-bottom:1px solid {_LINE}"


def _panel(title: str, unit: str, values: Sequence[float]) -> str:
    """Draw one curve: pale as measured, strong its running mean, the newest number large."""
    raw, mean = _thin(values), _thin(smooth(values).tolist())
    low, high = min(raw), max(raw)
    flat = high - low < 1e-12
    span = "no change yet" if flat else f"{low:.3g} to {high:.3g}"
    low, high = (low - 0.5, high + 0.5) if flat else (low, high)

    def path(points: Sequence[float]) -> str:
        across = WIDTH / max(len(points) - 1, 1)
        return " ".join(
            f"{i * across:.1f},{HEIGHT - 3 - (y - low) / (high - low) * (HEIGHT - 6):.1f}"
            for i, y in enumerate(points)
        )

    extent = f"between {min(values):.3g} and {max(values):.3g} so far"
    label = html.escape(f"{title}: {values[-1]:.3g} now, {extent}", quote=True)
    stroke = f'fill="none" stroke="{_ACCENT}" stroke-linejoin="round"'
    stroke += ' vector-effect="non-scaling-stroke"'
    return (
        f'<div style="min-width:0"><div style="{_SMALL}">{html.escape(title)}</div>'
        f'<div style="{_NUMBER}">{values[-1]:.3g}'
        f' <span style="{_UNIT}">{html.escape(unit)}</span></div>'
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none" style="{_CURVE}">'
        f'<polyline points="{path(raw)}" {stroke} stroke-width="1" opacity=".35"/>'
        f'<polyline points="{path(mean)}" {stroke} stroke-width="2"/></svg>'
        f'<div style="{_SPAN}">{span}</div></div>'
    )


def _thin(values: Sequence[float]) -> list[float]:
    """Keep at most POINTS values, the last among them."""
    stride = -(-len(values) // POINTS)
    return list(values[(len(values) - 1) % stride :: stride])


def _png(title: str, panels: Sequence[tuple[str, str, Sequence[float]]]) -> str:
    file = io.BytesIO()
    strip(title, panels).savefig(file, format="png")
    return base64.b64encode(file.getvalue()).decode()


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"


def _output() -> Show | None:
    """Return what replaces the last drawing in the notebook; None outside a notebook."""
    if not frontend.in_kernel():
        return None
    from IPython.display import display

    handle: list[Any] = []

    def show(bundle: dict[str, str], metadata: dict[str, Any]) -> None:
        if handle:
            handle[0].update(bundle, metadata=metadata, raw=True)
        else:
            handle.append(display(bundle, metadata=metadata, raw=True, display_id=True))

    return show
