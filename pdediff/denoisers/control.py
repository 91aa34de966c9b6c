"""A condition for a denoiser that never had one: ControlNet's branch on a frozen network (Zhang, Rao & Agrawala 2023).

The prior's U-Net F stays as it is. Beside its encoder stands a second one, the branch, that sees the same noisy field
and an image c of what is known (sensor readings, a mask, another field). Each of its features enters the frozen decoder
through a 1 × 1 convolution Z_i that starts at zero,

    skip_i ← skip_i + Z_i(h_i(c_in x, c, s)),

so that an untrained branch is the frozen denoiser exactly, and training, which moves the branch alone, starts from the
prior and not from nothing. The branch learns E[x_0 | x_t, c] by the prior's own loss (eq. 51) on functions whose c is
known. Without a condition the branch is not asked at all: D(x_t, t, condition=None) is the prior, for ever, and the
pair (None, c) is what classifier-free weighting wants (`guidance.classifier_free`).

Where ControlNet copies the encoder with its weights, this branch has the encoder's layers at a smaller width, and
weights of its own: a copy of the shipped prior's encoder has 1.9 million parameters, the default branch 0.53.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdediff.denoisers.base import ErrorLaw
from pdediff.denoisers.grid_operator import GridOperatorDenoiser
from pdediff.denoisers.unet import NoiseEmbedding, ResidualBlock, SelfAttention, UNet
from pdediff.schedules import Schedule
from pdediff.spaces import FunctionSpace


class ControlBranch(nn.Module):
    """From a noisy field and a condition to a correction of each skip of a U-Net, and of its middle.

    Parameters
    ----------
    network: the U-Net to be steered; only its shape is used.
    conditions: channels C of the condition image.
    widths: channels of the branch at each level of the U-Net, finest first.

    Raises
    ------
    ValueError: another number of widths than the U-Net has levels.

    """

    def __init__(self, network: UNet, conditions: int, widths: Sequence[int] = (32, 64, 64)) -> None:
        super().__init__()
        halvings = sum(isinstance(layer, nn.Conv2d) for layer in network.down)
        if len(widths) != halvings + 1:
            raise ValueError(f"a U-Net of {halvings + 1} levels needs as many widths of its branch, not {len(widths)}")
        self.patch, self.conditions = network.patch, conditions
        width = 4 * widths[0]
        self.embedding = NoiseEmbedding(width)
        inputs = network.first.in_channels + conditions * self.patch**2
        self.first = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.down, self.enter = nn.ModuleList(), nn.ModuleList([_zero(widths[0], network.first.out_channels)])
        level, current = 0, widths[0]
        for layer in network.down:
            if isinstance(layer, ResidualBlock):
                self.down.append(ResidualBlock(current, widths[level], width))
                frozen = layer.conv_2.out_channels
            elif isinstance(layer, nn.Conv2d):
                level += 1
                self.down.append(nn.Conv2d(current, widths[level], 3, stride=2, padding=1))
                frozen = layer.out_channels
            current = widths[level]
            self.enter.append(_zero(current, frozen))
        self.middle = nn.ModuleList([ResidualBlock(current, current, width), ResidualBlock(current, current, width)])
        self.attention = SelfAttention(current)
        self.enter.append(_zero(current, frozen))

    def forward(self, x: Tensor, c_noise: Tensor, condition: Tensor) -> list[Tensor]:
        """Corrections of the skips, first to last, and of the middle.

        x is the scaled field (B, channels, ny, nx) that the network sees, c_noise (B,), condition (B, C, ny, nx).
        """
        _, features = _encode(self, torch.cat([x, condition], dim=1), c_noise)
        return [enter(feature) for enter, feature in zip(self.enter, features, strict=True)]


class SteeredUNet(nn.Module):
    """F(x, c_noise) of a frozen U-Net, corrected by a branch for one condition (B, C, ny, nx)."""

    def __init__(self, network: UNet, branch: ControlBranch, condition: Tensor) -> None:
        super().__init__()
        self.network, self.branch, self.condition = network, branch, condition

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Evaluate on scaled fields x (B, channels, ny, nx) at noise levels c_noise (B,): same shape as x."""
        network = self.network
        embedding, features = _encode(network, x, c_noise)
        corrections = self.branch(x, c_noise, self.condition)
        *skips, h = (feature + extra for feature, extra in zip(features, corrections, strict=True))
        for layer in network.up:
            h = layer(torch.cat([h, skips.pop()], dim=1), embedding) if isinstance(layer, ResidualBlock) else layer(h)
        return functional.pixel_shuffle(network.last(functional.silu(network.norm(h))), network.patch)


