"""What an installation contains."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_on_disk_is_installed():
    """A plain install copies the packages listed in pyproject.toml; none of those on disk is missing there."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "pdediff").rglob("__init__.py")}
    mapped = set(settings["package-dir"])
    assert set(settings["packages"]) == on_disk | mapped


def test_constraints_pin_every_direct_dependency():
    """Every run-time dependency has its version in constraints.txt, and torch is the one that was tested."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    needed = {requirement.split(">=")[0] for requirement in project["dependencies"]}
    assert needed <= set(pinned)
    assert pinned["torch"] == "2.13.0"
