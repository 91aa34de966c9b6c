"""Figures of several variants: side by side on one problem, and in pairs on many."""

import numpy as np
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from posteriors import posterior

from pdediff.posterior.metrics import metrics
from pdediff.report.comparison import comparison_figure, headlines
from pdediff.report.paired import paired_figure


def texts(figure: Figure) -> list[str]:
    """What is written on a figure outside its axes."""
    return [text.get_text() for text in figure.texts]


def pictures(figure: Figure) -> list[np.ndarray]:
    """The maps' values, row by row."""
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


def test_truth_and_variants_in_rows() -> None:
    """The true fields, then for each variant P(high), sd, a sample, mean of u and its error, by their definitions."""
    one, two = posterior(), posterior(n=5)
    shown = pictures(comparison_figure({"one": one, "two": two}))
    assert len(shown) == 2 + 2 * 5
    assert np.array_equal(shown[0], one.truth["a"])
    assert np.array_equal(shown[1], one.truth["u"])
    for k, result in enumerate((one, two)):
        chance, spread, sample, mean, error = shown[2 + 5 * k : 7 + 5 * k]
        assert np.allclose(chance, (result.fields["a"] >= 6).mean(axis=0))
        assert np.allclose(spread, result.fields["a"].std(axis=0, ddof=1))
        assert np.array_equal(sample, result.fields["a"][0])
        assert np.allclose(mean, result.fields["u"].mean(axis=0))
        assert np.allclose(error, mean - result.truth["u"])


def test_a_column_has_one_scale() -> None:
    """Variants of different spread share the limits of every column."""
    figure = comparison_figure({"one": posterior(), "two": posterior(n=2)})
    limits = [axes.images[0].get_clim() for axes in figure.axes if axes.images][2:]
    assert limits[:5] == limits[5:]
    assert limits[0] == (0.0, 1.0)


def test_log_normal_coefficients_without_a_truth() -> None:
    """The geometric mean on a logarithmic scale, sd of log a, and u's sd in the place of its error; no row of truth."""
    result = posterior(two_phase=False, known=False)
    figure = comparison_figure({"only": result})
    shown = pictures(figure)
    assert len(shown) == 5
    assert np.allclose(np.log(shown[0]), np.log(result.fields["a"]).mean(axis=0))
    assert isinstance(next(axes for axes in figure.axes if axes.images).images[0].norm, LogNorm)
    assert np.allclose(shown[1], np.log10(result.fields["a"]).std(axis=0, ddof=1))
    assert np.allclose(shown[4], result.fields["u"].std(axis=0, ddof=1))
    assert "truth" not in texts(figure)


@pytest.mark.parametrize(("y", "lines"), [((0.0, 1.0), 1), ((0.0, 0.2), 2)])
def test_low_domains_take_two_lines(y: tuple[float, float], lines: int) -> None:
    """A variant's five maps are in one line, or three and two; none is narrower than 1.4 inches, none overlaps."""
    figure = comparison_figure({"one": posterior(y=y), "two": posterior(y=y)})
    boxes = [axes.get_position() for axes in figure.axes if axes.images][2:7]
    assert len({round(box.y0, 6) for box in boxes}) == lines
    assert all(box.width * figure.get_figwidth() > 1.4 for box in boxes)
    everything = [axes.get_position() for axes in figure.axes]
    for i, box in enumerate(everything):
        assert not any(box.overlaps(other) for other in everything[:i])


def test_numbers_beside_a_row() -> None:
    """They are those of metrics.json, rounded; without a truth, what the data and the equation say."""
    result = posterior()
    rows = dict(headlines(result))
    entry = metrics(result)
    assert rows["wrong cells"] == f"{100 * entry['a']['sample_error_rate']:.1f} %"
    assert rows["coverage of u"] == f"{100 * entry['u']['coverage_90']:.0f} %"
    assert rows["PDE residual"] == "1e\N{MINUS SIGN}11"
    assert "error of a" not in rows
    assert list(dict(headlines(posterior(two_phase=False))))[:2] == ["error of a", "error of u"]
    assert list(dict(headlines(posterior(known=False)))) == ["χ² of the data", "PDE residual"]


def test_long_names_are_cut_and_single_samples_are_drawn() -> None:
    """A name longer than its row ends in an ellipsis; one sample has no spread: zero, not a division by zero."""
    figure = comparison_figure({"a-variant-with-a-very-long-name": posterior(n=1)})
    assert any(text.startswith("a-variant") and text.endswith("…") for text in texts(figure))
    assert not pictures(figure)[3].any()


def test_pairs_are_joined_problem_by_problem() -> None:
    """A line a problem, dots are means with standard errors; a failed run leaves a gap; without numbers no graph."""

    def entry(error: float, chi2: float | None = None) -> dict:
        empty = dict.fromkeys(("sample_error_rate", "error_rate", "sample_relative_l2", "crps", "coverage_90"))
        return {
            "a": {**empty, "relative_l2": error},
            "u": {**empty, "relative_l2": None},
            "observations": {"chi2": chi2},
            "pde": {"relative_residual": None},
            "cost": {"seconds_per_sample": None},
        }

    figure = paired_figure({"one": [entry(0.1), entry(0.3)], "two": [entry(0.2), None]})
    (axes,) = figure.axes
    assert np.array_equal(axes.lines[0].get_ydata(), [10.0, 20.0])
    assert np.isnan(axes.lines[1].get_ydata()[1])
    means = [container[0].get_ydata()[0] for container in axes.containers]
    assert means == pytest.approx([20.0, 20.0])
    (bar,) = axes.containers[0][2][0].get_segments()
    assert np.ptp(bar[:, 1]) == pytest.approx(2 * 10.0)  # standard error of 10 and 30: sqrt(200)/sqrt(2) = 10
