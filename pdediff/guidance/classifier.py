"""Classifier guidance (Dhariwal & Nichol 2021): a prior and a classifier of noisy functions make a conditional prior.

If p(c | x_t) is known for noisy x_t, Bayes' rule gives the denoiser of the functions with label c,

    E[x_0 | x_t, c] = E[x_0 | x_t] + (sigma_t²/alpha_t) C ∇_{x_t} log p(c | x_t),

exactly: the classifier has seen the noise, so there is nothing left of what DPS and its kin have to guess. A `scale`
other than 1 takes p(c | x_t)^scale in its place. It is often raised to make samples more typical of their label; then
it is not the conditional law of anything, as a power of p(c | x_t) at each t is not the power of p(c | x_0) at t = 0.

The result is a denoiser, not only a posterior one: it is differentiable in x_t, so that it can be the prior of further
guidance by data.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser, ErrorLaw, batch_times
from pdediff.guidance import base
from pdediff.guidance.base import PosteriorDenoiser

Classifier = Callable[[Tensor, Tensor], Tensor]
"""x_t (B, D) and times (B,) to logits (B, K), ln p(k | x_t) up to a constant of each row; each row on its own."""


@dataclass(frozen=True)
class ClassifierGuidance(PosteriorDenoiser):
    """x̂_0 + scale (sigma_t²/alpha_t) C ∇ log p(label | x_t).

    Parameters
    ----------
    denoiser: the prior.
    classifier: logits of noisy functions, differentiable; `training.classifier` trains one.
    label: c, an index of the logits.
    scale: power of p(c | x_t); 1 is Bayes' rule.
    errors: a denoiser that knows how functions with the label err.

    """

    denoiser: Denoiser
    classifier: Classifier
    label: int
    scale: float = 1.0
    errors: Denoiser | None = None

    def __call__(
        self, x_t: Tensor, t: Tensor | float, query: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """E[x_0 | x_t, label] (B, D) of x_t (B, D) at time t, a number or (B,); a condition goes to the prior.

        Raises ValueError for query points: the shift is known where x_t is.
        """
        if query is not None:
            raise ValueError("classifier guidance answers where x_t is, not at query points")
        x_0 = self.denoiser(x_t, t, condition=condition)
        return base.condition(self.denoiser, x_0, self.scale * self._gradient(x_t, t), t)

    def error_law(self, x_0: Tensor, t: float) -> ErrorLaw:
        """The law of `errors` about predictions x_0 (B, D), or the prior's own, which is that of all labels."""
        return (self.errors or self.denoiser).error_law(x_0, t)

    def _gradient(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """∇ log p(label | x_t): (B, D); differentiable where the caller differentiates in x_t."""
        further = x_t.requires_grad and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            t = batch_times(t, x_t).clone()  # clones: autograd refuses tensors that were made in inference mode
            x_t = x_t if further else x_t.detach().clone().requires_grad_()
            log_prob = self.classifier(x_t, t).log_softmax(dim=1)[:, self.label]
            (gradient,) = torch.autograd.grad(log_prob.sum(), x_t, create_graph=further)
        return gradient
