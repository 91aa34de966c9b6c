"""Training objectives: what a score network, a noise predictor or a denoiser may minimise, and why each is right.

The Fisher divergence E_q ½|s − ∇ ln q|² (eq. 11) asks for the unknown score. Each objective trades it for something
that a sample of q can answer; all but a constant c, free of s, stays. Each is a regression on its own noise, so its
minimiser is a conditional mean, and eqs. 24–27 turn one kind of answer into another (`schedules`).

*Explicit* (Hyvärinen 2005; eq. 12). By parts, −∫ s·∇q dx = ∫ q tr ∇s dx where q vanishes at infinity, so

    E_q ½|s − ∇ ln q|² = E_q [½|s|² + tr ∇s] + c,                c = ½ E_q |∇ ln q|².

*Sliced* (Song et al. 2019; eq. 13). If E vvᵀ = I then E vᵀ∇s v = tr ∇s and E (vᵀs)² = |s|²: one derivative for D.

*Denoising* (Vincent 2011; eq. 14). The noised density q_σ has ∇ ln q_σ(x̃) = E[∇ ln q_σ(x̃ | x) | x̃]: regress on it,

    E ½|s(x̃) − ∇ ln q_σ(x̃)|² = E ½|s(x̃) + ε/σ|² − c,           x̃ = x + σε,      c = ½ (D/σ² − E |∇ ln q_σ|²).

No derivative of s is left, but s learns the score of q_σ, not of q, from targets ε/σ: the noise of the loss grows as
D/(2σ⁴) when σ → 0.

*Multi-noise* (Song & Ermon 2019; eq. 17) and *SDE-weighted* (Song et al. 2021; eq. 23). One network s(x, σ) or s(x, t)
for all levels, each weighted by λ. λ = sigma_t² takes the 1/sigma_t out of the target, and with ε_θ = −sigma_t s it is
DDPM's loss (Ho et al. 2020, algorithm 1):

    λ |s + ε/sigma_t|² = |sigma_t s + ε|² = |ε − ε_θ|².

λ = g²(t), the SDE's own, bounds the likelihood (Song, Durkan et al. 2021).

*Functional* (Zhang & Wonka 2024; eq. 51). The same regression, on x_0 in place of ε, at points where nothing was seen.

Every function returns the loss of each example (B,), from rows of x that never meet; the caller draws x, noise and
times, and takes the mean. The models must not mix rows either (no batch normalisation).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pdediff.schedules import Schedule

Field = Callable[[Tensor], Tensor]  # s(x): (B, D) -> (B, D)
NoisyField = Callable[[Tensor, Tensor], Tensor]  # s(x, level) of levels (B,): (B, D) -> (B, D)
SetDenoiser = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # D(context, f_t, t, query): (B, Q)


def explicit_score_matching(score: Field, x: Tensor) -> Tensor:
    """½|s|² + tr ∇s at x (B, D), the trace exact: (B,), eq. 12.

    Needs clean data and a twice differentiable network. One evaluation and D backward passes, all kept for another.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        s = score(x)
        trace = sum(_gradient(s[:, i], x)[:, i] for i in range(x.shape[1]))
        return s.square().sum(dim=1) / 2 + trace


