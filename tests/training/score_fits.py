"""Score models whose best parameters are found exactly, and the mixture whose score they are to recover.

A model s(x) = φ(x) W is linear in W, so every objective is a quadratic in W and its minimiser on a sample is found by
conjugate gradients: what error remains is due to the sample and the features φ, not to an optimiser.
"""

import torch

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.mixture import GaussianMixtureDenoiser
from pdediff.schedules import VESchedule, noise_to_signal
from pdediff.spaces import FunctionSpace

N = 20_000  # examples
BUMPS, LEVELS = 60, 7


def mixture(d=2):
    """Three overlapping Gaussians in the plane, or two on the line."""
    laws = [((-1.2, 0.5), (0.3, 0.6)), ((1.2, 1.0), (0.5, 0.2)), ((0.5, -1.2), (0.4, 0.4))][: d + 1]
    space = FunctionSpace(("x",), (1, d))
    components = [
        GaussianDenoiser(CosineField((1, d), torch.tensor([c[:d]])), space, torch.tensor([m[:d]]), VESchedule())
        for m, c in laws
    ]
    return GaussianMixtureDenoiser(tuple(components), torch.tensor([0.3, 0.4, 0.3][: d + 1]))


def exact(model, x, s=0.0):
    """∇ ln of the density of x_0 + s g at x, differentiable; s a number or (B,)."""
    x = x if x.requires_grad else x.detach().requires_grad_()
    return torch.autograd.grad(model.log_evidence(x, s).sum(), x, create_graph=True)[0]


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(seed, n=N):
    return mixture().sample(n, torch.Generator().manual_seed(seed), torch.float64)[0]


class CleanFeatures:
    """1, x and Gaussian bumps at draws from the mixture: (B, 2) -> (B, BUMPS + 3)."""

    def __init__(self):
        self.centres = sample(99, BUMPS)

    def __call__(self, x):
        bumps = torch.exp(-torch.cdist(x, self.centres).square() / 2)
        return torch.cat([torch.ones_like(x[:, :1]), x, bumps], dim=1)


class NoisyFeatures:
    """Those of x/√(1 + s²), interpolated linearly in ln s between LEVELS levels from s_min to s_max."""

    def __init__(self, s_min, s_max):
        self.clean, self.levels = CleanFeatures(), torch.linspace(s_min.log(), s_max.log(), LEVELS, dtype=torch.float64)

    def __call__(self, x, s):
        place = (s.log()[:, None] - self.levels) / (self.levels[1] - self.levels[0])
        hats = (1 - place.abs()).clamp(min=0)
        return (self.clean(x * (1 + s.square()).rsqrt()[:, None])[:, :, None] * hats[:, None]).flatten(1)


def whitening(phi, weight=1.0):
    """A with E weight (φA)ᵀ(φA) = I on the sample phi (N, F), without directions that it hardly has: (F, F')."""
    values, vectors = torch.linalg.eigh(phi.T @ (weight * phi) / len(phi))
    kept = values > 1e-6 * values.max()
    return vectors[:, kept] * values[kept].rsqrt()


def minimise(loss, count):
    """The W (count, 2) of the least mean of loss(W), a quadratic in W; by conjugate gradients on its gradient."""

    def gradient(w):
        w = w.clone().requires_grad_()
        return torch.autograd.grad(loss(w).mean(), w)[0]

    w = torch.zeros(count, 2, dtype=torch.float64)
    constant = gradient(w)
    residual = direction = -constant
    for _ in range(30):
        image = gradient(direction) - constant
        step = residual.square().sum() / (direction * image).sum()
        w, previous = w + step * direction, residual
        residual = residual - step * image
        if residual.norm() < 1e-4 * constant.norm():
            break
        direction = residual + residual.square().sum() / previous.square().sum() * direction
    return w


def fit_score(loss):
    """The score x -> s(x) that minimises loss(score) on `sample(0)`, or on what is near it."""
    phi = CleanFeatures()
    a = whitening(phi(sample(0)))
    w = minimise(lambda w: loss(lambda x: phi(x) @ (a @ w)), a.shape[1])
    return lambda x: phi(x) @ (a @ w)


def fit_epsilon(loss, schedule, t, epsilon, weight=1.0):
    """The ε-prediction (x_t, t) -> ε that minimises loss(epsilon_theta) on `sample(0)`, noised by `epsilon` at times t.

    It corrects the best linear prediction under N(0, I). `weight` (N, 1) is the one that the loss gives |ε − ε_θ|².
    """
    s = noise_to_signal(schedule, t)
    phi = NoisyFeatures(0.99 * s.min(), 1.01 * s.max())
    a = whitening(phi(sample(0) + s[:, None] * epsilon, s), weight)

    def prediction(w):
        def epsilon_theta(x_t, t):
            s, x = noise_to_signal(schedule, t), x_t / schedule(t)[0][:, None]
            return (s / (1 + s.square()))[:, None] * x + phi(x, s) @ (a @ w)

        return epsilon_theta

    return prediction(minimise(lambda w: loss(prediction(w)), a.shape[1]))


def as_score(epsilon_theta, schedule):
    """s(x_t, t) = −ε_θ(x_t, t)/sigma_t (eq. 27)."""
    return lambda x_t, t: -epsilon_theta(x_t, t) / schedule(t)[1][:, None]


def error(score, s=0.0):
    """E|s − s*|²/E|s*|² of x -> s(x) under the mixture noised by s, on other draws than those of the fit."""
    x = sample(1) + s * normal(N, 2, seed=2)
    expected = exact(mixture(), x, s).detach()
    return float((score(x) - expected).square().sum() / expected.square().sum())


def error_at(epsilon_theta, schedule, s):
    """The same of an ε-prediction, at noise-to-signal ratio s: of the score −ε_θ/s of x_t/alpha_t."""
    t = schedule.time(torch.full((N,), s, dtype=torch.float64))
    return error(lambda x: -epsilon_theta(schedule(t)[0][:, None] * x, t) / s, s)
