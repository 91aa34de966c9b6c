"""Every mistake in a case file gives one line: the file, the line of the mistake, and the nearest valid spelling."""

import os
from pathlib import Path

import pytest

from pdediff.cases.load import load_case
from pdediff.solvers.errors import InputError

# The lines are numbered by the tests below: keep them.
CASE = """\
pde: darcy
grid:
  shape: [16, 32]
  domain: {x: [0, 2], y: [0, 1], unit: m}
boundary:
  left: {value: "1 + y"}
  right: {value: 0}
  bottom: {flux: 0}
  top: {flux: 0}
source:
  value: 1
  wells:
    - {x: 0.5, y: 0.5, rate: -1}
prior:
  law: log-normal
  mean: 0.5
  variogram:
    kind: matern
    range: 0.3
    smoothness: 1.5
observations:
  truth: {seed: 7, refine: 2}
  sensors:
    - {field: u, count: 12, placement: uniform, seed: 1}
    - {field: u, points: [[0.1, 0.2], [1.9, 0.9]]}
  noise: {sigma: 1e-3, seed: 2}
physics: solver
guidance:
  method: proximal
  accuracy: normal
sampling:
  samples: 20
  seed: 3
compare:
  one:
    guidance: {accuracy: fast}
  two: {physics: residual}
"""

