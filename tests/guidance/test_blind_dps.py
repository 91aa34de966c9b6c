"""BlindDPS: the algorithm against DPS on the pair, and a blur kernel that is found along with the field."""

from dataclasses import dataclass

import pytest
import torch

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.kernel_prior import gaussian_kernel, kernel_prior
from pdediff.denoisers.product import ProductDenoiser
from pdediff.guidance.blind_dps import BlindDPS
from pdediff.guidance.dps import DPS
from pdediff.guidance.simplex import project_simplex
from pdediff.likelihoods.convolution import BlindConvolution, Convolution, kernel_width
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.schedules import VESchedule, levels
from pdediff.spaces import FunctionSpace

pytestmark = pytest.mark.methods

N, SIZE, WIDTH, SIGMA = 24, 9, 1.5, 0.05
WIDTHS = [0.6, 0.9, 1.2, 1.5, 1.9, 2.4]


def field_prior(n=N, range_=0.15, **settings):
    """A Matérn field of unit variance and smoothness 3/2."""
    k = torch.pi * torch.arange(n, dtype=torch.float64)
    spectrum = (3 / range_**2 + k[:, None] ** 2 + k**2) ** -2.5
    law = CosineField((n, n), n * n * spectrum / spectrum.sum())
    return GaussianDenoiser(law, FunctionSpace(("x",), (n, n)), **settings)


@dataclass(frozen=True)
class Problem:
    """A field, its blur by a Gaussian kernel, and noise."""

    denoiser: GaussianDenoiser
    likelihood: BlindConvolution
    x: torch.Tensor
    k: torch.Tensor


def problem(seed, n=N, size=SIZE, width=WIDTH, sigma=SIGMA, **settings):
    denoiser, generator = field_prior(n, **settings), torch.Generator().manual_seed(seed)
    x, k = denoiser.covariance.sample(1, generator, torch.float64)[0], gaussian_kernel(size, width)
    convolution = Convolution((n, n), size)
    y = convolution(x[None], k)[0] + sigma * torch.randn(n, n, generator=generator, dtype=torch.float64)
    return Problem(denoiser, BlindConvolution(convolution, y, sigma), x, k)


def oracle_error(given):
    """Relative error of a draw of the posterior that knows the kernel: √(|mu − x|² + tr P)/|x|, in closed form."""
    n, law = N, given.denoiser.covariance
    unit = torch.eye(n * n, dtype=torch.float64).unflatten(-1, (n, n))
    blur, prior = given.likelihood.convolution(unit, given.k).flatten(1).T, law.apply(unit).flatten(1)
    gain = torch.linalg.solve(blur @ prior @ blur.T + SIGMA**2 * unit.flatten(1), blur @ prior).T
    mu, spread = gain @ given.likelihood.value.flatten(), (prior - gain @ blur @ prior).trace()
    return float(((mu - given.x.flatten()).square().sum() + spread).sqrt() / given.x.norm())


@dataclass
class Projected:
    """The pair's denoiser with the kernel put on the simplex."""

    pair: ProductDenoiser
    scale: float
    bounds = (torch.tensor(-torch.inf), torch.tensor(torch.inf))

    def __getattr__(self, name):
        return getattr(self.pair, name)

    def __call__(self, x_t, t):
        x_0, z_0 = self.pair.space.split(self.pair(x_t, t))
        return torch.cat([x_0, project_simplex(self.scale * z_0) / self.scale], dim=-1)


