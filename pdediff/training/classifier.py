"""A classifier of noisy points, p(c | x_t), for classifier guidance: a perceptron and its training.

It sees x_t/alpha_t = x_0 + s g and the noise-to-signal ratio s, as denoisers do, so that one classifier serves every
schedule. Cross-entropy against the labels of the clean points, at noise levels drawn evenly in ln s, is least for
p(c | x_t) itself (Dhariwal & Nichol 2021, §4.1): where noise hides the label the best answer is to say so.

Guidance by label c uses the gradient of ln p(c | x_t), which the loss hardly sees where another label is certain. So
the guided prediction is good for the x_t of functions with label c, which a guided sampler visits, and not elsewhere.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdediff.denoisers.base import Preconditioning, batch_times
from pdediff.denoisers.unet import NoiseEmbedding
from pdediff.schedules import FunctionalSchedule, Schedule, noise_to_signal

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""Points x_0 (n, D) and their labels (n,), from a generator."""


class NoisyClassifier(nn.Module):
    """Logits ln p(k | x_t) + const. of noisy points; residual layers modulated by the noise level.

    Parameters
    ----------
    dimension: D of the points.
    classes: number of labels K.
    sigma_data: standard deviation of x_0 about `mean`.
    width, depth: of the residual layers.
    mean: mean of x_0.
    schedule: the schedule in which t is given.

    """

    def __init__(
        self,
        dimension: int,
        classes: int,
        sigma_data: float,
        width: int = 64,
        depth: int = 2,
        mean: float = 0.0,
        schedule: Schedule = FunctionalSchedule(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        self.schedule, self.preconditioning = schedule, Preconditioning(sigma_data, mean)
        self.mean, self.sigma_data = mean, sigma_data
        self.noise = NoiseEmbedding(width)
        self.first = nn.Linear(dimension, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = nn.Linear(width, classes)

    def forward(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Logits (B, K) of x_t (B, D) at time t, a number or (B,)."""
        t = batch_times(t, x_t)
        return self.classify(x_t / self.schedule(t)[0][:, None], noise_to_signal(self.schedule, t))

    def classify(self, x: Tensor, s: Tensor) -> Tensor:
        """Logits (B, K) of x = x_0 + s g (B, D) of ratios s (B,)."""
        _, _, c_in, c_noise = self.preconditioning.coefficients(s)
        dtype = self.last.weight.dtype
        embedding = self.noise(c_noise.to(dtype))
        h = self.first(((x - self.mean) * c_in[:, None]).to(dtype))
        for layer in self.layers:
            h = h + functional.silu(layer(h) + embedding)
        return self.last(h).to(x.dtype)


def train_classifier(
    classifier: NoisyClassifier,
    draw: Draw,
    noise_range: tuple[float, float],
    generator: torch.Generator,
    steps: int = 1000,
    batch: int = 256,
    learning_rate: float = 1e-2,
) -> list[float]:
    """Train a classifier on points that `draw` gives, at ratios s evenly drawn in ln s over `noise_range`.

    Adam with a cosine decay of the rate. Returns the cross-entropy of each step; its floor is the entropy of the label
    given x_t, not zero. The generator, on the classifier's device, draws everything but the initial weights.
    """
    optimiser = torch.optim.Adam(classifier.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    low, high = (math.log(s) for s in noise_range)
    losses = []
    for _ in range(steps):
        x_0, label = draw(batch, generator)
        u = torch.rand(batch, generator=generator, device=x_0.device)
        s = (low + (high - low) * u).exp()
        g = torch.randn(x_0.shape, generator=generator, device=x_0.device)
        loss = functional.cross_entropy(classifier.classify(x_0 + s[:, None] * g, s), label)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses
