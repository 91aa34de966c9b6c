"""One look for every figure: sizes, colours, and the helpers that draw a field as a map.

Figures are 12 inches wide at 150 dots an inch, and a page shows them at about half of that: no text is below 10 points,
which is then as large as the page's own. Colours are perceptually uniform (viridis, cividis, magma; RdBu only for
signed differences, centred on zero), series use the palette of Okabe and Ito. Everything is drawn through objects
(`Figure`, never pyplot), so no state outlives a call and no display is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pdediff.posterior.result import Observations, Posterior
from pdediff.solvers.grid import Grid

DPI = 150
WIDTH = 12.0
TITLE, LABEL, TICK = 12.5, 11.5, 10.5
INK, MUTED, FAINT = "#222222", "#5a5a5a", "#8a8a8a"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
FIELD_MAPS = {"a": "viridis", "u": "cividis"}
SD_MAP, DIFFERENCE_MAP = "magma", "RdBu_r"
FIELD_NAMES = {"a": "coefficient a", "u": "solution u"}
LOG_CONTRAST = 30.0
"""A coefficient that varies by more than this factor is drawn, averaged and compared on a logarithmic scale."""


@dataclass(frozen=True)
class Scale:
    """A colour scale: its norm, the power of ten taken out of its ticks, and on which ends values run past it."""

    norm: Normalize
    exponent: int = 0
    extend: str = "neither"

    @property
    def is_log(self) -> bool:
        """Whether the scale is logarithmic."""
        return isinstance(self.norm, LogNorm)

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray], ends: tuple[float, float] | None = None, log: bool = False) -> Scale:
        """Return the scale that arrays share: from end to end, or over all but the outermost 0.1 % of their values."""
        values = np.concatenate([np.ravel(array) for array in arrays])
        low, high = ends or (float(q) for q in np.quantile(values, (0.001, 0.999)))
        if not log and 0 < low < 0.05 * high:
            low = 0.0
        # A touch of tolerance: arrows on the bar are for values that really run past it.
        slack = 0.05 * (high - low)
        over, under = values.max() > high + slack, values.min() < low - slack
        extend = {(False, False): "neither", (True, False): "max", (False, True): "min", (True, True): "both"}
        if log:
            return cls(LogNorm(low, high), 0, extend[bool(over), bool(under)])
        if high <= low:
            low, high = low - 0.5 * (abs(low) or 1.0), low + 0.5 * (abs(low) or 1.0)
        return cls(Normalize(low, high), power_of_ten(max(abs(low), abs(high))), extend[bool(over), bool(under)])

    @classmethod
    def symmetric(cls, array: np.ndarray) -> Scale:
        """Return a scale centred on zero over all but the largest 0.5 % of |array|."""
        size = float(np.quantile(np.abs(array), 0.995)) or 1.0
        extend = "both" if np.abs(array).max() > 1.02 * size else "neither"
        return cls(Normalize(-size, size), power_of_ten(size), extend)


def is_log(posterior: Posterior, name: str) -> bool:
    """Return whether a field is shown on a logarithmic scale: a positive, not two-phase coefficient of high contrast.

    The solution never is: near a wall where it is zero its logarithm says nothing.
    """
    if name != "a" or posterior.phases is not None:
        return False
    values = [posterior.fields[name], *(truth for key, truth in posterior.truth.items() if key == name)]
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    return bool(low > 0 and high > LOG_CONTRAST * low)


def power_of_ten(size: float) -> int:
    """Return the exponent to take out of numbers up to size: 0 where they are short as they are, else a decimal one."""
    return 0 if size == 0 or 0.05 <= size < 1e4 else int(np.floor(np.log10(size)))


def with_unit(text: str, unit: str, exponent: int = 0) -> str:
    """Return "text [10^e unit]", leaving out what is not there."""
    inside = " ".join(part for part in (f"$10^{{{exponent}}}$" if exponent else "", unit) if part)
    return f"{text} [{inside}]" if inside else text


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure of that many inches."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white")


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return new axes with that upper left corner and size, in inches from the figure's upper left corner."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def plain(axes: Axes) -> Axes:
    """Give a graph the house look: readable ticks, no upper and right spine, a faint grid."""
    axes.tick_params(labelsize=TICK, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def draw_map(axes: Axes, grid: Grid, values: np.ndarray, scale: Scale, colours: object, title: str) -> AxesImage:
    """Draw a field (ny, nx) as a map of the whole domain, in true proportion, without tick labels."""
    image = axes.imshow(
        values,
        origin="lower",
        extent=(*grid.x, *grid.y),
        norm=scale.norm,
        cmap=colours,  # type: ignore[arg-type]
        interpolation="nearest",
        aspect="equal",
    )
    axes.set_title(title, fontsize=TITLE, color=INK, pad=6)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(*grid.x)))
    axes.yaxis.set_major_locator(FixedLocator(_ticks(*grid.y)))
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.tick_params(labelsize=TICK, colors=INK, labelbottom=False, labelleft=False, length=3)
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.8)
    return image


def label_axes(axes: Axes, grid: Grid, x: bool = True, y: bool = True) -> None:
    """Write coordinates and their unit on a map's lower and left side."""
    axes.tick_params(labelbottom=x, labelleft=y)
    if x:
        axes.set_xlabel(with_unit("x", grid.unit), fontsize=LABEL, color=INK, labelpad=2)
    if y:
        axes.set_ylabel(with_unit("y", grid.unit), fontsize=LABEL, color=INK, labelpad=2)


