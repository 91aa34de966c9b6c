"""`GradientSearch` against the pseudoinverse: the data are met, and the rest is the noise that it started from."""

import pytest
import torch
from closed_forms import gaussian_problem

from pdediff.baselines.gradient_search import GradientSearch
from pdediff.noise import Generators
from pdediff.solvers.errors import ConvergenceError

pytestmark = pytest.mark.methods

PROBLEM = gaussian_problem(shape=(4, 4), points=3, averages=2, sigma=0.1)
H, Y, SPACE = PROBLEM.likelihood.operator, PROBLEM.likelihood.y, PROBLEM.denoiser.space


def starts(indices):
    return Generators(0, indices).normal(16, dtype=torch.float64)


def test_ends_in_the_solution_nearest_to_its_start():
    """x = x_start + H⁺(y − H x_start): five data of sixteen values are met, and noise stays where nothing was seen."""
    x = GradientSearch(SPACE, PROBLEM.likelihood, steps=15, dtype=torch.float64)(Generators(0, range(4)))
    start = starts(range(4))
    expected = start + (Y - start @ H.T) @ torch.linalg.pinv(H).T
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(x @ H.T, Y.expand(4, -1), rtol=1e-6, atol=1e-5)


def test_different_starts_agree_on_the_data_alone():
    """Over 60 starts the variance is 0 in the directions that the data see and 1, the noise's, in the others: of the
    posterior it knows neither the prior's variance nor the data's. (4 standard deviations of 11 × 60 squares.)
    """
    x = GradientSearch(SPACE, PROBLEM.likelihood, steps=15, dtype=torch.float64)(Generators(1, range(60)))
    _, _, v = torch.linalg.svd(H)
    seen, unseen = x @ v[:5].T, x @ v[5:].T
    assert float(seen.var(dim=0).max()) < 1e-8
    assert float(unseen.square().mean() - 1) == pytest.approx(0, abs=4 * (2 / (11 * 60)) ** 0.5)


def test_adam_meets_the_data_and_leaves_the_range():
    """Adam fits the data too, but not by the nearest solution: what it did not see has moved."""
    x = GradientSearch(SPACE, PROBLEM.likelihood, "adam", steps=800, dtype=torch.float64)(Generators(0, range(2)))
    torch.testing.assert_close(x @ H.T, Y.expand(2, -1), rtol=1e-3, atol=1e-2)
    _, _, v = torch.linalg.svd(H)
    assert float(((x - starts(range(2))) @ v[5:].T).norm()) > 0.1


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_rows_are_searched_alone(optimiser):
    """Draw 3 is bit for bit the same alone and in a batch of four, under inference mode too."""
    search = GradientSearch(SPACE, PROBLEM.likelihood, optimiser, steps=5)
    with torch.inference_mode():
        torch.testing.assert_close(search(Generators(0, range(4)))[3:], search(Generators(0, [3])), rtol=0, atol=0)


def test_tells_its_progress():
    """One word a step; no network is evaluated."""
    told, search = [], GradientSearch(SPACE, PROBLEM.likelihood, steps=3)
    search(Generators(0, [0]), lambda step, steps: told.append((step, steps)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert (search.levels, search.evaluations) == (3, 0)


def test_refuses_what_it_cannot_search():
    """An unknown optimiser; a likelihood that is not a number."""
    with pytest.raises(ValueError, match="'lbfgs' or 'adam'"):
        GradientSearch(SPACE, PROBLEM.likelihood, "newton")

    class Nothing:
        def log_prob(self, x_0):
            return x_0.sum(dim=1) * torch.nan

    with pytest.raises(ConvergenceError, match="1 of 1 samples are not finite"):
        GradientSearch(SPACE, Nothing(), "adam", steps=1)(Generators(0, [0]))
