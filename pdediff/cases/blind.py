"""Methods that infer something of the instruments or the boundary along with the field (`infer:` of a case)."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from pdediff.cases.case import Case
from pdediff.cases.instruments import instruments
from pdediff.cases.operators import BlurSection
from pdediff.cases.outcome import Outcome, Progress
from pdediff.cases.prior import GaussianPrior
from pdediff.cases.prior_model import dense_field
from pdediff.cases.problem import Problem, build_observed, build_physics
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.kernel_prior import gaussian_kernel, kernel_prior
from pdediff.guidance.blind_dps import BlindDPS
from pdediff.guidance.diffusion_em import DiffusionEM, Theta
from pdediff.guidance.renoise import Annealing
from pdediff.likelihoods.convolution import BlindConvolution, Convolution
from pdediff.likelihoods.families import LikelihoodFamily
from pdediff.likelihoods.gaussian import GaussianObservations
from pdediff.noise import Generators
from pdediff.spaces import FunctionSpace

WIDTHS = 7  # of Gaussian kernels in the prior of a kernel, evenly in the logarithm


@dataclass(frozen=True)
class Blind:
    """Field and blur kernel, side by side; the kernel is shown in the middle of the grid."""

    problem: Problem
    sampler: BlindDPS
    convolution: Convolution

    @property
    def levels(self) -> int:
        """Number of noise levels."""
        return self.sampler.levels

    @property
    def evaluations(self) -> int:
        """Of the field's denoiser: one a level."""
        return self.sampler.evaluations

    @property
    def solves(self) -> int:
        """There is no equation."""
        return 0

    def __call__(self, generators: Generators, progress: Progress) -> Tensor:
        """Fields and kernels: (B, D_x + D_k)."""
        return self.sampler(generators, progress)

    def outcome(self, x_0: Tensor) -> Outcome:
        """Field, kernel, and the kernel's width."""
        likelihood = self.sampler.likelihood
        assert isinstance(likelihood, BlindConvolution)
        a, kernel = likelihood.split(x_0.double())
        return Outcome(
            self.problem,
            self.problem.prior.parametrisation.inverse(a).flatten(1),
            fields={"kernel": on_grid(kernel, self.problem.grid.shape)},
            parameters={"width": fitted_width(kernel) * self.problem.grid.dx},
            predicted=self.convolution(a, kernel).flatten(1),
        )


def build_blind_dps(case: Case, problem: Problem, levels: int, device: torch.device) -> Blind:
    """BlindDPS for a case with one blur; tells the problem of its true kernel, if the truth is synthetic."""
    grid, prior, infer = problem.grid, case.prior, case.infer
    assert isinstance(prior, GaussianPrior)  # checked when the case was loaded
    assert infer is not None
    low, high = infer["width"].min / grid.dx, infer["width"].max / grid.dx
    largest = min(grid.shape) - 1 + min(grid.shape) % 2
    size = min(2 * math.ceil(3 * high) + 1, largest)
    schedule = problem.prior.denoiser.schedule
    dense = dense_field(prior.variogram, grid, grid.shape)
    space = FunctionSpace(("a",), grid.shape, grid.cell_area)
    kernels = kernel_prior(size, np.geomspace(low, high, WIDTHS).tolist(), schedule=schedule)
    convolution = Convolution(grid.shape, size)
    value, sigma = (
        torch.as_tensor(column, device=device).reshape(grid.shape)
        for column in (problem.observations.value, problem.observations.sigma)
    )
    sampler = BlindDPS(
        GaussianDenoiser(dense, space, mean=prior.mean, schedule=schedule),
        kernels if case.guidance.kernel_prior == "mixture" else None,
        BlindConvolution(convolution, value, sigma),
        levels=levels,
        sparsity=case.guidance.sparsity or 0.0,
        device=str(device),
    )
    if case.guidance.step == "sigma":
        sampler = replace(sampler, lengths=None)
    if problem.truth:
        true = gaussian_kernel(size, _blur(case).width / grid.dx)
        problem.truth["kernel"] = on_grid(true[None], grid.shape)[0].numpy()
        problem.parameters["width"] = _blur(case).width
    return Blind(problem, sampler, convolution)


