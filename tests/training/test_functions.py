"""What networks learn: coefficients, and pairs of coefficient and solution."""

import pytest
import torch

from pdediff.solvers.boundary import SIDES, Boundary, Value
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid
from pdediff.training.functions import functions_of, law_of
from pdediff.training.recipe import Recipe

LAW = {"name": "two-phase", "shape": [16, 16], "low": 2.0, "high": 8.0}
NETWORK = {"patch": 2, "widths": [8, 16], "blocks": 1}
JOINT = Recipe(
    law=LAW, solution={"boundary": 1.5, "source": -2.0, "amplitude": 4.0}, network=NETWORK, training={"steps": 4}
)


def generator():
    return torch.Generator().manual_seed(7)


def test_coefficients_are_the_law():
    """One channel: the law's own draws."""
    functions = functions_of(Recipe(law=LAW, network=NETWORK, training={"steps": 4}))
    x_0 = functions.draw(3, generator())
    assert torch.equal(x_0[:, 0], law_of(JOINT.law).sample_x(3, generator()))
    assert functions.card["fields"] == ["a"]


def test_pairs_solve_the_equation():
    """The first channel is the law's draw; the second, in its units, solves −∇·(a∇u) = −2 with u = 1.5 on the walls.

    Solves are to 1e-5 of the right-hand side, and single precision adds as much.
    """
    functions = functions_of(JOINT)
    x_0 = functions.draw(3, generator())
    law = law_of(JOINT.law)
    assert torch.equal(x_0[:, 0], law.sample_x(3, generator()))
    mean, scale = functions.card["parametrisation"]["u"]
    darcy = Darcy(Grid((16, 16)), Boundary(**{side: Value(1.5) for side in SIDES}), -2.0)
    residual = darcy.relative_residual(law.coefficient(x_0[:, 0]), mean + scale * x_0[:, 1])
    assert float(residual.max()) < 1e-4


def test_the_second_channel_has_the_amplitude():
    """Mean 0 and standard deviation 4: measured on 1024 functions, so that of 256 others agrees to a few per cent."""
    u = functions_of(JOINT).draw(256, generator())[:, 1]
    assert float(u.mean()) == pytest.approx(0, abs=0.3)
    assert float(u.std()) == pytest.approx(4, rel=0.1)
    assert functions_of(JOINT).card["preconditioning"] == {"sigma_data": [1.0, 4.0], "mean": [0.0, 0.0]}


def test_nothing_to_learn_is_refused():
    """Without a source u is the boundary value everywhere."""
    with pytest.raises(ValueError, match="nothing to learn"):
        Recipe(law=LAW, solution={"source": 0.0}, network=NETWORK, training={"steps": 4})
