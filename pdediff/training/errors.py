"""Held-out denoising errors of a trained network, level by level, and the error law measured from them."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pdediff.denoisers.calibration import FLOOR, CalibratedErrors, interpolate, locate
from pdediff.denoisers.grid_operator import GridOperatorDenoiser

LEVELS = 19
NODES = 41
S_MIN, S_MAX = 0.05, 200.0


@torch.no_grad()
def measure_errors(
    denoiser: GridOperatorDenoiser,
    draw: Callable[[int], Tensor],
    generator: torch.Generator,
    count: int = 256,
    batch: int = 32,
) -> tuple[CalibratedErrors, list[dict[str, Any]]]:
    """Denoise `count` functions at 19 noise levels.

    Returns the calibrated error law, and for the card a row per level: s and the mean square error (a list of one for
    each channel, if there are several).
    """
    s_levels = torch.logspace(math.log10(S_MIN), math.log10(S_MAX), LEVELS, dtype=torch.float64)
    first = draw(batch).double().cpu()
    mean, sigma_data = (
        torch.as_tensor(v, dtype=torch.float64).expand(first.shape[1])
        for v in (denoiser.preconditioning.mean, denoiser.preconditioning.sigma_data)
    )
    low = torch.maximum(first.amin(dim=(0, 2, 3)), mean - 3 * sigma_data)
    high = torch.minimum(first.amax(dim=(0, 2, 3)), mean + 3 * sigma_data)
    nodes = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, NODES, dtype=torch.float64)
    tables, spectra, rows = [], [], []
    for s in s_levels.tolist():
        pairs = []
        for _ in range(max(1, count // batch)):
            x_0 = draw(batch)
            g = torch.randn(x_0.shape, generator=generator).to(x_0)
            prediction = denoiser.denoise(x_0 + s * g, torch.full((batch,), s, device=x_0.device, dtype=x_0.dtype))
            pairs.append((prediction.double().cpu(), (x_0 - prediction).double().cpu()))
        prediction, error = (torch.cat(part) for part in zip(*pairs, strict=True))
        channels = list(zip(prediction.unbind(1), error.unbind(1), nodes, sigma_data**2, strict=True))
        table = torch.stack([tabulate(p, e.square(), n).clamp(min=FLOOR * float(v)) for p, e, n, v in channels])
        deviation = [interpolate(p, n, v).sqrt() for (p, _, n, _), v in zip(channels, table, strict=True)]
        tables.append(table)
        spectra.append(cosine_spectrum(correlation(error, torch.stack(deviation, dim=1))))
        mse = [float(f"{float(e.square().mean()):.4g}") for _, e, _, _ in channels]
        rows.append({"s": round(s, 4), "mse": mse[0] if len(mse) == 1 else mse})
    return CalibratedErrors(s_levels, nodes, torch.stack(tables), torch.stack(spectra).float()), rows


def tabulate(prediction: Tensor, square: Tensor, nodes: Tensor) -> Tensor:
    """Mean of `square` as a piecewise-linear function of `prediction`: hat-weighted means at the nodes (K,).

    A node that few predictions come near is drawn towards the overall mean by a prior count of ten.
    """
    left, weight = (v.flatten() for v in locate(prediction, nodes))
    sums = torch.full((len(nodes),), 10.0 * float(square.mean()), dtype=square.dtype)
    counts = torch.full_like(sums, 10.0)
    for index, w in ((left, 1 - weight), (left + 1, weight)):
        sums.scatter_add_(0, index, w * square.flatten())
        counts.scatter_add_(0, index, w)
    return sums / counts


def correlation(error: Tensor, deviation: Tensor) -> Tensor:
    """The stationary isotropic correlation K that fits errors with given pointwise standard deviations best.

    Least squares over all pairs of points, Σ (e_i e_j − d_i d_j K(i − j))², gives K as the autocorrelation of d·e over
    that of d²: points that are certain have no say. Pairs at equal distance are pooled, and K is led to zero at the
    length of the domain.

    Parameters
    ----------
    error, deviation: (N, channels, ny, nx).

    Returns
    -------
    K at lags (0..ny−1, 0..nx−1): (channels, ny, nx), 1 at lag zero.

    """
    ny, nx = error.shape[-2:]
    lag = torch.hypot(torch.arange(ny)[:, None] / ny, torch.arange(nx)[None] / nx)
    ring = (lag * max(ny, nx)).round().long().flatten()
    pooled = []
    for field in (deviation * error, deviation.square()):
        power = torch.fft.rfft2(field, s=(2 * ny, 2 * nx)).abs().square().sum(dim=0)
        lags = torch.fft.irfft2(power, s=(2 * ny, 2 * nx))
        quadrants = lags + lags.flip(-1).roll(1, -1)  # both signs of the lag in x
        sums = quadrants.new_zeros(lags.shape[0], int(ring.max()) + 1)
        pooled.append(sums.index_add(-1, ring, quadrants[:, :ny, :nx].flatten(-2)))
    profile = pooled[0] / pooled[1].clamp(min=1e-30)
    taper = 0.5 + 0.5 * torch.cos(math.pi * lag.clamp(max=1))
    return (profile / profile[:, :1])[:, ring].unflatten(-1, (ny, nx)) * taper


def cosine_spectrum(kernel: Tensor) -> Tensor:
    """Eigenvalues in the cosine basis of the even stationary kernel (channels, ny, nx), not negative."""
    ny, nx = kernel.shape[-2:]
    transforms = []
    for n in (ny, nx):
        k = torch.arange(n, dtype=kernel.dtype, device=kernel.device)
        weight = torch.where(k == 0, 1.0, 2.0)  # a lag and its opposite
        transforms.append(torch.cos(math.pi * k[:, None] * k / n) * weight)
    spectrum = transforms[0] @ kernel @ transforms[1].T
    return spectrum.clamp(min=1e-3 * float(kernel.abs().max()))
