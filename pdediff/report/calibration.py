"""Graphs that ask whether the uncertainty is honest: against the data, and against the truth where it is known."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pdediff.posterior.metrics import BINS, attainable_level, coverage, interval
from pdediff.posterior.result import Observations, Posterior
from pdediff.report.style import (
    FAINT,
    FIELD_NAMES,
    INK,
    LABEL,
    SERIES,
    TICK,
    TITLE,
    WIDTH,
    is_log,
    new_figure,
    place,
    plain,
    power_of_ten,
    with_unit,
)

LEVELS = np.arange(0.05, 1.0, 0.05)


def observations_figure(posterior: Posterior) -> Figure:
    """Draw, for each observed field, predictions against observations and their standardised misfits.

    Left: the posterior mean's prediction against the observed value, with the central 90 % interval of the samples'
    noise-free predictions upwards and the noise's standard deviation sideways; the line is 1:1. Middle: the misfit in
    units of the noise, where the bars can be seen. Right: the misfits of all samples beside N(0, 1), which they follow
    if posterior and noise level are right: a posterior sample and the truth are exchangeable given the data.

    Raises:
        ValueError: there are no data, or they carry no predictions.
    """
    observations = posterior.observations
    if len(observations) == 0 or observations.predicted is None:
        raise ValueError("there are no predicted observations to draw")
    names = list(dict.fromkeys(observations.field))
    line = 4.6
    figure = new_figure(WIDTH, line * len(names))
    for i, name in enumerate(names):
        data, unit, top = observations.select(observations.field == name), posterior.units.get(name, ""), i * line + 0.5
        size = line - 1.15
        log = name in posterior.fields and is_log(posterior, str(name)) and bool(data.value.min() > 0)
        _one_to_one(plain(place(figure, 0.95, top, size, size)), data, str(name), unit, log)
        misfit = plain(place(figure, 1.9 + size + 0.1, top, 4.2, size))
        _misfits(misfit, data, str(name), unit, log)
        _histogram(plain(place(figure, 1.9 + size + 4.5, top, 1.75, size)), data, misfit.get_ylim())
    return figure


def _one_to_one(axes: Axes, data: Observations, name: str, unit: str, log: bool) -> None:
    assert data.predicted is not None
    mean, (lower, upper) = data.predicted.mean(axis=0), interval(data.predicted, 0.9)
    exponent = 0 if log else power_of_ten(float(np.abs(data.value).max()))
    size = 10.0**exponent
    low = min((data.value if log else data.value - data.sigma).min(), lower.min()) / size
    high = max((data.value + data.sigma).max(), upper.max()) / size
    ends = (low / 1.3, high * 1.3) if log else (low - 0.04 * (high - low), high + 0.04 * (high - low))
    if log:
        axes.set(xscale="log", yscale="log")
    axes.plot(ends, ends, color=INK, lw=1, zorder=1)
    for group, colour in _groups(data):
        of = data.group == group
        axes.errorbar(
            data.value[of] / size,
            mean[of] / size,
            xerr=data.sigma[of] / size,
            yerr=np.abs(np.stack([mean - lower, upper - mean])[:, of]) / size,
            fmt="o",
            ms=4.5,
            mew=0,
            color=colour,
            elinewidth=0.9,
            alpha=0.8,
            label=str(group),
        )
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set_xlabel(with_unit(f"observed {name}", unit, exponent), fontsize=LABEL)
    axes.set_ylabel(with_unit(f"predicted {name}", unit, exponent), fontsize=LABEL)
    axes.set_title(f"predicted against observed, {FIELD_NAMES.get(name, name)}", fontsize=TITLE, color=INK)
    if len(set(data.group)) > 1:
        axes.legend(fontsize=TICK, frameon=False, loc="upper left", handletextpad=0.3)
    level = min(0.9, attainable_level(len(data.predicted)))
    text = "line: 1:1\nbars: ±σ sideways" + (f",\n{100 * level:.0f} % interval upwards" if level else "")
    axes.text(0.97, 0.03, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=TICK, color=INK)


def _misfits(axes: Axes, data: Observations, name: str, unit: str, log: bool) -> None:
    misfit = data.standardised_misfit()
    mean, (lower, upper) = misfit.mean(axis=0), interval(misfit, 0.9)
    exponent = 0 if log else power_of_ten(float(np.abs(data.value).max()))
    if log:
        axes.set_xscale("log")
    axes.axhspan(-2, 2, color="#ededed", lw=0, zorder=0)
    axes.axhspan(-1, 1, color="#dcdcdc", lw=0, zorder=0)
    axes.axhline(0, color=INK, lw=1, zorder=1)
    for group, colour in _groups(data):
        of = data.group == group
        error = np.abs(np.stack([mean - lower, upper - mean])[:, of])
        axes.errorbar(
            data.value[of] / 10.0**exponent,
            mean[of],
            yerr=error,
            fmt="o",
            ms=4,
            mew=0,
            color=colour,
            elinewidth=0.8,
            alpha=0.7,
        )
    reach = max(3.5, 1.05 * float(np.abs([lower, upper]).max()))
    axes.set_ylim(-reach, reach)
    axes.set_xlabel(with_unit(f"observed {name}", unit, exponent), fontsize=LABEL)
    axes.set_ylabel("(predicted − observed) / σ", fontsize=LABEL, labelpad=0)
    axes.set_title("misfit in units of σ", fontsize=TITLE, color=INK)


def _histogram(axes: Axes, data: Observations, limits: tuple[float, float]) -> None:
    misfit = data.standardised_misfit()
    edges = np.linspace(*limits, int(np.clip(np.sqrt(misfit.size), 15, 40)) + 1)
    axes.hist(misfit.ravel(), bins=edges.tolist(), density=True, orientation="horizontal", color=SERIES[5], alpha=0.85)
    z = np.linspace(*limits, 200)
    axes.plot(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), z, color=INK, lw=1.5)
    axes.set_ylim(limits)
    axes.tick_params(labelleft=False)
    axes.set_xlabel("density", fontsize=LABEL)
    axes.set_title(f"all samples, N(0, 1)\nχ² = {np.mean(misfit**2):.2f}", fontsize=TICK, color=INK)


def reliability_figure(table: dict[str, list]) -> Figure:
    """Draw a reliability table (of one posterior or pooled): observed frequency against predicted probability.

    Honest probabilities lie on the diagonal; the band is 5 points wide on either side. Below: the cells in each bin.
    """
    figure = new_figure(5.2, 6.3)
    axes, counts = plain(place(figure, 0.9, 0.5, 4.0, 4.0)), plain(place(figure, 0.9, 4.65, 4.0, 0.95))
    axes.fill_between([0, 1], [-0.05, 0.95], [0.05, 1.05], color="#e8e8e8", lw=0, label="± 5 points")
    axes.plot([0, 1], [0, 1], color=INK, lw=1, label="honest")
    points = [(p, o) for p, o in zip(table["predicted"], table["observed"], strict=True) if p is not None]
    axes.plot(*zip(*points, strict=True), "o-", color=SERIES[0], ms=7, lw=1.5, label="posterior")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.tick_params(labelbottom=False)
    axes.set_ylabel("observed frequency", fontsize=LABEL)
    axes.set_title("reliability of P(high phase)", fontsize=TITLE, color=INK)
    axes.legend(fontsize=TICK, frameon=False, loc="upper left")
    counts.bar((np.arange(BINS) + 0.5) / BINS, table["count"], width=0.9 / BINS, color=FAINT)
    counts.set_yscale("log")
    counts.set(xlim=(0, 1), ylim=(0.8, None))
    counts.set_xlabel("predicted probability", fontsize=LABEL)
    counts.set_ylabel("cells", fontsize=LABEL)
    return figure


def coverage_figure(posterior: Posterior) -> Figure:
    """Draw the share of cells whose truth lies in the central interval, against the interval's level, for each field.

    Levels that so few samples cannot give are left out; a two-phase coefficient is (see `reliability_figure`).

    Raises:
        ValueError: no field has a truth, or there is a single sample.
    """
    curves = coverage_curves(posterior)
    if not curves:
        raise ValueError("coverage needs a known truth and more than one sample")
    figure = new_figure(5.2, 5.2)
    axes = plain(place(figure, 0.9, 0.5, 4.0, 4.0))
    axes.fill_between([0, 100], [-5, 95], [5, 105], color="#e8e8e8", lw=0, label="± 5 points")
    axes.plot([0, 100], [0, 100], color=INK, lw=1, label="honest")
    for (name, points), colour in zip(curves.items(), SERIES, strict=False):
        axes.plot(*100 * np.array(points).T, "o-", color=colour, ms=5, lw=1.5, label=FIELD_NAMES.get(name, name))
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set_xlabel("level of the interval [%]", fontsize=LABEL)
    axes.set_ylabel("cells whose truth is inside [%]", fontsize=LABEL)
    axes.set_title("coverage of the posterior intervals", fontsize=TITLE, color=INK)
    axes.legend(fontsize=TICK, frameon=False, loc="upper left")
    return figure


def coverage_curves(posterior: Posterior) -> dict[str, list[tuple[float, float]]]:
    """Return field -> (level, coverage) for the levels 5 %, 10 %, ..., 95 % that n samples can give."""
    curves = {}
    for name, truth in posterior.truth.items():
        if name == "a" and posterior.phases is not None:
            continue
        found = [(float(level), coverage(posterior.fields[name], truth, float(level))) for level in LEVELS]
        if points := [(level, share) for level, share in found if share is not None]:
            curves[name] = points
    return curves


def _groups(data: Observations) -> list[tuple[str, str]]:
    """Return (group, colour) for each group of sensors, in order of appearance."""
    groups = [str(group) for group in dict.fromkeys(data.group)]
    return [(group, SERIES[i % len(SERIES)]) for i, group in enumerate(groups)]