@dataclass
class ControlledDenoiser:
    """E[x_0 | x_t, c]: a frozen denoiser and a branch that tells it of c.

    Parameters
    ----------
    denoiser: the frozen prior, with a `UNet`.
    branch: the trained branch.

    """

    denoiser: GridOperatorDenoiser
    branch: ControlBranch

    def __call__(
        self, x_t: Tensor, t: Tensor | float, query: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """E[x_0 | x_t, condition]: (B, D) -> (B, D); without a condition exactly the frozen denoiser.

        The condition is an image (B, C, ny, nx) on the denoiser's grid, or (1, C, ny, nx) for all rows. Raises
        ValueError for a condition of another shape, and for query points.
        """
        if query is not None:
            raise ValueError("a controlled denoiser answers on its grid, not at query points")
        if condition is None:
            return self.denoiser(x_t, t)
        return self.given(condition.expand(len(x_t), -1, -1, -1))(x_t, t)

    def given(self, condition: Tensor) -> GridOperatorDenoiser:
        """The denoiser of x_0 given a condition (B, C, ny, nx), for batches of B rows. Raises ValueError as above."""
        wanted = (self.branch.conditions, *self.space.shape)
        if condition.shape[1:] != wanted:
            raise ValueError(f"the condition has shape {tuple(condition.shape)}, the branch wants (B, *{wanted})")
        network = self.denoiser.network
        assert isinstance(network, UNet)
        return replace(self.denoiser, network=SteeredUNet(network, self.branch, condition.float()))

    @property
    def space(self) -> FunctionSpace:
        """The space of x_0."""
        return self.denoiser.space

    @property
    def schedule(self) -> Schedule:
        """The schedule in which t is given."""
        return self.denoiser.schedule

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The frozen prior's: what is known of a function does not take it outside."""
        return self.denoiser.bounds

    @property
    def noise_range(self) -> tuple[float, float]:
        """The frozen prior's."""
        return self.denoiser.noise_range

    def error_law(self, x_0: Tensor, t: float) -> ErrorLaw:
        """The frozen prior's law about predictions x_0 (B, D).

        Its variance follows the predicted value, so it shrinks where the branch has settled a value; its correlation
        length is that of errors without a condition, which is too long where sensors are dense.
        """
        return self.denoiser.error_law(x_0, t)


def sensor_map(values: Tensor, mask: Tensor) -> Tensor:
    """The condition image of fields seen in some cells: [values·mask, mask] (B, 2·channels, ny, nx).

    values (B, channels, ny, nx) are read where mask, of the same shape, is 1 (or True); elsewhere they do not matter.
    """
    seen = mask.to(values.dtype)
    return torch.cat([torch.where(mask.bool(), values, 0.0), seen], dim=1)


def _encode(network: UNet | ControlBranch, image: Tensor, c_noise: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The embedded noise level, and the features of an encoder: its skips, first to last, and its middle."""
    embedding = network.embedding(c_noise)
    h = network.first(functional.pixel_unshuffle(image, network.patch).contiguous(memory_format=torch.channels_last))
    features = [h]
    for layer in network.down:
        h = layer(h, embedding) if isinstance(layer, ResidualBlock) else layer(h)
        features.append(h)
    h = network.middle[0](h, embedding)
    return embedding, [*features, network.middle[1](network.attention(h), embedding)]


def _zero(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1 × 1 convolution that starts at zero."""
    layer = nn.Conv2d(inputs, outputs, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
