"""Exponential moving average of weights."""

import torch
from torch import Tensor, nn


class ExponentialAverage:
    """Average of a network's floating-point parameters and buffers.

    The decay at step k is min(decay, (1 + k)/(10 + k)): early averages forget the initial weights quickly.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network's present weights; step counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)
