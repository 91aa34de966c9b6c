"""From the `guidance:` of a case to the algorithm that draws its samples.

A method is a posterior denoiser in a sampler (`Guided`), a loop of its own (`Loop`; `Proximal` is the flagship's), or
one that infers parameters along (`cases.blind`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from pdediff.baselines.gradient_search import GradientSearch
from pdediff.cases.blind import build_blind_dps, build_diffusion_em
from pdediff.cases.case import Case
from pdediff.cases.control import build_control
from pdediff.cases.guidance import GuidanceSection
from pdediff.cases.outcome import Method, Outcome, Progress
from pdediff.cases.problem import Problem
from pdediff.denoisers.base import Denoiser
from pdediff.guidance.daps import DAPS
from pdediff.guidance.ddrm import DDRM
from pdediff.guidance.diffpir import DiffPIR
from pdediff.guidance.dps import DPS
from pdediff.guidance.loss import LossGuidance
from pdediff.guidance.moments import MomentMatching
from pdediff.guidance.monte_carlo import MonteCarlo
from pdediff.guidance.pigdm import PiGDM
from pdediff.guidance.proximal import InnerSolve
from pdediff.guidance.renoise import ACCURACY, Annealing, renoise
from pdediff.guidance.twisted_smc import TwistedSMC
from pdediff.noise import Generators
from pdediff.samplers.annealed_langevin import AnnealedLangevin
from pdediff.samplers.base import ConditionalMean, Sampler, pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.ddpm import DDPM
from pdediff.samplers.euler_maruyama import EulerMaruyama
from pdediff.samplers.heun import Heun
from pdediff.samplers.inversion import invert
from pdediff.samplers.langevin import Langevin
from pdediff.samplers.predictor_corrector import PredictorCorrector
from pdediff.samplers.start import levels_below, noised_start
from pdediff.schedules import levels
from pdediff.solvers.expressions import Expression

Option = TypeVar("Option")

LADDER = {"fast": 100, "normal": 500, "high": 2000}
"""Noise levels of methods that follow a gradient: each of their steps is explicit, so they need many."""

SHORT_LADDER = {"fast": 30, "normal": 100, "high": 400}
"""Noise levels of methods that solve for the data at each level."""

FINEST = 0.05
"""A sampler's last move is a mean, which loses what varies by less than the noise there. Closed forms go on below their
range by this factor; networks have not learnt to, and two phases have nothing there to lose."""

STEPS = 1000
"""Of Langevin dynamics at one level, which needs many."""

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "ddim": DDIM,
    "ddpm": DDPM,
    "heun": Heun,
    "euler-maruyama": EulerMaruyama,
    "predictor-corrector": PredictorCorrector,
    "annealed-langevin": AnnealedLangevin,
    "langevin": lambda: Langevin(STEPS),
}

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "squared": lambda r: 0.5 * r.square().sum(dim=-1),
    "huber": lambda r: functional.huber_loss(r, torch.zeros_like(r), reduction="none", delta=1.5).sum(dim=-1),
    "absolute": lambda r: r.abs().sum(dim=-1),
}
"""Losses of a standardised misfit (B, m)."""


@dataclass(frozen=True)
class Proximal:
    """The flagship, in the unknowns of the problem's physics."""

    problem: Problem
    annealing: Annealing
    device: torch.device

    @property
    def levels(self) -> int:
        """Number of noise levels."""
        return self.annealing.levels

    @property
    def evaluations(self) -> int:
        """One at each level; a Jacobian's products, backward passes through the network, are not counted."""
        return self.levels

    @property
    def solves(self) -> int:
        """Of the problem's physics."""
        return self.problem.physics.solves

    def __call__(self, generators: Generators, progress: Progress) -> Tensor:
        """See `renoise`."""
        prior, likelihood, physics = self.problem.prior, self.problem.observed, self.problem.physics
        unknowns = physics if self.annealing.covariance == "measured" else None
        return renoise(prior.denoiser, likelihood, generators, self.annealing, progress, self.device, unknowns)

    def outcome(self, x_0: Tensor) -> Outcome:
        """The samples as they are."""
        return Outcome(self.problem, x_0)


@dataclass(frozen=True)
class Start:
    """Where sampling starts, if not from noise: x (1, D), the ratio s, and by fresh noise or by inversion."""

    x: Tensor
    s: float
    by: str


