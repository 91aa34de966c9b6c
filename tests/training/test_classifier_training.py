"""The trainer of noise-aware classifiers, against the exact p(k | x_t) of a mixture."""

import torch

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.mixture import GaussianMixtureDenoiser
from pdediff.schedules import VESchedule
from pdediff.spaces import FunctionSpace
from pdediff.training.classifier import NoisyClassifier, train_classifier

MEANS = torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.5]])


def mixture(**settings):
    space = FunctionSpace(("x",), (1, 2))
    field = CosineField((1, 2), torch.full((1, 2), 0.25))
    components = tuple(GaussianDenoiser(field, space, mean=m[None], **settings) for m in MEANS)
    return GaussianMixtureDenoiser(components, torch.tensor([0.5, 0.3, 0.2]))


def trained(steps):
    model = mixture()
    torch.manual_seed(0)
    classifier = NoisyClassifier(2, 3, sigma_data=1.2)
    losses = train_classifier(classifier, model.sample, model.noise_range, torch.Generator().manual_seed(1), steps)
    return model, classifier, losses


def test_learns_the_responsibilities():
    """After 600 steps p(k | x_t) is right to 0.025 (mean absolute error) at every noise level, and the loss is at its
    floor, the entropy of the label given x_t, to 0.02.
    """
    model, classifier, losses = trained(600)
    generator = torch.Generator().manual_seed(2)
    entropy = []
    for s in (0.05, 0.3, 1.0, 3.0, 10.0):
        x_0, _ = model.sample(2000, generator)
        alpha_t, sigma_t = model.schedule(s)
        x_t = alpha_t * x_0 + sigma_t * torch.randn(x_0.shape, generator=generator)
        with torch.no_grad():
            p = classifier(x_t, s).softmax(dim=1)
        assert float((p - model.responsibilities(x_t, s)).abs().mean()) < 0.025, s
    low, high = (torch.tensor(s).log() for s in model.noise_range)
    for s in torch.linspace(float(low), float(high), 25).exp().tolist():
        x_0, _ = model.sample(400, generator)
        alpha_t, sigma_t = model.schedule(s)
        r = model.responsibilities(alpha_t * x_0 + sigma_t * torch.randn(x_0.shape, generator=generator), s)
        entropy.append(float(-(r * r.clamp(min=1e-30).log()).sum(dim=1).mean()))
    assert abs(sum(losses[-100:]) / 100 - sum(entropy) / len(entropy)) < 0.02


def test_one_classifier_serves_every_schedule():
    """Logits depend on x_t/alpha_t and s alone."""
    x, s = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.5, 2.0, 9.0])
    functional, ve = NoisyClassifier(2, 3, 1.0), NoisyClassifier(2, 3, 1.0, schedule=VESchedule())
    ve.load_state_dict(functional.state_dict())
    alpha_t = functional.schedule(s)[0]
    torch.testing.assert_close(functional(alpha_t[:, None] * x, s), ve(x, s))


def test_training_repeats():
    """Same seeds, same losses, bit for bit; and each row's logits are its own."""
    runs = [trained(steps=3) for _ in range(2)]
    assert runs[0][2] == runs[1][2]
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    classifier = runs[0][1]
    torch.testing.assert_close(classifier(x, 1.0)[2:3], classifier(x[2:3], 1.0))
