"""Several posteriors of the same data, side by side: what each variant of a case says, and how right it is.

A row is a variant, under the truth where it is known. A column has one colour scale, so that one colour means one value
from top to bottom: beside a variant with large errors, one whose errors are small is white.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pdediff.posterior.metrics import metrics, phase
from pdediff.posterior.result import Posterior
from pdediff.report.maps import FLAT, INTERFACE, draw_interface
from pdediff.report.style import (
    DIFFERENCE_MAP,
    FIELD_MAPS,
    INK,
    MUTED,
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


def _short(value: float) -> str:
    """Return a number in as few characters as say how large it is."""
    return f"{value:.0e}" if value < 0.01 else f"{value:.2g}" if value < 100 else f"{value:.0f}"


HEADLINES = (
    ("a", "sample_error_rate", "wrong cells", "{:.1%}".format),
    ("a", "sample_relative_l2", "error of a", "{:.1%}".format),
    ("u", "sample_relative_l2", "error of u", "{:.1%}".format),
    ("a", "coverage_90", "coverage of a", "{:.0%}".format),
    ("u", "coverage_90", "coverage of u", "{:.0%}".format),
    ("observations", "chi2", "χ² of the data", _short),
    ("pde", "relative_residual", "PDE residual", _short),
    ("cost", "seconds_per_sample", "s a sample", _short),
)
"""(section, key, words, format) of the numbers beside a row, short enough to stand there."""
NOTE = "errors: of one sample,\non average\n\ncoverage: of the 90 %\nintervals"

HEAD, BELOW, GAP = 0.36, 0.16, 0.14  # inches: a heading, the space under a row, between columns
AXIS, BAR, LINE = 0.42, 0.75, 0.22  # inches: tick labels under the last row, a colour bar, a line of numbers


@dataclass(frozen=True)
class Column:
    """One column of maps.

    Attributes:
        heading: what stands above it.
        label, unit: of its colour bar.
        maps: the map of each variant, each (ny, nx).
        scale, colours: of all of them.
        ticks: of the bar, where they are given.
    """

    heading: str
    label: str
    unit: str
    maps: list[np.ndarray]
    scale: Scale
    colours: str
    ticks: Sequence[float] | None = None


@dataclass(frozen=True)
class Layout:
    """Where the six places of a row are: five maps and the numbers, in one line, or in two on a low, long domain.

    Attributes:
        across, lines: places in a line, and lines.
        left: inches to the first.
        width, height: of a map, in inches.
        block: height of a row, from the top of its first map.
    """

    across: int
    lines: int
    left: float
    width: float
    height: float
    block: float

    @classmethod
    def of(cls, posterior: Posterior, numbers: int) -> Layout:
        """Return the layout for a posterior's domain and so many numbers a row."""
        grid = posterior.grid
        ratio = (grid.y[1] - grid.y[0]) / (grid.x[1] - grid.x[0])
        across = 3 if ratio < FLAT else 6
        lines, left = 6 // across, 0.8 + 0.085 * longest_label(grid)
        width = (WIDTH - left - 0.1 - GAP * (across - 1)) / across
        height = min(ratio, 2.2) * width
        return cls(across, lines, left, width, height, (lines - 1) * (HEAD + height) + max(height, LINE * numbers))

    def at(self, i: int) -> tuple[float, float]:
        """Return where place i is: inches from the figure's left side, and down from the top of the row's first map."""
        line, column = divmod(i, self.across)
        return self.left + column * (self.width + GAP), line * (HEAD + self.height)