@dataclass(frozen=True)
class Guided:
    """A posterior denoiser in a sampler.

    Parameters
    ----------
    problem: whose prior it is.
    condition: makes the posterior denoiser, for the generators of a batch.
    sampler: integrates it.
    levels: number of noise levels.
    start: a field to start from; None is pure noise.
    device: where to compute.
    finest: the ladder's end in units of the prior's own.

    """

    problem: Problem
    condition: Callable[[Generators], ConditionalMean]
    sampler: Sampler
    levels: int
    device: torch.device
    start: Start | None = None
    finest: float = 1.0

    @property
    def evaluations(self) -> int:
        """As many as the sampler makes, on the levels that it visits."""
        return self.sampler.evaluations(len(self._times()))

    @property
    def solves(self) -> int:
        """Of the problem's physics."""
        return self.problem.physics.solves

    def __call__(self, generators: Generators, progress: Progress) -> Tensor:
        """From the start down the ladder."""
        posterior, times = self.condition(generators), self._times()
        if self.start is None:
            x_T = pure_noise(posterior, times[0], generators, device=self.device)
        elif self.start.by == "noise":
            x_T = noised_start(posterior, self.start.x.expand(len(generators), -1), times[0], generators)
        else:
            x_T = invert(self.problem.prior.denoiser, self.start.x, times).expand(len(generators), -1)
        return self.sampler(posterior, x_T, times, generators, progress)

    def outcome(self, x_0: Tensor) -> Outcome:
        """The samples as they are."""
        return Outcome(self.problem, x_0)

    def _times(self) -> Tensor:
        denoiser = self.problem.prior.denoiser
        s_min, s_max = denoiser.noise_range
        times = levels(denoiser.schedule, s_max, self.finest * s_min, self.levels)
        return times if self.start is None else levels_below(denoiser.schedule, times, self.start.s)


class PosteriorSampler(Protocol):
    """A method that owns its loop."""

    @property
    def levels(self) -> int:
        """Number of noise levels."""
        ...

    @property
    def evaluations(self) -> int:
        """Network evaluations a sample."""
        ...

    def __call__(self, generators: Generators, progress: Progress) -> Tensor:
        """One sample for each generator: (B, D)."""
        ...


@dataclass(frozen=True)
class Loop:
    """A posterior sampler, for a problem."""

    problem: Problem
    sampler: PosteriorSampler

    @property
    def levels(self) -> int:
        """Number of noise levels."""
        return self.sampler.levels

    @property
    def evaluations(self) -> int:
        """Network evaluations a sample."""
        return self.sampler.evaluations

    @property
    def solves(self) -> int:
        """Of the problem's physics."""
        return self.problem.physics.solves

    def __call__(self, generators: Generators, progress: Progress) -> Tensor:
        """See the sampler."""
        return self.sampler(generators, progress)

    def outcome(self, x_0: Tensor) -> Outcome:
        """The samples as they are."""
        return Outcome(self.problem, x_0)


def build_method(case: Case, problem: Problem, device: str | torch.device = "cpu") -> Method:
    """The algorithm that a case names."""
    guidance, device = case.guidance, torch.device(device)
    denoiser, likelihood, observed = problem.prior.denoiser, problem.likelihood, problem.observed
    short = guidance.levels or SHORT_LADDER[guidance.accuracy]
    if guidance.method == "proximal":
        return _proximal(guidance, problem, device)
    if guidance.method == "blind-dps":
        return build_blind_dps(case, problem, guidance.levels or LADDER[guidance.accuracy], device)
    if guidance.method == "diffusion-em":
        return build_diffusion_em(case, problem, _annealing(guidance), device)
    if guidance.method == "smc":
        return Loop(
            problem, TwistedSMC(denoiser, likelihood, _own(guidance.particles), levels=short, device=str(device))
        )
    if guidance.method == "gradient-search":
        search = GradientSearch(denoiser.space, likelihood, steps=_own(guidance.iterations), device=str(device))
        return Loop(problem, search)
    if guidance.method in ("ddrm", "daps"):
        if guidance.method == "ddrm":
            return Loop(problem, DDRM(denoiser, observed, levels=short, eta=_own(guidance.eta), device=str(device)))
        steps, spread = _own(guidance.iterations), sigma_data(problem)
        return Loop(problem, DAPS(denoiser, observed, short, steps, sigma_data=spread, device=str(device)))
    return _guided(case, problem, device)


