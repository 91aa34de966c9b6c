"""`ClassifierGuidance` on a mixture: the exact classifier gives each component's own denoiser; a trained one nearly."""

import pytest
import torch
from closed_forms import LinearLikelihood, mixture_posterior

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.mixture import GaussianMixtureDenoiser
from pdediff.guidance.classifier import ClassifierGuidance
from pdediff.guidance.pigdm import PiGDM
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.schedules import FunctionalSchedule, VESchedule, levels
from pdediff.spaces import FunctionSpace
from pdediff.training.classifier import NoisyClassifier, train_classifier

pytestmark = pytest.mark.methods

MEANS = torch.tensor([[-1.5, 0.5], [1.5, -0.5]], dtype=torch.float64)
VARIANCES, WEIGHTS = (0.4, 0.2), torch.tensor([0.3, 0.7], dtype=torch.float64)


def mixture(schedule=None):
    space = FunctionSpace(("x",), (1, 2))
    components = tuple(
        GaussianDenoiser(
            CosineField((1, 2), torch.full((1, 2), v, dtype=torch.float64)),
            space,
            mean=m[None],
            schedule=schedule or FunctionalSchedule(),
        )
        for m, v in zip(MEANS, VARIANCES, strict=True)
    )
    return GaussianMixtureDenoiser(components, WEIGHTS)


def exact(model):
    """ln p(k | x_t), without the underflow of a responsibility's logarithm."""
    return lambda x_t, t: torch.stack([c.log_evidence(x_t, t) for c in model.components], dim=1) + WEIGHTS.log()


def points(n, seed=0):
    return 2 * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("schedule", [FunctionalSchedule(), VESchedule()], ids=["functional", "ve"])
