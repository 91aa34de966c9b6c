"""The figures of a run: which there are, and how they get into a folder.

    fields          truth | mean | standard deviation | samples, of a and of u
    observations    predicted against observed, and the misfits against the noise model
    residuals       where the misfits are, and where the mean is off the truth
    reliability     of the phase probabilities (two-phase coefficient, truth known)
    coverage        of the posterior intervals (truth known)

Figures are written as they are made, so that one is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from pdediff.posterior.files import replacing
from pdediff.posterior.metrics import field_metrics
from pdediff.posterior.result import Posterior
from pdediff.report.calibration import coverage_curves, coverage_figure, observations_figure, reliability_figure
from pdediff.report.maps import fields_figure, residuals_figure
from pdediff.report.style import DPI


def figures(posterior: Posterior) -> Iterator[tuple[str, Figure]]:
    """Give (name, figure) of every figure that makes sense for this posterior, one at a time."""
    has_predictions = posterior.observations.predicted is not None and len(posterior.observations) > 0
    yield "fields", fields_figure(posterior)
    if has_predictions:
        yield "observations", observations_figure(posterior)
    if has_predictions or posterior.truth:
        yield "residuals", residuals_figure(posterior)
    if table := field_metrics(posterior, "a")["reliability"]:
        yield "reliability", reliability_figure(table)
    if coverage_curves(posterior):
        yield "coverage", coverage_figure(posterior)


def save_figures(posterior: Posterior, folder: str | Path) -> list[Path]:
    """Write every figure as folder/NAME.png and return the paths; the folder is made if need be.

    A picture is complete or absent: it is written under a temporary name and renamed.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [save_figure(figure, folder / f"{name}.png") for name, figure in figures(posterior)]


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write one figure as PNG, whole or not at all, and return its path."""
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=DPI)
    return Path(path)
