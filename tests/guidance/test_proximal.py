"""The proximal step with linear data and a Gaussian law against dense linear algebra: no Monte Carlo.

There the step is affine in its perturbations, z = z(0) + M (w_0, e) with standard normal (w_0, e), so that a draw has
mean z(0) and covariance M Mᵀ. A batch of unit perturbations gives M, column by column. Float64, conjugate gradients to
1e-14.
"""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pdediff.guidance.proximal import InnerSolve, Sensitivities, data_space_cg, proximal_step

D, K, M = 12, 15, 7
EXACT = InnerSolve(iterations=3 * M, reduction=1e-14)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass
class DenseLaw:
    """C = L Lᵀ with a dense L (D, K)."""

    matrix: Tensor

    @property
    def dimension(self):
        return self.matrix.shape[1]

    def root(self, w):
        return w @ self.matrix.T

    def root_transposed(self, v):
        return v @ self.matrix

    def covariance(self, v):
        return self.root(self.root_transposed(v))


@dataclass
class LinearData:
    """F(x) = J x: misfit J x − y, in units of the noise."""

    jacobian: Tensor
    y: Tensor

    def linearise(self, x_0):
        return DenseMisfit(x_0 @ self.jacobian.T - self.y, self.jacobian)


@dataclass
class DenseMisfit:
    residual: Tensor
    jacobian: Tensor
    products: int = 0

    def tangent(self, dx):
        self.products += 1
        return dx @ self.jacobian.T

    def adjoint(self, data):
        return data @ self.jacobian


LAW, DATA = DenseLaw(normal(D, K) / 3), LinearData(normal(M, D, seed=1), normal(M, seed=2))
X_0, ABOUT = normal(D, seed=3), normal(D, seed=4)


def posterior():
    """Mean and covariance of N(x̂_0, C) given y = J x + e, by dense inverses."""
    c, j = LAW.matrix @ LAW.matrix.T, DATA.jacobian
    gain = c @ j.T @ torch.linalg.inv(j @ c @ j.T + torch.eye(M, dtype=torch.float64))
    return X_0 + gain @ (DATA.y - j @ X_0), c - gain @ j @ c


def step(w_0, e, about=ABOUT, inner=EXACT, precondition=None):
    """The proximal step on a batch of perturbations."""
    about = about.expand(len(w_0), D)
    return proximal_step(X_0 + LAW.root(w_0), LAW, DATA.linearise(about), about, e, inner, precondition)


def affine(about=ABOUT):
    """z(0) and M: the step at no perturbation, and its change under every unit perturbation."""
    perturbations = torch.cat([torch.zeros(1, K + M, dtype=torch.float64), torch.eye(K + M, dtype=torch.float64)])
    z = step(perturbations[:, :K], perturbations[:, K:], about)
    return z[0], (z[1:] - z[0]).T


