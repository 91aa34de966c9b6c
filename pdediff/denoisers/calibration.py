"""A measured Gaussian model of the denoising error x_0 − D(x_t, t).

For a Gaussian prior the error's covariance is known. For a trained network we measure it on held-out functions, as

    C = S K_s S,        S = diag(√v_s(D)).

v_s(D) is the pointwise variance as a function of the predicted value, tabulated at each noise level: a field of two
phases is uncertain where the prediction lies between them (for x_0 = ±1 and a perfect network v = 1 − D²), and nowhere
else. K_s is a stationary correlation, fitted to the errors and diagonal in the cosine basis (a field mirrored at the
walls). White noise w then gives a draw L w = S Q diag(√spectrum) w at the cost of one fast transform; S is scaled so
that the pointwise variance of L w is v_s(D) everywhere, although mirroring raises that of Q diag(√spectrum) w at walls.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.base import ErrorLaw

FLOOR = 1e-6  # smallest pointwise variance, relative to the data's: a certain pixel may still turn out wrong

INFLATION = 1.4
"""Factor on the measured standard deviation. The error is not Gaussian, and the loop's own x_t is not quite a noised
draw of the prior, so the measured law is too sure of itself: without the factor samples miss the data. Ensemble Kalman
filters inflate their covariance for the same reason (Anderson & Anderson 1999). Laws in closed form need none."""


@dataclass(frozen=True)
class CalibratedErrors:
    """Denoising errors measured at a ladder of noise levels.

    Parameters
    ----------
    s: noise-to-signal ratios (L,), increasing.
    nodes: predicted values (channels, K), increasing and evenly spaced, at which the variance is tabulated.
    variance: pointwise variance of the error at each level and node (L, channels, K).
    spectrum: eigenvalues of K_s in the cosine basis (L, channels, ny, nx).

    """

    s: Tensor
    nodes: Tensor
    variance: Tensor
    spectrum: Tensor

    def law(self, x_0: Tensor, s: float) -> "CosineErrorLaw":
        """Law of the error about predictions x_0 (B, D) at ratio s.

        Between measured levels ln variance and the spectrum are linear in ln s; beyond them they are those of the last
        level.
        """
        log_s = self.s.log()
        position = torch.log(torch.as_tensor(s, dtype=self.s.dtype)).clamp(log_s[0], log_s[-1])
        upper = int(torch.searchsorted(log_s, position).clamp(1, len(log_s) - 1))
        weight = float((position - log_s[upper - 1]) / (log_s[upper] - log_s[upper - 1]))
        spectrum = torch.lerp(self.spectrum[upper - 1], self.spectrum[upper], weight).to(x_0)
        table = torch.lerp(self.variance[upper - 1].log(), self.variance[upper].log(), weight).exp().to(x_0)
        unit = torch.stack([CosineField(c.shape, c).pointwise_variance() for c in spectrum]).to(x_0)
        channels = x_0.unflatten(-1, (len(spectrum), -1)).unbind(-2)
        parts = [interpolate(x, n, v) for x, n, v in zip(channels, self.nodes, table, strict=True)]
        deviation = INFLATION * (torch.stack(parts, dim=-2) / unit.flatten(1)).sqrt()
        return CosineErrorLaw(deviation.flatten(-2), spectrum.sqrt())


@dataclass(frozen=True)
class CosineErrorLaw(ErrorLaw):
    """C = S Q diag(root²) Qᵀ S, Q the cosine basis: `deviation` (B, D) is S, `root_spectrum` (channels, ny, nx)."""

    deviation: Tensor
    root_spectrum: Tensor

    @property
    def dimension(self) -> int:
        """K = D."""
        return self.deviation.shape[-1]

    def root(self, w: Tensor) -> Tensor:
        """L w = S Q diag(root) w: (..., B, D) -> (..., B, D)."""
        field = CosineField.from_basis(self.root_spectrum * self._as_fields(w))
        return self.deviation * field.flatten(-3)

    def root_transposed(self, v: Tensor) -> Tensor:
        """Lᵀ v = diag(root) Qᵀ S v: (..., B, D) -> (..., B, D)."""
        field = self._as_fields(self.deviation * v)
        return (self.root_spectrum * CosineField.to_basis(field)).flatten(-3)

    def marginal(self, part: slice) -> "CosineErrorLaw":
        """The law of one or several whole channels."""
        points = self.root_spectrum.shape[-2:].numel()
        start, stop, _ = part.indices(self.dimension)
        return CosineErrorLaw(self.deviation[..., part], self.root_spectrum[start // points : stop // points])

    def _as_fields(self, v: Tensor) -> Tensor:
        return v.unflatten(-1, self.root_spectrum.shape)


def interpolate(values: Tensor, nodes: Tensor, table: Tensor) -> Tensor:
    """Linear interpolation of a table on evenly spaced nodes, constant beyond them."""
    left, weight = locate(values, nodes)
    return torch.lerp(table[left], table[left + 1], weight)


def locate(values: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of evenly spaced nodes that holds each value, and the place in it between 0 and 1."""
    place = (values - float(nodes[0])) * (len(nodes) - 1) / float(nodes[-1] - nodes[0])
    place = place.clamp(0, len(nodes) - 1)
    left = place.floor().clamp(max=len(nodes) - 2)
    return left.long(), place - left