MUTATIONS = [  # what is written instead of what, the line to blame, parts of the message
    # keys
    ("pde: darcy", "pdee: darcy", 1, ["unknown key 'pdee'", "'pde'"]),
    ("  shape:", "  shpae:", 3, ["unknown key 'shpae' in grid", "'shape'"]),
    ("unit: m}", "unti: m}", 4, ["'unti' in grid.domain", "'unit'"]),
    ("  left:", "  lefft:", 6, ["'lefft' in boundary", "'left'"]),
    ('{value: "1 + y"}', '{valu: "1 + y"}', 6, ["'valu' in boundary.left", "'value'"]),
    ("rate: -1", "rtae: -1", 13, ["'rtae' in source.wells[0]", "'rate'"]),
    ("  law:", "  lwa:", 15, ["'lwa' in prior", "'law'"]),
    ("    range:", "    rnage:", 19, ["'rnage' in prior.variogram", "'range'"]),
    ("count: 12", "cuont: 12", 24, ["'cuont' in observations.sensors[0]", "'count'"]),
    ("points: [[0.1", "ponits: [[0.1", 25, ["'ponits' in observations.sensors[1]", "'points'"]),
    ("sigma: 1e-3", "sigm: 1e-3", 26, ["'sigm' in observations.noise", "'sigma'"]),
    ("  accuracy:", "  acuracy:", 30, ["'acuracy' in guidance", "'accuracy'"]),
    ("  samples:", "  sampels:", 32, ["'sampels' in sampling", "'samples'"]),
    ("guidance: {accuracy", "guidence: {accuracy", 36, ["unknown key 'guidence'", "'guidance'"]),
    ("two: {physics", "two: {physisc", 37, ["unknown key 'physisc'", "'physics'"]),
    ("pde: darcy", "pde: darcy\nsamples: 3", 2, ["unknown key 'samples'", "'sampling.samples'"]),
    ("pde: darcy", "pde: darcy\nqqq: 3", 2, ["unknown key 'qqq'", "valid: pde, grid, boundary"]),
    ("  seed: 3", "  seed: 3\n  seed: 4", 34, ["duplicate key 'seed'", "line 33"]),
    ("count: 12", "count: 12, count: 13", 24, ["duplicate key 'count'"]),
    ("pde: darcy\n", "", 1, ["missing key 'pde'"]),
    ("  shape: [16, 32]\n", "", 2, ["missing key 'shape' in grid"]),
    (", rate: -1", "", 13, ["missing key 'rate' in source.wells[0]"]),
    ("    range: 0.3\n", "", 17, ["missing key 'range' in prior.variogram"]),
    ("  noise: {sigma: 1e-3, seed: 2}\n", "", 21, ["observations", "needs noise"]),
    ("physics: solver", "physics:", 27, ["physics"]),
    ("  accuracy: normal", "  accuracy:", 30, ["guidance.accuracy", "is empty"]),
    ("truth: {seed: 7, refine: 2}", "truth:", 22, ["observations.truth", "is empty"]),
    # types
    ("pde: darcy", "pde:", 1, ["pde: is empty"]),
    ("domain: {x: [0, 2], y: [0, 1], unit: m}", "domain: m", 4, ["grid.domain", "with keys x, y, unit", "'m'"]),
    ("[16, 32]", "16", 3, ["grid.shape", "must be a list", "16"]),
    ("[16, 32]", "[16]", 3, ["grid.shape", "too few"]),
    ("[16, 32]", "[16, 32, 3]", 3, ["grid.shape", "at most 2"]),
    ("[16, 32]", '[16, "32"]', 3, ["grid.shape[1]", "whole number", "'32'"]),
    ("[16, 32]", "[16, 32.0]", 3, ["grid.shape[1]", "whole number", "32.0"]),
    ("[16, 32]", "[16, true]", 3, ["grid.shape[1]", "whole number", "true"]),
    ("y: 0.5, rate", "y: no, rate", 13, ["source.wells[0].y", "must be a number", "'no'"]),
    ("  samples: 20", "  samples: twenty", 32, ["sampling.samples", "whole number", "'twenty'"]),
    ("guidance:\n  method: proximal\n  accuracy: normal", "guidance: proximal", 28, ["guidance", "section"]),
    ("  value: 1\n", "  value: [1, 2]\n", 11, ["source.value", "number or an expression"]),
    ("range: 0.3", "range: .nan", 19, ["prior.variogram.range", "finite", "nan"]),
    ("right: {value: 0}", "right: {value: .inf}", 7, ["boundary.right.value", "finite", "inf"]),
    ("right: {value: 0}", "right: {value: [0, x]}", 7, ["boundary.right.value", "must be a number", "'x'"]),
    ("unit: m}", 'unit: "m\\n"}', 4, ["grid.domain.unit", "printable"]),
    # bounds
    ("[16, 32]", "[2, 32]", 3, ["grid.shape[0]", "at least 4", "2"]),
    ("[16, 32]", "[16, 5000]", 3, ["grid.shape[1]", "at most 4096"]),
    ("x: [0, 2]", "x: [0, 2e9]", 4, ["grid.domain", "longer than 10000 times their width"]),
    ("x: [0, 2]", "x: [1e-40, 2]", 4, ["grid.domain.x[0]", "at least 1e-30 in size (or 0)"]),
    ("seed: 7", "seed: 4294967296", 22, ["observations.truth.seed", "less than 4.29497e+09"]),
    ("x: [0, 2]", "x: [2, 0]", 4, ["grid.domain.x", "must increase", "[0, 2]"]),
    ("x: [0, 2]", "x: [1, 1.0000000001]", 4, ["grid.domain.x", "too narrow"]),
    ("refine: 2", "refine: 9", 22, ["observations.truth.refine", "at most 8"]),
    ("seed: 7", "seed: -7", 22, ["observations.truth.seed", "at least 0"]),
    ("sigma: 1e-3", "sigma: 0", 26, ["observations.noise.sigma", "greater than 0", "0"]),
    ("sigma: 1e-3", "sigma: -1", 26, ["observations.noise.sigma", "greater than 0"]),
    ("range: 0.3", "range: 0", 19, ["prior.variogram.range", "greater than 0"]),
    ("mean: 0.5", "mean: 500", 16, ["prior.mean", "at most 50"]),
    ("smoothness: 1.5", "smoothness: 100", 20, ["prior.variogram.smoothness", "at most 10"]),
    ("count: 12", "count: 0", 24, ["observations.sensors[0].count", "at least 1"]),
    ("samples: 20", "samples: 0", 32, ["sampling.samples", "at least 1"]),
    ("samples: 20", "samples: 1000000000", 32, ["sampling.samples", "at most 100000"]),
    # names
    ("pde: darcy", "pde: darcey", 1, ["unknown 'darcey'", "'darcy'"]),
    ("kind: matern", "kind: mattern", 18, ["prior.variogram.kind", "'matern'"]),
    ("law: log-normal", "law: lognormal", 15, ["prior.law", "'log-normal'"]),
    ("placement: uniform", "placement: uniforme", 24, ["placement", "'uniform'"]),
    ("field: u, count", "field: h, count", 24, ["field", "valid: u, a"]),
    ("physics: solver", "physics: solvr", 27, ["unknown 'solvr'", "'solver'"]),
    ("physics: solver", "physics: surrogate", 27, ["'surrogate' is not available", "available: solver"]),
    ("method: proximal", "method: esmda", 29, ["'esmda' is not available", "available: proximal"]),
    ("accuracy: normal", "accuracy: hihg", 30, ["guidance.accuracy", "'high'"]),
    ("  two:", "  two/three:", 37, ["compare.two/three", "name"]),
    ("two: {physics: residual}", "two: {physics: residuall}", 37, ["unknown 'residuall'", "'residual'"]),
    ("two: {physics: residual}", "two: {sampling: {samples: 0}}", 37, ["sampling.samples", "at least 1"]),
    ("two: {physics: residual}", "two: {compare: {}}", 37, ["no variants"]),
    ("two: {physics: residual}", "two: 3", 37, ["compare.two", "section"]),
    # what contradicts something else
    ("  mean: 0.5", "  weights: w.safetensors", 16, ["prior.weights: contradicts law, variogram"]),
    ("  seed: 3", "  seed: 3\n  prior: two-phase-64", 34, ["'prior' in sampling", "belongs to the top level"]),
    ("right: {value: 0}", "right: {value: ''}", 7, ["boundary.right.value", "is empty text"]),
    ("{sigma: 1e-3, seed: 2}", "{seed: 2}", 26, ["observations.noise: needs sigma, or relative and floor"]),
    ("[1.9, 0.9]", "[1.9]", 25, ["points[1]", "has too few numbers: [1.9]"]),
    ("right: {value: 0}", "right: {value: 0, flux: 1}", 7, ["boundary.right.flux", "contradicts value"]),
    ("right: {value: 0}", "right: {}", 7, ["boundary.right", "needs either value"]),
    ("right: {value: 0}", "right: {value: [0, 1]}", 7, ["boundary right", "2 numbers", "16 faces"]),
    ("{seed: 7, refine: 2}", "{seed: 7}\n  file: h.csv", 22, ["observations.truth", "contradicts file"]),
    ("count: 12", "count: 12, points: [[0, 0]]", 24, ["sensors[0].count", "beside points"]),
    ("count: 12, placement", "placement", 24, ["sensors[0]", "needs count"]),
    ("sigma: 1e-3", "sigma: 1e-3, floor: 1", 26, ["observations.noise.sigma", "contradicts"]),
    ("sigma: 1e-3", "relative: 0.1", 26, ["observations.noise.relative", "needs a floor"]),
    ("kind: matern", "kind: exponential", 20, ["smoothness", "only a matern"]),
    ("unit: m}", "unit: m, mesh: a.msh}", 4, ["grid.domain.mesh", "not available"]),
    # what does not fit the domain or the physics
    ("[1.9, 0.9]", "[2.1, 0.9]", 25, ["points[1]", "(2.1, 0.9) is outside", "[0, 2] × [0, 1] m"]),
    ("{x: 0.5", "{x: -0.5", 13, ["source.wells[0]", "(-0.5, 0.5) is outside"]),
    ("count: 12, placement: uniform", "count: 513, placement: cells", 24, ["513 sensors", "512 cells"]),
    ("count: 12, placement: uniform", "count: 13, placement: lattice", 24, ["regular lattice", "12 do"]),
    ("[16, 32]", "[2048, 4096]\n", 24, ["refine", "at most 2"]),  # with refine 4, see below
    ('"1 + y"', '"1 + z"', 6, ["boundary.left.value", "unknown name 'z'"]),
    ('"1 + y"', '"1 + y; 3"', 6, ["boundary.left.value", "expression"]),
    ('"1 + y"', "\"__import__('os')\"", 6, ["boundary.left.value", "unknown function '__import__'"]),
    ('"1 + y"', '"log(y - 2)"', 6, ["'log(y - 2)' is not finite"]),
    ("  value: 1\n", "  value: 1/(x - x)\n", 11, ["source.value", "not finite"]),
    # not YAML
    ("pde: darcy", "pde: [darcy", 2, ["not YAML"]),
    ("pde: darcy", "\tpde: darcy", 1, ["not YAML"]),
    ("physics: solver", "physics: *nothing", 27, ["not YAML", "alias"]),
    ("physics: solver", "physics: !!python/name:os.system solver", 27, ["tag", "not allowed"]),
    ("physics: solver", "<<: {physics: solver}", 27, ["merge keys"]),
    ("physics: solver", "physics: s\x01", 27, ["not YAML", r"'\x01'"]),
    ("pde: darcy", "pde: darcy\n---\npde: darcy", 2, ["not YAML", "second document"]),
]


