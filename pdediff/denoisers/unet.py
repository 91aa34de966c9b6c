"""A small U-Net on a patched grid, sized for two CPU cores.

The field is cut into p × p patches whose pixels become channels (`pixel_unshuffle`): the convolutions then run on a
grid p times coarser, which is where a CPU spends its time well. Residual blocks are modulated by the noise level (a
scale and a shift of each normalised channel, as in adaptive group normalisation), and one self-attention at the
coarsest level sees the whole domain.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdediff.solvers.errors import InputError


class NoiseEmbedding(nn.Module):
    """Fourier features of c_noise = ln(s)/4, then two linear layers: (B,) -> (B, width)."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.arange(8) * math.pi / 2)
        self.layers = nn.Sequential(nn.Linear(17, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, c_noise: Tensor) -> Tensor:
        """Embed noise levels (B,) as (B, width)."""
        angle = c_noise[:, None] * self.frequencies
        return self.layers(torch.cat([c_noise[:, None], angle.sin(), angle.cos()], dim=1))


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, modulated norm, SiLU, conv, plus the input; the last convolution starts at zero."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(_groups(inputs), inputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * outputs)
        self.norm_2 = nn.GroupNorm(_groups(outputs), outputs, affine=False)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, inputs, y, x) to (B, outputs, y, x) at the noise level embedded in (B, width)."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        r = self.conv_1(functional.silu(self.norm_1(h)))
        r = torch.addcmul(shift, self.norm_2(r), 1 + scale)
        return self.skip(h) + self.conv_2(functional.silu(r))


class SelfAttention(nn.Module):
    """Multi-head self-attention over the grid points of one level, added to its input.

    Heads are `head_width` channels wide, or the next wider that divide the channels.
    """

    def __init__(self, channels: int, head_width: int = 32) -> None:
        super().__init__()
        self.heads = next(heads for heads in range(max(1, channels // head_width), 0, -1) if channels % heads == 0)
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, channels, y, x) to the same shape."""
        b, c, ny, nx = h.shape
        q, k, v = self.qkv(self.norm(h)).reshape(b, 3, self.heads, c // self.heads, ny * nx).transpose(-1, -2).unbind(1)
        r = functional.scaled_dot_product_attention(q, k, v)
        return h + self.project(r.transpose(-1, -2).reshape(b, c, ny, nx))


class UNet(nn.Module):
    """F(c_in·x_t, c_noise): (B, channels, ny, nx) -> (B, channels, ny, nx).

    Parameters
    ----------
    channels: fields in and out.
    patch: pixels per patch side; ny and nx must be divisible by `patch · 2^(levels − 1)`.
    widths: channels of each level, finest first.
    blocks: residual blocks per level on the way down (one more on the way up).
    attention: whether the coarsest level has self-attention.

    Raises
    ------
    InputError: when evaluated on a grid that is not so divisible.

    """

    def __init__(
        self,
        channels: int = 1,
        patch: int = 2,
        widths: tuple[int, ...] = (48, 96, 160),
        blocks: int = 2,
        attention: bool = True,
    ) -> None:
        super().__init__()
        self.patch, self.divisor = patch, patch * 2 ** (len(widths) - 1)
        width = 4 * widths[0]
        self.embedding = NoiseEmbedding(width)
        self.first = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        current, skips = widths[0], [widths[0]]
        for level, w in enumerate(widths):
            if level:
                self.down.append(nn.Conv2d(current, w, 3, stride=2, padding=1))
                current = w
                skips.append(w)
            for _ in range(blocks):
                self.down.append(ResidualBlock(current, w, width))
                current = w
                skips.append(w)
        self.middle = nn.ModuleList([ResidualBlock(current, current, width), ResidualBlock(current, current, width)])
        self.attention = SelfAttention(current) if attention else nn.Identity()
        for level, w in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(ResidualBlock(current + skips.pop(), w, width))
                current = w
            if level:
                self.up.append(nn.Upsample(scale_factor=2, mode="nearest"))
        self.norm = nn.GroupNorm(_groups(current), current)
        self.last = nn.Conv2d(current, channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Evaluate the network on scaled fields x (B, channels, ny, nx) at noise levels c_noise (B,)."""
        check_divisible((x.shape[-2], x.shape[-1]), self.divisor)
        embedding = self.embedding(c_noise)
        h = self.first(functional.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last))
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding) if isinstance(layer, ResidualBlock) else layer(h)
            skips.append(h)
        h = self.middle[0](h, embedding)
        h = self.middle[1](self.attention(h), embedding)
        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], dim=1), embedding) if isinstance(layer, ResidualBlock) else layer(h)
        return functional.pixel_shuffle(self.last(functional.silu(self.norm(h))), self.patch)


def check_divisible(shape: tuple[int, int], divisor: int) -> None:
    """Raise InputError unless a grid of shape (ny, nx) can be cut into patches and halved from level to level."""
    if shape[0] % divisor or shape[1] % divisor:
        raise InputError(
            f"a grid of {shape[0]} × {shape[1]} cells does not fit the U-Net: both must be divisible by {divisor}, "
            f"its patch · 2^(levels − 1)"
        )


def _groups(channels: int) -> int:
    return math.gcd(8, channels)
