"""`ClassifierFree` on mixtures, whose conditional denoiser is known, and with a network trained by dropout."""

import math

import pytest
import torch
from closed_forms import LinearLikelihood

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.mixture import GaussianMixtureDenoiser
from pdediff.denoisers.mlp import MLPDenoiser
from pdediff.guidance.classifier_free import ClassifierFree
from pdediff.guidance.pigdm import PiGDM
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.schedules import FunctionalSchedule, VESchedule, levels
from pdediff.spaces import FunctionSpace

pytestmark = pytest.mark.methods

MEANS = torch.tensor([[-1.2, 0.5], [1.2, -0.5]], dtype=torch.float64)
VARIANCE, SPACE = 0.5, FunctionSpace(("x",), (1, 2))


def mixture(schedule=None):
    """Two labels of one covariance, weights 0.4 and 0.6."""
    field = CosineField((1, 2), torch.full((1, 2), VARIANCE, dtype=torch.float64))
    components = tuple(
        GaussianDenoiser(field, SPACE, mean=m[None], schedule=schedule or FunctionalSchedule()) for m in MEANS
    )
    return GaussianMixtureDenoiser(components, torch.tensor([0.4, 0.6]))


def points(n, seed=0):
    return 2 * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draws(denoiser, n, count=60):
    times = levels(FunctionalSchedule(), 12.0, 0.05, count)
    generators = Generators(0, range(n))
    return DDIM(eta=1.0)(denoiser, pure_noise(denoiser, times[0], generators, torch.float64), times, generators)


def test_weight_one_is_the_component_and_weight_zero_the_prior():
    """D(c) and D(∅), exactly; a label for each row, or one for all."""
    model, x_t = mixture(), points(3)
    labels = torch.tensor([0, 1, 1])
    expected = torch.stack([model.components[k](x, 0.8)[0] for k, x in zip(labels, x_t.split(1), strict=True)])
    torch.testing.assert_close(ClassifierFree(model, labels)(x_t, 0.8), expected)
    torch.testing.assert_close(ClassifierFree(model, torch.tensor([1]))(x_t, 0.8), model.components[1](x_t, 0.8))
    torch.testing.assert_close(ClassifierFree(model, labels, 0.0)(x_t, 0.8), model(x_t, 0.8))


@pytest.mark.parametrize("schedule", [FunctionalSchedule(), VESchedule()], ids=["functional", "ve"])
@pytest.mark.parametrize("weight", [0.5, 2.0, 5.0])
def test_the_push_in_closed_form(weight, schedule):
    """For equal covariances: E[x_0 | x_t, c] + (weight − 1) p(other | x_t) sigma_t²/(alpha_t² λ + sigma_t²)(m_c − m_o),
    each row at its own time.
    """
    model = mixture(schedule)
    x_t, t = points(5), torch.tensor([0.1, 0.5, 1.0, 3.0, 10.0], dtype=torch.float64)
    alpha_t, sigma_t = (v[:, None] for v in schedule(t))
    other = model.responsibilities(x_t, t)[:, 1:]
    push = (weight - 1) * other * sigma_t**2 / (alpha_t**2 * VARIANCE + sigma_t**2) * (MEANS[0] - MEANS[1])
    guided = ClassifierFree(model, torch.tensor([0]), weight)
    torch.testing.assert_close(guided(x_t, t), model.components[0](x_t, t) + push, rtol=1e-9, atol=1e-9)


