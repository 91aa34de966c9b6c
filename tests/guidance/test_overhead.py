"""The benchmark of guidance: what it counts, and that the frame is thin."""

import pytest

from pdediff.guidance.overhead import guidance_overhead

GRADIENT, SOLVE = 2, 5  # H and Hᵀ; the misfit, that of x̂_0 against it, an iteration's two, and the last adjoint
PRODUCTS = {
    "dps": GRADIENT,
    "dps, normalised": GRADIENT,
    "loss": GRADIENT,
    "pigdm": SOLVE,
    "moments": SOLVE,
    "diffpir": SOLVE,
    "monte-carlo, one draw": GRADIENT,
}


def test_rows():
    """A row for each method and batch; values at points make one iteration of conjugate gradients enough."""
    rows = guidance_overhead(n=8, data=5, batches=(1, 3), repeats=3)
    assert [(row["method"], row["batch"]) for row in rows] == [(name, b) for b in (1, 3) for name in PRODUCTS]
    for row in rows:
        assert (row["n"], row["data"], row["products"]) == (8, 5, PRODUCTS[row["method"]])
        assert 0 < row["operator_ms"] < row["step_ms"]
        assert 0 < row["overhead_ms"] <= row["step_ms"]


@pytest.mark.slow
def test_the_frame_is_thin():
    """One guided step on 64 × 64 points costs less than 0.5 ms beyond the operator's own work, on an idle core."""
    for row in guidance_overhead(batches=(1,)):
        assert row["overhead_ms"] < 0.5, row
