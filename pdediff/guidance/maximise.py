"""The maximum of a function of a few bounded parameters, without derivatives: golden sections, parameter by parameter.

An interval that holds the maximum of a unimodal function shrinks by 0.618 with every value of it. A parabola through
the last three values then gives more digits than the interval has: all of them where the function is a parabola.
"""

from collections.abc import Callable, Mapping

GOLDEN = (5**0.5 - 1) / 2


def maximise(
    function: Callable[[dict[str, float]], float],
    theta: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
    sections: int = 16,
    sweeps: int = 5,
) -> dict[str, float]:
    """argmax of a function of theta inside bounds, one parameter after another from theta; one sweep if there is one.

    The function must be unimodal in each parameter. `sections` values of it are taken for each parameter and sweep: 16
    leave an interval of 0.2 % of the bounds, in which the parabola's vertex lies.
    """
    theta = dict(theta)
    for _ in range(sweeps if len(theta) > 1 else 1):
        for name, (low, high) in bounds.items():

            def along(value: float, name: str = name) -> float:
                return function({**theta, name: value})

            theta[name] = golden_section(along, low, high, sections)
    return theta


def golden_section(function: Callable[[float], float], low: float, high: float, sections: int) -> float:
    """The place of the maximum of a unimodal function between low and high, of which `sections` values are taken."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    f_left, f_right = function(left), function(right)
    for _ in range(sections - 3):
        if f_left >= f_right:
            high, right, f_right = right, left, f_left
            left = high - GOLDEN * (high - low)
            f_left = function(left)
        else:
            low, left, f_left = left, right, f_right
            right = low + GOLDEN * (high - low)
            f_right = function(right)
    middle = (low + high) / 2
    return min(max(_vertex((left, middle, right), (f_left, function(middle), f_right)), low), high)


def _vertex(x: tuple[float, float, float], f: tuple[float, float, float]) -> float:
    """Where the parabola through three equidistant points is largest; the best of them if it opens upwards."""
    h, curvature = x[1] - x[0], f[0] - 2 * f[1] + f[2]
    if not curvature < 0:
        return x[max(range(3), key=f.__getitem__)]
    return x[1] + 0.5 * h * (f[0] - f[2]) / curvature
