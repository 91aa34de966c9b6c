"""Golden sections and the parabola at their end."""

import math

import pytest

from pdediff.guidance.maximise import golden_section, maximise


@pytest.mark.parametrize("top", [-0.99, 0.3, 2.7])
def test_parabolas_are_exact(top):
    """The vertex, to rounding, from twelve values."""
    asked = []

    def parabola(x):
        asked.append(x)
        return 5 - 3 * (x - top) ** 2

    assert golden_section(parabola, -1.0, 3.0, 12) == pytest.approx(top, abs=1e-9)
    assert len(asked) == 12


def test_a_smooth_function():
    """x e^{−x}, largest at 1: to 1e-4 of the bounds from 0 to 6."""
    assert golden_section(lambda x: x * math.exp(-x), 0.0, 6.0, 12) == pytest.approx(1, abs=6e-4)


def test_maxima_at_the_bounds():
    """A monotone function ends at its bound, within the last interval (0.5 %), and not beyond it."""
    for sign, end in ((1, 2.0), (-1, 1.0)):
        found = golden_section(lambda x, sign=sign: sign * math.exp(x), 1.0, 2.0, 12)
        assert found == pytest.approx(end, abs=0.02)
        assert 1.0 <= found <= 2.0


def test_two_parameters():
    """−(a − 1)² − (b + 2)² − ab/2, whose maximum is at (1.6, −2.4): sweeps contract the distance by 1/16."""

    def function(theta):
        return -((theta["a"] - 1) ** 2) - (theta["b"] + 2) ** 2 - 0.5 * theta["a"] * theta["b"]

    found = maximise(function, {"a": 0.0, "b": 0.0}, {"a": (-5.0, 5.0), "b": (-5.0, 5.0)})
    assert found["a"] == pytest.approx(1.6, abs=0.01)
    assert found["b"] == pytest.approx(-2.4, abs=0.01)
