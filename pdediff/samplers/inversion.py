"""DDIM inversion: from x_0 to the x_T that the deterministic flow draws it from (§2.4; Song, Meng & Ermon 2021, §4.3).

Without noise x_0 is a function of x_T, so that x_T is a latent value of x_0: fields are compared, mixed and varied
there, under the prior that the denoiser knows. The way up is the sampler's own rule, with the ladder turned round; a
step up uses the slope at its lower end and the step down that at its upper, so the round trip x_0 → x_T → x_0 is not
exact:

    DDIM(eta=0)    its error is first order in the number of levels;
    Heun           third: the errors of a second-order rule up and down cancel to their leading order.

The sampler's last move, x_0 = D(x_t) at the smallest level, has no step to be turned round. Its inverse is found to
second order as alpha_t (x_0 + (x_0 − D(alpha_t x_0))): for a prior N(m, λ) in a mode the round trip keeps
1 − (s²/(λ + s²))² of x_0 − m however many levels there are. Modes below the noise, λ < s_min², are not in x_T.

For that prior the flow is known, x_T/alpha_T − m = (x_0 − m) √((λ + s_max²)/λ) as s_min → 0; divided by
√(λ + s_max²) it is standard normal, and any mixture z = Σ w_i z_i with Σ w_i² = 1 of such latents is one again.
"""

from itertools import pairwise

from torch import Tensor

from pdediff.noise import Generators
from pdediff.samplers.base import ConditionalMean, finite
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.heun import Heun


def invert(denoiser: ConditionalMean, x_0: Tensor, times: Tensor, flow: DDIM | Heun | None = None) -> Tensor:
    """The x_T that leads to x_0.

    Parameters
    ----------
    denoiser: E[x_0 | x_t] of the law that x_0 is seen under.
    x_0: clean fields (B, D).
    times: the falling times (N,) of the sampler that is to be inverted.
    flow: that sampler; DDIM(eta=0) unless given.

    Returns
    -------
    x_T (B, D), at times[0]. Costs two evaluations a step with Heun, one with DDIM, and one at the bottom.

    Raises
    ------
    ValueError: a stochastic flow: DDIM with eta > 0.
    ConvergenceError: a latent is not finite.

    """
    flow = DDIM() if flow is None else flow
    if isinstance(flow, DDIM) and flow.eta > 0:
        raise ValueError(f"only deterministic sampling can be inverted, not eta = {flow.eta:g}")
    nobody = Generators(seed=0, indices=())  # a deterministic step draws nothing
    alpha_t = denoiser.schedule(times[-1])[0]
    x_t = alpha_t * (2 * x_0 - denoiser(alpha_t * x_0, times[-1]))
    for s, t in pairwise(times.flip(0)):
        x_t = flow.step(denoiser, x_t, s, t, nobody)
    return finite(x_t)
