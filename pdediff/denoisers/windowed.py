"""`WindowedDenoiser`: a denoiser of a small grid on one several times as large.

The large grid is covered with overlapping windows k of the small one's shape; R_k x is the part of x in window k. At
every noise level each window predicts its own part, and the prediction at a cell is the weighted mean of those of the
windows that hold it,

    D(x_t, t) = Σ_k R_kᵀ p_k D_w(R_k x_t, t),        Σ_k R_kᵀ p_k = 1.

It is the field that all windows agree with best, argmin_x Σ_k ‖√p_k (R_k x − D_w(R_k x_t, t))‖² (MultiDiffusion,
Bar-Tal et al. 2023). As they are brought together at every step, and not at the end, no seam is left between them.
SyncDiffusion (Lee et al. 2023) adds the gradient of a loss between the windows' predictions, which can tie windows that
do not overlap: guidance by any differentiable loss.

The mean of two predictions that err differently varies too little, and the window that sees most around a cell is the
one to ask: p_k ∝ d^8, d being the distance to the window's edge (along x times along y). The model of the error is put
together with weights q_k ∝ d, which fall slowly, so that neighbours stay correlated across their fall,

    L w = Σ_k R_kᵀ √q_k L_k w_k,        L Lᵀ = Σ_k R_kᵀ √q_k C_k √q_k R_k,        Σ_k R_kᵀ q_k = 1.

What is lost is what a window cannot see. For a Matérn field (smoothness 3/2, range ℓ of 2 to 4 cells) on 48 cells in a
row, in windows of 16, the probability flow gives at worst, at the seams and relative to the whole field's denoiser,

    overlap / ℓ                         0          1             2              3               4
    variance                            0        −5 %          −1 %     −0.1 to −0.4 %       < −0.1 %
    covariance of neighbours       −100 %        −8 %          −1 %     −0.2 to −0.4 %       < −0.1 %

Correlation beyond a window is passed on from window to window, and fades: of the covariance at 16 cells (0.8 % of the
variance for ℓ = 4) half is left with an overlap of 3 ℓ, none without overlap. A prior that knows of walls, or of where
it is, repeats them in every window: it should be trained on crops.
"""

import itertools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser, ErrorLaw, batch_times
from pdediff.schedules import Schedule
from pdediff.spaces import FunctionSpace

SHARPNESS = 8  # the power of d in p_k


class Windows:
    """Windows on a grid: R_k and R_kᵀ, for functions of several channels.

    Along each axis windows follow each other at equal steps; the last one is moved back to the edge of the grid.

    Parameters
    ----------
    shape: (ny, nx) of the grid.
    window: (h, w) of a window, at most the grid's.
    overlap: (y, x) cells that neighbours share, at least; less than the window's.
    channels: fields of x.

    """

    def __init__(
        self, shape: tuple[int, int], window: tuple[int, int], overlap: tuple[int, int], channels: int
    ) -> None:
        self.shape, self.window, self.overlap, self.channels = shape, window, overlap, channels
        axes = zip(shape, window, overlap, strict=True)
        rows, columns = ([*range(0, n - w, w - o), n - w] for n, w, o in axes)
        first = torch.tensor([j * shape[1] + i for j, i in itertools.product(rows, columns)])
        height, width = (torch.arange(w) for w in window)
        points = first[:, None] + (height[:, None] * shape[1] + width).flatten()
        channel = torch.arange(channels)[:, None] * shape[0] * shape[1]
        self.index = (points[:, None] + channel).flatten(1)  # (windows, values of a window), places in x

    def __len__(self) -> int:
        return len(self.index)

    def cut(self, x: Tensor) -> Tensor:
        """R_k x for all k: (..., D) -> (..., windows, D_w)."""
        return x.index_select(-1, self.index.flatten().to(x.device)).unflatten(-1, self.index.shape)

    def paste(self, parts: Tensor) -> Tensor:
        """Σ_k R_kᵀ parts_k: (..., windows, D_w) -> (..., D)."""
        x = parts.new_zeros(*parts.shape[:-2], self.channels * self.shape[0] * self.shape[1])
        return x.index_add(-1, self.index.flatten().to(parts.device), parts.flatten(-2))

    def partition(self, power: float) -> Tensor:
        """Weights ∝ d^power (windows, D_w), whose sum at every cell is one."""
        places = (torch.arange(w, dtype=torch.float64) + 0.5 for w in self.window)
        height, width = (torch.minimum(d, len(d) - d) / len(d) for d in places)
        weight = (height[:, None] * width).flatten().repeat(self.channels).pow(power).expand(self.index.shape)
        return weight / self.cut(self.paste(weight))


