"""No equation: the field a itself is what sensors and other operators see.

Kriging, deblurring, super-resolution, inpainting, tomography. With a Gaussian law the field is x_0 itself, the data are
linear in it, and their posterior is known in closed form.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pdediff.likelihoods.physics import Fields, LinearisedPhysics, Physics, gather_walls, replicate_walls
from pdediff.parametrisations import Parametrisation, Shifted
from pdediff.spaces import Space


class DirectPhysics(Physics):
    """a = parametrisation(x_a), and nothing else."""

    @property
    def linear(self) -> bool:
        """Whether a is a linear function of x_0, up to a constant."""
        return isinstance(self.parametrisation, Shifted)

    def fields(self, x_0: Tensor, rtol: float | None = None) -> Fields:
        """The field a on the cells, (B, ny, nx); differentiable."""
        return {"a": self.coefficient(x_0)}

    def frame(self, **fields: Tensor) -> Fields:
        """The field a on the cells (B, ny, nx), framed by its values next to the walls."""
        return {"a": replicate_walls(fields["a"])}

    def linearise(self, zeta: Tensor, tolerance: float, near: Any = None) -> LinearisedPhysics:
        """The field of x_0 = zeta and its derivative, both exact."""
        return LinearisedField(self.space, self.parametrisation, self.coefficient(zeta))


@dataclass(frozen=True)
class LinearisedField:
    """Derivative of a with respect to x_0.

    Parameters
    ----------
    space: the space of x_0.
    parametrisation: from x_a to a.
    a: the field on the cells.

    """

    space: Space
    parametrisation: Parametrisation
    a: Tensor

    @property
    def fields(self) -> Fields:
        """The field a on cells and walls at the point of linearisation."""
        return {"a": replicate_walls(self.a)}

    def tangent(self, dzeta: Tensor) -> Fields:
        """Change of a under dx_0 (B, D)."""
        return {"a": replicate_walls(self.parametrisation.tangent(self.a, self.space.unflatten(dzeta)["a"]))}

    def adjoint(self, fields_bar: Fields) -> Tensor:
        """Gradient (B, D) from the gradient of the padded field."""
        return self.parametrisation.adjoint(self.a, gather_walls(fields_bar["a"])).flatten(1)