def sliced_score_matching(score: Field, x: Tensor, v: Tensor) -> Tensor:
    """vᵀ∇s v + ½(vᵀs)² at x (B, D) along v (B, D) with E vvᵀ = I (normal, or signs): (B,), eq. 13.

    Needs clean data and a twice differentiable network. One evaluation and one backward pass, kept for another.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        along = (v * score(x)).sum(dim=1)
        return (v * _gradient(along, x)).sum(dim=1) + along.square() / 2


def denoising_score_matching(score: Field, x: Tensor, epsilon: Tensor, sigma: float) -> Tensor:
    """½|s(x̃) + ε/σ|² at x̃ = x + σε, for x and white ε (B, D): (B,), eq. 14. One evaluation.

    The score learnt is that of the noised density q_σ.
    """
    return (score(x + sigma * epsilon) + epsilon / sigma).square().sum(dim=1) / 2


def multi_noise(score: NoisyField, x: Tensor, epsilon: Tensor, sigma: Tensor, weight: Tensor | None = None) -> Tensor:
    """λ |s(x̃, σ) + ε/σ|² at x̃ = x + σε, for x and white ε (B, D) and σ (B,): (B,), eq. 17. One evaluation.

    With σ drawn from a ladder σ_1 … σ_N for each example the mean is that of eq. 17. The weight λ (B,) is σ² if None.
    """
    weight = sigma.square() if weight is None else weight
    x_t = x + sigma[:, None] * epsilon
    return weight * (score(x_t, sigma) + epsilon / sigma[:, None]).square().sum(dim=1)


def sde_weighted(
    score: NoisyField, schedule: Schedule, x_0: Tensor, epsilon: Tensor, t: Tensor, weight: Tensor | None = None
) -> Tensor:
    """λ |s(x_t, t) + ε/sigma_t|² at x_t = alpha_t x_0 + sigma_t ε, for x_0, ε (B, D), t (B,): (B,), eq. 23.

    One evaluation. The weight λ (B,) is sigma_t² if None; `likelihood_weight` is another.
    """
    alpha_t, sigma_t = schedule(t)
    weight = sigma_t.square() if weight is None else weight
    x_t = alpha_t[:, None] * x_0 + sigma_t[:, None] * epsilon
    return weight * (score(x_t, t) + epsilon / sigma_t[:, None]).square().sum(dim=1)


def likelihood_weight(schedule: Schedule, t: Tensor) -> Tensor:
    """g² = alpha_t² d(s²)/dt of the SDE dx = f x dt + g dw (eq. 21) that has the schedule's marginals, at t (B,): (B,).

    From d(sigma_t²)/dt = 2 f sigma_t² + g² with f = d ln alpha_t/dt and s = sigma_t/alpha_t.
    """
    with torch.enable_grad():
        t = t.detach().requires_grad_()
        alpha_t, sigma_t = schedule(t)
        return (alpha_t.square() * _gradient((sigma_t / alpha_t).square(), t)).detach()


def ddpm(epsilon_theta: NoisyField, schedule: Schedule, x_0: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
    """|ε − ε_θ(x_t, t)|² at x_t = alpha_t x_0 + sigma_t ε, for x_0, ε (B, D) and t (B,): (B,), algorithm 1.

    One evaluation.
    """
    alpha_t, sigma_t = (v[:, None] for v in schedule(t))
    return (epsilon - epsilon_theta(alpha_t * x_0 + sigma_t * epsilon, t)).square().sum(dim=1)


def functional(
    denoiser: SetDenoiser,
    schedule: Schedule,
    context: Tensor,
    f_0: Tensor,
    g: Tensor,
    t: Tensor,
    query: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
) -> Tensor:
    """w Σ_{i ∈ Q} |D[{x_j, f_t(x_j)}_{j ∈ C}, t, x_i] − f_0(x_i)|² with f_t = alpha_t f_0 + sigma_t g: (B,), eq. 51.

    One evaluation.

    Parameters
    ----------
    denoiser: D(context, f_t, t, query) -> values (B, Q) at the query points.
    schedule: of alpha_t and sigma_t.
    context: points x_j (B, C, d) where the noisy function is seen.
    f_0, g: the function and the noise there (B, C).
    t: times (B,).
    query: points x_i (B, Q, d) where it is asked for; the noise is not needed there.
    target: the function there (B, Q).
    weight: w (B,); 1 if None.

    """
    alpha_t, sigma_t = (v[:, None] for v in schedule(t))
    error = denoiser(context, alpha_t * f_0 + sigma_t * g, t, query) - target
    loss = error.square().sum(dim=1)
    return loss if weight is None else weight * loss


def _gradient(values: Tensor, x: Tensor) -> Tensor:
    """Each row's gradient of its own value (B,) with respect to x, differentiable."""
    return torch.autograd.grad(values.sum(), x, create_graph=True)[0]
