"""Maps: the posterior as a scientist reads it, and where it misses.

A coefficient that varies over decades (log-normal) is shown, averaged and compared as log a: its map has a logarithmic
scale, its mean is the geometric one and its standard deviation is that of log10 a; the titles say so. An arithmetic
mean of such samples shows little but the largest of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pdediff.posterior.metrics import field_metrics, relative_l2
from pdediff.posterior.result import Posterior
from pdediff.report.style import (
    DIFFERENCE_MAP,
    FIELD_MAPS,
    FIELD_NAMES,
    INK,
    LABEL,
    SD_MAP,
    TICK,
    TITLE,
    WIDTH,
    Scale,
    colour_bar,
    draw_map,
    is_log,
    label_axes,
    longest_label,
    mark_sensors,
    new_figure,
    place,
)

INTERFACE = "#ff3b30"
GREYS = LinearSegmentedColormap.from_list("light greys", ["#ffffff", "#9a9a9a"])
FLAT = 0.45
"""A domain lower than this share of its width gets fewer and wider panels."""


@dataclass(frozen=True)
class Panel:
    """One map of the overview: what it is ("truth", "mean", "sd" or "sample"), its heading, its values (ny, nx)."""

    what: str
    heading: str
    values: np.ndarray


def panels(posterior: Posterior, name: str, count: int = 6) -> list[Panel]:
    """Return what the overview shows of a field: truth (if known), mean, standard deviation, samples up to count."""
    samples, log = posterior.fields[name], is_log(posterior, name)
    shown = [Panel("truth", "truth", posterior.truth[name])] if name in posterior.truth else []
    if posterior.n > 1:
        if log:
            mean, sd = np.exp(np.log(samples).mean(axis=0)), np.log10(samples).std(axis=0, ddof=1)
        else:
            mean, sd = samples.mean(axis=0), samples.std(axis=0, ddof=1)
        shown.append(Panel("mean", "geometric mean" if log else "mean", mean))
        shown.append(Panel("sd", f"sd of log₁₀ {name}" if log else "standard deviation", sd))
    return shown + [Panel("sample", f"sample {i + 1}", samples[i]) for i in range(min(count - len(shown), posterior.n))]


def fields_figure(posterior: Posterior) -> Figure:
    """Draw each field's truth | mean | standard deviation | samples, with the field's own sensors on the first three.

    Truth, mean and samples of a field share one scale; its standard deviation has its own. Without a truth its place
    goes to one more sample; a single sample is shown alone. Low, long domains take two lines a field.
    """
    grid, names = posterior.grid, list(posterior.fields)
    ratio = (grid.y[1] - grid.y[0]) / (grid.x[1] - grid.x[0])
    columns = 3 if ratio < FLAT else 6
    left = 0.75 + 0.085 * longest_label(grid)
    right, gap, heading, ticks, bars, foot = 0.2, 0.14, 0.36, 0.42, 0.78, 0.2
    width = (WIDTH - left - right - gap * (columns - 1)) / columns
    height = min(ratio, 2.2) * width
    shown = {name: panels(posterior, name) for name in names}
    lines = {name: -(-len(shown[name]) // columns) for name in names}
    block = {name: lines[name] * (heading + height) + bars + (foot if lines[name] > 1 else 0) for name in names}
    inches = ticks + sum(block.values())
    figure = new_figure(WIDTH, inches)
    handles: dict[str, Line2D] = {}
    top = 0.0
    for name in names:
        sensors = posterior.observations.select(posterior.observations.field == name)
        shared = _shared_scale(posterior, name, shown[name])
        colours = FIELD_MAPS.get(name, "viridis")
        last = name == names[-1]
        # Tick labels stand under the lowest line; on a block of one line the bars make room for them.
        below = ticks if last and lines[name] == 1 else 0.0
        for i, panel in enumerate(shown[name]):
            line, column = divmod(i, columns)
            x, y = left + column * (width + gap), top + heading + line * (heading + height + bars)
            axes = place(figure, x, y, width, height)
            is_sd = panel.what == "sd"
            scale = _sd_scale(panel.values) if is_sd else shared
            draw_map(axes, grid, panel.values, scale, SD_MAP if is_sd else colours, panel.heading)
            label_axes(axes, grid, x=column == 0 and last and line == lines[name] - 1, y=column == 0)
            if panel.what != "sample" and mark_sensors(axes, sensors, math.prod(grid.shape)):
                handles["sensor of the field"] = Line2D([], [], ls="", marker="o", mfc="white", mec="black", ms=5)
            if panel.what == "mean" and name == "a" and posterior.phases and "a" in posterior.truth:
                draw_interface(axes, posterior)
                handles["true interface"] = Line2D([], [], color=INTERFACE, lw=1.5)
            if is_sd:
                bar = place(figure, x, top + heading + height + below + 0.14, width, 0.12)
                if is_log(posterior, name):
                    colour_bar(figure, bar, scale, SD_MAP, "sd", "decades")
                else:
                    colour_bar(figure, bar, scale, SD_MAP, f"sd of {name}", posterior.units[name])
        spanned = max(sum(panel.what in ("truth", "mean") for panel in shown[name]), 1)
        bar = place(figure, left, top + heading + height + below + 0.14, spanned * (width + gap) - gap, 0.12)
        phases = np.linspace(*posterior.phases, 4).tolist() if name == "a" and posterior.phases else None
        colour_bar(figure, bar, shared, colours, name, posterior.units[name], ticks=phases)
        middle = 1 - (top + heading + (height + (lines[name] - 1) * (heading + height + bars)) / 2) / inches
        label = FIELD_NAMES.get(name, name)
        figure.text(0.2 / WIDTH, middle, label, rotation=90, ha="center", va="center", fontsize=TITLE, color=INK)
        top += block[name]
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="lower right", ncols=len(handles), frameon=False, fontsize=LABEL
        )
    return figure


def residuals_figure(posterior: Posterior) -> Figure:
    """Map the standardised residuals (observed - posterior mean) / sigma, and the mean's error where truth is known.

    The residuals stand at their sensors, over the posterior's standard deviation in grey: large residuals of one sign
    in one place mean that the model, the noise level or the prior does not hold there.

    Raises:
        ValueError: there are neither predictions nor a truth.
    """
    grid, observations, names = posterior.grid, posterior.observations, list(reversed(posterior.fields))
    observed = [] if observations.predicted is None else [name for name in names if (observations.field == name).any()]
    drawn = [(name, True) for name in observed] + [(name, False) for name in names if name in posterior.truth]
    if not drawn:
        raise ValueError("residuals need predicted observations or a known truth")
    ratio = (grid.y[1] - grid.y[0]) / (grid.x[1] - grid.x[0])
    columns = 1 if ratio < FLAT else min(len(drawn), 3)
    left, bar_space, heading, below = 0.58 + 0.085 * longest_label(grid), 1.1, 0.4, 1.1
    width = min((WIDTH - 0.1) / columns - left - bar_space, 7.5, 5.5 / ratio)
    height = ratio * width
    lines = -(-len(drawn) // columns)
    figure = new_figure(columns * (left + width + bar_space) + 0.1, lines * (heading + height + below))
    for i, (name, is_residual) in enumerate(drawn):
        line, column = divmod(i, columns)
        x, y = left + column * (left + width + bar_space), heading + line * (heading + height + below)
        axes = place(figure, x, y, width, height)
        bar = place(figure, x + width + 0.12, y, 0.14, height)
        caption = (_residual_map if is_residual else _error_map)(figure, axes, bar, posterior, name)
        label_axes(axes, grid)
        axes.text(
            0.5, -0.57 / height, caption, transform=axes.transAxes, ha="center", va="top", fontsize=TICK, color=INK
        )
    return figure


def _residual_map(figure: Figure, axes: Axes, bar: Axes, posterior: Posterior, name: str) -> str:
    sensors = posterior.observations.select(posterior.observations.field == name)
    residual = -sensors.standardised_misfit().mean(axis=0)
    spread = posterior.fields[name].std(axis=0)
    largest = float(spread.max())
    draw_map(axes, posterior.grid, spread, Scale(Normalize(0, largest or 1.0)), GREYS, f"residuals of {name}")
    scale = Scale(Normalize(-3, 3), extend="both")
    size = float(np.clip(6000 / len(sensors), 22, 70))
    axes.scatter(
        sensors.x,
        sensors.y,
        c=residual,
        s=size,
        norm=scale.norm,
        cmap=DIFFERENCE_MAP,
        edgecolors=INK,
        linewidths=0.5,
        zorder=3,
        clip_on=False,
    )
    colour_bar(figure, bar, scale, DIFFERENCE_MAP, "residual / σ", "", horizontal=False)
    caption = f"(observed − mean prediction) / σ, {len(sensors)} sensors"
    return f"{caption}\ngrey: sd of {name}, 0 to {largest:.2g} {posterior.units[name]}" if largest else caption


def _error_map(figure: Figure, axes: Axes, bar: Axes, posterior: Posterior, name: str) -> str:
    samples, truth = posterior.fields[name], posterior.truth[name]
    if is_log(posterior, name):
        error = np.log10(samples).mean(axis=0) - np.log10(truth)
        unit, symbol = "decades", f"log₁₀ {name}"
        caption = f"root mean square {np.sqrt(np.mean(error**2)):.2f} decades"
    else:
        error = samples.mean(axis=0) - truth
        unit, symbol = posterior.units[name], name
        relative = relative_l2(samples.mean(axis=0), truth)
        caption = "" if relative is None else f"relative L2 error {100 * relative:.1f} %"
    scale = Scale.symmetric(error)
    draw_map(axes, posterior.grid, error, scale, DIFFERENCE_MAP, f"error of the mean, {symbol}")
    colour_bar(figure, bar, scale, DIFFERENCE_MAP, "error", unit, horizontal=False)
    if name == "a" and (error_rate := field_metrics(posterior, name)["error_rate"]) is not None:
        caption += f"\n{100 * error_rate:.1f} % of cells in the wrong phase"
    if name == "u" and np.isfinite(posterior.relative_residual).all():
        caption += f"\nlargest relative PDE residual {posterior.relative_residual.max():.0e}".replace("e-", "e−")
    return caption


def draw_interface(axes: Axes, posterior: Posterior) -> None:
    """Draw the line between the phases of the true coefficient."""
    assert posterior.phases is not None
    x, y = posterior.grid.centres()
    level = float(np.log(posterior.phases).mean())
    axes.contour(x, y, np.log(posterior.truth["a"]), levels=[level], colors=INTERFACE, linewidths=1.0)


def _shared_scale(posterior: Posterior, name: str, shown: list[Panel]) -> Scale:
    ends = posterior.phases if name == "a" else None
    values = [panel.values for panel in shown if panel.what != "sd"]
    return Scale.of(values, ends, log=is_log(posterior, name))


def _sd_scale(values: np.ndarray) -> Scale:
    return Scale.of([values], (0.0, float(values.max()) or 1.0))
