"""Every shipped case runs, and gives what its prior promises."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pdediff.cases.files import CARD_FORMAT, shipped_card, shipped_priors
from pdediff.cases.load import load_case
from pdediff.datasets.coefficients import TwoPhaseLaw
from pdediff.datasets.random_fields import benchmark_field
from pdediff.denoisers import weights
from pdediff.studies.run import run

CASES = sorted((Path(__file__).parents[1] / "cases").glob("*.yaml"))
QUICK = ("sampling.samples=2", "guidance.accuracy=fast")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_case_runs(path, tmp_path):
    """Two samples in a hurry: the data are met to a few sigma and every sample satisfies the PDE."""
    entry = run(load_case(path, QUICK), tmp_path).metrics["variants"]["run"]
    assert entry["observations"]["chi2"] < 4  # 1 is right; two hurried samples of a two-phase medium reach 1 to 2.5
    assert entry["pde"]["relative_residual"] < 1e-9
    if entry["u"]["sample_relative_l2"] is not None:
        assert entry["u"]["sample_relative_l2"] < 0.1


def test_card_formats_agree():
    """The format that `validate` checks without torch is the one that the weights' module writes."""
    assert CARD_FORMAT == weights.FORMAT
    assert "two-phase-64" in shipped_priors()


def test_the_shipped_prior_denoises_as_its_card_says():
    """On 48 fresh functions the mean square error is the card's, to 20 %, and at little noise x_0 = ±1 comes back."""
    denoiser, card = weights.load(shipped_card("two-phase-64"))
    generator = torch.Generator().manual_seed(77)
    law = TwoPhaseLaw(benchmark_field((64, 64)))
    x_0 = law.sample_x(48, generator)[:, None]
    rows = {row["s"]: row["mse"] for row in card["held_out"]}
    with torch.inference_mode():
        for s in (0.7937, 3.1623):
            g = torch.randn(x_0.shape, generator=generator)
            error = denoiser.denoise(x_0 + s * g, torch.full((48,), s)) - x_0
            assert float(error.square().mean()) == pytest.approx(rows[s], rel=0.2)
        clean = denoiser.denoise(x_0 + 0.2 * torch.randn(x_0.shape, generator=generator), torch.full((48,), 0.2))
    assert np.mean((clean.sign() == x_0).numpy()) > 0.9999
