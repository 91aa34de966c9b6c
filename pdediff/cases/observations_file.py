"""Measurements from a CSV.

    x,y,field,value,sigma
    # metres; heads above sea level
    120.0,433.0,u,31.42,0.05

The first line names the columns, in any order: x, y, field (u or a), value, and sigma, the standard deviation of the
measurement error in the unit of the value. `group` and `name` are optional labels. A row without sigma (no such
column, or an empty cell) takes the case's `observations.noise`; it must then be given, and must not be given if every
row has its own. Lines that start with # and empty lines are skipped; a byte-order mark is tolerated; several rows at
one place are several measurements. Everything else is an error with its line.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pdediff.cases.choices import FIELDS
from pdediff.cases.measurements import Measurements
from pdediff.cases.observing import NoiseLevel
from pdediff.cases.reader import read_text
from pdediff.cases.section import LARGEST
from pdediff.cases.suggest import shown, suggestion
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

REQUIRED = ("x", "y", "field", "value")
COLUMNS = (*REQUIRED, "sigma", "group", "name")
REFUSED = {"time": "the equation is steady; keep one time in the file and drop the column"}
LARGEST_FILE = 256 * 2**20  # bytes
LONGEST = 100  # characters of a label


def read_observations(path: Path, grid: Grid, noise: NoiseLevel | None = None) -> Measurements:
    """The measurements in the CSV at ``path``.

    Parameters
    ----------
    path : the file.
    grid : the domain that the places must lie in.
    noise : what gives sigma to the rows that have none: sqrt(floor² + (relative·value)²).

    Raises InputError, with file and line, for anything that is not as the module says.
    """
    rows = [_row(path, line, cells, grid, noise) for line, cells in _cells(path)]
    if not rows:
        raise InputError(f"{path}:1: no measurements below the header")
    return Measurements(
        field=np.array([row.field for row in rows], dtype=str),
        x=np.array([row.x for row in rows]),
        y=np.array([row.y for row in rows]),
        value=np.array([row.value for row in rows]),
        sigma=np.array([row.sigma for row in rows]),
        own_sigma=np.array([row.own_sigma for row in rows]),
        group=np.array([row.group for row in rows], dtype=str),
        name=np.array([row.name for row in rows], dtype=str),
    )


@dataclass(frozen=True)
class _Row:
    x: float
    y: float
    field: str
    value: float
    sigma: float
    own_sigma: bool
    group: str
    name: str


def _cells(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column name, row by row. A quoted cell may go over several lines: its first counts."""
    lines = io.StringIO(read_text(path, "CSV", LARGEST_FILE), newline=None)
    reader = csv.reader(("\n" if line.lstrip().startswith("#") else line for line in lines), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                if header is None:
                    header = _header(cells, f"{path}:{line}")
                elif len(cells) != len(header):
                    raise InputError(f"{path}:{line}: {len(cells)} cells, but the header has {len(header)} columns")
                else:
                    yield line, dict(zip(header, cells, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        reason = "a quote is never closed" if "unexpected end" in str(error) else str(error)
        raise InputError(f"{path}:{line}: not a CSV: {reason}") from None
    if header is None:
        raise InputError(f"{path}:1: the file is empty; its first line must name the columns: x,y,field,value,sigma")


def _header(cells: list[str], where: str) -> list[str]:
    other = next((mark for mark in (";", "\t", "|", " ") if len(cells) == 1 and mark in cells[0]), None)
    if other is not None and COLUMNS[0] in (words := cells[0].split(other)) and COLUMNS[1] in words:
        raise InputError(f"{where}: the columns are separated by {other!r}; separate them by commas")
    for cell in cells:
        if cell in REFUSED:
            raise InputError(f"{where}: column {cell!r}: {REFUSED[cell]}")
        if cell not in COLUMNS:
            raise InputError(f"{where}: unknown column {shown(cell)}; {suggestion(cell, COLUMNS)}")
        if cells.count(cell) > 1:
            raise InputError(f"{where}: duplicate column {cell!r}")
    for column in REQUIRED:
        if column not in cells:
            raise InputError(f"{where}: missing column {column!r}; columns are x,y,field,value,sigma")
    return cells


def _row(path: Path, line: int, cells: dict[str, str], grid: Grid, noise: NoiseLevel | None) -> _Row:
    where = f"{path}:{line}"
    try:
        field = FIELDS.check(cells["field"])
    except ValueError as error:
        raise InputError(f"{where}: field: {error}") from None
    x, y, value = (_number(cells[column], f"{where}: {column}") for column in ("x", "y", "value"))
    if not grid.contains((x, y)):
        raise InputError(f"{where}: ({x:g}, {y:g}) is outside the domain {domain_text(grid)}")
    if field == "a" and value <= 0:
        raise InputError(f"{where}: value: a must be positive, got {value:g}")
    if cells.get("sigma"):
        sigma = _number(cells["sigma"], f"{where}: sigma")
    elif noise is not None:
        floor, relative = noise.coefficients
        sigma = float(np.hypot(floor, relative * value))
    else:
        raise InputError(f"{where}: no sigma; add the column, or observations.noise: {{sigma: …}} to the case")
    if sigma <= 0:
        raise InputError(f"{where}: sigma must be greater than 0, got {sigma:g}")
    group, name = (_label(cells.get(column, ""), f"{where}: {column}") for column in ("group", "name"))
    return _Row(x, y, field, value, sigma, bool(cells.get("sigma")), group or field, name)


def _number(text: str, what: str) -> float:
    """A finite number."""
    try:
        number = float(text if text.isascii() and "_" not in text else "")
    except ValueError:
        hint = "; write a decimal point" if "," in text else ""
        raise InputError(f"{what} must be a number, got {shown(text)}{hint}") from None
    if not abs(number) <= LARGEST:
        raise InputError(f"{what} must be finite and at most {LARGEST:g} in size, got {shown(text)}")
    if number != 0 and abs(number) * LARGEST < 1:
        raise InputError(f"{what} must be at least {1 / LARGEST:g} in size (or 0), got {shown(text)}")
    return number


def _label(text: str, what: str) -> str:
    if len(text) > LONGEST or not text.isprintable():
        raise InputError(f"{what} must be a line of at most {LONGEST} characters, got {shown(text)}")
    return text


def domain_text(grid: Grid) -> str:
    """The domain as messages show it."""
    return f"[{grid.x[0]:g}, {grid.x[1]:g}] × [{grid.y[0]:g}, {grid.y[1]:g}] {grid.unit}".rstrip()
