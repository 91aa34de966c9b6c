"""1000 generated two-phase fields, read back from their store, against their law in closed form."""

import math

import numpy as np
import pytest
import torch

from pdediff.cases.generation import load_recipe
from pdediff.datasets.random_fields import benchmark_field
from pdediff.datasets.store import Store
from pdediff.studies.generate import generate

N = 1000
LAW = benchmark_field((64, 64))
ERRORS = 4.5  # standard errors that a statistic may be off: one test in 150 000


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """a and mu (1000, 64, 64) of the shipped recipe, without the solutions."""
    path = tmp_path_factory.mktemp("fields") / "fields.h5"
    generate(load_recipe("two-phase-64", (f"samples={N}", "fields=[a, mu]", "chunk=1000"))[1], path)
    with Store(path) as store:
        return {name: store[name][...] for name in store.units}


def test_the_phase_is_the_sign(fields):
    """a = 12 where mu ≥ 0, else 3, in every cell of every field."""
    assert np.array_equal(fields["a"], np.where(fields["mu"] >= 0, 12, 3))


def test_volume_fraction(fields):
    """0.50 ± 0.06 a field. The mean is ½, for mu and −mu have one law. For the standard deviation s over fields: two
    cells of correlation ρ are both positive with probability ¼ + arcsin(ρ)/2π, so s² is the mean of arcsin(ρ)/2π over
    pairs of cells. Over N fields the mean has a standard error of s/√N, and the deviation, of a fraction with tails no
    heavier than Gaussian ones, at most s/√(2N)."""
    scale = LAW.pointwise_variance().flatten().rsqrt()
    total = 0.0
    for cells in torch.arange(64 * 64).split(512):
        unit = torch.zeros(len(cells), 64 * 64, dtype=torch.float64)
        unit[torch.arange(len(cells)), cells] = 1
        covariance = LAW.apply(unit.view(-1, 64, 64)).flatten(1)
        total += float((covariance * scale * scale[cells, None]).clamp(-1, 1).arcsin().sum())
    s = math.sqrt(total / (64 * 64) ** 2 / (2 * math.pi))
    assert s == pytest.approx(0.06, abs=0.005)
    fraction = (fields["a"] == 12).mean(axis=(1, 2))
    assert abs(fraction.mean() - 0.5) < ERRORS * s / math.sqrt(N)
    assert abs(fraction.std() - s) < ERRORS * s / math.sqrt(2 * N)


def test_standard_deviation(fields):
    """Root mean square over the domain: √(Σ λ/n) = 0.2921, n cells. The mean square of a field is Σ λ_k ξ_k²/n, of
    variance 2 Σ λ_k²/n²."""
    n = 64 * 64
    expected = float(LAW.spectrum.sum()) / n
    assert math.sqrt(expected) == pytest.approx(0.2921, abs=2e-4)
    error = math.sqrt(2 * float(LAW.spectrum.square().sum()) / N) / n
    assert abs(float(np.square(fields["mu"], dtype=np.float64).mean()) - expected) < ERRORS * error


def test_pointwise_variance(fields):
    """At every cell v = diag C, to its standard error v√(2/N): the standardised errors have mean square 1 (± 0.5; the
    field has but a few dozen independent places), and none of 4096 exceeds 5."""
    v = LAW.pointwise_variance().numpy()
    z = (np.square(fields["mu"], dtype=np.float64).mean(axis=0) - v) / (v * math.sqrt(2 / N))
    assert np.square(z).mean() == pytest.approx(1, abs=0.5)
    assert np.abs(z).max() < 5


def test_covariance_spectrum(fields):
    """The cosine coefficients ξ_k = c_k/√λ_k are independent and standard normal: over N fields each has variance 1, to
    √(2/N), and the product of two neighbours mean 0, to 1/√N; the squares of these 4095 standardised errors average to
    1, to √(2/4095). There is no constant."""
    c = LAW.to_basis(torch.from_numpy(fields["mu"]).double())
    assert float(c[:, 0, 0].abs().max()) < 1e-5  # float32, summed over 4096 cells
    xi = (c.flatten(1)[:, 1:] / LAW.spectrum.flatten()[1:].sqrt()).numpy()
    for z in (
        (np.square(xi).mean(axis=0) - 1) / math.sqrt(2 / N),
        (xi[:, 1:] * xi[:, :-1]).mean(axis=0) * math.sqrt(N),
    ):
        assert np.square(z).mean() == pytest.approx(1, abs=ERRORS * math.sqrt(2 / z.size))
        assert np.abs(z).max() < 5.5
