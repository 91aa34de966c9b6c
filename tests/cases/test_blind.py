"""From `infer:` to likelihoods with other parameters, and from kernels to what a run shows of them."""

from pathlib import Path

import pytest
import torch

from pdediff.cases.blind import Likelihoods, fitted_width, on_grid, parameters_of, with_parameters
from pdediff.cases.load import load_case
from pdediff.cases.method import build_method
from pdediff.cases.problem import build_problem
from pdediff.denoisers.kernel_prior import gaussian_kernel
from pdediff.likelihoods.convolution import kernel_width
from pdediff.noise import Generators

METHODS = Path(__file__).parents[2] / "cases" / "methods"
EM = METHODS / "diffusion-em.yaml"


def test_a_case_with_other_parameters():
    """Width, gain and boundary value go where they belong; the case itself stays what it was."""
    blur = load_case(METHODS / "blind-dps.yaml")
    other = with_parameters(blur, {"width": 0.1, "gain": 3.0})
    assert other.observations.sensors[0].operator[0].width == 0.1
    assert other.observations.sensors[0].gain == 3.0
    assert blur.observations.sensors[0].operator[0].width == 0.05
    heads = load_case(EM)
    assert with_parameters(heads, {"left": 7.5}).boundary.left.value == 7.5
    assert parameters_of(heads) == {"left": 10.0}
    assert parameters_of(blur) == {"width": 0.05}


def test_likelihoods_at_the_true_parameters_are_the_problems_own():
    """The same log p(y | x_0), to rounding; at others it is another, and one that was asked for twice is kept."""
    case = load_case(EM, ["grid.shape=[16, 16]"])
    problem = build_problem(case)
    likelihoods = Likelihoods(case, problem, torch.device("cpu"))
    x_0 = torch.randn(2, problem.prior.denoiser.space.dimension, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(likelihoods({"left": 10.0}).log_prob(x_0), problem.likelihood.log_prob(x_0))
    assert not torch.allclose(likelihoods({"left": 9.0}).log_prob(x_0), problem.likelihood.log_prob(x_0))
    assert likelihoods({"left": 9.0}) is likelihoods({"left": 9.0})


@pytest.mark.parametrize("width", [0.8, 1.7])
def test_a_kernels_width_and_its_place_on_the_grid(width):
    """Errors of 2 % of its peak, all over the square, hardly change the width of the nearest Gaussian; a kernel in the
    middle of the grid still sums to one, and is as wide as it was."""
    kernel = gaussian_kernel(11, width)[None]
    noise = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0), dtype=kernel.dtype)
    noisy = kernel + 0.02 * kernel.max() * noise
    assert float(fitted_width(noisy)) == pytest.approx(width, rel=0.04)
    field = on_grid(kernel, (32, 20))
    assert field.shape == (1, 32, 20)
    assert float(field.sum()) == pytest.approx(1)
    assert float(kernel_width(field[:, :, :20][:, 6:26])) == pytest.approx(float(kernel_width(kernel)))


def test_samples_of_a_blind_case_do_not_depend_on_the_batch():
    """Sample 1 alone, and beside three others: parameters depend on the seed, noise on the sample's number as well."""
    few = {
        "blind-dps": ["guidance.levels=10"],
        "diffusion-em": ["guidance.levels=4", "guidance.particles=2", "guidance.iterations=2"],
    }
    for name, short in few.items():
        case = load_case(METHODS / f"{name}.yaml", [*short, "grid.shape=[12, 12]"])
        drawn = []
        for indices in ([1], [0, 1, 2, 3]):
            method = build_method(case, build_problem(case))
            with torch.no_grad():
                drawn.append(method(Generators(3, indices), lambda level, count: None)[indices.index(1)])
        torch.testing.assert_close(*drawn, rtol=2e-2, atol=2e-3)  # float32, through ill-conditioned inner solves