@pytest.mark.parametrize("label", [0, 1])
def test_bayes_rule_gives_the_component(label, schedule):
    """With p(k | x_t) itself and scale 1 the result is the component's own denoiser, an identity; each row at its own
    time, in any schedule, and whether the logits are ln p(k | x_t) or ln p(x_t, k).
    """
    model = mixture(schedule)
    x_t, t = points(6), torch.tensor([0.05, 0.3, 1.0, 2.0, 5.0, 20.0], dtype=torch.float64)
    component = model.components[label](x_t, t)
    guided = ClassifierGuidance(model, exact(model), label)
    torch.testing.assert_close(guided(x_t, t), component, rtol=1e-9, atol=1e-9)
    normalised = ClassifierGuidance(model, lambda x, t: model.responsibilities(x, t).log(), label)
    torch.testing.assert_close(normalised(x_t[2:], t[2:]), component[2:], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(guided(x_t, 1.0)[2], component[2], rtol=1e-9, atol=1e-9)


def test_the_scale_multiplies_the_shift():
    """Scale 0 is the prior; the shift from it is proportional to the scale."""
    model, x_t = mixture(), points(4)
    free, given = model(x_t, 0.8), model.components[0](x_t, 0.8)
    for scale in (0.0, 0.5, 3.0):
        guided = ClassifierGuidance(model, exact(model), 0, scale)
        torch.testing.assert_close(guided(x_t, 0.8), free + scale * (given - free), rtol=1e-9, atol=1e-9)


def test_it_is_a_prior_under_further_guidance():
    """ΠGDM of a classifier-guided mixture is ΠGDM of the component, data and all: the gradient goes through the
    classifier's own gradient. Also through a later function of x_t that is not a leaf.
    """
    model, x_t = mixture(), points(5)
    likelihood = LinearLikelihood(torch.tensor([[1.0, 1.0]]).double() / 0.3, torch.tensor([1.0]).double())
    guided = ClassifierGuidance(model, exact(model), 1)
    settings = {"likelihood": likelihood, "sigma_data": VARIANCES[1] ** 0.5}
    expected = PiGDM(model.components[1], **settings)(x_t, 0.7)
    torch.testing.assert_close(PiGDM(guided, **settings)(x_t, 0.7), expected, rtol=1e-7, atol=1e-7)
    jacobian = torch.autograd.functional.jacobian(lambda x: guided(2 * x, 0.7)[0], x_t)[:, 0]
    of_component = torch.autograd.functional.jacobian(lambda x: model.components[1](2 * x, 0.7)[0], x_t)[:, 0]
    torch.testing.assert_close(jacobian, of_component, rtol=1e-7, atol=1e-7)


def test_posterior_of_a_component_by_sampling():
    """Ancestral draws with ΠGDM on top: mean and variance are those of the component's posterior, to 4 standard
    deviations of 500 draws and 3 % for 100 levels.
    """
    model, n = mixture(), 500
    operator, y = torch.tensor([[1.0, 0.5]]).double() / 0.4, torch.tensor([1.0]).double()
    covariances = [v * torch.eye(2, dtype=torch.float64) for v in VARIANCES]
    _, means, spreads = mixture_posterior(WEIGHTS, MEANS, covariances, operator, y)
    prior = ClassifierGuidance(model, exact(model), 0)
    guided = PiGDM(prior, LinearLikelihood(operator, y), sigma_data=VARIANCES[0] ** 0.5)
    times = levels(model.schedule, 15.0, 0.02, 100)
    generators = Generators(0, range(n))
    z = DDIM(eta=1.0)(guided, pure_noise(guided, times[0], generators, torch.float64), times, generators)
    deviation = spreads[0].diagonal().sqrt()
    assert float(((z.mean(dim=0) - means[0]) / deviation).abs().max()) < 4 / n**0.5 + 0.03
    error = (torch.cov(z.T) - spreads[0]) / deviation / deviation[:, None]
    assert float(error.abs().max()) < 4 * (2 / n) ** 0.5 + 0.03


def test_a_trained_classifier():
    """A perceptron trained for 600 steps in place of p(k | x_t): for x_t of the label the guided prediction errs by at
    most a quarter of the shift from prior to component, root mean square, at three noise levels (measured: 0.15, 0.08,
    0.17); where the label is out of the question nothing has taught it a gradient.
    """
    model = mixture()
    torch.manual_seed(0)
    classifier = NoisyClassifier(2, 2, sigma_data=1.5)
    train_classifier(classifier, model.sample, model.noise_range, torch.Generator().manual_seed(1), steps=600)
    guided = ClassifierGuidance(model, classifier.requires_grad_(False), 0)
    generator = torch.Generator().manual_seed(2)
    for t in (0.5, 1.0, 3.0):
        x_0, label = model.sample(4000, generator, torch.float64)
        alpha_t, sigma_t = model.schedule(t)
        x_t = (alpha_t * x_0 + sigma_t * torch.randn(x_0.shape, generator=generator, dtype=torch.float64))[label == 0]
        component, free = model.components[0](x_t, t), model(x_t, t)
        assert float((guided(x_t, t) - component).norm() / (component - free).norm()) < 0.25


def test_rows_and_inference_mode():
    """Row 3 is the same alone and in a batch; differentiation may be switched off around the call."""
    model, x_t = mixture(), points(8)
    guided = ClassifierGuidance(model, exact(model), 0)
    with torch.inference_mode():
        batch = guided(points(8), 0.9)
    torch.testing.assert_close(batch[3:4], guided(x_t[3:4], 0.9), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(batch, guided(x_t, 0.9), rtol=1e-12, atol=1e-12)
    assert not guided(x_t, 0.9).requires_grad


def test_has_the_face_of_a_denoiser():
    """Space, ladder and error law are the prior's; there are no query points."""
    model = mixture()
    guided = ClassifierGuidance(model, exact(model), 0)
    assert guided.space is model.space
    assert guided.noise_range == model.noise_range
    x_0 = points(2)
    torch.testing.assert_close(guided.error_law(x_0, 1.0).covariance(x_0), model.error_law(x_0, 1.0).covariance(x_0))
    with pytest.raises(ValueError, match="query points"):
        guided(x_0, 1.0, torch.zeros(1, 2))
