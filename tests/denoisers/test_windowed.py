"""Windows that agree at every step, against the whole field's own denoiser.

A Gaussian window denoiser is linear, so a deterministic sampler is a matrix M and its samples have the covariance
s_max² Mᵀ M: what the windows cost is computed by algebra, without Monte-Carlo error, and without the sampler's own
error by comparison with the same sampler on the whole field. The law is a stationary Matérn field (smoothness 3/2).
"""

import itertools
import math
from functools import cache

import pytest
import torch
from closed_forms import LinearLikelihood, condition_gaussian

from pdediff.datasets.dense_field import dense_variogram
from pdediff.datasets.random_fields import CosineField
from pdediff.datasets.variograms import Variogram
from pdediff.denoisers.base import BlockErrorLaw, WhiteErrorLaw
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.product import ProductDenoiser
from pdediff.denoisers.windowed import WindowedDenoiser, Windows
from pdediff.guidance.proximal import InnerSolve
from pdediff.guidance.renoise import Annealing, renoise
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.heun import Heun
from pdediff.schedules import VESchedule, levels
from pdediff.solvers.grid import Grid
from pdediff.spaces import FunctionSpace


def matern(shape, length):
    """The closed-form denoiser of a field of unit variance, its range in cells."""
    grid = Grid(shape, x=(0, shape[1]), y=(0, shape[0]))
    law = dense_variogram(Variogram("matern", range=length, smoothness=1.5), grid)
    return GaussianDenoiser(law, FunctionSpace(("x",), shape), schedule=VESchedule())


def covariance(denoiser):
    """The prior's covariance, dense."""
    d = denoiser.space.dimension
    return denoiser.covariance.apply(torch.eye(d, dtype=torch.float64).reshape(d, *denoiser.space.shape)).flatten(1)