def _own(option: Option | None) -> Option:
    """An option that belongs to the method: the case has it, filled in."""
    assert option is not None
    return option


def _annealing(guidance: GuidanceSection) -> Annealing:
    annealing = ACCURACY[guidance.accuracy]
    return annealing if guidance.levels is None else replace(annealing, levels=guidance.levels)


def _proximal(guidance: GuidanceSection, problem: Problem, device: torch.device) -> Proximal:
    annealing = _annealing(guidance)
    if guidance.covariance == "jacobian":  # gives the mean of x_0 | x_t, y, which is what ancestral sampling asks for
        annealing = replace(annealing, covariance="jacobian", perturb=False, churn=1.0)
    return Proximal(problem, annealing, device)


def _guided(case: Case, problem: Problem, device: torch.device) -> Guided:
    guidance = case.guidance
    ladder = SHORT_LADDER if guidance.method in ("moments", "diffpir", "pigdm", "control", "prior") else LADDER
    sampler = SAMPLERS[_own(guidance.sampler)]()
    if isinstance(sampler, DDIM):
        sampler = DDIM(eta=_own(guidance.eta))
    elif isinstance(sampler, Langevin) and guidance.levels is not None:
        sampler = Langevin(guidance.levels)
    condition = _posterior(case, problem, device)
    count = guidance.levels or ladder[guidance.accuracy]
    finest = 1.0 if problem.prior.phases is not None or isinstance(sampler, Langevin) else FINEST
    guided = Guided(problem, condition, sampler, count, device, _start(guidance, problem, device), finest)
    try:
        guided.evaluations  # noqa: B018 (the levels below the start are counted)
    except ValueError as error:
        raise case.origin.tree.error(("guidance", "start", "s"), f"guidance.start.s: {error}") from None
    return guided


def _posterior(case: Case, problem: Problem, device: torch.device) -> Callable[[Generators], ConditionalMean]:
    """What conditions the denoiser; only Monte Carlo needs the generators."""
    guidance, denoiser, likelihood = case.guidance, problem.prior.denoiser, problem.likelihood
    observed = problem.observed
    if guidance.method == "monte-carlo":
        draws = _own(guidance.draws)
        return lambda generators: MonteCarlo(denoiser, likelihood, generators, draws)
    posterior: ConditionalMean | Denoiser
    if guidance.method == "prior":
        posterior = denoiser
    elif guidance.method == "control":
        posterior = build_control(case, problem, device)
    elif guidance.method == "dps":
        posterior = DPS(denoiser, likelihood, _own(guidance.step), guidance.zeta)
    elif guidance.method == "loss":
        loss = LOSSES[_own(guidance.loss)]
        posterior = LossGuidance(denoiser, lambda x_0: loss(observed.misfit(x_0)), _own(guidance.scale))
    elif guidance.method == "pigdm":
        posterior = PiGDM(denoiser, observed, math.inf)  # r_t = s: no prior is so wide that the step overshoots
    elif guidance.method == "moments":
        inner, steps = InnerSolve(iterations=60, reduction=1e-3), 1 if observed.linear else 2
        posterior = MomentMatching(denoiser, observed, inner, steps)
    else:
        posterior = DiffPIR(denoiser, observed)
    return lambda generators: posterior


def sigma_data(problem: Problem) -> float:
    """Standard deviation of the prior's x at a cell, from 64 draws: white models of the denoiser's error take it."""
    ny, nx = problem.grid.shape
    a = problem.prior.law.sample(64, torch.Generator().manual_seed(0), torch.float64)
    x = problem.prior.parametrisation.inverse(a)[..., :ny, :nx]
    return float((x - x.mean(dim=0)).square().mean().sqrt())


def _start(guidance: GuidanceSection, problem: Problem, device: torch.device) -> Start | None:
    section, grid = guidance.start, problem.grid
    if section is None:
        return None
    a = torch.as_tensor(Expression(str(section.a))(*grid.mesh()), dtype=torch.float32, device=device)
    x = problem.prior.parametrisation.inverse(a.expand(1, *grid.shape))
    return Start(x.flatten(1), section.s, section.by)
