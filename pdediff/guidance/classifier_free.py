"""Classifier-free guidance (Ho & Salimans 2022): a conditional denoiser, weighed against itself without the condition.

A network trained with its condition withheld now and then holds E[x_0 | x_t, c] and E[x_0 | x_t] at once. Their
difference is what a classifier's gradient would be, (sigma_t²/alpha_t) C ∇ log p(c | x_t), so that

    D(x_t, t) = E[x_0 | x_t] + weight (E[x_0 | x_t, c] − E[x_0 | x_t])

guides as p(x_t) p(c | x_t)^weight does. 0 is the prior, 1 the conditional law. More than 1 moves samples away from what
functions without the condition look like, and as with a classifier's scale that is the conditional law of nothing. For
two labels with Gaussians of one covariance λ I and means m_c and m_other it can be written out,

    D = E[x_0 | x_t, c] + (weight − 1) p(other | x_t) sigma_t²/(alpha_t² λ + sigma_t²) (m_c − m_other):

a push from the other mean, as long as the label is in doubt. Draws of a label then crowd beyond its own mean.

With weight 1 it is also how a sampler, which knows of no conditions, is given one.
"""

from dataclasses import dataclass

from torch import Tensor

from pdediff.denoisers.base import Denoiser, ErrorLaw
from pdediff.guidance.base import PosteriorDenoiser


@dataclass(frozen=True)
class ClassifierFree(PosteriorDenoiser):
    """D(x_t, t, ∅) + weight (D(x_t, t, c) − D(x_t, t, ∅)); a denoiser itself, differentiable if D is.

    Parameters
    ----------
    denoiser: D, which takes a condition or None.
    condition: c, as D takes it: a row for each of the batch, or one row (1, ...) for all.
    weight: 1 is the conditional law.
    errors: a denoiser that knows how functions with the condition err; D's error law is that of all functions.

    """

    denoiser: Denoiser
    condition: Tensor
    weight: float = 1.0
    errors: Denoiser | None = None

    def __call__(
        self, x_t: Tensor, t: Tensor | float, query: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """The weighted mean of x_0 given x_t (B, D) at time t, a number or (B,): (B, D), or at query points.

        Two evaluations of D, one if the weight is 1. Raises ValueError for a condition: it has its own.
        """
        if condition is not None:
            raise ValueError("classifier-free guidance has its condition already")
        given = self.denoiser(x_t, t, query, self.condition.to(x_t.device).expand(len(x_t), *self.condition.shape[1:]))
        if self.weight == 1:
            return given
        free = self.denoiser(x_t, t, query)
        return free + self.weight * (given - free)

    def error_law(self, x_0: Tensor, t: float) -> ErrorLaw:
        """The law of `errors` about predictions x_0 (B, D), or D's own."""
        return (self.errors or self.denoiser).error_law(x_0, t)
