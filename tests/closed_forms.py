"""Problems whose posterior is known in closed form, for the tests of every method.

`gaussian_problem`: a Gaussian prior and linear data with Gaussian noise. The posterior N(mu, P) is dense algebra. If n
draws z are exact, ε = P^{−1/2}(z − mu) is standard normal in all D directions, and (`statistics`)

    (n |mean ε|² − D)/√(2D)              has mean 0 and standard deviation 1 (χ² with D degrees of freedom),
    (mean ε² − 1)/√(2/(n D))             the same: a posterior that is too narrow or too wide by 1 % shows,
    n ‖mean ε εᵀ − I‖²/(D (D + 1))       has mean 1 and standard deviation 2/D.

`mixture_posterior`: a mixture of Gaussians and linear data. The posterior is a mixture of the components' posteriors,
weighted by how well each explains the data.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.spaces import FunctionSpace


@dataclass(frozen=True)
class LinearisedMisfit:
    """r = H x − y and its derivative H, in units of sigma."""

    residual: Tensor
    operator: Tensor

    def tangent(self, dzeta):
        return dzeta @ self.operator.T

    def adjoint(self, data):
        return data @ self.operator


@dataclass(frozen=True)
class LinearLikelihood:
    """y = H x + e, e ~ N(0, I): operator (m, D), data (m,) or (B, m), a row for each sample; in units of sigma."""

    operator: Tensor
    y: Tensor
    linear: bool = True

    @property
    def size(self):
        return len(self.operator)

    def log_prob(self, x_0):
        return -0.5 * (x_0 @ self.operator.to(x_0).T - self.y.to(x_0)).square().sum(dim=-1)

    def linearise(self, zeta, tolerance, near=None):
        operator = self.operator.to(zeta)
        return LinearisedMisfit(zeta @ operator.T - self.y.to(zeta), operator)


@dataclass(frozen=True)
class GaussianProblem:
    """Prior, data and exact posterior N(mu, P), P = factor factorᵀ."""

    denoiser: GaussianDenoiser
    likelihood: LinearLikelihood
    prior: Tensor
    truth: Tensor
    mu: Tensor
    covariance: Tensor

    def whiten(self, z):
        """ε = P^{−1/2}(z − mu): (n, D)."""
        factor = torch.linalg.cholesky(self.covariance)
        return torch.linalg.solve_triangular(factor, (z.double() - self.mu).T, upper=False).T

    def statistics(self, z):
        """The three numbers of the module's docstring for draws z (n, D)."""
        epsilon = self.whiten(z)
        n, d = epsilon.shape
        mean = (n * epsilon.mean(0).square().sum() - d) / (2 * d) ** 0.5
        width = (epsilon.square().mean() - 1) / (2 / (n * d)) ** 0.5
        second = epsilon.T @ epsilon / n - torch.eye(d, dtype=epsilon.dtype)
        return float(mean), float(width), float(n * second.square().sum() / (d * (d + 1)))

    def assert_exact(self, z, deviations=4.0):
        """Mean, width and covariance of draws z (n, D) are the posterior's, to `deviations` of Monte-Carlo error."""
        mean, width, second = self.statistics(z)
        assert abs(mean) < deviations
        assert abs(width) < deviations
        assert abs(second - 1) < deviations * 2 / z.shape[1]


def gaussian_problem(shape=(8, 8), points=6, averages=6, sigma=0.05, mean=0.0, seed=0, spectrum=None, **denoiser):
    """Data of one draw of N(mean, C): `points` values and `averages` with random weights, of noise sigma.

    C has the eigenvalues 20/(1 + |k|²)^1.5 in cosines unless a `spectrum` (ny, nx) is given (a constant one is a white
    prior). Further arguments go to the `GaussianDenoiser`.
    """
    d = shape[0] * shape[1]
    if spectrum is None:
        k2 = torch.arange(float(shape[0]))[:, None] ** 2 + torch.arange(float(shape[1])) ** 2
        spectrum = 20 / (1 + k2) ** 1.5
    field = CosineField(shape, torch.as_tensor(spectrum, dtype=torch.float64))
    dense = field.apply(torch.eye(d, dtype=torch.float64).reshape(d, *shape)).reshape(d, d)
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.eye(d, dtype=torch.float64)[torch.randperm(d, generator=generator)[:points]]]
    rows.append(torch.randn(averages, d, generator=generator, dtype=torch.float64) / d**0.5)
    operator = torch.cat(rows) / sigma
    truth = mean + field.sample(1, generator, torch.float64).flatten()
    y = operator @ truth + torch.randn(points + averages, generator=generator, dtype=torch.float64)
    mu, posterior = condition_gaussian(torch.full((d,), float(mean), dtype=torch.float64), dense, operator, y)
    prior = GaussianDenoiser(field, FunctionSpace(("x",), shape), mean=mean, **denoiser)
    return GaussianProblem(prior, LinearLikelihood(operator, y), dense, truth, mu, posterior)


def condition_gaussian(mean, covariance, operator, y):
    """Mean (D,) and covariance (D, D) of N(mean, covariance) given y = operator x + e, e ~ N(0, I)."""
    innovation = operator @ covariance @ operator.T + torch.eye(len(operator), dtype=operator.dtype)
    gain = torch.linalg.solve(innovation, operator @ covariance).T
    posterior = covariance - gain @ operator @ covariance
    return mean + gain @ (y - operator @ mean), (posterior + posterior.T) / 2


def mixture_posterior(weights, means, covariances, operator, y):
    """Weights (K,), means (K, D), covariances (K, D, D) of a Gaussian mixture given y = operator x + e, e ~ N(0, I)."""
    conditioned = [condition_gaussian(m, c, operator, y) for m, c in zip(means, covariances, strict=True)]
    log_evidence = []
    for m, c in zip(means, covariances, strict=True):
        innovation = operator @ c @ operator.T + torch.eye(len(operator), dtype=operator.dtype)
        law = torch.distributions.MultivariateNormal(operator @ m, innovation)
        log_evidence.append(law.log_prob(y))
    posterior = torch.softmax(weights.log() + torch.stack(log_evidence), dim=0)
    return posterior, torch.stack([m for m, _ in conditioned]), torch.stack([c for _, c in conditioned])
