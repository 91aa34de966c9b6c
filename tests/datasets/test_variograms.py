"""Variograms against their closed forms and limits."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import gamma, kv

from pdediff.datasets.variograms import FAR, Variogram, matern
from pdediff.solvers.errors import InputError

R = np.linspace(0.0, 6.0, 200)


def test_closed_forms():
    """C(r) = σ² exp(−r/ℓ) and σ² exp(−r²/(2ℓ²)), to rounding."""
    exponential = Variogram("exponential", variance=2.5, range=0.3)
    squared = Variogram("squared-exponential", variance=2.5, range=0.3)
    np.testing.assert_allclose(exponential.covariance(R, 0), 2.5 * np.exp(-R / 0.3), rtol=1e-13)
    np.testing.assert_allclose(squared.covariance(0, R), 2.5 * np.exp(-(R**2) / (2 * 0.3**2)), rtol=1e-11, atol=1e-300)


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5, 4.5, 9.5])
def test_half_integer_matern_is_the_bessel_formula(nu):
    """At ν = p + ½ the polynomial agrees with 2^(1−ν)/Γ(ν) z^ν K_ν(z), z = √(2ν) r, to rounding of K_ν."""
    r = R[1:]
    z = np.sqrt(2 * nu) * r
    np.testing.assert_allclose(matern(r, nu), 2 ** (1 - nu) / gamma(nu) * z**nu * kv(nu, z), rtol=1e-11)
    assert matern(np.zeros(1), nu) == 1


def test_matern_one_half_is_exponential():
    """Matérn with ν = ½ and the exponential are the same function."""
    np.testing.assert_allclose(matern(R, 0.5), np.exp(-R), rtol=1e-14)


@pytest.mark.parametrize("nu", [0.3, 0.999, 1.0, 1.501, 7.3, 49.9])
def test_general_matern_is_continuous_in_smoothness_and_at_the_origin(nu):
    """The Bessel branch: 1 at r = 0, decreasing and within [0, 1] (to rounding), and continuous in ν (a change of 1e-6
    in ν moves it by less than 1e-5)."""
    r = np.concatenate([[0.0], np.logspace(-14, 3, 400)])
    rho = matern(r, nu)
    assert rho[0] == 1
    assert (np.diff(rho) <= 1e-12).all()
    assert rho.min() >= 0
    np.testing.assert_allclose(matern(r, nu + 1e-6), rho, atol=1e-5)


def test_large_smoothness_tends_to_squared_exponential():
    """Matérn → squared-exponential as ν → ∞ at first order: doubling ν halves the distance (ratio 2 within 5 %)."""
    errors = [np.abs(matern(R, nu) - np.exp(-(R**2) / 2)).max() for nu in (12.3, 24.6, 49.2)]
    np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 2, rtol=0.05)
    assert errors[-1] < 0.005


@pytest.mark.parametrize("kind", ["matern", "exponential", "squared-exponential"])
def test_gamma_is_sill_minus_covariance(kind):
    """γ(h) = C(0) − C(h); γ(0) = 0, γ jumps to the nugget next to the origin and reaches the sill far away."""
    variogram = Variogram(kind, variance=2.0, range=0.1, nugget=0.5)
    assert variogram.sill == 2.5
    assert variogram.gamma(0, 0) == 0
    np.testing.assert_allclose(variogram.gamma(1e-9, 0), 0.5, atol=1e-7)
    np.testing.assert_allclose(variogram.gamma(0, 100.0), 2.5, rtol=1e-12)
    assert np.isfinite(variogram.covariance(2 * FAR, 0))


def test_anisotropy_and_angle():
    """The long range lies `angle` degrees counter-clockwise from x: along it C is that of ℓ, across it that of
    anisotropy · ℓ, and the box around the ellipse r = 1 touches it."""
    variogram = Variogram("exponential", range=0.4, anisotropy=0.25, angle=30.0)
    along = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)])
    across = np.array([-along[1], along[0]])
    np.testing.assert_allclose(variogram.covariance(*(0.2 * along)), np.exp(-0.5))
    np.testing.assert_allclose(variogram.covariance(*(0.2 * across)), np.exp(-2.0))
    turn = np.linspace(0, 2 * np.pi, 100_001)
    ellipse = 0.4 * np.cos(turn)[:, None] * along + 0.1 * np.sin(turn)[:, None] * across
    np.testing.assert_allclose(variogram.extent, ellipse.max(axis=0), rtol=1e-8)


@pytest.mark.parametrize("nu", [0.5, 1.0, 1.5, 4.2])
def test_covariance_is_positive(nu):
    """A covariance matrix of 300 scattered points has no negative eigenvalue beyond rounding."""
    x, y = np.random.default_rng(0).uniform(size=(2, 300))
    variogram = Variogram("matern", range=0.2, smoothness=nu, anisotropy=0.4, angle=-50.0)
    eigenvalues = np.linalg.eigvalsh(variogram.covariance(x[:, None] - x, y[:, None] - y))
    assert eigenvalues.min() > -1e-13 * eigenvalues.max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "matérn"}, "did you mean 'matern'"),
        ({"kind": "spherical"}, "known are matern, exponential, squared-exponential"),
        ({"variance": 0.0}, "variance must be positive"),
        ({"range": -1.0}, "range must be positive"),
        ({"range": float("inf")}, "range must be positive"),
        ({"smoothness": 60.0}, "smoothness must be in"),
        ({"anisotropy": 1.5}, "anisotropy must be in"),
        ({"angle": float("nan")}, "angle must be finite"),
        ({"nugget": -0.1}, "nugget must be zero or positive"),
    ],
)
def test_wrong_settings(settings, message):
    """Each bound is checked, with one line that says what is valid."""
    with pytest.raises(InputError, match=message) as error:
        Variogram(**settings)
    assert "\n" not in str(error.value)


def test_imports_without_torch():
    """Validating a case needs variograms, and must not pay for torch."""
    code = "import sys; import pdediff.datasets.variograms; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
