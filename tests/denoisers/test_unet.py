"""The U-Net: shapes, the grids it takes, and that it starts as zero."""

import pytest
import torch

from pdediff.denoisers.unet import ResidualBlock, SelfAttention, UNet
from pdediff.solvers.errors import InputError


@pytest.mark.parametrize(
    ("channels", "patch", "widths", "blocks", "attention", "shape"),
    [
        (1, 2, (8, 16), 1, True, (8, 12)),
        (2, 1, (8,), 2, False, (5, 7)),
        (1, 4, (6, 10, 12), 1, True, (16, 32)),
        (3, 2, (8, 16, 16), 2, False, (16, 8)),
    ],
)
def test_maps_fields_to_fields(channels, patch, widths, blocks, attention, shape):
    """Same shape out as in, for any channels, patches and levels, on any grid they divide; zero before training."""
    network = UNet(channels, patch, widths, blocks, attention)
    x = torch.randn(2, channels, *shape, generator=torch.Generator().manual_seed(0))
    y = network(x, torch.tensor([0.1, -1.0]))
    assert y.shape == x.shape
    assert not y.any()
    torch.nn.init.normal_(network.last.weight)
    assert bool(network(x, torch.tensor([0.1, -1.0])).any())


def test_noise_level_modulates():
    """The same field at two noise levels gives two predictions."""
    torch.manual_seed(0)
    network = UNet(patch=2, widths=(8, 16), blocks=1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        y = network(torch.ones(2, 1, 8, 8), torch.tensor([0.1, -1.0]))
    assert float((y[0] - y[1]).abs().max()) > 1e-3


def test_attention_sees_the_whole_domain():
    """A change in one corner moves the prediction in the opposite one, further away than convolutions reach here."""
    torch.manual_seed(0)
    network = UNet(patch=1, widths=(8,), blocks=1).eval()
    without = UNet(patch=1, widths=(8,), blocks=1, attention=False).eval()
    for net in (network, without):
        for module in net.modules():  # group norms couple all points: take them out to see attention alone
            for name, child in module.named_children():
                if isinstance(child, torch.nn.GroupNorm):
                    setattr(module, name, torch.nn.Identity())
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    x = torch.zeros(1, 1, 40, 40)
    changed = x.clone()
    changed[..., 0, 0] = 10.0
    c_noise = torch.zeros(1)
    with torch.no_grad():
        moved, still = ((net(changed, c_noise) - net(x, c_noise))[..., -1, -1] for net in (network, without))
    assert bool(moved != 0)
    assert bool(still == 0)


@pytest.mark.parametrize(("shape", "divisor"), [((10, 8), 4), ((8, 6), 4), ((9, 9), 4)])
def test_grids_that_do_not_divide(shape, divisor):
    """A clear error and not one from deep inside a convolution."""
    network = UNet(patch=2, widths=(8, 16), blocks=1)
    with pytest.raises(InputError, match=rf"{shape[0]} × {shape[1]} cells .* divisible by {divisor}"):
        network(torch.zeros(1, 1, *shape), torch.zeros(1))


@pytest.mark.parametrize(("channels", "heads"), [(8, 1), (48, 1), (64, 2), (80, 2), (100, 2), (97, 1), (160, 5)])
def test_heads_divide_the_channels(channels, heads):
    """Any width works: about 32 channels a head, wider where 32 does not divide."""
    attention = SelfAttention(channels)
    assert attention.heads == heads
    assert channels % heads == 0
    h = torch.randn(1, channels, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(attention(h), h)  # starts as the identity


def test_residual_block_starts_as_the_identity():
    """Its last convolution is zero; where the width changes, a 1 × 1 convolution carries the input."""
    h = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ResidualBlock(8, 8, 16)(h, torch.zeros(2, 16)), h)
    block = ResidualBlock(8, 12, 16)
    assert torch.equal(block(h, torch.zeros(2, 16)), block.skip(h))