def colour_bar(
    figure: Figure,
    axes: Axes,
    scale: Scale,
    colours: object,
    text: str,
    unit: str,
    horizontal: bool = True,
    ticks: Sequence[float] | None = None,
) -> None:
    """Draw a colour bar into its own axes, labelled "text [10^e unit]"."""
    mappable = ScalarMappable(norm=scale.norm, cmap=colours)  # type: ignore[arg-type]
    bar = figure.colorbar(
        mappable, cax=axes, orientation="horizontal" if horizontal else "vertical", extend=scale.extend, extendfrac=0.03
    )
    low, high = float(scale.norm.vmin or 0.0), float(scale.norm.vmax or 0.0)
    if scale.is_log:
        bar.locator = LogLocator(10, subs=(1.0,) if high > 100 * low else (1.0, 3.0), numticks=6)
        bar.formatter = FuncFormatter(_plain if low >= 0.01 and high < 1e4 else _power)
        bar.minorlocator = NullLocator()
    else:
        bar.locator = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]) if ticks is None else FixedLocator(list(ticks))
        bar.formatter = FuncFormatter(lambda value, _: _plain(value / 10.0**scale.exponent))
    bar.update_ticks()
    bar.ax.tick_params(labelsize=TICK, colors=INK, length=3)
    bar.outline.set(linewidth=0.6, edgecolor=FAINT)
    bar.set_label(with_unit(text, unit, scale.exponent), fontsize=LABEL, color=INK, labelpad=3)


def longest_label(grid: Grid) -> int:
    """Return the number of characters of the longest label on a map's left side."""
    return max(len(_plain(tick)) for tick in _ticks(*grid.y))


def mark_sensors(axes: Axes, observations: Observations, cells: int) -> bool:
    """Mark every sensor with a white dot in a dark ring, smaller where there are many; return whether it was done.

    Data that see more than a quarter of the cells are a map of their own, and dots would hide this one.
    """
    if not 0 < len(observations) <= cells / 4:
        return False
    size = float(np.clip(800 / max(len(observations), 1), 7, 20))
    axes.scatter(
        observations.x, observations.y, s=size, c="white", edgecolors="black", linewidths=0.6, zorder=3, clip_on=False
    )
    return True


def _ticks(low: float, high: float) -> list[float]:
    """Return at most three round numbers between low and high, ends included where they are round."""
    ticks = MaxNLocator(2, steps=[1, 2, 2.5, 3, 4, 5, 6, 8, 10]).tick_values(low, high)
    return [float(tick) for tick in ticks if low - 1e-9 * (high - low) <= tick <= high + 1e-9 * (high - low)]


def _plain(value: float, _: int = 0) -> str:
    """Return a number in full (map coordinates have seven digits), with a true minus sign."""
    return f"{value:.8g}".replace("-", "\N{MINUS SIGN}")


def _power(value: float, _: int = 0) -> str:
    """Return a number as a one-digit multiple of a power of ten."""
    exponent = int(np.floor(np.log10(value) + 1e-9))
    mantissa = round(value / 10.0**exponent)
    return f"$10^{{{exponent}}}$" if mantissa == 1 else f"${mantissa}·10^{{{exponent}}}$"
