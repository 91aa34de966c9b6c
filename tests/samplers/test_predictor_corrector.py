"""Predictor–corrector sampling: the corrector in closed form, its bias, and what it buys."""

import pytest
import torch
from gaussian_modes import LAMBDA, PRIOR, S_MAX, SCHEDULES, SHAPE, BulkNoise, D, even_ladder, law, response

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.noise import Generators
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.euler_maruyama import EulerMaruyama
from pdediff.samplers.heun import Heun
from pdediff.samplers.langevin import langevin_step
from pdediff.samplers.predictor_corrector import PredictorCorrector
from pdediff.schedules import score_from_x0
from pdediff.spaces import FunctionSpace

pytestmark = pytest.mark.methods
VE = SCHEDULES["ve"]


def test_corrector_is_the_published_one():
    """Algorithm 4 for each sample on its own: ε = 2 (r ‖z‖/‖score‖)², x + ε score + √(2ε) z."""
    model, t = GaussianDenoiser(PRIOR, FunctionSpace(("x",), SHAPE), 0.7, VE), torch.tensor(2.0, dtype=torch.float64)
    x = 3 * Generators(0, range(4)).normal(D, dtype=torch.float64)
    z, score = Generators(1, range(4)).normal(D, dtype=torch.float64), score_from_x0(VE, x, model(x, t), t)
    epsilon = 2 * (0.1 * z.norm(dim=1) / score.norm(dim=1)).square()[:, None]
    found = PredictorCorrector(r=0.1).correct(model, x, t, Generators(1, range(4)))
    torch.testing.assert_close(found, x + epsilon * score + (2 * epsilon).sqrt() * z, rtol=1e-12, atol=1e-12)


def test_longest_step():
    """Where ε̂ vanishes, at x_t = alpha_t m, the step is not infinite: δ = 2, so that x_t moves by √2 sigma_t g."""
    model, t = GaussianDenoiser(PRIOR, FunctionSpace(("x",), SHAPE), 0.0, VE), torch.tensor(2.0, dtype=torch.float64)
    found = PredictorCorrector().correct(model, torch.zeros(2, D, dtype=torch.float64), t, Generators(1, range(2)))
    torch.testing.assert_close(found, 8**0.5 * Generators(1, range(2)).normal(D, dtype=torch.float64))


def fixed_step(delta):
    """The method with corrector steps of one length δ, which make it affine in the noise."""

    class FixedStep(PredictorCorrector):
        def correct(self, denoiser, x_t, t, generators):
            return langevin_step(denoiser, x_t, t, delta, generators)

    return FixedStep


@pytest.mark.parametrize(("steps", "delta"), [(1, 0.1), (1, 1.0), (2, 0.3)])
def test_bias_of_the_variance(steps, delta):
    """With δ fixed, Var(x_0)/λ − 1 is what the docstring says, to 6 % of κ (200 levels). The predictor alone has −κ."""
    times, kappa = even_ladder(200)
    p = delta * steps / (2 * kappa)
    expected = -2 * kappa / (2 + p) + delta / 4 * p / ((2 + p) * (1 + p))
    mean, ratio = law(fixed_step(delta)(steps=steps), times)
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=1e-9, atol=0)
    torch.testing.assert_close(ratio - 1, torch.full_like(LAMBDA, expected), rtol=0, atol=0.06 * kappa)


def test_what_has_led_astray_is_mended():
    """An error of x_T, which Heun carries to x_0 whole, falls by (λ/(λ + s_max²))^(p/2) with correctors of fixed δ.

    p = δ K/(2κ), for short steps: δ = 0.02, to 5 % on 400 levels. A third to a ninth of the error is left; longer steps
    leave less.
    """
    times, kappa = even_ladder(400)
    share = LAMBDA / (LAMBDA + S_MAX**2)
    carried, left = (response(one, times)[1] for one in (Heun(), fixed_step(0.02)(predictor=Heun())))
    torch.testing.assert_close(carried, share.sqrt(), rtol=0.01, atol=0)
    torch.testing.assert_close(left / carried, share ** (0.02 / (4 * kappa)), rtol=0.05, atol=0)
    assert bool((left / carried < 0.4).all())


def test_bias_of_the_corrector_alone():
    """Repeated at one level, for white Gaussians of D values, it gives 4/D too much variance (r = 0.1: to 15 %).

    120 steps; a variance forgets its start in 1/(4r²) = 25 of them. The standard error of the estimate is below 0.01.
    """
    rows, r = 1500, 0.1
    for d in (16, 32):
        space = FunctionSpace(("x",), (1, d), noise=BulkNoise(rows))
        model = GaussianDenoiser(CosineField((1, d), torch.ones(1, d)), space, schedule=VE)
        x, t = 2**0.5 * BulkNoise(rows, 1).sample(None, d, torch.float64, None), torch.ones((), dtype=torch.float64)
        for _ in range(120):
            x = PredictorCorrector(r).correct(model, x, t, Generators(0, []))
        assert float(x.square().mean() / 2 - 1) == pytest.approx(4 / d, rel=0.15)


@pytest.mark.parametrize(
    ("predictor", "evaluations"), [(DDIM(), 9 + 16), (EulerMaruyama(), 9 + 16), (Heun(), 17 + 16)], ids=lambda v: str(v)
)
def test_any_predictor(predictor, evaluations):
    """The predictor's evaluations, and two corrections after each of 8 steps."""
    assert PredictorCorrector(steps=2, predictor=predictor).evaluations(9) == evaluations


@pytest.mark.parametrize("settings", [{"r": 0.0}, {"r": float("nan")}, {"steps": 0}])
def test_refusals(settings):
    """A corrector that does nothing."""
    with pytest.raises(ValueError, match="r > 0 and steps ≥ 1"):
        PredictorCorrector(**settings)