@pytest.mark.parametrize("lengths", [(1e-3, 1e-3), None], ids=["the paper's step", "the noise's step"])
def test_it_is_dps_of_the_pair(lengths):
    """With one length for both and no sparsity: ancestral sampling with DPS, of one prior with a projected part."""
    given = problem(0, n=12, size=5, sigma=0.5)
    kernels = kernel_prior(5, [0.7, 1.2])
    found = BlindDPS(given.denoiser, kernels, given.likelihood, 30, lengths, dtype=torch.float64)(
        Generators(1, range(2))
    )
    pair, scale = ProductDenoiser((given.denoiser, kernels)), given.likelihood.kernel_scale
    settings = {} if lengths is None else {"step": "normalised", "zeta": lengths[0] * 12}
    posterior = DPS(Projected(pair, scale), given.likelihood, **settings)
    s_min, s_max = pair.noise_range
    times, generators = levels(pair.schedule, s_max, s_min, 30), Generators(1, range(2))
    expected = DDIM(1.0)(posterior, pure_noise(pair, times[0], generators, torch.float64), times, generators)
    x_0, z_0 = pair.space.split(expected)
    expected = torch.cat([x_0, project_simplex(scale * z_0) / scale], dim=-1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def recovered():
    """Two truths, four draws each, 250 levels: (total variation, width, field's error) of each method and truth."""
    scores = {"prior": [], "uniform": [], "unit mean": []}
    for seed in range(2):
        given = problem(seed)
        small = BlindConvolution(given.likelihood.convolution, given.likelihood.value, SIGMA, 1 / SIZE**2)
        variants = {
            "prior": (kernel_prior(SIZE, WIDTHS), given.likelihood),
            "uniform": (None, given.likelihood),
            "unit mean": (kernel_prior(SIZE, WIDTHS, scale=1 / SIZE**2), small),
        }
        for name, (kernels, likelihood) in variants.items():
            draws = BlindDPS(given.denoiser, kernels, likelihood, 250)(Generators(seed, range(4))).double()
            x, k = likelihood.split(draws)
            assert bool((k >= 0).all())
            torch.testing.assert_close(k.sum((1, 2)), torch.ones(4, dtype=k.dtype), rtol=1e-5, atol=0)
            variation = float(0.5 * (k - given.k).abs().sum((1, 2)).mean())
            error = float(((x - given.x).flatten(1).norm(dim=1) / given.x.norm()).mean())
            scores[name].append((variation, float(kernel_width(k).mean()), error))
    return scores


def test_kernel_and_field_are_found(recovered):
    """Measured over six truths: total variation 0.08 ± 0.03 from the true kernel (the closest other width of the prior
    is at 0.11, the widest at 0.3), width 1.58 ± 0.11 of 1.5, field as good as with the true kernel to 5 %.
    """
    for seed, (variation, width, error) in enumerate(recovered["prior"]):
        assert variation < 0.15
        assert width == pytest.approx(WIDTH, abs=0.25)
        assert error < 1.15 * oracle_error(problem(seed))


def test_the_uniform_prior_fails(recovered):
    """Fig. 6: with nothing known of the kernel, total variation 0.87, and twice the error of the field: more than that
    of the blurred data themselves (0.29).
    """
    for (variation, _, error), (uniform_variation, _, uniform_error) in zip(
        recovered["prior"], recovered["uniform"], strict=True
    ):
        assert uniform_variation > variation + 0.5
        assert uniform_error > 1.5 * error


def test_the_kernels_scale_decides_when(recovered):
    """z of mean one is decided while the field is still smooth: total variation 0.22 in place of 0.08."""
    late, early = (sum(score[0] for score in recovered[name]) for name in ("prior", "unit mean"))
    assert early > 1.5 * late


def test_sparsity_sharpens_kernels():
    """With nothing known of the kernel, λ = 3 instead of 0 makes ‖k‖₂ larger, in each of four draws on average."""
    given, norms = problem(0, n=12, size=5, sigma=0.5), []
    for sparsity in (0.0, 3.0):
        method = BlindDPS(given.denoiser, None, given.likelihood, 100, (7e-4, 2e-3), sparsity)
        norms.append(given.likelihood.split(method(Generators(2, range(8))))[1].flatten(1).norm(dim=1).mean())
    assert float(norms[1] / norms[0]) > 1.1


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("lengths", [(7e-4, 5e-5), None])
def test_a_draw_does_not_depend_on_its_batch(uniform, lengths):
    """Draw 5 alone and in a batch of 8, in double precision; under inference mode too; progress is told."""
    given, told = problem(1, n=12, size=5, sigma=0.5), []
    kernels = None if uniform else kernel_prior(5, [0.7, 1.2])
    method = BlindDPS(given.denoiser, kernels, given.likelihood, 12, lengths, 0.5, dtype=torch.float64)
    batch = method(Generators(3, range(8)))
    with torch.inference_mode():
        alone = method(Generators(3, [5]), lambda level, count: told.append((level, count)))
    torch.testing.assert_close(alone[0], batch[5], rtol=1e-7, atol=1e-7)
    assert told == [(level, 12) for level in range(1, 13)]
    assert method.evaluations == 12
    assert method.space.dimension == batch.shape[1]


def test_schedules_are_interchangeable():
    """The same noise gives the same draw in the functional and in the variance-exploding schedule."""
    draws = []
    for settings in ({}, {"schedule": VESchedule()}):
        given = problem(1, n=12, size=5, sigma=0.5, **settings)
        kernels = kernel_prior(5, [0.7, 1.2], **settings)
        method = BlindDPS(given.denoiser, kernels, given.likelihood, 12, dtype=torch.float64)
        draws.append(method(Generators(3, range(2))))
    torch.testing.assert_close(draws[0], draws[1], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lengths": (1e-3, 0.0)}, "positive lengths"),
        ({"sparsity": -1.0}, "must not be negative, got -1"),
        ({"kernel_denoiser": kernel_prior(5, [1.0], schedule=VESchedule())}, "one schedule"),
    ],
)
def test_refusals(settings, message):
    """Steps without a length, a negative weight, two schedules."""
    given = problem(0, n=12, size=5)
    arguments = {"denoiser": given.denoiser, "kernel_denoiser": None, "likelihood": given.likelihood} | settings
    with pytest.raises(ValueError, match=message):
        BlindDPS(**arguments)
