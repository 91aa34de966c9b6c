"""From a case to the objects that solve it: solver, prior, truth, data, likelihood.

A synthetic truth is drawn from the law that the prior stands for (for a trained prior, the law it was trained on),
on the inference grid; its u is solved on cells `refine` times smaller and read by the sensors there, so that data and
inference do not share a discretisation. Where there is no equation, a is seen on the grid that it is drawn on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pdediff.cases.case import Case
from pdediff.cases.instruments import Instrument, instruments
from pdediff.cases.prior_model import PriorModel, build_prior
from pdediff.datasets.coefficients import prolong, restrict
from pdediff.likelihoods.base import Likelihood
from pdediff.likelihoods.collocation import CollocationPhysics
from pdediff.likelihoods.direct import DirectPhysics
from pdediff.likelihoods.gaussian import GaussianObservations
from pdediff.likelihoods.operators import PointSensors
from pdediff.likelihoods.physics import Group, Physics, replicate_walls
from pdediff.likelihoods.poisson import PoissonObservations
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
    physics: from x_0 to the fields on the grid.
    observed: what the instruments see of x_0, with Gaussian noise of the data's sigma.
    likelihood: of the data given x_0: `observed`, unless the noise is another.
    observations: the data as arrays; predictions are filled in later.
    order: place in the observations of each datum of the likelihood, which has them instrument by instrument: (m,).
    truth: true fields (ny, nx), float64; empty where none is known.
    parameters: true values of what is inferred along; empty where none is known.

    """

    grid: Grid
    prior: PriorModel
    physics: Physics
    observed: GaussianObservations
    likelihood: Likelihood
    observations: Observations
    order: NDArray[np.int64]
    truth: dict[str, np.ndarray]
    parameters: dict[str, float] = field(default_factory=dict)


def build_problem(case: Case, device: str | torch.device = "cpu") -> Problem:
    """The problem that a case describes, on a device. Raises InputError, as `load_case` does."""
    grid = case.grid.build()
    prior = build_prior(case, grid, device)
    seeing = instruments(case, grid, device)
    if case.measurements is None:
        observations, truth = _synthetic(case, grid, prior, seeing)
    else:
        m = case.measurements
        observations, truth = Observations(m.field, m.x, m.y, m.value, m.sigma, m.group), {}
    physics = build_physics(case, prior, grid)
    observed = build_observed(physics, seeing, observations, device)
    order = np.concatenate([instrument.data for instrument in seeing])
    return Problem(grid, prior, physics, observed, _likelihood(case, observed), observations, order, truth)


def build_physics(case: Case, prior: PriorModel, grid: Grid) -> Physics:
    """What makes fields of x_0, and ties u to a."""
    space, bounds = prior.denoiser.space, prior.denoiser.bounds
    section, solution = case.physics, prior.solution
    if case.pde == "none":
        return DirectPhysics(space, prior.parametrisation, bounds)
    darcy = Darcy(grid, case.boundary.build(), case.source.build(grid))
    if section.kind == "solver":
        return SolverPhysics(space, prior.parametrisation, darcy, solution, bounds)
    assert solution is not None  # checked when the case was loaded
    if section.kind == "none":
        return PriorOnly(space, prior.parametrisation, darcy, solution, bounds)
    sigma = section.sigma if section.relative is None else section.relative * rms_source(case, grid)
    assert sigma is not None  # a residual has one of the two
    if section.points is None:
        return ResidualPhysics(space, prior.parametrisation, darcy, solution, sigma, bounds)
    points = scatter(grid, section.points, section.seed or 0)
    residual = StrongResidual(grid, case.source.value, points)
    return CollocationPhysics(space, prior.parametrisation, darcy, solution, residual, sigma, bounds)


def rms_source(case: Case, grid: Grid) -> float:
    """Root mean square over the cells of the source per unit area, without wells: those are sharp and few."""
    return float(np.sqrt(np.square(source_field(grid, case.source.value)).mean()))


def build_observed(
    physics: Physics, seeing: list[Instrument], observations: Observations, device: str | torch.device
) -> GaussianObservations:
    """The observations on what the instruments see, with independent Gaussian noise of their sigma."""
    groups = []
    for instrument in seeing:
        value, sigma = (
            torch.as_tensor(column[instrument.data], dtype=torch.float64, device=device)
            for column in (observations.value, observations.sigma)
        )
        groups.append(Group(instrument.field, instrument.operator, value, sigma))
    return GaussianObservations(physics, groups)


def _likelihood(case: Case, observed: GaussianObservations) -> Likelihood:
    noise = case.observations.noise
    if noise is None or noise.law == "gaussian":
        return observed
    assert noise.counts is not None  # checked when the case was loaded
    counts = noise.counts * torch.cat([group.value for group in observed.observed])
    return PoissonObservations(observed.predict, counts, noise.counts)


def _synthetic(
    case: Case, grid: Grid, prior: PriorModel, seeing: list[Instrument]
) -> tuple[Observations, dict[str, np.ndarray]]:
    """Data of a truth drawn with the case's seeds, and the truth on the inference grid."""
    section = case.observations.truth
    assert section is not None  # a case has a data file or a truth
    generator = torch.Generator().manual_seed(section.seed)
    a = prior.law.sample(1, generator, torch.float64)
    truth, read = _solve(case, grid, a, section.refine)
    exact = np.concatenate([read(instrument) for instrument in seeing])
    sizes = [len(instrument) for instrument in seeing]
    field, group = (np.repeat([getattr(i, key) for i in seeing], sizes) for key in ("field", "group"))
    x, y = np.concatenate([i.places for i in seeing]).T
    noise = case.observations.noise
    rng = np.random.default_rng(noise.seed if noise is not None else 0)
    if noise is not None and noise.law == "poisson":
        assert noise.counts is not None
        counts = rng.poisson(noise.counts * exact)
        value, sigma = counts / noise.counts, np.sqrt(np.maximum(counts, 1)) / noise.counts
    else:
        floor, relative = (np.repeat([getattr(i, key) for i in seeing], sizes) for key in ("floor", "relative"))
        sigma = np.hypot(floor, relative * exact)
        value = exact + sigma * rng.standard_normal(len(exact))
    return Observations(field, x, y, value, sigma, group, truth=exact), truth


def _solve(
    case: Case, grid: Grid, a: torch.Tensor, refine: int
) -> tuple[dict[str, np.ndarray], Callable[[Instrument], np.ndarray]]:
    """Fields of a coefficient (1, ny, nx) on the inference grid, and what an instrument sees of them."""
    fields, framed = {"a": a}, {"a": replicate_walls(a)}
    fine = grid.refine(refine)
    if case.pde != "none":
        darcy = Darcy(fine, case.boundary.build(refine), case.source.build(fine))
        a_fine = prolong(a, refine)
        u_fine = darcy.solve(a_fine, rtol=1e-11)
        fields["u"], framed["u"] = restrict(u_fine, refine), darcy.with_walls(a_fine, u_fine)

    def read(instrument: Instrument) -> np.ndarray:
        field = instrument.field
        if field == "a" or not instrument.points:
            return instrument.operator(replicate_walls(fields[field]))[0].numpy()
        return PointSensors(fine, instrument.places)(framed[field])[0].numpy() * instrument.gain

    return {name: values[0].numpy() for name, values in fields.items()}, read
