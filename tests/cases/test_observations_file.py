"""A user's CSV: what is read, and the line of whatever cannot be."""

from pathlib import Path

import numpy as np
import pytest

from pdediff.cases.load import load_case
from pdediff.cases.observations_file import read_observations
from pdediff.cases.observing import NoiseLevel
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

GRID = Grid((6, 8), (0.0, 800.0), (0.0, 600.0), "m")
CSV = """\
# heads in metres
x,y,field,value,sigma,group,name
100,200,u,51.5,0.03,deep,P1

800,600,u,48,5e-2,,P2
100, 200 ,u,51.6,0.03,deep,"P1, again"
5.5,0,a,12.5,1,,
"""


def read(folder: Path, text: str | bytes, noise: NoiseLevel | None = None) -> tuple[Path, object]:
    path = folder / "heads.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path, read_observations(path, GRID, noise)


def test_everything_that_is_allowed(tmp_path: Path) -> None:
    """Comments, blank lines, spaces, quotes, labels, points on the boundary, repeated places, a byte-order mark."""
    for text in (CSV, "\ufeff" + CSV, CSV.replace("\n", "\r\n")):
        data = read(tmp_path, text)[1]
        np.testing.assert_array_equal(data.x, [100, 800, 100, 5.5])
        np.testing.assert_array_equal(data.y, [200, 600, 200, 0])
        np.testing.assert_array_equal(data.value, [51.5, 48, 51.6, 12.5])
        np.testing.assert_array_equal(data.sigma, [0.03, 0.05, 0.03, 1])
        assert data.field.tolist() == ["u", "u", "u", "a"]
        assert data.group.tolist() == ["deep", "u", "deep", "a"]
        assert data.name.tolist() == ["P1", "P2", "P1, again", ""]
        assert len(data) == 4
        assert data.own_sigma.all()


def test_sigma_of_the_case_where_a_row_has_none(tmp_path: Path) -> None:
    """An empty cell, or no column, takes sqrt(floor² + (relative·value)²) with the measured value: 5 from 3 and 4."""
    noise = NoiseLevel(relative=0.1, floor=3.0)
    data = read(tmp_path, "x,y,field,value,sigma\n1,1,u,40,\n1,1,u,40,0.5\n", noise)[1]
    np.testing.assert_allclose(data.sigma, [5, 0.5], rtol=1e-15)
    assert data.own_sigma.tolist() == [False, True]
    data = read(tmp_path, "value,field,y,x\n40,u,2,1\n", NoiseLevel(sigma=0.25))[1]
    assert (data.x[0], data.y[0], data.value[0], data.sigma[0]) == (1, 2, 40, 0.25)


