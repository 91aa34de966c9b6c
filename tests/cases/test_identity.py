"""The identity of a case: its hash, and what differs between two."""

from pathlib import Path

from pdediff.cases.case import Case
from pdediff.cases.identity import brief, difference
from pdediff.cases.load import load_case

MINIMAL = """\
pde: darcy
grid: {shape: [8, 12]}
prior: {law: log-normal, variogram: {range: 0.2}}
observations: {sensors: {count: 5}, noise: {sigma: 0.1}}
"""


def case_of(folder: Path, text: str, *overrides: str) -> Case:
    path = folder / "case.yaml"
    path.write_text(text)
    return load_case(path, overrides)


SAME = [
    MINIMAL + "# comment\nboundary: {left: {value: 0}}\n",
    "\n".join(reversed(MINIMAL.splitlines())),
    MINIMAL.replace("0.2", "2.0e-1"),
    MINIMAL.replace("{count: 5}", "[{placement: random, count: 5}]"),
    MINIMAL + "sampling: {batch: 7}\n",
    MINIMAL + "compare: {more: {sampling: {samples: 30}}}\n",
]
OTHER = [
    MINIMAL.replace("0.2", "0.3"),
    MINIMAL.replace("count: 5", "count: 6"),
    MINIMAL + "boundary: {left: {flux: 0}}\n",
    MINIMAL + "sampling: {samples: 21}\n",
    MINIMAL + "sampling: {seed: 4}\n",
    MINIMAL + "guidance: {accuracy: high}\n",
    MINIMAL.replace("[8, 12]", "[12, 8]"),
]


def test_hash_is_of_the_problem(tmp_path: Path) -> None:
    """Equal for equal problems however written; different as soon as a result could differ."""
    reference = case_of(tmp_path, MINIMAL).hash
    assert {case_of(tmp_path, text).hash for text in SAME} == {reference}
    hashes = [case_of(tmp_path, text).hash for text in OTHER]
    assert len({*hashes, reference}) == len(OTHER) + 1
    assert len(reference) == 10
    assert int(reference, 16) >= 0


def test_hash_follows_the_data_and_not_its_name(tmp_path: Path) -> None:
    """A changed digit in the CSV is another problem; a renamed CSV is not."""
    text = MINIMAL[: MINIMAL.index("observations")] + "observations: {file: h.csv}\n"
    rows = "x,y,field,value,sigma\n0.5,0.5,u,1.0,0.1\n"
    (tmp_path / "h.csv").write_text(rows)
    (tmp_path / "g.csv").write_text(rows)
    first = case_of(tmp_path, text)
    assert case_of(tmp_path, text.replace("h.csv", "g.csv")).hash == first.hash
    (tmp_path / "h.csv").write_text(rows.replace("1.0", "1.1"))
    second = case_of(tmp_path, text)
    assert second.hash != first.hash
    (line,) = difference(first.resolved(), second.resolved())
    assert line.startswith("observations.file.sha256: ")


def test_difference_names_what_changed(tmp_path: Path) -> None:
    """One line a key, sorted; nothing for equal cases."""
    a = case_of(tmp_path, MINIMAL).resolved()
    b = case_of(tmp_path, MINIMAL, "sampling.samples=40", "boundary.top={flux: 0}", "grid.shape=[8, 16]").resolved()
    assert difference(a, a) == []
    assert difference(a, b) == [
        "boundary.top.flux: (absent) -> 0.0",
        "boundary.top.value: 0.0 -> (absent)",
        "grid.shape: [8, 12] -> [8, 16]",
        "sampling.samples: 20 -> 40",
    ]


def test_brief_changes():
    """Up to four changes are listed; of more, the first four and the number of the others."""
    assert brief(["a", "b"]) == "a; b"
    assert brief(list("abcd")) == "a; b; c; d"
    assert brief(list("abcdef")) == "a; b; c; d; and 2 more"