def test_draws_have_the_exact_mean_and_covariance():
    """z(0) is the posterior mean, M Mᵀ the posterior covariance: randomise-then-optimise is exact for linear data."""
    mean, spread = affine()
    expected_mean, expected_covariance = posterior()
    torch.testing.assert_close(mean, expected_mean, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(spread @ spread.T, expected_covariance, rtol=1e-10, atol=1e-11)


def test_solves_the_perturbed_problem():
    """For given perturbations z minimises ½‖J z − y − e‖² + ½‖w − w_0‖² over z = x̂_0 + L w, solved densely for w."""
    w_0, e = normal(4, K, seed=5), normal(4, M, seed=6)
    jl = DATA.jacobian @ LAW.matrix
    system = jl.T @ jl + torch.eye(K, dtype=torch.float64)
    rhs = (DATA.y + e - X_0 @ DATA.jacobian.T) @ jl + w_0
    w = torch.linalg.solve(system, rhs.T).T
    torch.testing.assert_close(step(w_0, e), X_0 + w @ LAW.matrix.T, rtol=1e-10, atol=1e-11)


def test_where_linear_data_are_linearised_does_not_matter():
    """Any point z̄ gives the same step, the prediction x̂_0 itself and one far away included."""
    w_0, e = normal(4, K, seed=5), normal(4, M, seed=6)
    expected = step(w_0, e)
    for about in (X_0, torch.zeros_like(X_0), 100 * ABOUT):
        torch.testing.assert_close(step(w_0, e, about), expected, rtol=1e-9, atol=1e-9)


def test_gauss_newton_finds_the_mode_of_nonlinear_data():
    """Repeated steps on F(x) = sin(J x) converge to a stationary point of the proximal objective, found by autograd."""

    class Sine(LinearData):
        def linearise(self, x_0):
            slope = (x_0 @ self.jacobian.T).cos()
            misfit = DenseMisfit((x_0 @ self.jacobian.T).sin() - self.y, self.jacobian)
            misfit.tangent = lambda dx: slope * (dx @ self.jacobian.T)
            misfit.adjoint = lambda data: (slope * data) @ self.jacobian
            return misfit

    law, data = DenseLaw(0.3 * LAW.matrix), Sine(DATA.jacobian / 3, DATA.y / 2)
    w_0, e = normal(2, K, seed=5), 0.5 * normal(2, M, seed=6)
    z = X_0.expand(2, D)
    for _ in range(60):
        z = proximal_step(X_0 + law.root(w_0), law, data.linearise(z), z, e, EXACT)
    w = w_0 - law.root_transposed(  # from w = w_0 − (J L)ᵀ λ with λ = F(z) − y − e at the minimum
        data.linearise(z).adjoint((z @ data.jacobian.T).sin() - data.y - e)
    )
    torch.testing.assert_close(z, X_0 + law.root(w), rtol=1e-8, atol=1e-8)
    w = w.requires_grad_()
    misfit = ((X_0 + law.root(w)) @ data.jacobian.T).sin() - data.y - e
    gradient = torch.autograd.grad((misfit.square().sum() + (w - w_0).square().sum()) / 2, w)[0]
    assert float(gradient.norm()) < 1e-8


def test_samples_do_not_mix():
    """A row has the same step alone and beside rows that need more or fewer iterations."""
    scales = torch.tensor([[1.0], [1e-3], [1e3], [1.0]], dtype=torch.float64)
    w_0, e = scales * normal(4, K, seed=5), scales * normal(4, M, seed=6)
    for inner in (EXACT, InnerSolve(iterations=3, reduction=0.1)):
        batch = step(w_0, e, inner=inner)
        for i in range(4):
            alone = step(w_0[i : i + 1], e[i : i + 1], inner=inner)
            torch.testing.assert_close(alone[0], batch[i], rtol=1e-10, atol=1e-10)


def test_the_inner_accuracy_is_kept():
    """Iterations end when all residuals have fallen by `reduction`, or at `iterations`."""
    misfit, rhs = DATA.linearise(normal(3, D)), normal(3, M, seed=7)
    jl = DATA.jacobian @ LAW.matrix
    system = torch.eye(M, dtype=torch.float64) + jl @ jl.T
    multiplier = data_space_cg(misfit, LAW, rhs, InnerSolve(iterations=50, reduction=1e-2))
    assert bool(((rhs - multiplier @ system).norm(dim=-1) <= 1.0001e-2 * rhs.norm(dim=-1)).all())
    assert misfit.products < 3 * M
    capped = DATA.linearise(normal(3, D))
    data_space_cg(capped, LAW, rhs, InnerSolve(iterations=2, reduction=1e-12))
    assert capped.products == 2


def test_sensitivities_invert_the_system():
    """The preconditioner of the exact J is (I + J L Lᵀ Jᵀ)⁻¹, so that a single iteration solves."""
    misfit, rhs = DATA.linearise(normal(3, D)), normal(3, M, seed=7)
    precondition = Sensitivities(misfit).preconditioner(LAW)
    jl = DATA.jacobian @ LAW.matrix
    expected = torch.linalg.solve(torch.eye(M, dtype=torch.float64) + jl @ jl.T, rhs.T).T
    torch.testing.assert_close(precondition(rhs), expected, rtol=1e-10, atol=1e-12)
    found = data_space_cg(misfit, LAW, rhs, InnerSolve(iterations=1), precondition)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_sensitivities_from_elsewhere_do_not_change_the_answer():
    """Those of another J only precondition: the step is the same; a sample's iterations still depend on it alone."""
    other = LinearData(DATA.jacobian + 0.3 * normal(M, D, seed=8), DATA.y)
    four, one = (Sensitivities(other.linearise(normal(n, D))).preconditioner(LAW) for n in (4, 1))
    w_0, e, rough = normal(4, K, seed=5), normal(4, M, seed=6), InnerSolve(iterations=2, reduction=0.1)
    torch.testing.assert_close(step(w_0, e, precondition=four), step(w_0, e), rtol=1e-9, atol=1e-10)
    batch, alone = step(w_0, e, inner=rough, precondition=four), step(w_0[2:3], e[2:3], inner=rough, precondition=one)
    torch.testing.assert_close(alone[0], batch[2], rtol=1e-10, atol=1e-10)


def test_preconditioner_of_rows_with_too_few_digits():
    """Sensitivities that differ by less than single precision resolves, at 10¹⁰ times the noise: their computed Gram
    matrix is not definite. The preconditioner is regularised and still makes the iteration converge."""
    jacobian = (1e5 * (normal(1, D, seed=7) + 1e-7 * normal(M, D, seed=8))).float()
    law, misfit = DenseLaw(LAW.matrix.float()), DenseMisfit(normal(2, M).float(), jacobian)
    rows = jacobian @ law.matrix
    gram = (rows @ rows.T).double() + torch.eye(M, dtype=torch.float64)
    assert float(torch.linalg.eigvalsh(gram).min()) < 0
    precondition = Sensitivities(misfit).preconditioner(law)
    v = normal(2, M).float()
    assert bool(precondition(v).isfinite().all())
    assert bool(((v * precondition(v)).sum(dim=1) > 0).all())


def test_what_is_no_covariance_stops_its_sample_for_good():
    """C = −2 I for one sample and I for the other, J = I: the first stops where it is, whatever iterations remain; the
    second converges to rhs/2."""

    class Indefinite:
        def covariance(self, v):
            return v * torch.tensor([[-2.0], [1.0]], dtype=v.dtype)

    identity = DenseMisfit(normal(2, M), torch.eye(M, dtype=torch.float64))
    rhs = normal(2, M, seed=3)
    found = data_space_cg(identity, Indefinite(), rhs, EXACT)
    assert torch.equal(found[0], torch.zeros(M, dtype=torch.float64))
    torch.testing.assert_close(found[1], rhs[1] / 2)


def test_nothing_to_solve():
    """A misfit of zero gives λ = 0, not 0/0."""
    misfit = DATA.linearise(normal(2, D))
    rhs = torch.zeros(2, M, dtype=torch.float64)
    assert torch.equal(data_space_cg(misfit, LAW, rhs, EXACT), rhs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_kept(dtype):
    """A step in float32 stays in float32."""
    law, data = DenseLaw(LAW.matrix.to(dtype)), LinearData(DATA.jacobian.to(dtype), DATA.y.to(dtype))
    w_0, e = normal(2, K).to(dtype), normal(2, M).to(dtype)
    about = ABOUT.to(dtype).expand(2, D)
    misfit = data.linearise(about)
    for precondition in (None, Sensitivities(misfit).preconditioner(law)):
        z = proximal_step(X_0.to(dtype) + law.root(w_0), law, misfit, about, e, InnerSolve(), precondition)
        assert z.dtype == dtype
