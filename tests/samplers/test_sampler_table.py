"""The table of samplers in the documents, measured: `pytest -s tests/samplers/test_sampler_table.py` prints it.

The problem is `gaussian_modes`: a Gaussian prior with variances from 0.05 to 5, on the ladder from s = 20 to 0.02 with
rho = 7, from an exact start. The error is that of the mean or of the variance, relative, of the worst mode.
"""

import pytest
import torch
from gaussian_modes import LAMBDA, S_MAX, S_MIN, SCHEDULES, BulkNoise, law

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.noise import Generators
from pdediff.samplers.annealed_langevin import AnnealedLangevin
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.ddpm import DDPM
from pdediff.samplers.euler_maruyama import EulerMaruyama
from pdediff.samplers.heun import Heun
from pdediff.samplers.predictor_corrector import PredictorCorrector
from pdediff.schedules import levels
from pdediff.spaces import FunctionSpace

pytestmark = pytest.mark.methods
VE, COUNTS = SCHEDULES["ve"], (20, 50, 200)
TABLE = {  # sampler, schedule, errors at 20, 50 and 200 levels
    "DDIM(eta=0)": (DDIM(), "ve", (0.20, 0.081, 0.021)),
    "DDIM(eta=0.5)": (DDIM(0.5), "ve", (0.23, 0.099, 0.026)),
    "DDIM(eta=1) = DDPM": (DDPM(), "ve", (0.34, 0.16, 0.043)),
    "DDPM, beta": (DDPM("beta"), "vp", (0.40, 0.14, 0.032)),
    "Euler-Maruyama": (EulerMaruyama(), "ve", (0.23, 0.080, 0.019)),
    "Euler-Maruyama, VP": (EulerMaruyama(), "vp", (0.23, 0.078, 0.018)),
    "Heun": (Heun(), "ve", (0.047, 0.0066, 0.00039)),
    "annealed Langevin": (AnnealedLangevin(), "ve", (0.32, 0.112, 0.029)),
}


@pytest.mark.parametrize("name", TABLE)
def test_errors(name):
    """The documented errors, to 3 %: the two digits given."""
    sampler, schedule, documented = TABLE[name]
    errors = []
    for count in COUNTS:
        mean, variance = law(sampler, levels(SCHEDULES[schedule], S_MAX, S_MIN, count), SCHEDULES[schedule])
        errors.append(float(torch.stack([mean - 1, variance - 1]).abs().max()))
    print(f"\n{name:20} {sampler.evaluations(50) / 50:4.1f}  " + "  ".join(f"{100 * e:.2g} %" for e in errors))
    assert errors == pytest.approx(documented, rel=0.03)


@pytest.mark.parametrize(
    ("count", "documented"), [(20, 0.24), (50, 0.07), pytest.param(200, 0.04, marks=pytest.mark.slow)]
)
def test_error_of_predictor_corrector(count, documented):
    """Its steps depend on what is drawn, so by Monte Carlo: 96 values, 16 to each variance, 1200 draws.

    The standard error of a variance is √(2/19200) = 1 %; the largest error of six is right to four of them.
    """
    rows, shape = 1200, (6, 16)
    field = CosineField(shape, LAMBDA.reshape(6, 1).expand(shape))
    model = GaussianDenoiser(field, FunctionSpace(("x",), shape, noise=BulkNoise(rows)), schedule=VE)
    start = field.sample(rows, torch.Generator().manual_seed(1), torch.float64).flatten(1)
    x_T = start + S_MAX * BulkNoise(rows, 2).sample(None, 96, torch.float64, None)
    sampler = PredictorCorrector()
    x_0 = sampler(model, x_T, levels(VE, S_MAX, S_MIN, count), Generators(0, []))
    variance = field.to_basis(x_0.unflatten(-1, shape)).square().mean(dim=(0, 2))
    errors = variance / (LAMBDA**2 / (LAMBDA + S_MIN**2)).flatten() - 1
    print(f"\npredictor-corrector, {count} levels: " + "  ".join(f"{100 * e:+.2g} %" for e in errors))
    assert float(errors.abs().max()) == pytest.approx(documented, abs=0.04)
