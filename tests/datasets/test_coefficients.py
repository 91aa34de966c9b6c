"""Laws of coefficients, and the transfer between nested grids."""

import math

import pytest
import torch

from pdediff.datasets.coefficients import LogNormalLaw, TwoPhaseLaw, prolong, restrict
from pdediff.datasets.embedding import embed
from pdediff.datasets.random_fields import benchmark_field
from pdediff.datasets.variograms import Variogram
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_two_phase_views_are_one_draw():
    """x = ±1 is the sign of the field, and a = √(low·high) (high/low)^{x/2} of the same draw: 12 and 3."""
    law = TwoPhaseLaw(benchmark_field((32, 24)))
    assert law.shape == (32, 24)
    mu, x, a = law.field.sample(5, _generator()), law.sample_x(5, _generator()), law.sample(5, _generator())
    assert torch.equal(x, torch.where(mu >= 0, 1.0, -1.0))
    assert set(a.unique().tolist()) == {3.0, 12.0}
    torch.testing.assert_close(a, 6 * 2**x)
    assert law.sample(1, _generator(), torch.float64).dtype == torch.float64


def test_two_phase_volume_fraction():
    """mu and −mu have the same law, so the volume fraction is ½ on average: 2000 fields, within 4.5 standard errors."""
    fraction = (TwoPhaseLaw(benchmark_field((64, 64))).sample_x(2000, _generator(1)) > 0).double().mean(dim=(1, 2))
    standard_error = float(fraction.std()) / math.sqrt(2000)
    assert standard_error < 0.005
    assert abs(float(fraction.mean()) - 0.5) < 4.5 * standard_error


def test_log_normal_statistics():
    """ln a ~ N(mean, sill): the mean and variance over 4000 fields within 4.5 standard errors of the field averages."""
    field = embed(Variogram("exponential", variance=0.7, range=0.1, nugget=0.1), Grid((16, 16)))
    law = LogNormalLaw(field, mean=-2.0)
    assert math.isclose(law.scale, math.sqrt(0.8), rel_tol=1e-9)
    log_a = law.sample(4000, _generator(2), torch.float64).log()
    for statistic, expected in ((log_a, -2.0), ((log_a + 2.0).square(), 0.8)):
        averages = statistic.mean(dim=(1, 2))
        assert abs(float(averages.mean()) - expected) < 4.5 * float(averages.std()) / math.sqrt(4000)


def test_log_normal_views_are_one_draw():
    """a = exp(mean + s x) with x of unit variance."""
    law = LogNormalLaw(benchmark_field((16, 16)), mean=1.5)
    x, a = law.sample_x(3, _generator(), torch.float64), law.sample(3, _generator(), torch.float64)
    torch.testing.assert_close(a, torch.exp(1.5 + law.scale * x))


def test_restrict_undoes_prolong():
    """The children of a cell keep its value, which is their average; restriction is 1/k² times the adjoint."""
    a, u = torch.randn(2, 3, 5, generator=_generator()), torch.randn(2, 9, 15, generator=_generator(1))
    fine = prolong(a, 3)
    assert fine.shape == (2, 9, 15)
    assert torch.equal(fine[:, ::3, ::3], a)
    assert torch.equal(fine[:, 2::3, 2::3], a)
    torch.testing.assert_close(restrict(fine, 3), a)
    torch.testing.assert_close((prolong(a, 3) * u).sum(), 9 * (a * restrict(u, 3)).sum())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TwoPhaseLaw(benchmark_field((4, 4)), low=12.0, high=3.0), "0 < low < high"),
        (lambda: LogNormalLaw(benchmark_field((4, 4)), mean=math.inf), "finite"),
        (lambda: restrict(torch.ones(6, 9), 2), "2 must divide both"),
        (lambda: prolong(torch.ones(4, 4), 0), "positive integer"),
    ],
)
def test_wrong_input(make, message):
    """Phases out of order, an infinite mean, and blocks that do not fit are refused."""
    with pytest.raises(InputError, match=message):
        make()
