"""Figures: which are drawn for which posterior, what stands in them, and how they are written."""

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from posteriors import posterior

from pdediff.posterior.metrics import reliability
from pdediff.report.calibration import coverage_curves, coverage_figure, observations_figure, reliability_figure
from pdediff.report.figures import save_figure, save_figures
from pdediff.report.maps import fields_figure, panels, residuals_figure
from pdediff.report.style import Scale, power_of_ten, with_unit


def maps(figure: Figure) -> dict[str, Axes]:
    """The maps of a figure by their titles; of several with one title, the first."""
    found: dict[str, Axes] = {}
    for axes in figure.axes:
        if axes.images:
            found.setdefault(axes.get_title(), axes)
    return found


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ["fields", "observations", "residuals", "reliability", "coverage"]),
        ({"two_phase": False}, ["fields", "observations", "residuals", "coverage"]),
        ({"known": False}, ["fields", "observations", "residuals"]),
        ({"n": 1}, ["fields", "observations", "residuals", "reliability"]),
        ({"m": 0}, ["fields", "residuals", "reliability", "coverage"]),
        ({"m": 0, "known": False}, ["fields"]),
        ({"y": (0.0, 0.2)}, ["fields", "observations", "residuals", "reliability", "coverage"]),
        ({"y": (0.0, 5.0), "known": False, "two_phase": False, "n": 2}, ["fields", "observations", "residuals"]),
    ],
    ids=str,
)
def test_the_figures_that_make_sense_are_written(tmp_path: Path, changes: dict[str, Any], names: list[str]) -> None:
    """Every kind of posterior gets its figures, as complete PNG files and nothing else; warnings are errors here."""
    paths = save_figures(posterior(**changes), tmp_path / "figures")
    assert [path.name for path in paths] == [f"{name}.png" for name in names]
    assert sorted(entry.name for entry in (tmp_path / "figures").iterdir()) == sorted(path.name for path in paths)
    for path in paths:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert b"IEND" in data[-12:]
        width, height = struct.unpack(">II", data[16:24])
        assert width <= 1800
        assert height <= 2600


def test_no_pyplot_and_no_state(tmp_path: Path) -> None:
    """Drawing neither imports pyplot (which chooses a display) nor changes matplotlib's settings."""
    import matplotlib

    before = dict(matplotlib.rcParams)
    sys.modules.pop("matplotlib.pyplot", None)
    save_figures(posterior(), tmp_path)
    assert "matplotlib.pyplot" not in sys.modules
    assert dict(matplotlib.rcParams) == before


def test_a_failed_picture_leaves_the_earlier_one(tmp_path: Path) -> None:
    """A figure that cannot be drawn changes nothing and leaves nothing behind."""
    path = tmp_path / "fields.png"
    path.write_bytes(b"earlier")
    figure = Figure()
    figure.text(0.5, 0.5, "$\\notacommand$")
    with pytest.raises(ValueError, match="notacommand"):
        save_figure(figure, path)
    assert path.read_bytes() == b"earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["fields.png"]


def test_panels_hold_what_their_headings_say() -> None:
    """Arithmetic statistics for a two-phase a, those of log a for a log-normal one; sd with n - 1."""
    result = posterior()
    shown = {panel.heading: panel.values for panel in panels(result, "a")}
    assert list(shown) == ["truth", "mean", "standard deviation", "sample 1", "sample 2", "sample 3"]
    assert np.allclose(shown["mean"], result.fields["a"].mean(axis=0))
    assert np.allclose(shown["standard deviation"], result.fields["a"].std(axis=0, ddof=1))
    result = posterior(two_phase=False, known=False)
    shown = {panel.heading: panel.values for panel in panels(result, "a")}
    assert list(shown) == ["geometric mean", "sd of log₁₀ a", *(f"sample {i}" for i in (1, 2, 3, 4))]
    assert np.allclose(np.log(shown["geometric mean"]), np.log(result.fields["a"]).mean(axis=0))
    assert np.allclose(shown["sd of log₁₀ a"], np.log10(result.fields["a"]).std(axis=0, ddof=1))
    assert [panel.heading for panel in panels(posterior(n=1), "u")] == ["truth", "sample 1"]


def test_truth_mean_and_samples_share_a_scale() -> None:
    """One colour means one value across a row, except in the standard deviation's map; log-normal a is logarithmic."""
    shown = maps(fields_figure(posterior()))
    assert {shown[name].images[0].get_clim() for name in ("truth", "mean", "sample 1", "sample 3")} == {(3.0, 12.0)}
    assert shown["standard deviation"].images[0].get_clim()[0] == 0
    shown = maps(fields_figure(posterior(two_phase=False)))
    assert isinstance(shown["truth"].images[0].norm, LogNorm)
    assert isinstance(shown["geometric mean"].images[0].norm, LogNorm)


