"""Random text for the CSV reader and for --set: whatever it is, it is read or refused in one line with its place."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pdediff.cases.load import build_case
from pdediff.cases.observations_file import COLUMNS, LONGEST, read_observations
from pdediff.cases.observing import NoiseLevel
from pdediff.cases.overrides import apply_set
from pdediff.cases.reader import parse_yaml
from pdediff.cases.section import LARGEST
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

GRID = Grid((6, 8), (0.0, 8.0), (0.0, 6.0), "m")
CELLS = (
    *(
        "1",
        "2.5",
        "0",
        "-1",
        "1e-3",
        " 3 ",
        "u",
        "a",
        "",
        "nan",
        "inf",
        "1e999",
        "1e-400",
        "1_0",
        "x",
        '"1"',
        '"',
        '""',
    ),
    *(
        '"1\n2"',
        "1,2",
        "1;2",
        "#",
        "\t",
        "é",
        "٣",
        "\x00",
        "\x0b",
        "\x85",
        "\u2028",
        "\ufeff",
        "0x1",
        "1 2",
        "P1",
        "True",
    ),
)
SIGNS = "=.:,#&*[]{}'\"\\ \t\n\0\x1b-+0123456789eaxy_é\u202e%!|>@`~<?"
CASE = """\
pde: darcy
grid: {shape: [8, 12]}
prior: {law: log-normal, variogram: {range: 0.2}}
observations: {sensors: [{count: 5}, {points: [[0, 0]]}], noise: {sigma: 0.1}}
"""


def random_table(rng: random.Random) -> str:
    """A header of some columns, mostly the right ones, and a few rows of some cells, mostly numbers."""
    header = list(COLUMNS[:5]) + (["name"] if rng.random() < 0.3 else [])
    rng.shuffle(header)
    if rng.random() < 0.2:
        header[rng.randrange(len(header))] = rng.choice(CELLS + COLUMNS)
    good = {"field": "u", "name": "P 1"}
    rows = [[good.get(column, "1.5") for column in header] for _ in range(rng.randrange(5))]
    for _ in range(rng.randrange(3)):
        if rows:
            row = rng.choice(rows)
            row[rng.randrange(len(row))] = rng.choice(CELLS)
    if rows and rng.random() < 0.1:
        rng.choice(rows).append("1")
    end = rng.choice(["\n", "\n", "\r\n", "\r"])
    comment = ["# " + rng.choice(CELLS).replace("\n", " ")] if rng.random() < 0.3 else []
    return end.join([*comment, *(",".join(cells) for cells in [header, *rows]), ""])


def outcome(work: Callable[[], Any]) -> tuple[Any, str]:
    """What work gives, or the message of its refusal."""
    try:
        return work(), ""
    except InputError as error:
        return None, str(error)


def test_random_tables(tmp_path: Path) -> None:
    """Of 600 tables, what is read is finite, inside and labelled; what is not names a line that the file has."""
    rng = random.Random(1)
    path = tmp_path / "heads.csv"
    read = 0
    for _ in range(600):
        text = random_table(rng)
        path.write_bytes(text.encode())
        noise = rng.choice([None, NoiseLevel(sigma=0.5)])
        data, message = outcome(lambda noise=noise: read_observations(path, GRID, noise))  # type: ignore[misc]
        if data is None:
            place = re.match(rf"{re.escape(str(path))}:(\d+): (.+)", message)
            assert place is not None, (text, message)
            assert 1 <= int(place[1]) <= len(re.split(r"\r\n|\r|\n", text)), (text, message)
            assert place[2].isprintable(), (text, message)
            continue
        read += 1
        assert GRID.contains(np.stack([data.x, data.y], axis=1)).all()
        assert np.isfinite(data.value).all()
        assert ((data.sigma > 0) & (data.sigma <= LARGEST)).all()
        assert all(len(name) <= LONGEST and name.isprintable() for name in data.name.tolist())
        assert set(data.field.tolist()) <= {"u", "a"}
    assert 100 < read < 500


@pytest.mark.parametrize("key", ["", "sampling.samples", "observations.sensors.0", "prior", "compare.x.sampling"])
def test_random_options(tmp_path: Path, key: str) -> None:
    """200 random texts for a key: a valid case, or one printable line that begins with the option."""
    rng = random.Random(key)
    tree = parse_yaml(CASE, "case.yaml")
    for _ in range(200):
        typed = "".join(rng.choice(SIGNS) for _ in range(rng.randrange(12)))
        option = f"{key}={typed}" if key else typed
        case, message = outcome(
            lambda option=option: build_case(apply_set(tree, option), tmp_path / "case.yaml")  # type: ignore[misc]
        )
        assert case is not None or message.startswith("--set "), (option, message)
        assert message.isprintable(), (option, message)
