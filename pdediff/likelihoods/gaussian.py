"""Gaussian observations of fields: y = A(fields(x_0)) + sigma·e."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pdediff.likelihoods.physics import Fields, Group, LinearisedPhysics, Physics


class GaussianObservations:
    """Independent Gaussian noise on groups of observations; data are ordered as the groups are.

    Parameters
    ----------
    physics: gives the fields of x_0, and data of its own that it wants met (`penalties`); those come last.
    groups: the data.

    """

    def __init__(self, physics: Physics, groups: list[Group]) -> None:
        self.physics, self.observed, self.groups = physics, groups, [*groups, *physics.penalties]
        self.size = sum(len(group.value) for group in self.groups)

    @property
    def linear(self) -> bool:
        """Whether the data are a linear function of x_0, up to a constant."""
        return self.physics.linear

    def predict(self, x_0: Tensor) -> Tensor:
        """Noise-free data of x_0: (B, D) -> (B, m), in the fields' units."""
        return self.read(self.physics.observables(x_0))

    def read(self, fields: Fields) -> Tensor:
        """Noise-free data (B, m), without the physics' own, of fields on cells and walls."""
        return torch.cat([group.operator(fields[group.field]) for group in self.observed], dim=-1)

    def misfit(self, x_0: Tensor) -> Tensor:
        """(A(fields(x_0)) − y)/sigma, what the physics adds included: (B, D) -> (B, m), differentiable."""
        return self._misfit(self.physics.observables(x_0))

    def log_prob(self, x_0: Tensor) -> Tensor:
        """−½ Σ ((A(fields(x_0)) − y)/sigma)² and what the physics adds: (B, D) -> (B,), differentiable."""
        return self.physics.log_prob(x_0) - 0.5 * self.misfit(x_0).square().sum(dim=-1)

    def linearise(self, zeta: Tensor, tolerance: float, near: Any = None) -> "LinearisedObservations":
        """Misfit and Jacobian about the physics' unknowns zeta; `near` is an earlier result of this method, or None."""
        physics = self.physics.linearise(zeta, tolerance, None if near is None else near.physics)
        return LinearisedObservations(self.groups, physics, self._misfit(physics.fields))

    def _misfit(self, fields: Fields) -> Tensor:
        parts = [
            (group.operator(fields[group.field]) - group.value.to(fields[group.field]))
            / group.sigma.to(fields[group.field])
            for group in self.groups
        ]
        return torch.cat(parts, dim=-1)


@dataclass(frozen=True)
class LinearisedObservations:
    """r(zeta + dzeta) ≈ residual + J dzeta, in units of sigma."""

    groups: list[Group]
    physics: LinearisedPhysics
    residual: Tensor

    def tangent(self, dzeta: Tensor) -> Tensor:
        """J dzeta: (B, K') -> (B, m)."""
        fields = self.physics.tangent(dzeta)
        parts = [g.operator(fields[g.field]) / g.sigma.to(dzeta) for g in self.groups]
        return torch.cat(parts, dim=-1)

    def adjoint(self, data: Tensor) -> Tensor:
        """Jᵀ data: (B, m) -> (B, K')."""
        fields_bar: Fields = {}
        sizes = [len(g.value) for g in self.groups]
        for group, part in zip(self.groups, data.split(sizes, dim=-1), strict=True):
            field_bar = group.operator.adjoint(part / group.sigma.to(data))
            fields_bar[group.field] = fields_bar[group.field] + field_bar if group.field in fields_bar else field_bar
        return self.physics.adjoint(fields_bar)
