"""Who may import whom: each package imports only what lies below it, so that lower ones can be read and used alone."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = (  # from the top; packages of one floor may import each other
    {"cli", "__main__"},
    {"studies"},
    {"report"},
    {"cases"},
    {"baselines"},
    {"posterior"},
    {"samplers"},
    {"guidance"},
    {"likelihoods"},
    {"surrogates", "training"},
    {"denoisers"},
    {"parametrisations", "spaces", "noise", "schedules"},
    {"datasets"},
    {"solvers"},
    {"priors", "case_files", "__version__", ""},  # data and the package itself: they import nothing
)
LEVEL = {name: level for level, floor in enumerate(FLOORS) for name in floor}

SOURCES = {  # folders, and what they are installed as
    "pdediff": "pdediff",
    "solvers": "pdediff.solvers",
    "datasets": "pdediff.datasets",
    "cases": "pdediff.case_files",
}


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted names and files of the whole library, as installed."""
    for folder, package in SOURCES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ".".join((package, *path.relative_to(ROOT / folder).with_suffix("").parts)), path


def imported(source: str, module: str) -> set[str]:
    """Dotted names that a module imports, wherever the statement stands (functions and `if TYPE_CHECKING` included)."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def package_of(name: str) -> str:
    """The first name below `pdediff`: "solvers" of "pdediff.solvers.grid"."""
    return [*name.removesuffix(".__init__").split("."), ""][1]


def violations(source: str, module: str) -> list[str]:
    """Imports of packages that are neither below the module's own, nor beside it."""
    own = package_of(module)
    inside = {name for name in imported(source, module) if name.split(".")[0] == "pdediff"}
    unknown = {name for name in inside if package_of(name) not in LEVEL}
    wrong = {name for name in inside - unknown if package_of(name) != own and LEVEL[package_of(name)] < LEVEL[own]}
    return sorted(unknown | wrong)


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("pdediff.solvers.grid", "import pdediff.datasets.cosines as c", ["pdediff.datasets.cosines"]),
        ("pdediff.guidance.dps", "def f():\n    from pdediff.samplers import ddim", ["pdediff.samplers.ddim"]),
        ("pdediff.noise", "if TYPE_CHECKING:\n    from pdediff.denoisers.base import D", ["pdediff.denoisers.base.D"]),
        ("pdediff.noise", "from . import cli", ["pdediff.cli"]),
        ("pdediff.cases.case", "from ..report.maps import f", ["pdediff.report.maps.f"]),
        ("pdediff.cases.case", "from pdediff import nowhere", ["pdediff.nowhere"]),
        ("pdediff.__init__", "from pdediff.solvers import grid", ["pdediff.solvers.grid"]),
        (
            "pdediff.noise",
            "from pdediff import spaces, __version__\nfrom pdediff.solvers import grid\nimport torch",
            [],
        ),
        ("pdediff.cases.case", "from . import prior\nfrom .prior import Prior\nfrom pdediff.priors import x", []),
    ],
)
def test_the_check_sees(module: str, source: str, expected: list[str]) -> None:
    """Every form of import is found, and resolved to the package it names."""
    assert violations(source, module) == expected


def test_all_modules_are_found() -> None:
    """The four installed folders are searched, and every package has a floor."""
    found = {package_of(name) for name, _ in modules()}
    assert {"cli", "guidance", "solvers", "datasets", "schedules", ""} <= found
    assert found <= set(LEVEL)


@pytest.mark.parametrize(("module", "path"), [pytest.param(*item, id=item[0]) for item in modules()])
def test_imports_only_what_lies_below(module: str, path: Path) -> None:
    """cli > studies > report > cases > … > datasets > solvers, in every module."""
    assert violations(path.read_text(), module) == []


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("solvers", {"numpy", "scipy", "torch", "pdediff.solvers"}),
        ("datasets", {"numpy", "scipy", "torch", "h5py", "pdediff.solvers", "pdediff.datasets"}),
    ],
)
def test_solvers_and_data_know_nothing_of_diffusion(package: str, allowed: set[str]) -> None:
    """They import the numerical libraries and each other."""
    for module, path in modules():
        if package_of(module) == package:
            for name in imported(path.read_text(), module):
                top = ".".join(name.split(".")[:2]) if name.startswith("pdediff") else name.split(".")[0]
                assert top in allowed or top in sys.stdlib_module_names, f"{module} imports {name}"


def test_guidance_knows_no_equation_and_no_file() -> None:
    """Guidance and samplers see denoisers and likelihoods through their interfaces: no solver, no network, no HDF5."""
    interfaces = {"base", "noise", "schedules", "spaces", "errors"}
    for module, path in modules():
        if package_of(module) in ("guidance", "samplers"):
            for name in imported(path.read_text(), module):
                parts = name.split(".")
                if parts[0] == "pdediff":
                    assert package_of(name) in ("guidance", "samplers") or interfaces & set(parts), f"{module}: {name}"
                else:
                    assert parts[0] == "torch" or parts[0] in sys.stdlib_module_names, f"{module}: {name}"
