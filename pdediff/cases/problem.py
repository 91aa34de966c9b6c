"""From a case to the objects that solve it: solver, prior, truth, data, likelihood.

A synthetic truth is drawn from the law that the prior stands for (for a trained prior, the law it was trained on),
on the inference grid; its u is solved on cells `refine` times smaller and read by the sensors there, so that data and
inference do not share a discretisation.
"""

from dataclasses import dataclass

import numpy as np
import torch

from pdediff.cases.case import Case
from pdediff.cases.prior_model import PriorModel, build_prior
from pdediff.datasets.coefficients import prolong, restrict
from pdediff.likelihoods.collocation import CollocationPhysics
from pdediff.likelihoods.gaussian import GaussianObservations
from pdediff.likelihoods.operators import PointSensors
from pdediff.likelihoods.physics import Group, Physics, replicate_walls
from pdediff.likelihoods.prior_only import PriorOnly
from pdediff.likelihoods.residual import ResidualPhysics
from pdediff.likelihoods.scatter import scatter
from pdediff.likelihoods.solver import SolverPhysics
from pdediff.likelihoods.strong_residual import StrongResidual
from pdediff.posterior.result import Observations
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid
from pdediff.solvers.source import source_field


@dataclass
class Problem:
    """What sampling needs.

    Parameters
    ----------
    grid: the inference grid.
    prior: denoiser and parametrisation.
    physics: from x_0 to a and u on the grid.
    likelihood: of the data given x_0.
    observations: the data as arrays; predictions are filled in later.
    truth: true fields "a" and "u" (ny, nx), float64; empty where none is known.

    """

    grid: Grid
    prior: PriorModel
    physics: Physics
    likelihood: GaussianObservations
    observations: Observations
    truth: dict[str, np.ndarray]

    @property
    def order(self) -> np.ndarray:
        """Place in the observations of each datum of the likelihood, which has them field by field: (m,)."""
        return np.argsort(self.observations.field, kind="stable")


def build_problem(case: Case, device: str | torch.device = "cpu") -> Problem:
    """The problem that a case describes, on a device. Raises InputError, as `load_case` does."""
    grid = case.grid.build()
    prior = build_prior(case, grid, device)
    darcy = Darcy(grid, case.boundary.build(), case.source.build(grid))
    if case.measurements is None:
        observations, truth = _synthetic(case, grid, prior)
    else:
        m = case.measurements
        observations, truth = Observations(m.field, m.x, m.y, m.value, m.sigma, m.group), {}
    physics = build_physics(case, prior, darcy)
    return Problem(grid, prior, physics, likelihood(physics, grid, observations, device), observations, truth)


def build_physics(case: Case, prior: PriorModel, darcy: Darcy) -> Physics:
    """What ties u to a."""
    space, bounds = prior.denoiser.space, prior.denoiser.bounds
    section, solution = case.physics, prior.solution
    if section.kind == "solver":
        return SolverPhysics(space, prior.parametrisation, darcy, solution, bounds)
    assert solution is not None  # checked when the case was loaded
    if section.kind == "none":
        return PriorOnly(space, prior.parametrisation, darcy, solution, bounds)
    sigma = section.sigma if section.relative is None else section.relative * rms_source(case, darcy.grid)
    assert sigma is not None  # a residual has one of the two
    if section.points is None:
        return ResidualPhysics(space, prior.parametrisation, darcy, solution, sigma, bounds)
    points = scatter(darcy.grid, section.points, section.seed or 0)
    residual = StrongResidual(darcy.grid, case.source.value, points)
    return CollocationPhysics(space, prior.parametrisation, darcy, solution, residual, sigma, bounds)


def rms_source(case: Case, grid: Grid) -> float:
    """Root mean square over the cells of the source per unit area, without wells: those are sharp and few."""
    return float(np.sqrt(np.square(source_field(grid, case.source.value)).mean()))


def likelihood(
    physics: Physics, grid: Grid, observations: Observations, device: str | torch.device
) -> GaussianObservations:
    """Independent Gaussian noise of the observations' sigma on sensors of each field."""
    groups = []
    for field in np.unique(observations.field):
        data = observations.select(observations.field == field)
        operator = PointSensors(grid, np.stack([data.x, data.y], axis=1), device)
        value, sigma = (torch.as_tensor(v, device=device) for v in (data.value, data.sigma))
        groups.append(Group(str(field), operator, value, sigma))
    return GaussianObservations(physics, groups)


def _synthetic(case: Case, grid: Grid, prior: PriorModel) -> tuple[Observations, dict[str, np.ndarray]]:
    """Data of a truth drawn with the case's seeds, and the truth on the inference grid."""
    section = case.observations.truth
    assert section is not None  # a case has a data file or a truth
    noise_seed = case.observations.noise.seed if case.observations.noise is not None else 0
    generator = torch.Generator().manual_seed(section.seed)
    a = prior.law.sample(1, generator, torch.float64)
    fine = grid.refine(section.refine)
    darcy = Darcy(fine, case.boundary.build(section.refine), case.source.build(fine))
    a_fine = prolong(a, section.refine)
    u_fine = darcy.solve(a_fine, rtol=1e-11)
    framed = {"a": replicate_walls(a), "u": darcy.with_walls(a_fine, u_fine)}
    sensors = case.place_sensors(grid)
    points = np.stack([sensors.x, sensors.y], axis=1)
    exact = np.zeros(len(sensors))
    for field, cells in (("a", grid), ("u", fine)):
        here = sensors.field == field
        exact[here] = PointSensors(cells, points[here])(framed[field])[0].numpy()
    sigma = sensors.sigma(exact)
    value = exact + sigma * np.random.default_rng(noise_seed).standard_normal(len(sensors))
    observations = Observations(sensors.field, sensors.x, sensors.y, value, sigma, sensors.group, truth=exact)
    return observations, {"a": a[0].numpy(), "u": restrict(u_fine, section.refine)[0].numpy()}