def comparison_figure(posteriors: Mapping[str, Posterior]) -> Figure:
    """Draw a row for each variant: belief in a, its spread, a sample of a, mean of u, its error, headline numbers.

    The error of u needs a truth; without one its standard deviation takes the place.
    """
    runs = list(posteriors.values())
    truth, columns = runs[0].truth, _columns(runs)
    numbers = [headlines(run) for run in runs]
    layout = Layout.of(runs[0], max(map(len, numbers)))
    start = HEAD + layout.height + BELOW if truth else 0.0
    pitch = layout.block + (BELOW if layout.lines == 1 else HEAD + BELOW)
    bars = start + HEAD + (len(runs) - 1) * pitch + layout.block + AXIS
    figure = new_figure(WIDTH, bars + layout.lines * BAR)
    if truth:
        _row_name(figure, "truth", HEAD, layout.height)
        _truth(figure, runs[0], columns, layout)
    for k, (name, run) in enumerate(posteriors.items()):
        top, last = start + HEAD + k * pitch, k == len(runs) - 1
        _row_name(figure, name, top, layout.height if layout.lines == 1 else layout.block)
        for i, column in enumerate(columns):
            x, y = layout.at(i)
            axes = place(figure, x, top + y, layout.width, layout.height)
            heading = column.heading if k == 0 or layout.lines > 1 else ""
            draw_map(axes, run.grid, column.maps[k], column.scale, column.colours, heading)
            label_axes(axes, run.grid, x=last and i == 6 - layout.across, y=i % layout.across == 0)
            if i == 0 and runs[0].phases and "a" in truth:
                draw_interface(axes, runs[0])
            if i == 4 and not truth:
                _mark(axes, runs[0], list(runs[0].fields)[-1])
        _numbers(figure, numbers[k], layout, top)
    for i, column in enumerate(columns):
        x, y = layout.at(i)[0], bars + (i // layout.across) * BAR
        bar = place(figure, x, y, layout.width, 0.12)
        colour_bar(figure, bar, column.scale, column.colours, column.label, column.unit, ticks=column.ticks)
    observed = dict.fromkeys(runs[0].observations.field)
    handles = {"sensor": Line2D([], [], ls="", marker="o", mfc="white", mec="black", ms=5)} if observed else {}
    if runs[0].phases and "a" in truth:
        handles["true interface"] = Line2D([], [], color=INTERFACE, lw=1.5)
    figure.legend(handles.values(), handles.keys(), loc="lower right", frameon=False, fontsize=TICK)
    return figure


def headlines(posterior: Posterior) -> list[tuple[str, str]]:
    """Return (words, number) for what is known of a posterior's quality."""
    entry = metrics(posterior)
    two_phase = entry["a"]["sample_error_rate"] is not None
    return [
        (words, show(entry[section][key]).replace("%", " %").replace("e-", "e\N{MINUS SIGN}"))
        for section, key, words, show in HEADLINES
        if entry[section][key] is not None and not (two_phase and (section, key) == ("a", "sample_relative_l2"))
    ]


def _columns(runs: Sequence[Posterior]) -> list[Column]:
    """Return the five columns of maps of the posteriors."""
    truth, units = runs[0].truth, runs[0].units
    phases = runs[0].phases if len({run.phases for run in runs}) == 1 else None
    log = phases is None and any(is_log(run, "a") for run in runs)
    a = [run.fields["a"] for run in runs]
    samples = [values[0] for values in a]
    known = [truth["a"]] if "a" in truth else []
    spread = [_sd(np.log10(values) if log else values) for values in a]
    means = [np.exp(np.log(values).mean(axis=0)) if log else values.mean(axis=0) for values in a]
    scale = Scale.of([*known, *samples, *means], phases, log)
    map_a = FIELD_MAPS["a"]
    if phases:
        chance = [phase(values, phases).mean(axis=0) for values in a]
        belief = Column("probability of high a", "probability", "", chance, Scale(Normalize(0, 1)), map_a, (0, 0.5, 1))
    else:
        belief = Column("geometric mean of a" if log else "mean of a", "a", units["a"], means, scale, map_a)
    ticks = np.linspace(*phases, 4).tolist() if phases else None
    spread_scale = Scale.of(spread, (0.0, max(float(values.max()) for values in spread) or 1.0))
    sd_words, sd_unit = ("sd of log₁₀ a", "decades") if log else ("sd of a", units["a"])
    columns = [
        belief,
        Column(sd_words, "sd", sd_unit, spread, spread_scale, SD_MAP),
        Column("one sample of a", "a", units["a"], samples, scale, map_a, ticks),
    ]
    if all("u" in run.fields for run in runs):
        return [*columns, *_columns_of_u(runs)]
    another = [values[-1] for values in a]
    columns.append(Column("another sample of a", "a", units["a"], another, scale, map_a, ticks))
    if "a" in truth:
        errors = [mean / truth["a"] if log else mean - truth["a"] for mean in means]
        errors = [np.log10(error) for error in errors] if log else errors
        return [*columns, _errors("error of a's mean", sd_unit if log else units["a"], errors)]
    return columns


def _columns_of_u(runs: Sequence[Posterior]) -> list[Column]:
    """Return the two columns of u: its mean, and that mean's error or, without a truth, its standard deviation."""
    truth, unit, u = runs[0].truth, runs[0].units["u"], [run.fields["u"] for run in runs]
    means = [values.mean(axis=0) for values in u]
    scale = Scale.of([*means, *([truth["u"]] if "u" in truth else [])])
    mean = Column("mean of u", "u", unit, means, scale, FIELD_MAPS["u"])
    if "u" in truth:
        return [mean, _errors("error of u's mean", unit, [values - truth["u"] for values in means])]
    spread = [_sd(values) for values in u]
    scale = Scale.of(spread, (0.0, max(float(values.max()) for values in spread) or 1.0))
    return [mean, Column("sd of u", "sd", unit, spread, scale, SD_MAP)]


def _errors(heading: str, unit: str, errors: list[np.ndarray]) -> Column:
    pooled = np.concatenate([error.ravel() for error in errors])
    return Column(heading, "error", unit, errors, Scale.symmetric(pooled), DIFFERENCE_MAP)


def _sd(values: np.ndarray) -> np.ndarray:
    """Return the pointwise standard deviation of samples (n, ...); zero for a single one."""
    return np.asarray(values.std(axis=0, ddof=min(1, len(values) - 1)))


def _truth(figure: Figure, run: Posterior, columns: Sequence[Column], layout: Layout) -> None:
    """Draw the row of the true fields: above the columns of a and of u, or side by side in a layout of two lines."""
    shown = {"a": (0, columns[2]), "u": (3 if layout.lines == 1 else 1, columns[3])}
    for name, values in run.truth.items():
        if name not in shown:
            continue
        i, column = shown[name]
        axes = place(figure, layout.at(i)[0], HEAD, layout.width, layout.height)
        draw_map(axes, run.grid, values, column.scale, column.colours, f"true {name}")
        label_axes(axes, run.grid, x=False, y=i == 0)
        _mark(axes, run, name)
    _write(figure, layout.at(layout.across - 1)[0] + 0.08, HEAD, NOTE, color=MUTED, va="top")


def _mark(axes: Axes, run: Posterior, name: str) -> None:
    """Mark the sensors of a field."""
    mark_sensors(axes, run.observations.select(run.observations.field == name), math.prod(run.grid.shape))


def _row_name(figure: Figure, name: str, top: float, height: float) -> None:
    """Write a row's name upwards at the left side, as much of it as the row's height holds."""
    fits = int(height / 0.125)
    shown = name if len(name) <= fits else name[: fits - 1] + "…"
    _write(figure, 0.2, top + height / 2, shown, size=TITLE, rotation=90, ha="center", va="center", weight="bold")


def _numbers(figure: Figure, rows: Sequence[tuple[str, str]], layout: Layout, top: float) -> None:
    """Write words and numbers in two columns at the last place of a row, from its top on."""
    x, y = layout.at(5)
    for k, (words, value) in enumerate(rows):
        middle = top + y + (k + 0.5) * LINE
        _write(figure, x + 0.08, middle, words, color=MUTED, va="center")
        _write(figure, x + layout.width, middle, value, ha="right", va="center", weight="bold")


def _write(figure: Figure, x: float, y: float, text: str, size: float = TICK, color: str = INK, **style: Any) -> None:
    """Write text at inches from the figure's left side and from its top."""
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, text, fontsize=size, color=color, **style)
