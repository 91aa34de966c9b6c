"""Laws of the Gaussian noise g in x_t = alpha_t x_0 + sigma_t g (eq. 49).

A law draws g from an injected generator and knows its covariance C, which guidance needs: the posterior mean moves by
(sigma_t²/alpha_t) C ∇ log p(y | x_t). Every law has unit pointwise variance, so that sigma_t means what it says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pdediff.datasets.seeds import sample_seed


class NoiseLaw(Protocol):
    """A centred Gaussian law on flattened functions (B, D)."""

    def sample(self, generators: "Generators", dimension: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Draw g: (B, dimension)."""
        ...

    def covariance(self, v: Tensor) -> Tensor:
        """Apply C to v (B, D)."""
        ...


class Generators:
    """One random generator per sample, so that a sample's noise does not depend on the batch it is drawn in.

    Parameters
    ----------
    seed: seed of the run.
    indices: the samples' numbers in the run; sample i always draws the same numbers, and no two samples of a run do.
    device: where numbers are drawn. Drawing on the CPU (default) and moving makes runs agree across devices.

    """

    def __init__(self, seed: int, indices: Sequence[int], device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.generators = [torch.Generator(self.device).manual_seed(sample_seed(seed, index)) for index in indices]

    def __len__(self) -> int:
        return len(self.generators)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
        """Standard normal numbers (B, *shape), row i from generator i."""
        rows = [torch.randn(shape, generator=g, dtype=dtype, device=self.device) for g in self.generators]
        return torch.stack(rows).to(device or self.device)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
        """Numbers (B, *shape) evenly distributed in [0, 1), row i from generator i."""
        rows = [torch.rand(shape, generator=g, dtype=dtype, device=self.device) for g in self.generators]
        return torch.stack(rows).to(device or self.device)


@dataclass(frozen=True)
class WhiteNoise:
    """Independent standard normal values at every point of the grid: C = I."""

    def sample(self, generators: Generators, dimension: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Draw g: (B, dimension)."""
        return generators.normal(dimension, dtype=dtype, device=device)

    def covariance(self, v: Tensor) -> Tensor:
        """C v = v."""
        return v