def on_grid(kernel: Tensor, shape: tuple[int, int]) -> Tensor:
    """Kernels (B, K, K) in the middle of a grid of zeros (B, *shape)."""
    field, size = kernel.new_zeros(len(kernel), *shape), kernel.shape[-1]
    row, column = ((n - size) // 2 for n in shape)
    field[:, row : row + size, column : column + size] = kernel
    return field


def fitted_width(kernel: Tensor) -> Tensor:
    """Width in cells of the Gaussian kernel that is nearest to each of kernels (B, K, K), to 1 %: (B,).

    A kernel's own second moment would count its small errors far out many times over.
    """
    size = kernel.shape[-1]
    widths = torch.as_tensor(np.geomspace(0.2, size, round(100 * math.log(5 * size))))
    gaussians = torch.stack([gaussian_kernel(size, float(w)) for w in widths]).to(kernel)
    return widths.to(kernel)[torch.cdist(kernel.flatten(1), gaussians.flatten(1)).argmin(dim=1)]


@dataclass(frozen=True)
class Likelihoods:
    """The likelihoods of a case whose parameters take other values; the last few are kept.

    Parameters
    ----------
    case, problem: the case, and the problem that its own values make.
    device: where to compute.

    """

    case: Case
    problem: Problem
    device: torch.device
    made: dict[tuple[float, ...], GaussianObservations] = field(default_factory=dict)
    spent: list[int] = field(default_factory=list)

    @property
    def solves(self) -> int:
        """Solutions of the equation so far, for any theta."""
        return sum(self.spent) + sum(likelihood.physics.solves for likelihood in self.made.values())

    def __call__(self, theta: Theta) -> GaussianObservations:
        """The likelihood for one theta."""
        key = tuple(theta.values())
        if key not in self.made:
            while len(self.made) > 4:
                self.spent.append(self.made.pop(next(iter(self.made))).physics.solves)
            case, problem = with_parameters(self.case, theta), self.problem
            physics = build_physics(case, problem.prior, problem.grid)
            seeing = instruments(case, problem.grid, self.device)
            self.made[key] = build_observed(physics, seeing, problem.observations, self.device)
        return self.made[key]


def with_parameters(case: Case, theta: Theta) -> Case:
    """The case with other values of what is inferred along."""
    sensors, boundary = list(case.observations.sensors or ()), case.boundary
    for name, value in theta.items():
        if name == "gain":
            sensors = [group.model_copy(update={"gain": value}) for group in sensors]
        elif name == "width":
            for k, group in enumerate(sensors):
                parts = tuple(
                    part.model_copy(update={"width": value}) if isinstance(part, BlurSection) else part
                    for part in group.operator or ()
                )
                sensors[k] = group.model_copy(update={"operator": parts or None})
        else:
            side = getattr(boundary, name).model_copy(update={"value": value})
            boundary = boundary.model_copy(update={name: side})
    observations = case.observations.model_copy(update={"sensors": tuple(sensors) or None})
    return case.model_copy(update={"observations": observations, "boundary": boundary})


def parameters_of(case: Case) -> dict[str, float]:
    """The case's own values of what is inferred along: the true ones, if the truth is synthetic."""
    values = {}
    for name in case.infer or {}:
        if name == "gain":
            values[name] = (case.observations.sensors or ())[0].gain
        elif name == "width":
            values[name] = _blur(case).width
        else:
            values[name] = float(getattr(case.boundary, name).value)
    return values


def _blur(case: Case) -> BlurSection:
    blurs = (p for group in case.observations.sensors or () for p in group.operator or () if isinstance(p, BlurSection))
    return next(blurs)


@dataclass(frozen=True)
class Estimating:
    """Diffusion EM: parameters first, then samples that take them for granted."""

    problem: Problem
    sampler: DiffusionEM
    likelihoods: Likelihoods

    @property
    def levels(self) -> int:
        """Number of noise levels of a sample."""
        return self.sampler.levels

    @property
    def evaluations(self) -> int:
        """One at each level; those that found the parameters, once for all samples, are not counted."""
        return self.sampler.evaluations

    @property
    def solves(self) -> int:
        """Of all likelihoods that were made: those of the estimation included."""
        return self.likelihoods.solves

    def __call__(self, generators: Generators, progress: Progress) -> Tensor:
        """One sample for each generator: (B, D)."""
        return self.sampler(generators, progress)

    def outcome(self, x_0: Tensor) -> Outcome:
        """The samples, of the problem with the parameters filled in."""
        theta = self.sampler.estimate.theta
        observed = self.likelihoods(theta)
        problem = replace(self.problem, physics=observed.physics, observed=observed, likelihood=observed)
        return Outcome(problem, x_0, parameters={n: x_0.new_full((len(x_0),), v) for n, v in theta.items()})


def build_diffusion_em(case: Case, problem: Problem, annealing: Annealing, device: torch.device) -> Estimating:
    """Diffusion EM for a case; tells the problem of its true parameters, if the truth is synthetic."""
    likelihoods, guidance = Likelihoods(case, problem, device), case.guidance
    bounds = {name: (section.min, section.max) for name, section in (case.infer or {}).items()}
    assert guidance.form is not None  # the method's own options are filled in
    assert guidance.particles is not None
    assert guidance.iterations is not None
    sampler = DiffusionEM(
        problem.prior.denoiser,
        LikelihoodFamily(likelihoods, bounds),
        guidance.form,
        guidance.particles,
        guidance.iterations,
        case.sampling.seed,
        annealing,
        device=str(device),
    )
    if problem.truth:
        problem.parameters.update(parameters_of(case))
    return Estimating(problem, sampler, likelihoods)