@pytest.mark.parametrize(
    ("old", "new", "line", "part"),
    [
        ("sigma,", "sgima,", 2, "unknown column 'sgima'; did you mean 'sigma'?"),
        ("field,", "qqqq,", 2, "unknown column 'qqqq'; valid: x, y, field"),
        ("sigma,", "time,", 2, "column 'time': the equation is steady"),
        ("group,", "x,", 2, "duplicate column 'x'"),
        ("x,y,field,", "y,field,", 2, "missing column 'x'"),
        ("x,y,field,value", "x;y;field;value", 2, "unknown column 'x;y;field;value'; valid: x, y"),
        (",5e-2", ",five", 5, "sigma must be a number, got 'five'"),
        (",5e-2", ",0", 5, "sigma must be greater than 0, got 0"),
        (",5e-2", ",-0.1", 5, "sigma must be greater than 0"),
        (",5e-2", ",nan", 5, "sigma must be finite and at most 1e+30 in size, got 'nan'"),
        (",5e-2", ",", 5, "no sigma; add the column, or observations.noise"),
        (",51.6", ",NaN", 6, "value must be finite and at most 1e+30 in size, got 'NaN'"),
        (",51.6", ",inf", 6, "value must be finite"),
        (",51.6", ",", 6, "value must be a number, got ''"),
        (",51.6", ',"51,6"', 6, "value must be a number, got '51,6'; write a decimal point"),
        (",51.6", ",51,6", 6, "8 cells, but the header has 7 columns"),
        (",51.6", ",5_1", 6, "value must be a number, got '5_1'"),
        (",51.6", ",٥١", 6, "value must be a number, got '٥١'"),
        (",51.6", ",1e-320", 6, "value must be at least 1e-30 in size (or 0), got '1e-320'"),
        ("800,600", "801,600", 5, "(801, 600) is outside the domain [0, 800] × [0, 600] m"),
        ("800,600", "1e999,600", 5, "x must be finite and at most 1e+30"),
        ("5.5,0,a", "5.5,0,b", 7, "field: unknown 'b'; valid: u, a"),
        (",12.5,", ",-12.5,", 7, "a must be positive"),
        ('"P1, again"', '"P1, again', 6, "not a CSV: a quote is never closed"),
        ("P2", "P" * 101, 5, "name must be a line of at most 100"),
        ("P2", "P\x1b[31m", 5, r"'P\x1b[31m'"),
    ],
)
def test_each_mistake_has_its_line(tmp_path: Path, old: str, new: str, line: int, part: str) -> None:
    """`FILE:LINE:` counts every line of the file, comments and blank lines too."""
    assert CSV.count(old) == 1
    with pytest.raises(InputError) as caught:
        read(tmp_path, CSV.replace(old, new))
    assert str(caught.value).startswith(f"{tmp_path / 'heads.csv'}:{line}: ")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", ":1: the file is empty"),
        (b"# only a comment\n", ":1: the file is empty"),
        (b"x,y,field,value,sigma\n", ":1: no measurements"),
        (b"x,y,field,value,sigma\n1,1,u,\xff,1\n", ":2: not UTF-8"),
        (b"x,y,field,value,sigma\n1,1,u,\x00,1\n", ":2: not text: it has zero bytes"),
        (b"x;y;field;value;sigma\n1;1;u;1;1\n", ":1: the columns are separated by ';'; separate them by commas"),
        (b"# heads\nx\ty\tfield\tvalue\n", r":2: the columns are separated by '\t'; separate them by commas"),
        (b'x,y,field,value,sigma,name\n1,1,u,1,1,"a\nb"\n1,1,u,1,1\n', r":2: name must be a line of at most 100"),
        (b'x,y,field,value,sigma\n1,1,u,1,"1\n"\n1,1,u,1\n', ":4: 4 cells, but the header has 5 columns"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", ":1: not a CSV: this is HDF5 (or NetCDF-4)"),
        (b"PK\x03\x04\x14\0\x08\x08", ":1: not a CSV: this is a zip archive (such as an .xlsx or .npz file)"),
        ("x,y,field,value,sigma\n".encode("utf-16"), ":1: not a CSV: this is UTF-16 text; save it as UTF-8"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, part: str) -> None:
    """Empty files and bytes that are not text."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    assert part in str(caught.value)


CASE = """\
pde: darcy
grid: {shape: [6, 8], domain: {x: [0, 800], y: [0, 600]}}
prior: {law: log-normal, variogram: {range: 100}}
observations:
  file: heads.csv
"""


def test_a_case_with_a_file(tmp_path: Path) -> None:
    """The case carries the rows, has no truth, and says where a missing or a useless thing is."""
    path = tmp_path / "case.yaml"
    path.write_text(CASE)
    (tmp_path / "heads.csv").write_text(CSV)
    case = load_case(path)
    assert case.measurements is not None
    assert len(case.measurements) == 4
    assert case.observations.truth is None
    assert len(case.place_sensors()) == 0

    path.write_text(CASE + "  noise: {sigma: 0.1}\n")
    with pytest.raises(InputError, match=r"case.yaml:6: observations.noise has no effect"):
        load_case(path)
    path.write_text(CASE.replace("heads.csv", "haeds.csv"))
    with pytest.raises(InputError, match=r"case.yaml:5: .*haeds.csv: no such CSV; did you mean '.*heads.csv'\?"):
        load_case(path)
    path.write_text(CASE)
    (tmp_path / "heads.csv").write_text(CSV.replace("51.5", "x"))
    with pytest.raises(InputError, match=r"^.*heads.csv:3: value must be a number"):
        load_case(path)