def units(denoiser):
    return torch.eye(denoiser.space.dimension, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SMALL, WHOLE = matern((4, 16), 2.0), matern((4, 48), 2.0)


class Pair:
    """A denoiser of two fields: x_t/2 plus a condition, and the half of it; with errors of two deviations."""

    def __init__(self, shape=(3, 4)):
        self.space = FunctionSpace(("a", "u"), shape, cell_area=0.5)
        self.schedule, self.noise_range, self.calls = VESchedule(), (0.1, 9.0), []
        steps = torch.arange(float(self.space.dimension))
        self.bounds = -steps, steps

    def __call__(self, x_t, t, query=None, condition=None):
        self.calls.append(len(x_t))
        shift = 0 if condition is None else condition
        return torch.cat([x_t[:, :12] / 2 + shift, (x_t[:, 12:] / 4 + shift) / t[:, None]], dim=1)

    def error_law(self, x_0, t):
        return BlockErrorLaw((WhiteErrorLaw(2.0, 12), WhiteErrorLaw(t, 12)), (12, 12))


SHAPES = [
    ((16, 16), (16, 16), (0, 0)),
    ((4, 48), (4, 16), (0, 8)),
    ((23, 31), (8, 9), (3, 4)),
    ((17, 17), (16, 16), (1, 15)),
]


@pytest.mark.parametrize(("shape", "window", "overlap"), SHAPES)
def test_windows_cover_the_grid(shape, window, overlap):
    """Any grid is covered by windows that lie inside it and overlap as asked; both partitions of unity sum to one, and
    `paste` is the transpose of `cut`, for two channels."""
    windows = Windows(shape, window, overlap, channels=2)
    cells = math.prod(shape)
    index = windows.index[:, : math.prod(window)].unflatten(1, window)
    assert torch.equal(windows.index[:, math.prod(window) :], index.flatten(1) + cells)
    rows, columns = index[:, :, 0] // shape[1], index[:, 0] % shape[1]
    for axis, places in enumerate((rows, columns)):
        assert bool((places.diff(dim=1) == 1).all())
        starts = places[:, 0].unique()
        assert int(starts[0]) == 0
        assert int(starts[-1]) == shape[axis] - window[axis]
        assert bool((starts.diff() <= window[axis] - overlap[axis]).all())
    for power in (1, 8):
        torch.testing.assert_close(windows.paste(windows.partition(power)), torch.ones(2 * cells, dtype=torch.float64))
    x, parts = normal(3, 2 * cells), normal(3, *windows.index.shape, seed=1)
    torch.testing.assert_close((windows.cut(x) * parts).sum(), (x * windows.paste(parts)).sum())


@pytest.mark.methods
def test_one_window_is_the_denoiser():
    """On the window's own grid nothing changes: predictions at a time for each row, errors, bounds, and ladder."""
    one, x_t, t = WindowedDenoiser(SMALL, (4, 16), 3), normal(3, 64), torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64)
    torch.testing.assert_close(one(x_t, t), SMALL(x_t, t), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(one.error_law(x_t, 0.7).root(x_t), SMALL.error_law(x_t, 0.7).root(x_t))
    assert one.space == SMALL.space
    assert (one.bounds, one.noise_range, one.schedule) == (SMALL.bounds, SMALL.noise_range, SMALL.schedule)


@pytest.mark.methods
@pytest.mark.parametrize("overlap", [0, (1, 3), 5])
def test_independent_cells_need_no_window(overlap):
    """For a white prior every cell is denoised on its own: windows of any overlap give the whole field's denoiser and
    its error law exactly, on a grid that they do not fit."""
    small, whole = (
        GaussianDenoiser(CosineField(shape, torch.full(shape, 2.0)), FunctionSpace(("x",), shape), mean=0.3)
        for shape in ((6, 8), (11, 21))
    )
    windowed, x_t = WindowedDenoiser(small, (11, 21), overlap), normal(4, 231)
    torch.testing.assert_close(windowed(x_t, 0.8), whole(x_t, 0.8), rtol=1e-13, atol=1e-13)
    law, exact = windowed.error_law(x_t, 0.8), whole.error_law(x_t, 0.8)
    torch.testing.assert_close(law.covariance(x_t), exact.covariance(x_t), rtol=1e-13, atol=1e-13)


@pytest.mark.methods
def test_error_law():
    """L has K columns for every window; Lᵀ is its transpose; L Lᵀ is Σ R_kᵀ √q_k C_k √q_k R_k, assembled densely, and
    its diagonal is the average of the windows' variances; no mode is larger than the largest in a window."""
    windowed = WindowedDenoiser(SMALL, (4, 40), (0, 8))
    x_0, w, v = normal(2, 160), normal(5, 2, 4 * 64, seed=1), normal(5, 2, 160, seed=2)
    law, small = windowed.error_law(x_0, 0.7), SMALL.error_law(x_0[:, :64], 0.7)
    assert law.dimension == 4 * 64
    torch.testing.assert_close((law.root(w) * v).sum(-1), (w * law.root_transposed(v)).sum(-1), rtol=1e-12, atol=1e-12)
    c, dense, mean = small.covariance(units(SMALL)), torch.zeros(160, 160).double(), torch.zeros(160).double()
    for index, q in zip(windowed.windows.index, windowed.windows.partition(1), strict=True):
        dense[index[:, None], index] += q.sqrt()[:, None] * c * q.sqrt()
        mean[index] += q * c.diagonal()
    torch.testing.assert_close(law.covariance(units(windowed)), dense, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(dense.diagonal(), mean, rtol=1e-12, atol=1e-13)
    assert float(torch.linalg.eigvalsh(dense)[-1]) <= float(torch.linalg.eigvalsh(c)[-1]) * (1 + 1e-12)


def test_several_fields():
    """Channels are cut and pasted side by side: predictions, errors of both fields and of one, bounds, the space."""
    windowed = WindowedDenoiser(Pair(), (5, 7), (1, 2))
    x, half = normal(2, 70), torch.tensor([1.0] * 35 + [0.5] * 35, dtype=torch.float64) / 2
    torch.testing.assert_close(windowed(x, 1.0), half * x)
    law = windowed.error_law(x, 0.5)
    torch.testing.assert_close(law.covariance(x), x * torch.tensor([4.0] * 35 + [0.25] * 35, dtype=torch.float64))
    for name, variance in (("a", 4.0), ("u", 0.25)):
        part = law.marginal(windowed.space.part(name))
        torch.testing.assert_close(part.covariance(x[:, :35]), variance * x[:, :35])
    low, high = windowed.bounds
    torch.testing.assert_close(low, -high)
    assert high[[0, 6, 34, 35, 69]].tolist() == pytest.approx([0, 3, 11, 12, 23])  # a window's corners are the grid's
    assert (windowed.space.fields, windowed.space.shape, windowed.space.cell_area) == (("a", "u"), (5, 7), 0.5)


def test_chunks_times_and_conditions():
    """A sample's windows all have its time and its condition, and a few at once give what all at once give."""
    x, t, shift = normal(3, 70), torch.tensor([1.0, 2.0, 4.0]), torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    for most, calls in ((None, [18]), (7, [7, 7, 4])):
        windowed = WindowedDenoiser(Pair(), (5, 7), (1, 2), most_windows=most)
        expected = torch.cat([x[:, :35] / 2 + shift, (x[:, 35:] / 4 + shift) / t[:, None]], dim=1)
        torch.testing.assert_close(windowed(x, t, condition=shift), expected)
        assert windowed.denoiser.calls == calls


def test_gradients():
    """Guidance differentiates through the windows, also where they were made in inference mode: the vector–Jacobian
    product of a linear denoiser is that of its matrix."""
    with torch.inference_mode():
        windowed = WindowedDenoiser(SMALL, (4, 40), (0, 8))
    x_t, v = normal(2, 160).requires_grad_(), normal(2, 160, seed=1)
    (product,) = torch.autograd.grad(windowed(x_t, 0.7), x_t, v)
    torch.testing.assert_close(product, v @ windowed(units(windowed), 0.7).T)


@pytest.mark.methods
def test_prediction_approaches_the_whole_field_s():
    """At s = 1 the error that the windows add to E[x_0 | x_t] (root mean square over the law of x_t, at the worst cell)
    is 0.43 of the posterior's own standard deviation without overlap; each range of overlap divides it by 2.5 to 5."""
    error, s = [], 1.0
    law_of_x_t = covariance(WHOLE) + s**2 * units(WHOLE)
    for overlap in (0, 2, 4, 6, 8):
        difference = WindowedDenoiser(SMALL, (4, 48), (0, overlap))(units(WHOLE), s) - WHOLE(units(WHOLE), s)
        error.append(float((difference.T @ law_of_x_t @ difference).diagonal().max().sqrt()))
    deviation = WHOLE.error_law(units(WHOLE), s).covariance(units(WHOLE)).diagonal().max().sqrt()
    assert error[0] / float(deviation) == pytest.approx(0.43, abs=0.01)
    assert all(2.5 < before / after < 5 for before, after in itertools.pairwise(error))


def flow(denoiser):
    """Covariance of samples of the probability flow on a ladder of 40 levels from 20 times the noise range."""
    times = levels(VESchedule(), 40 * WHOLE.noise_range[1], 0.02, 40)
    m = Heun()(denoiser, times[0] * units(denoiser), times, Generators(0, []))
    return m.T @ m


@cache
def exact_flow():
    return flow(WHOLE)


def along(matrix, lag):
    """Covariances of cells `lag` apart in one of the four rows."""
    return matrix.reshape(4, 48, 4, 48)[2, :, 2].diagonal(offset=lag)


@pytest.mark.methods
@pytest.mark.parametrize(
    ("overlap", "variance", "neighbours"),
    [(2, -0.041, -0.083), (4, -0.0059, -0.0109), (6, -0.0010, -0.0017), (8, -0.00024, -0.00043)],
)
def test_statistics_of_seams(overlap, variance, neighbours):
    """Range ℓ = 2, overlaps of ℓ to 4 ℓ: the largest relative loss of variance, and of covariance of neighbours, is the
    documented one (to a tenth). It is found at the seams; there is no gain, and no loss far from them."""
    samples = flow(WindowedDenoiser(SMALL, (4, 48), (0, overlap)))
    for lag, documented in ((0, variance), (1, neighbours)):
        loss = along(samples, lag) / along(exact_flow(), lag) - 1
        assert float(loss.min()) == pytest.approx(documented, rel=0.1)
        assert float(loss.max()) <= 1e-12
        assert float(loss[:3].abs().max()) < 1e-3 * abs(documented)


@pytest.mark.methods
def test_without_overlap_a_seam_is_seen():
    """The variance is right everywhere, but the field on one side of a seam is independent of that on the other: every
    covariance across is zero, where neighbours should have 0.79 of the variance."""
    samples = flow(WindowedDenoiser(SMALL, (4, 48), 0))
    torch.testing.assert_close(along(samples, 0), along(exact_flow(), 0), rtol=1e-3, atol=0)
    assert float(samples.reshape(4, 48, 4, 48)[:, :16, :, 16:].abs().max()) < 1e-12
    assert float(along(covariance(WHOLE), 1)[15]) == pytest.approx(0.785, abs=0.001)


@pytest.mark.methods
def test_correlation_beyond_a_window():
    """Cells a window apart never meet in one prediction. With an overlap of 3 ℓ about half of their covariance (ℓ = 4:
    0.008 of the variance) is passed on from window to window; without overlap nothing is."""
    small, whole = matern((4, 16), 4.0), matern((4, 48), 4.0)
    kept = along(flow(WindowedDenoiser(small, (4, 48), (0, 12))), 16) / along(flow(whole), 16)
    assert 0.4 < float(kept.min()) < float(kept.max()) < 0.7
    assert float(along(flow(WindowedDenoiser(small, (4, 48), 0)), 16).abs().max()) < 1e-12


@pytest.mark.methods
@pytest.mark.parametrize("sampler", [Heun(), DDIM(eta=1.0)], ids=["probability flow", "ancestral"])
def test_samples_are_those_of_the_whole_field(sampler):
    """Windows in both directions, meeting in corners: from the same noise, 9 windows and the whole field's denoiser
    draw the same samples to 4 % of their standard deviation; variance and covariance of neighbours at the seams are
    those of interiors, and of the whole field's samples, within 4 Monte-Carlo errors of the differences."""
    small, whole = matern((12, 12), 1.5), matern((28, 28), 1.5)
    windowed, times, draws = WindowedDenoiser(small, (28, 28), 4), levels(VESchedule(), 60.0, 0.05, 24), 200
    x, z = (
        sampler(d, pure_noise(d, times[0], Generators(0, range(draws))), times, Generators(1, range(draws))).unflatten(
            1, (28, 28)
        )
        for d in (whole, windowed)
    )
    assert float((x - z).square().mean().sqrt() / x.std()) < 0.04
    seam = torch.zeros(28, dtype=torch.bool)
    seam[[9, 10, 17, 18]] = True  # the middles of the overlaps are the walls 10 and 18
    for product in (z.square(), z[:, :, 1:] * z[:, :, :-1], z[:, 1:] * z[:, :-1]):
        at_seams = product[:, seam[: product.shape[1]]].mean(dim=(1, 2))
        inside = product[:, ~seam[: product.shape[1]]].mean(dim=(1, 2))
        difference = at_seams - inside
        assert abs(float(difference.mean())) < 4 * float(difference.std()) / draws**0.5
    for own, other in ((z.square(), x.square()), (z[:, :, 9] * z[:, :, 10], x[:, :, 9] * x[:, :, 10])):
        difference = (own - other).flatten(1).mean(dim=1)
        assert abs(float(difference.mean())) < 4 * float(difference.std()) / draws**0.5 + 0.01


def across_seams(overlap):
    """Kriging on 8 × 28 cells (range 1.5), data on either side of seams: a windowed prior and the dense posterior."""
    windowed = WindowedDenoiser(matern((8, 12), 1.5), (8, 28), (0, overlap))
    means = torch.zeros(3, 8, 28, dtype=torch.float64)
    means[0, 2:6, 8:12], means[1, 2:6, 17:21], means[2, 4] = 1 / 16, 1 / 16, 1 / 28
    points = units(windowed)[torch.randperm(224, generator=torch.Generator().manual_seed(0))[:12]]
    operator = torch.cat([points, means.flatten(1)]) / 0.1
    prior = covariance(matern((8, 28), 1.5))
    y = operator @ torch.linalg.cholesky(prior) @ normal(224, seed=1) + normal(15, seed=2)
    posterior = condition_gaussian(torch.zeros(224, dtype=torch.float64), prior, operator, y)
    return windowed, LinearLikelihood(operator, y), *posterior


@pytest.mark.methods
def test_kriging_across_seams():
    """The flagship on windows, with data that straddle seams, against dense kriging. With 3000 draws and an overlap of
    2.7 ranges the mean is off by 0.02 posterior standard deviations (root mean square over the cells, without the
    Monte-Carlo error), the variance 0.5 % too small on average; without overlap it is 0.1, and 0.75 beside a seam. Here
    400 draws: 0.05 are Monte-Carlo error."""
    error = {}
    for overlap in (0, 4):
        windowed, likelihood, mu, posterior = across_seams(overlap)
        annealing = Annealing(levels=20, inner=InnerSolve(iterations=30, reduction=1e-5))
        z = renoise(windowed, likelihood, Generators(1, range(400)), annealing).double()
        error[overlap] = (z.mean(0) - mu) / posterior.diagonal().sqrt()
        variance = z.var(0) / posterior.diagonal()
    assert float(error[4].square().mean().sqrt()) < 0.08
    assert float(error[4].abs().max()) < 0.3
    assert abs(float(variance.mean()) - 1) < 0.03
    assert float(error[0].abs().max()) > 0.6


@pytest.mark.parametrize("method", ["probability flow", "ancestral", "renoise"])
def test_batch_independence(method):
    """Draw 5 alone is draw 5 of a batch of 8, to the rounding of single precision."""
    windowed, likelihood, *_ = across_seams(4)

    def draw(indices):
        generators = Generators(3, indices)
        if method == "renoise":
            return renoise(windowed, likelihood, generators, Annealing(levels=6))
        times = levels(VESchedule(), 20.0, 0.1, 8)
        sampler = Heun() if method == "probability flow" else DDIM(eta=1.0)
        return sampler(windowed, pure_noise(windowed, times[0], generators), times, generators)

    torch.testing.assert_close(draw([5])[0], draw(range(8))[5], rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"denoiser": ProductDenoiser((SMALL,))}, "one grid"),
        ({"shape": (4, 15)}, "smaller than the window"),
        ({"overlap": (0, 16)}, "less than the window"),
        ({"overlap": -1}, "at least 0"),
        ({"most_windows": 0}, "at least one window"),
    ],
)
def test_wrong_use(arguments, message):
    """One line says what is wrong."""
    with pytest.raises(ValueError, match=message):
        WindowedDenoiser(**{"denoiser": SMALL, "shape": (4, 48), "overlap": (0, 4)} | arguments)


def test_query_points_are_refused():
    """The windows answer on their cells."""
    with pytest.raises(ValueError, match="on its grid"):
        WindowedDenoiser(SMALL, (4, 48), 0)(normal(1, 192), 1.0, query=torch.zeros(1, 2))
