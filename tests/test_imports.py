"""What an import brings along: numerical code that a command line or a case file does not need stays out."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("pdediff", ["torch", "numpy", "scipy", "pydantic"]),
        ("pdediff.cli", ["torch", "numpy", "scipy", "pydantic", "matplotlib"]),
        ("pdediff.solvers.grid", ["torch", "scipy"]),
        ("pdediff.solvers.boundary", ["torch", "scipy"]),
        ("pdediff.solvers.expressions", ["torch", "scipy"]),
        ("pdediff.cases.load", ["torch", "scipy", "matplotlib"]),
        ("pdediff.cases.generation", ["torch", "scipy", "matplotlib"]),
        ("pdediff.training.recipe", ["torch", "scipy", "numpy"]),
        ("pdediff.posterior.result", ["torch", "matplotlib"]),
        ("pdediff.guidance.renoise", ["pydantic", "matplotlib", "h5py", "pdediff.cases", "pdediff.solvers.darcy"]),
    ],
)
def test_does_not_import(module, absent):
    """In a fresh interpreter, `import MODULE` leaves these out of sys.modules."""
    script = f"import sys, {module}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_installed_one():
    """`pdediff.__version__` is what the package's metadata says."""
    from importlib.metadata import version

    import pdediff

    assert pdediff.__version__ == version("pdediff")
