"""Formulas in x and y, typed by users in case files, evaluated without ``eval``.

The text is parsed to Python's syntax tree and only arithmetic, comparisons and a fixed list of functions are
accepted; every other node is refused by name, so a case file cannot run code. All numbers are float64, hence
``9**9**9**9`` is an overflow that is reported and not a week of integer arithmetic.
"""

import ast
import difflib
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pdediff.solvers.errors import InputError

SHOWN = 60  # characters of a formula in a message
MAX_LENGTH = 1000  # characters: no honest formula is longer, and the parser's depth stays bounded

VARIABLES = ("x", "y")
CONSTANTS = {"pi": np.pi, "e": np.e}


def _step(s: ArrayLike) -> NDArray[np.float64]:
    return np.heaviside(s, 0.5)


FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {  # name: (function, number of arguments)
    "sin": (np.sin, 1),
    "cos": (np.cos, 1),
    "tan": (np.tan, 1),
    "exp": (np.exp, 1),
    "log": (np.log, 1),
    "log10": (np.log10, 1),
    "sqrt": (np.sqrt, 1),
    "abs": (np.abs, 1),
    "sinh": (np.sinh, 1),
    "cosh": (np.cosh, 1),
    "tanh": (np.tanh, 1),
    "heaviside": (_step, 1),
    "step": (_step, 1),
    "arctan2": (np.arctan2, 2),
    "minimum": (np.minimum, 2),
    "maximum": (np.maximum, 2),
    "where": (np.where, 3),
}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@dataclass(frozen=True)
class Expression:
    """A formula in x and y: ``Expression("sin(pi*x) * where(y > 0.5, 1, 2)")(x, y)``.

    Known: variables x, y; constants pi, e; operators ``+ - * / % **`` and comparisons; functions sin, cos, tan, exp,
    log, log10, sqrt, abs, sinh, cosh, tanh, arctan2, minimum, maximum, where, and heaviside (also called step: 0, 1/2
    at 0, 1).

    Raises
    ------
    InputError : on construction, for anything else, naming the nearest known name; on evaluation, where the value is
        not finite, naming the first such point.
    """

    text: str
    _tree: ast.expr = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tree", _parse(self.text))

    def __str__(self) -> str:
        return self.text

    def __call__(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Values at x and y (arrays that broadcast), with their broadcast shape."""
        x, y = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        with np.errstate(all="ignore"):  # the unused branch of a `where` may be infinite: only the result counts
            value = _evaluate(self._tree, {"x": x, "y": y})
        value = np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), x.shape))
        wrong = ~np.isfinite(value)
        if wrong.any():
            k = np.unravel_index(np.argmax(wrong), wrong.shape)
            raise InputError(
                f"expression {_shown(self.text)} is not finite at {wrong.sum()} of {wrong.size} points, "
                f"the first at (x, y) = ({x[k]:g}, {y[k]:g})"
            )
        return value


def _shown(text: str) -> str:
    """A formula as messages quote it: cut where it is long."""
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")


def _parse(text: str) -> ast.expr:
    """The checked syntax tree of a formula."""
    if not isinstance(text, str):
        raise InputError(f"an expression must be text, got {text!r}")
    if len(text) > MAX_LENGTH:
        raise InputError(f"expression of {len(text)} characters is longer than {MAX_LENGTH}: {text[:40]!r}…")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval").body
        _check(tree, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or "too deeply nested"
        raise InputError(f"expression {_shown(text)} cannot be read: {reason}") from None
    return tree


def _check(node: ast.AST, text: str) -> None:
    """Refuse every node that is not arithmetic on known names."""
    where = f"in expression {_shown(text)}"
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            try:
                finite = np.isfinite(float(value))
            except OverflowError:
                finite = False
            if not finite:
                raise InputError(f"number too large {where}")
            return
        case ast.Name(id=name):
            if name in VARIABLES or name in CONSTANTS:
                return
            if name in FUNCTIONS:
                raise InputError(f"{name!r} {where} is a function: write {name}(…)")
            raise InputError(f"unknown name {name!r} {where}{_nearest(name)}")
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name not in FUNCTIONS:
                raise InputError(f"unknown function {name!r} {where}{_nearest(name)}")
            wanted = FUNCTIONS[name][1]
            if len(args) != wanted:
                raise InputError(f"{name}() {where} takes {wanted} argument{'s'[: wanted > 1]}, got {len(args)}")
            children: list[ast.expr] = args
        case ast.BinOp(op=ast.BitXor()):
            raise InputError(f"'^' {where} is not a power: write '**'")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            children = [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            children = [operand]
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in OPERATORS for op in ops):
            children = [left, *comparators]
        case _:
            piece = (ast.get_source_segment(text.strip(), node) if isinstance(node, ast.expr) else None) or text
            raise InputError(
                f"{piece!r} {where} is not allowed: use numbers, x, y, pi, e, + - * / % **, comparisons and functions"
            )
    for child in children:
        _check(child, text)


def _nearest(name: str) -> str:
    known = [*VARIABLES, *CONSTANTS, *FUNCTIONS]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def _evaluate(node: ast.expr, variables: dict[str, NDArray[np.float64]]) -> Any:
    """The value of a checked tree; truth values count as 1 and 0 in arithmetic."""
    match node:
        case ast.Constant(value=value):
            return np.float64(value)  # type: ignore[arg-type]
        case ast.Name(id=name):
            return variables[name] if name in variables else np.float64(CONSTANTS[name])
        case ast.Call(func=ast.Name(id=name), args=args):
            return FUNCTIONS[name][0](*(_evaluate(arg, variables) for arg in args))
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_number(_evaluate(left, variables)), _number(_evaluate(right, variables)))
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_number(_evaluate(operand, variables)))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            values = [_evaluate(part, variables) for part in (left, *comparators)]
            holds: Any = np.True_
            for compare, low, high in zip(ops, values[:-1], values[1:], strict=True):
                holds = holds & OPERATORS[type(compare)](low, high)
            return holds
    raise AssertionError(f"unchecked node {node!r}")


def _number(value: Any) -> NDArray[np.float64]:
    return np.asarray(value, dtype=np.float64)
