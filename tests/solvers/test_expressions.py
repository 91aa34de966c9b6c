"""Formulas from case files: the good ones are right, the evil ones are refused."""

import pickle

import numpy as np
import pytest

from pdediff.solvers.errors import InputError
from pdediff.solvers.expressions import Expression

X, Y = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.5, 0.7])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", np.full(3, 1e-3)),
        ("sin(pi*x) * exp(-y)", np.sin(np.pi * X) * np.exp(-Y)),
        ("x**2 - 2*x*y + -y % 0.3", X**2 - 2 * X * Y + (-Y) % 0.3),
        ("where(x > 0.5, log(x), 1/x)", np.where(X > 0.5, np.log(X), 1 / X)),
        ("maximum(minimum(x, y), 0.3) + e", np.maximum(np.minimum(X, Y), 0.3) + np.e),
        ("0.2 < x <= 0.5", [0, 1, 0]),
        ("(x > 0.2) + (y > 0.6)", [0, 1, 2]),
        ("(x > 0.2) * (y < 0.6) * 3", [0, 3, 0]),
        ("heaviside(x - 0.5) + 10*step(y - 0.5)", [0, 5.5, 11]),
        ("sqrt(abs(x - y)) + arctan2(y, x) + log10(x) + tanh(x) + cosh(y) + sinh(x) + tan(y) + cos(x)",
         np.sqrt(abs(X - Y)) + np.arctan2(Y, X) + np.log10(X) + np.tanh(X) + np.cosh(Y) + np.sinh(X) + np.tan(Y)
         + np.cos(X)),
    ],
)  # fmt: skip
def test_values_are_numpys(text, expected):
    """A formula gives what numpy gives."""
    np.testing.assert_allclose(Expression(text)(X, Y), expected, rtol=1e-14)


def test_constants_broadcast_and_expressions_compare():
    """A formula without x has the shape of the points; equal texts are equal, hash alike and survive pickling."""
    assert Expression("2")(X[:, None], Y).shape == (3, 3)
    one = Expression("x + 1")
    assert one == Expression("x + 1")
    assert hash(one) == hash(Expression("x + 1"))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one))(X, Y), X + 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sinn(x)", "did you mean 'sin'"),
        ("x + z", "unknown name 'z'"),
        ("x + maxmum(x, y)", "did you mean 'maximum'"),
        ("sin", "write sin"),
        ("sin(x, y)", "takes 1 argument, got 2"),
        ("where(x > 0, 1)", "takes 3 arguments, got 2"),
        ("x^2", r"write '\*\*'"),
        ("", "cannot be read"),
        ("x +", "cannot be read"),
        ("x = 1", "cannot be read"),
        ("x; y", "cannot be read"),
        ("x\0", "cannot be read"),
        ("(" * 400 + "x" + ")" * 400, "cannot be read"),
        ("x" * 2000, "longer than"),
        ("1e999", "too large"),
        ("9" * 400, "too large"),
        ("x.__class__", "not allowed"),
        ("().__class__.__bases__", "not allowed"),
        ("__import__('os').system('true')", "not allowed"),
        ("__import__(x)", "unknown function '__import__'"),
        ("eval(x)", "unknown function 'eval'"),
        ("(lambda: 1)()", "not allowed"),
        ("[x for x in (1, 2)]", "not allowed"),
        ("x[0]", "not allowed"),
        ("'text'", "not allowed"),
        ("True", "not allowed"),
        ("1j", "not allowed"),
        ("x if y else 1", "not allowed"),
        ("x and y", "not allowed"),
        ("x // 2", "not allowed"),
        ("(x := 3)", "not allowed"),
        ("sin(x=1)", "not allowed"),
        ("sin(*x)", "not allowed"),
        ("f'{x}'", "not allowed"),
    ],
)
def test_everything_else_is_refused(text, message):
    """What is not arithmetic in x and y is an InputError of one line with the nearest valid thing."""
    with pytest.raises(InputError, match=message) as error:
        Expression(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["1/(x - 0.5)", "log(x - 0.5)", "9**9**9**9", "exp(1000*x)", "(x - 1)**0.5"])
def test_values_that_are_not_finite_are_refused(text):
    """Division by zero, domains and overflow are reported with the point, quickly, and without a warning."""
    with pytest.raises(InputError, match=r"not finite at \d of 3 points, the first at \(x, y\)"):
        Expression(text)(X, Y)


def test_numbers_are_not_text():
    """A number is not an expression."""
    with pytest.raises(InputError, match="must be text"):
        Expression(3)
