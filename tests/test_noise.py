"""Noise from one generator per sample: streams that depend on (seed, sample) only, and the law they follow."""

import torch

from pdediff.noise import Generators, WhiteNoise


def test_a_sample_does_not_depend_on_its_batch():
    """Sample 5 draws the same numbers, draw after draw, alone, in a batch, and in another order."""
    alone, batch, reversed_ = Generators(3, [5]), Generators(3, range(8)), Generators(3, [7, 5, 1])
    assert len(batch) == 8
    for shape in ((4,), (2, 3), (16,)):
        first, many, other = alone.normal(*shape), batch.normal(*shape), reversed_.normal(*shape)
        assert first.shape == (1, *shape)
        assert torch.equal(many[5], first[0])
        assert torch.equal(other[1], first[0])


def test_streams_differ():
    """Other samples and other seeds draw other numbers; neighbouring (seed, sample) pairs too."""
    rows = torch.cat([Generators(seed, range(20)).normal(8) for seed in range(20)])
    assert len({tuple(row) for row in rows.tolist()}) == 400


def test_torch_reads_32_bits_of_a_seed():
    """The fact behind the mixing of seeds: 1 and 1 + 2³² are one stream on the CPU."""
    first, second = (torch.randn(3, generator=torch.Generator().manual_seed(s)) for s in (1, 1 + 2**32))
    assert torch.equal(first, second)


def test_white_noise_is_standard_normal():
    """2 × 10⁵ numbers: mean within 4/√N of 0, variance within 4√(2/N) of 1, correlation of neighbouring samples and of
    neighbouring points within 4/√N of 0 (4 standard errors each)."""
    g = WhiteNoise().sample(Generators(0, range(200)), 1000, torch.float64, torch.device("cpu"))
    assert g.shape == (200, 1000)
    assert g.dtype == torch.float64
    n = g.numel()
    assert abs(float(g.mean())) < 4 / n**0.5
    assert abs(float(g.var()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float((g[1:] * g[:-1]).mean())) < 4 / n**0.5
    assert abs(float((g[:, 1:] * g[:, :-1]).mean())) < 4 / n**0.5


def test_white_covariance_is_the_identity():
    """C v = v."""
    v = torch.randn(2, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(WhiteNoise().covariance(v), v)
