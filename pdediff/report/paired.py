"""Variants of a case on many problems: is one better than another, on the same problems?

Problems differ more than variants do, so the comparison is paired: a thin line is one problem, the same in every
variant, and what counts is whether lines go down together. Dots are means, bars their standard errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pdediff.report.style import INK, SERIES, TICK, WIDTH, new_figure, place, plain
from pdediff.report.tables import MAIN, percent

TARGETS = {"coverage_90": 0.9, "chi2": 1.0}
"""What honest variants have."""
CONTRAST = 1000.0
"""Values that vary by more than this factor are drawn on a logarithmic axis."""


def paired_figure(entries: Mapping[str, Sequence[Mapping[str, Any] | None]]) -> Figure:
    """Draw a graph for each main metric: its value for every variant (left to right) and problem (lines).

    `entries` are the metrics of each variant on the problems, in the same order for all; None where a run failed.
    """
    shown = [row for row in MAIN if np.isfinite(_values(entries, row[0], row[1])).any()]
    columns, height, head, foot = 4, 1.9, 0.5, 0.7
    lines = -(-len(shown) // columns)
    pitch = WIDTH / columns
    figure = new_figure(WIDTH, lines * (head + height + foot))
    for i, (section, key, label, show) in enumerate(shown):
        line, column = divmod(i, columns)
        top = head + line * (head + height + foot)
        axes = plain(place(figure, column * pitch + 0.75, top, pitch - 0.9, height))
        factor, unit = (100, " [%]") if show is percent else (1, "")
        _paired(axes, key, factor * _values(entries, section, key))
        if key in TARGETS:
            axes.axhline(factor * TARGETS[key], color=INK, lw=1, ls="--", zorder=1)
        axes.set_title(label.replace(", ", "\n", 1).replace(" (1 is right)", "") + unit, fontsize=TICK, color=INK)
        axes.set_xticks(range(len(entries)), list(entries), rotation=20, ha="right")
        axes.set_xlim(-0.4, len(entries) - 0.6)
    return figure


def _values(entries: Mapping[str, Sequence[Mapping[str, Any] | None]], section: str, key: str) -> np.ndarray:
    """Return a metric (variants, problems), NaN where it is not known."""
    rows = [
        [np.nan if e is None or e[section][key] is None else e[section][key] for e in row] for row in entries.values()
    ]
    return np.array(rows, dtype=float)


def _paired(axes: Axes, key: str, values: np.ndarray) -> None:
    """Draw values (variants, problems): a line a problem, mean and standard error a variant."""
    known = values[np.isfinite(values)]
    if known.min() > 0 and known.max() > CONTRAST * known.min():
        axes.set_yscale("log")
    elif key not in TARGETS:
        axes.set_ylim(0, 1.05 * known.max())
    axes.plot(np.arange(len(values)), values, color="#b8b8b8", lw=0.8, marker=".", ms=3, zorder=2)
    for k, row in enumerate(values):
        numbers = row[np.isfinite(row)]
        if len(numbers):
            error = numbers.std(ddof=1) / len(numbers) ** 0.5 if len(numbers) > 1 else 0.0
            axes.errorbar(k, numbers.mean(), error, fmt="o", ms=7, capsize=4, color=SERIES[k % len(SERIES)], zorder=3)
