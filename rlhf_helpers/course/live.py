"""Training as it happens: a strip of curves that redraws itself about once a second, and leaves a
picture behind.

Not a widget: an output that is replaced (text and vector lines, no pyplot, no callbacks, no
thread), so that whatever happens to the kernel, what was drawn last stays in the notebook. At the
end it becomes one PNG, which every viewer of notebooks shows.
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

from rlhf_helpers.labels import frontend
from rlhf_helpers.runtime.runs import Run

EVERY_SECONDS = 1.0
POINTS = 240  # of a curve, at most
PANELS = (  # the column of the metrics, the title, the unit
    ("score", "Score", ""),
    ("kl_nats_per_response", "KL from the reference", "nats"),
    ("entropy_nats_per_response", "Entropy", "nats"),
    ("value_explained_variance", "Explained variance", "1 is perfect"),
    ("loss", "Loss", "nats per choice"),
    ("accuracy", "Accuracy", "share of the batch"),
)
WIDTH, HEIGHT = 240, 76  # of a curve, in units of the drawing
# takes a bundle by media type, and its metadata
Show = Callable[[dict[str, str], dict[str, Any]], None]


def watch(run: Run, steps: int, *, batch: int = 0) -> LiveView:
    """Show the curves of a training of `steps` steps while it runs, in place of the progress bar;
    call it just before the training.

    `batch` is the number of samples per step. Nothing is shown outside a notebook; a headless run
    gets the picture at the end only.
    """
    view = LiveView(run, steps, batch=batch, show=_output(), quiet=frontend.headless())
    run.on_log = view
    if frontend.in_kernel() and not frontend.headless():
        run.quiet = True  # one display of progress is enough
        view.draw()
    return view


class LiveView:
    """Listens to a run (`run.on_log`), and draws all of its numbers, those of an earlier, resumed
    part included.

    A view that fails says so once and gets out of the way: training goes on.
    """

    def __init__(
        self, run: Run, steps: int, *, batch: int = 0, show: Show | None = None,
        quiet: bool = False, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.run, self.steps, self.batch, self.show, self.quiet, self.clock = (
            run,
            steps,
            batch,
            show,
            quiet,
            clock,
        )
        self.started, self.drawn, self.seen = clock(), -EVERY_SECONDS, 0

    def __call__(self, line: dict[str, float]) -> None:
        self.seen += 1
        over = line["step"] + 1 >= self.steps
        if self.show is None or not (
            over or not self.quiet and self.clock() - self.drawn >= EVERY_SECONDS
        ):
            return
        try:
            if over:
                self.show(*self.picture())
            else:
                self.draw()
        except Exception as error:
            self.show = None
            print(
                f"The live view stopped ({type(error).__name__}: {error}); the training goes on.",
                file=sys.stderr,
            )

    def draw(self) -> None:
        """Draw the state of now."""
        if self.show is not None:
            self.show({"text/html": self.page(), "text/plain": self.words()}, {})
        self.drawn = self.clock()

    def words(self) -> str:
        """Say in one line how far the training is, and the newest numbers."""
        return " · ".join(
            [
                self.pace(),
                *(
                    f"{title} {values[-1]:.3g}"
                    for title, _, values in self._panels(self.run.metrics())
                ),
            ]
        )

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
            parts.append(f"done in {_duration(spent)}")
        elif self.seen >= 3:
            parts.append(f"{_duration(spent / self.seen * (self.steps - done))} left")
        return " · ".join(parts)

    def page(self) -> str:
        """Draw everything as HTML in the colours of the notebook's theme."""
        lines = self.run.metrics()
        share = 100 * (int(lines[-1]["step"]) + 1 if lines else 0) / max(self.steps, 1)
        panels = (
            "".join(_panel(*panel) for panel in self._panels(lines))
            or f'<div style="height:{HEIGHT + 60}px">The first step …</div>'
        )
        return (
            f'<div style="{_FONT}max-width:60rem;padding:.75rem 1rem;border:1px solid {_LINE};border-radius:12px">'
            f'<div style="font-size:.8125rem;color:{_MUTED}">{html.escape(self.pace())}</div>'
            f'<div style="height:4px;margin:.5rem 0 .9rem;border-radius:2px;background:{_LINE}">'
            f'<div style="width:{share:.1f}%;height:100%;border-radius:2px;background:{_ACCENT}"></div></div>'
            f'<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:1rem">{panels}</div></div>'
        )

    def picture(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Draw everything as a PNG with its words as alternative text (matplotlib's canvas, not
        pyplot, which others may be using)."""
        words, panels = self.words(), self._panels(self.run.metrics())
        bundle = {"text/plain": words}
        try:
            bundle["image/png"] = _png(self.pace(), panels)
        except ImportError:  # no matplotlib on this machine
            bundle["text/html"] = self.page()
        return bundle, {"image/png": {"alt": words}}

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


def _panel(title: str, unit: str, values: Sequence[float]) -> str:
    """Draw one curve: pale as measured, strong its running mean, the newest number large."""
    raw, mean = _thin(values), _thin(_running_mean(values))
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

    label = html.escape(
        f"{title}: {values[-1]:.3g} now, between {min(values):.3g} and {max(values):.3g} so far",
        quote=True,
    )
    stroke = (
        f'fill="none" stroke="{_ACCENT}" stroke-linejoin="round" vector-effect="non-scaling-stroke"'
    )
    return (
        f'<div style="min-width:0"><div style="font-size:.8125rem;color:{_MUTED}">{html.escape(title)}</div>'
        f'<div style="font-size:1.25rem;font-weight:600;font-variant-numeric:tabular-nums">{values[-1]:.3g}'
        f' <span style="font-size:.75rem;font-weight:400;color:{_MUTED}">{html.escape(unit)}</span></div>'
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" '
        f'style="display:block;width:100%;height:{HEIGHT}px;border-bottom:1px solid {_LINE}">'
        f'<polyline points="{path(raw)}" {stroke} stroke-width="1" opacity=".35"/>'
        f'<polyline points="{path(mean)}" {stroke} stroke-width="2"/></svg>'
        f'<div style="font-size:.6875rem;color:{_MUTED};font-variant-numeric:tabular-nums">{span}</div></div>'
    )


def _running_mean(values: Sequence[float]) -> list[float]:
    """Average over the last tenth of the run at each point: the eye's help in noisy curves."""
    window, total, means = max(3, len(values) // 10), 0.0, []
    for i, value in enumerate(values):
        total += value - (values[i - window] if i >= window else 0.0)
        means.append(total / min(i + 1, window))
    return means


def _thin(values: Sequence[float]) -> list[float]:
    """Keep at most POINTS values, the last among them."""
    stride = -(-len(values) // POINTS)
    return list(values[(len(values) - 1) % stride :: stride])


def _png(title: str, panels: Sequence[tuple[str, str, Sequence[float]]]) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(2.9 * max(len(panels), 2), 2.3), dpi=100, layout="constrained", facecolor="white"
    )
    for ax, (name, unit, values) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0] if panels else (), panels, strict=True
    ):
        ax.plot(values, color="#56B4E9", linewidth=0.8, alpha=0.6)
        ax.plot(_running_mean(values), color="#0072B2", linewidth=2)
        ax.set_title(name, fontsize=10, fontweight="bold", loc="left")
        ax.set_xlabel("step", fontsize=8)
        ax.set_ylabel(unit, fontsize=8)
        ax.tick_params(labelsize=8)
        ax.grid(color="#DDDDDD", linewidth=0.7)
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left", color="#5A5A5A")
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return base64.b64encode(file.getvalue()).decode()


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 5_400
        else f"{seconds / 3600:.1f} h"
    )


def _output() -> Show | None:
    """Return what shows a bundle in the notebook, in place of the one before; None outside a
    notebook."""
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
