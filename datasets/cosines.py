"""Orthonormal cosine transform of fields, in torch, on any device.

The basis of one axis of n cells is q_k(i) = c_k cos(π k (2i + 1)/(2n)), c_0 = √(1/n), c_k = √(2/n): the discrete
cosines whose normal derivative vanishes at both walls (DCT-II). Short axes are multiplied by the dense matrix, which is
faster than a transform; long ones go through a real FFT of the same length, with the even entries in order followed by
the odd ones in reverse (Makhoul, 1980):

    v = (x_0, x_2, …, x_3, x_1),   W_k = c_k e^{−iπk/(2n)} FFT(v)_k,   X_k = Re W_k,   X_{n−k} = −Im W_k.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

DENSE = 160  # cells: up to here the matrix product is the faster one (measured on a CPU, float32, batches of fields)


def to_cosines(x: Tensor) -> Tensor:
    """Coefficients Qᵀ x of fields x (..., ny, nx): same shape, entry (k_y, k_x)."""
    return _forward(_forward(x).mT).mT.contiguous()


def from_cosines(c: Tensor) -> Tensor:
    """Fields Q c of coefficients c (..., ny, nx); the inverse, and the adjoint, of `to_cosines`."""
    return _backward(_backward(c).mT).mT.contiguous()


@lru_cache(maxsize=32)
def cosine_matrix(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal basis (n, n): column k is q_k. Kept, so not to be written to."""
    with torch.inference_mode(False):  # a kept tensor must serve autograd too
        i, k = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
        basis = math.sqrt(2 / n) * torch.cos(math.pi * k * (2 * i + 1) / (2 * n))
        basis[:, 0] = math.sqrt(1 / n)
        return basis.to(device, dtype)


@lru_cache(maxsize=32)
def _twiddle(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """c_k e^{−iπk/(2n)}, k = 0 … n/2."""
    with torch.inference_mode(False):
        k = torch.arange(n // 2 + 1, dtype=torch.float64)
        twiddle = torch.polar(torch.full_like(k, math.sqrt(2 / n)), -math.pi * k / (2 * n))
        twiddle[0] = math.sqrt(1 / n)
        return twiddle.to(device, dtype.to_complex())


def _forward(x: Tensor) -> Tensor:
    """Transform the last axis."""
    n = x.shape[-1]
    if n <= DENSE:
        return x @ cosine_matrix(n, x.dtype, x.device)
    v = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)
    w = torch.fft.rfft(v) * _twiddle(n, x.dtype, x.device)
    return torch.cat([w.real, -w.imag[..., 1 : (n + 1) // 2].flip(-1)], dim=-1)


def _backward(c: Tensor) -> Tensor:
    """Transform the last axis back."""
    n = c.shape[-1]
    if n <= DENSE:
        return c @ cosine_matrix(n, c.dtype, c.device).T
    half = n // 2 + 1
    mirrored = torch.cat(
        [torch.zeros_like(c[..., :1]), c[..., n - half + 1 :].flip(-1)], dim=-1
    )  # c_{n−k}, and c_n = 0
    v = torch.fft.irfft(torch.complex(c[..., :half], -mirrored) / _twiddle(n, c.dtype, c.device), n=n)
    middle = (n + 1) // 2
    x = torch.empty_like(c)
    x[..., ::2], x[..., 1::2] = v[..., :middle], v[..., middle:].flip(-1)
    return x
