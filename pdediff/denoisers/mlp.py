"""`MLPDenoiser`: a perceptron for points in R^d, small enough to be trained inside an example or a test.

D(x, s) = mean + c_skip (x − mean) + c_out F(c_in (x − mean), c_noise, c) with the preconditioning that all networks
share (Karras et al. 2022). F is a stack of residual layers h ← h + silu(W h + e), where e embeds s and c.

One network holds the prior and the conditional denoiser of classifier-free guidance (Ho & Salimans 2022): a condition c
that is withheld is a null token of its own, E[x_0 | x_t]; given, E[x_0 | x_t, c]. Withhold a tenth or so of them in
training.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdediff.denoisers.base import Preconditioning, WhiteErrorLaw, batch_times, white_error_law
from pdediff.denoisers.unet import NoiseEmbedding
from pdediff.schedules import FunctionalSchedule, Schedule, noise_to_signal
from pdediff.spaces import Space


class MLPDenoiser(nn.Module):
    """Network denoiser of points x_0 (B, D). Untrained, it is the best linear one: D = c_skip x about the mean.

    Parameters
    ----------
    space: the space of x_0; points in R^d are `FunctionSpace(("x",), (1, d))`.
    sigma_data: standard deviation of x_0 about `mean`.
    width, depth: of the residual layers.
    labels: size of the condition (number of labels, or length of a vector); 0 for a denoiser without one.
    mean: mean of x_0.
    schedule: the schedule in which t is given; functional if None.

    """

    def __init__(
        self,
        space: Space,
        sigma_data: float,
        width: int = 64,
        depth: int = 3,
        labels: int = 0,
        mean: float = 0.0,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__()
        self.space, self.schedule, self.labels = space, schedule or FunctionalSchedule(), labels
        self.preconditioning = Preconditioning(sigma_data, mean)
        self.sigma_data, self.mean = sigma_data, mean
        self.first = nn.Linear(space.dimension, width)
        self.noise = NoiseEmbedding(width)
        self.token = nn.Linear(labels + 1, width, bias=False)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.embed = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = nn.Linear(width, space.dimension)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, x_t: Tensor, t: Tensor | float, query: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """E[x_0 | x_t, condition] of x_t (B, D) at time t, a number or (B,): (B, D).

        The condition is a label (B,) or a vector (B, labels); a label −1 or a vector of NaN withholds that of a row,
        None all of them. Raises ValueError for another shape, and for query points.
        """
        if query is not None:
            raise ValueError("a denoiser of points has no query points")
        t = batch_times(t, x_t)
        return self.denoise(x_t / self.schedule(t)[0][:, None], noise_to_signal(self.schedule, t), condition)

    def denoise(self, x: Tensor, s: Tensor, condition: Tensor | None = None) -> Tensor:
        """Denoise x = x_0 + s g (B, D) of ratios s (B,), same shape; the condition as above."""
        *scales, c_noise = self.preconditioning.coefficients(s)
        c_skip, c_out, c_in = (c[:, None] for c in scales)
        dtype = self.last.weight.dtype
        embedding = functional.silu(self.noise(c_noise.to(dtype)) + self.token(self._tokens(condition, x).to(dtype)))
        h = self.first(((x - self.mean) * c_in).to(dtype))
        for layer, embed in zip(self.layers, self.embed, strict=True):
            h = h + functional.silu(layer(h) + embed(embedding))
        return self.mean + c_skip * (x - self.mean) + c_out * self.last(h).to(x.dtype)

    def loss(self, x_0: Tensor, g: Tensor, s: Tensor, condition: Tensor | None = None) -> Tensor:
        """Denoising loss of each sample (B,): |D − x_0|²/c_out², averaged over its values; x_0 and g (B, D), s (B,)."""
        c_out = self.preconditioning.coefficients(s)[1]
        error = self.denoise(x_0 + s[:, None] * g, s, condition) - x_0
        return error.square().mean(dim=1) / c_out.square()

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Five standard deviations about the mean."""
        return torch.tensor(self.mean - 5 * self.sigma_data), torch.tensor(self.mean + 5 * self.sigma_data)

    @property
    def noise_range(self) -> tuple[float, float]:
        """From a fiftieth of sigma_data to ten times the reach √D sigma_data of x_0."""
        return 0.02 * self.sigma_data, 10 * self.space.dimension**0.5 * self.sigma_data

    def error_law(self, x_0: Tensor, t: float) -> WhiteErrorLaw:
        """White errors, as of white data of deviation sigma_data."""
        return white_error_law(noise_to_signal(self.schedule, t), self.sigma_data, self.space.dimension)

    def _tokens(self, condition: Tensor | None, x: Tensor) -> Tensor:
        """(B, labels + 1): the condition, a label as a unit vector, and whether it is given; zeros where it is not."""
        if condition is None:
            return x.new_zeros(len(x), self.labels + 1)
        if self.labels and condition.shape == x.shape[:1]:
            given = condition >= 0
            vector = functional.one_hot(condition.long().clamp(min=0), self.labels).to(x)
        elif self.labels and condition.shape == (len(x), self.labels):
            given, vector = ~condition.isnan().any(dim=1), condition
        else:
            raise ValueError(f"a condition of shape {tuple(condition.shape)} for a denoiser with {self.labels} labels")
        return torch.cat([vector.where(given[:, None], 0.0), given[:, None]], dim=1)