def write(folder: Path, text: str) -> Path:
    path = folder / "case.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "line", "parts"), MUTATIONS, ids=[new.strip()[:40] for _, new, _, _ in MUTATIONS]
)
def test_each_mistake_is_one_line_with_its_place(
    tmp_path: Path, old: str, new: str, line: int, parts: list[str]
) -> None:
    """One mistake in a valid file: `FILE:LINE:` of that mistake, and what is wrong with it, in one line."""
    assert CASE.count(old) == 1, "a mutation must be unambiguous"
    text = CASE.replace(old, new)
    if "refine" in parts:
        text = text.replace("refine: 2", "refine: 4")
        line = 23
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_case(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: "), message
    assert "\n" not in message
    for part in parts:
        assert part in message.removeprefix(f"{path}"), message


def test_the_unmutated_case_is_valid(tmp_path: Path) -> None:
    """So each mutation above fails for its own reason."""
    assert load_case(write(tmp_path, CASE)).sampling.samples == 20


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", ":1: the file is empty"),
        (b"# nothing\n", ":1: the file is empty"),
        (b"- darcy\n", ":1: expected 'key: value'"),
        (b"darcy\n", ":1: expected 'key: value'"),
        (b"pde: darcy\ngrid: \xff\xfe\n", ":2: not UTF-8"),
        (b"[" * 2000, ":1: nested deeper"),
        (b"a: &a [*a]\n", ":1: nested deeper"),
        (b"a: " + b"9" * 5000, ":1: "),
        (b"%YAML 1.9\n---\na: 1\n", "not YAML"),
    ],
    ids=["empty", "comment", "list", "scalar", "bytes", "deep", "cycle", "digits", "version"],
)
def test_what_is_no_case_at_all(tmp_path: Path, content: bytes, part: str) -> None:
    """Files that are not a mapping, not text, or built to exhaust the reader."""
    path = tmp_path / "case.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_case(path)
    assert str(caught.value).startswith(str(path))
    assert part in str(caught.value)