def test_draws_of_a_label_and_beyond_it():
    """At weight 1 the draws are the component's (4 standard deviations of 600, 3 % for the levels). At weight 4 they
    are further along the line from the other mean, and the label is surer: sharper than the conditional law.
    """
    model, n = mixture(), 600
    plain, pushed = (draws(ClassifierFree(model, torch.tensor([0]), weight), n) for weight in (1.0, 4.0))
    assert float((plain.mean(dim=0) - MEANS[0]).abs().max()) < 4 * (VARIANCE / n) ** 0.5 + 0.03
    assert float((plain.var(dim=0) / VARIANCE - 1).abs().max()) < 4 * (2 / n) ** 0.5 + 0.03
    along = (MEANS[0] - MEANS[1]) / (MEANS[0] - MEANS[1]).norm()
    assert float((pushed.mean(dim=0) - plain.mean(dim=0)) @ along) > 0.2
    assert float((pushed @ along).var()) < float((plain @ along).var())
    doubt = [float(model.responsibilities(z, 0.05)[:, 1].mean()) for z in (plain, pushed)]
    assert doubt[1] < doubt[0] / 4


def test_it_is_a_prior_under_further_guidance():
    """ΠGDM of the label's denoiser is ΠGDM of the component: differentiable, with the whole face of a denoiser."""
    model, x_t = mixture(), points(4)
    likelihood = LinearLikelihood(torch.tensor([[1.0, 1.0]]).double() / 0.3, torch.tensor([1.0]).double())
    guided = ClassifierFree(model, torch.tensor([1]))
    settings = {"likelihood": likelihood, "sigma_data": VARIANCE**0.5}
    torch.testing.assert_close(PiGDM(guided, **settings)(x_t, 0.7), PiGDM(model.components[1], **settings)(x_t, 0.7))
    assert guided.space is model.space
    assert guided.noise_range == model.noise_range
    torch.testing.assert_close(guided.error_law(x_t, 1.0).covariance(x_t), model.error_law(x_t, 1.0).covariance(x_t))
    with pytest.raises(ValueError, match="condition already"):
        guided(x_t, 1.0, condition=torch.tensor([0]))


def test_rows_are_their_own():
    """Row 3 is the same alone and in a batch of eight."""
    x_t, model = points(8), mixture()
    batch = ClassifierFree(model, torch.tensor([0, 1] * 4), 3.0)(x_t, 0.9)
    alone = ClassifierFree(model, torch.tensor([1]), 3.0)(x_t[3:4], 0.9)
    torch.testing.assert_close(batch[3:4], alone, rtol=1e-12, atol=1e-12)


def trained(model, steps, batch=256):
    """A perceptron that sees labels, one in four of them withheld."""
    torch.manual_seed(0)
    denoiser = MLPDenoiser(SPACE, sigma_data=1.3, labels=2)
    optimiser = torch.optim.Adam(denoiser.parameters(), 5e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x_0, label = model.sample(batch, generator)
        withheld = torch.rand(batch, generator=generator) < 1 / 4
        s = (math.log(0.05) + math.log(15 / 0.05) * torch.rand(batch, generator=generator)).exp()
        g = torch.randn(x_0.shape, generator=generator)
        loss = denoiser.loss(x_0, g, s, torch.where(withheld, -1, label)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    return denoiser.requires_grad_(False)


def test_trained_with_condition_dropout():
    """One network learns D(c) and D(∅): after 500 steps the guided prediction errs by less than 0.15, 0.1 and 0.3 at
    the weights 0, 1 and 3 (measured: 0.08, 0.04, 0.17), root mean square over x_t of the label, whose x_0 have the
    standard deviation 0.7. Weights beyond 1 multiply the network's errors as they do its differences.
    """
    model = mixture()
    denoiser = trained(model, 500)
    generator = torch.Generator().manual_seed(2)
    for t in (0.3, 1.0, 3.0):
        x_0, label = model.sample(3000, generator)
        alpha_t, sigma_t = model.schedule(t)
        x_t = (alpha_t * x_0 + sigma_t * torch.randn(x_0.shape, generator=generator))[label == 0]
        for weight, bound in ((0.0, 0.15), (1.0, 0.1), (3.0, 0.3)):
            learnt, exact = (ClassifierFree(d, torch.tensor([0]), weight)(x_t, t) for d in (denoiser, model))
            assert float((learnt - exact).square().mean().sqrt()) < bound, (t, weight)
