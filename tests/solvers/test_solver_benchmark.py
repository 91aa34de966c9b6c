"""The benchmark's table."""

from pdediff.solvers.benchmark import solver_benchmark


def test_rows_are_consistent_and_both_solvers_agree():
    """One row a shape; the ratio is that of the times; the two adjoint states agree to float32's tolerance."""
    rows = solver_benchmark(shapes=(16, 24), batch=2, repeats=1)
    assert [row["n"] for row in rows] == [16, 24]
    for row in rows:
        assert row["ratio"] == row["lu_ms"] / row["cg_ms"]
        assert row["contrast"] == 4.0
        assert 5 < row["iterations"] < 30
        assert row["difference"] < 1e-4