def test_aliases_cannot_explode(tmp_path: Path) -> None:
    """Seven levels of ten aliases are ten million values in 300 bytes: refused early."""
    lines = ["l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"l{k}: &l{k} [{', '.join([f'*l{k - 1}'] * 10)}]" for k in range(1, 8)]
    with pytest.raises(InputError, match="more than 200000 values"):
        load_case(write(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize("name", ["x" * 300, "case.yaml/x"])
def test_a_file_that_cannot_be_there(tmp_path: Path, name: str) -> None:
    """A name that no disk takes, and a file used as a folder: still the line that names it."""
    start, end = CASE.index("  truth"), CASE.index("physics: solver")
    path = write(tmp_path, f"{CASE[:start]}  file: {name}\n{CASE[end:]}")
    with pytest.raises(
        InputError, match=r"case.yaml:22: .*(more than 255 characters|cannot be read: Not a directory)$"
    ):
        load_case(path)
    with pytest.raises(
        InputError, match=r"^--set '?observations.file=.*: cannot be read: (File name too long|Not a dir)"
    ):
        load_case(path, [f"observations.file={name}"])


def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe would be waited for, a device may have no end, and each can be read only once: refused."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"pipe.yaml: is not a regular file; save the case file on a disk"):
        load_case(pipe)
    path = write(tmp_path, CASE + " " * 2**20)
    with pytest.raises(InputError, match=r"case.yaml: is larger than 1 MiB; too large for a case file"):
        load_case(path)


def test_missing_case_file_names_its_neighbour(tmp_path: Path) -> None:
    """A missing file, a folder, and a misspelt name."""
    write(tmp_path, CASE)
    with pytest.raises(InputError, match=r"no such case file; did you mean .*case.yaml"):
        load_case(tmp_path / "csae.yaml")
    with pytest.raises(InputError, match="is a folder"):
        load_case(tmp_path)
    with pytest.raises(InputError, match=r"no such case file$"):
        load_case(tmp_path / "elsewhere" / "csae.yaml")


def test_flux_on_every_side_must_balance(tmp_path: Path) -> None:
    """With no side that fixes u, what enters must leave: f = 1 on area 2 is 2 in; the top's −1 on length 2 is 2 out."""
    text = CASE.replace('{value: "1 + y"}', "{flux: 0}").replace("right: {value: 0}", "right: {flux: 0}")
    text = text.replace("rate: -1}", "rate: 0}")
    with pytest.raises(InputError, match=r"case.yaml:5: boundary: no steady state.* add up to 2 and not 0"):
        load_case(write(tmp_path, text))
    assert load_case(write(tmp_path, text.replace("top: {flux: 0}", "top: {flux: -1}"))).boundary.top.flux == -1


@pytest.mark.parametrize("written", ["../h.csv", "a/../../h.csv", "/etc/passwd", "C:\\h.csv", "..\\h.csv"])
def test_a_case_cannot_read_outside_its_folder(tmp_path: Path, written: str) -> None:
    """A case may come from a stranger; a path typed by the user is their own business."""
    folder = tmp_path / "case"
    folder.mkdir()
    start, end = CASE.index("  truth"), CASE.index("physics: solver")
    (tmp_path / "h.csv").write_text("x,y,field,value,sigma\n1,0.5,u,1,0.1\n")
    path = write(folder, f"{CASE[:start]}  file: '{written}'\n{CASE[end:]}")
    with pytest.raises(InputError, match=r"case.yaml:22: observations.file: path .* leaves the folder"):
        load_case(path)
    case = load_case(path, ["observations.file=../h.csv"])
    assert case.measurements is not None
    assert len(case.measurements) == 1