def test_maps_are_not_upside_down() -> None:
    """Row 0 is drawn at the bottom, and the map spans the domain in its units."""
    result = posterior(y=(-3.0, -1.0))
    truth = maps(fields_figure(result))["truth"]
    assert truth.images[0].origin == "lower"
    assert list(truth.images[0].get_extent()) == [0.0, 1.0, -3.0, -1.0]
    assert truth.get_ylim() == (-3.0, -1.0)


def test_sensors_stand_on_the_observed_field_only() -> None:
    """Nine heads are marked on u's truth, mean and standard deviation; on a and on samples there are none."""
    figure = fields_figure(posterior())
    marked = [axes for axes in figure.axes if axes.images and any(len(c.get_offsets()) == 9 for c in axes.collections)]
    assert [axes.get_title() for axes in marked] == ["truth", "mean", "standard deviation"]


def test_residual_map_shows_observed_less_predicted() -> None:
    """A prediction two sigma too low is a residual of +2, at its sensor."""
    result = posterior(m=2)
    result.observations.predicted = np.tile(result.observations.value - [2e-4, -1e-4], (20, 1))
    dots = maps(residuals_figure(result))["residuals of u"].collections[0]
    assert np.allclose(dots.get_array(), [2.0, -1.0])
    assert np.allclose(dots.get_offsets(), np.column_stack([result.observations.x, result.observations.y]))


def test_error_map_is_mean_less_truth() -> None:
    """The error of u in its unit; that of a log-normal a in decades."""
    result = posterior(two_phase=False)
    shown = maps(residuals_figure(result))
    expected = result.fields["u"].mean(axis=0) - result.truth["u"]
    assert np.allclose(shown["error of the mean, u"].images[0].get_array(), expected)
    expected = np.log10(result.fields["a"]).mean(axis=0) - np.log10(result.truth["a"])
    assert np.allclose(shown["error of the mean, log₁₀ a"].images[0].get_array(), expected)


def test_every_observed_field_has_its_line() -> None:
    """Data of two fields make two lines of three graphs each."""
    result = posterior()
    result.observations.field[:4] = "a"
    assert len(observations_figure(result).axes) == 6


def test_reliability_figure_shows_the_table() -> None:
    """The points are the table's, without its empty bins."""
    table = reliability(np.array([0.05, 0.55, 0.55, 0.95]), np.array([False, True, False, True]))
    line = reliability_figure(table).axes[0].lines[1]
    assert np.allclose(line.get_xydata(), [[0.05, 0.0], [0.55, 0.5], [0.95, 1.0]])


def test_coverage_curves_leave_out_what_samples_cannot_give() -> None:
    """20 samples reach 90.5 %: levels 5 ... 90 %; a two-phase a has none, a log-normal one has."""
    curves = coverage_curves(posterior())
    assert list(curves) == ["u"]
    assert [level for level, _ in curves["u"]] == pytest.approx(np.arange(0.05, 0.91, 0.05).tolist())
    assert list(coverage_curves(posterior(two_phase=False))) == ["a", "u"]


@pytest.mark.parametrize(
    ("draw", "changes"),
    [
        (observations_figure, {"m": 0}),
        (coverage_figure, {"known": False}),
        (residuals_figure, {"m": 0, "known": False}),
    ],
)
def test_a_figure_of_nothing_is_refused(draw: Any, changes: dict[str, Any]) -> None:
    """No data, no truth: an error that says so, not an empty picture."""
    with pytest.raises(ValueError, match=r"observations|truth"):
        draw(posterior(**changes))


@pytest.mark.parametrize(
    ("size", "exponent"), [(0.0, 0), (12.0, 0), (0.05, 0), (0.015, -2), (4.7e-4, -4), (9999.0, 0), (25000.0, 4)]
)
def test_power_of_ten_in_labels(size: float, exponent: int) -> None:
    """Ticks are short numbers: what is too small or too large gives its power of ten to the label."""
    assert power_of_ten(size) == exponent


def test_labels_leave_out_what_is_not_there() -> None:
    """Text, power of ten and unit, each only where it says something."""
    assert with_unit("u", "m", -2) == "u [$10^{-2}$ m]"
    assert with_unit("u", "", -2) == "u [$10^{-2}$]"
    assert with_unit("a", "m/d") == "a [m/d]"
    assert with_unit("a", "") == "a"


def test_scales_of_constant_fields_and_of_outliers() -> None:
    """A constant field has a scale of positive width; one value in 2000 does not set it but gives the bar an arrow."""
    constant = Scale.of([np.full((4, 4), 7.0)]).norm
    assert constant.vmin is not None
    assert constant.vmax is not None
    assert constant.vmin < 7.0 < constant.vmax
    values = np.concatenate([np.linspace(0, 1, 2000), [50.0]])
    scale = Scale.of([values])
    assert scale.norm.vmax == pytest.approx(1.0, abs=0.01)
    assert scale.extend == "max"
