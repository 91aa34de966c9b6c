"""Seeds of samples: one stream each."""

import pytest
import torch

from pdediff.datasets.seeds import sample_seed
from pdediff.noise import Generators


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63 - 1])
def test_no_two_samples_of_a_run_share_a_stream(seed):
    """torch reads 32 bits of a seed: among 300 000 random ones 10 pairs would be equal, here none are."""
    seeds = [sample_seed(seed, index) for index in range(300_000)]
    assert len({s & 0xFFFFFFFF for s in seeds}) == 300_000
    assert min(seeds) >= 0
    assert max(seeds) < 2**63


def test_samplers_and_data_sets_mix_seeds_alike():
    """Sample 5 of seed 3 draws the same numbers wherever it is drawn."""
    expected = torch.randn(4, generator=torch.Generator().manual_seed(sample_seed(3, 5)))
    assert torch.equal(Generators(3, [5]).normal(4)[0], expected)