@dataclass
class WindowedDenoiser:
    """E[x_0 | x_t] on a grid as large as you like, from a denoiser of one grid and overlapping windows.

    Parameters
    ----------
    denoiser: the denoiser of a window.
    shape: (ny, nx) of the large grid, at least the window's; its cells are of the same size.
    overlap: cells that neighbouring windows share, or (y, x); three ranges of the field or more leave no visible seam.
    most_windows: most windows (of all samples) to denoise at once; all of them by default.

    Raises
    ------
    ValueError: a denoiser whose fields are on several grids, a grid smaller than the window, an overlap that is
        negative or as large as the window, or no window at once.

    """

    denoiser: Denoiser
    shape: tuple[int, int]
    overlap: int | tuple[int, int]
    most_windows: int | None = None
    space: FunctionSpace = field(init=False)
    windows: Windows = field(init=False)

    def __post_init__(self) -> None:
        small = self.denoiser.space
        if not isinstance(small, FunctionSpace):
            raise ValueError(f"windows need a denoiser on one grid, not on {small}")
        overlap = (self.overlap, self.overlap) if isinstance(self.overlap, int) else self.overlap
        if any(n < w for n, w in zip(self.shape, small.shape, strict=True)):
            raise ValueError(f"a grid of {self.shape} is smaller than the window, {small.shape}")
        if any(not 0 <= o < w for o, w in zip(overlap, small.shape, strict=True)):
            raise ValueError(f"the overlap must be at least 0 and less than the window, {small.shape}, not {overlap}")
        if self.most_windows is not None and self.most_windows < 1:
            raise ValueError(f"at least one window must be denoised at once, not {self.most_windows}")
        self.space = FunctionSpace(small.fields, self.shape, small.cell_area, small.noise)
        with torch.inference_mode(False):  # kept tensors must serve autograd too
            self.windows = Windows(self.shape, small.shape, overlap, small.channels)
            self._p, self._root_q = self.windows.partition(SHARPNESS), self.windows.partition(1).sqrt()

    @property
    def schedule(self) -> Schedule:
        """The schedule in which t is given."""
        return self.denoiser.schedule

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Those of the windows, averaged as predictions are: () or (D,)."""
        low, high = self.denoiser.bounds
        return self._average(low), self._average(high)

    @property
    def noise_range(self) -> tuple[float, float]:
        """That of a window: no mode of L is larger than the largest in a window, since Σ_k R_kᵀ q_k = 1."""
        return self.denoiser.noise_range

    def __call__(
        self, x_t: Tensor, t: Tensor | float, query: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """E[x_0 | x_t]: (B, D) -> (B, D); every window of a sample has its condition.

        Raises ValueError for query points.
        """
        if query is not None:
            raise ValueError("a windowed denoiser answers on its grid")
        count = len(self.windows)
        parts = self.windows.cut(x_t).flatten(0, 1)
        times = batch_times(t, x_t).repeat_interleave(count)
        conditions = None if condition is None else condition.repeat_interleave(count, dim=0)
        chunks = torch.arange(len(parts), device=x_t.device).split(self.most_windows or len(parts))
        predictions = [
            self.denoiser(parts[c], times[c], condition=None if conditions is None else conditions[c]) for c in chunks
        ]
        return self._average(torch.cat(predictions).unflatten(0, (len(x_t), count)))

    def error_law(self, x_0: Tensor, t: float) -> "WindowedErrorLaw":
        """The windows' laws about their parts of the predictions x_0 (B, D), put together as above."""
        law = self.denoiser.error_law(self.windows.cut(x_0).flatten(0, 1), t)
        return WindowedErrorLaw(law, self.windows, self._root_q.to(x_0))

    def _average(self, parts: Tensor) -> Tensor:
        """Σ_k R_kᵀ p_k parts_k; what is the same everywhere () stays so."""
        return self.windows.paste(self._p.to(parts) * parts) if parts.dim() else parts


@dataclass(frozen=True)
class WindowedErrorLaw(ErrorLaw):
    """L w = Σ_k R_kᵀ √q_k L_k w_k.

    Parameters
    ----------
    law: the windows' laws; its rows are the windows of the first sample, of the second, and so on.
    windows: where they are.
    root_q: √q_k (windows, D_w).

    """

    law: ErrorLaw
    windows: Windows
    root_q: Tensor

    @property
    def dimension(self) -> int:
        """K = windows × K of one of them."""
        return len(self.windows) * self.law.dimension

    def root(self, w: Tensor) -> Tensor:
        """L w: (..., B, K) -> (..., B, D)."""
        parts = self.law.root(w.unflatten(-1, (len(self.windows), -1)).flatten(-3, -2))
        return self.windows.paste(self.root_q * parts.unflatten(-2, (-1, len(self.windows))))

    def root_transposed(self, v: Tensor) -> Tensor:
        """Lᵀ v: (..., B, D) -> (..., B, K)."""
        parts = self.law.root_transposed((self.root_q * self.windows.cut(v)).flatten(-3, -2))
        return parts.unflatten(-2, (-1, len(self.windows))).flatten(-2)

    def marginal(self, part: slice) -> "WindowedErrorLaw":
        """The law of one or several whole channels."""
        whole = self.windows
        points, size = whole.shape[0] * whole.shape[1], whole.window[0] * whole.window[1]
        start, stop, _ = part.indices(whole.channels * points)
        first, last = start // points, stop // points
        inner = slice(first * size, last * size)
        windows = Windows(whole.shape, whole.window, whole.overlap, last - first)
        return WindowedErrorLaw(self.law.marginal(inner), windows, self.root_q[:, inner])
