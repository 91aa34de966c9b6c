"""The posterior file: bit for bit, in everybody's reader, and never half a file."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from pdediff.posterior.files import write_json
from pdediff.posterior.result import Observations, Posterior
from pdediff.posterior.store import load, save
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid


def posterior(m: int = 5, phases: tuple[float, float] | None = (3.0, 12.0), known: bool = True) -> Posterior:
    rng = np.random.default_rng(0)
    grid = Grid((6, 9), x=(0.1, 2.3), y=(-1 / 3, 1 / 7), unit="km")
    fields = {"a": np.exp(rng.standard_normal((3, 6, 9))), "u": rng.standard_normal((3, 6, 9))}
    observations = Observations(
        field=["u", "a", "u", "u", "a"][:m],
        x=rng.random(m),
        y=rng.random(m),
        value=rng.random(m),
        sigma=rng.random(m) + 0.1,
        group=["heads", "Bohrkerne Süd", "heads", "heads", ""][:m],
        predicted=rng.random((3, m)) if known else None,
        truth=rng.random(m) if known else None,
    )
    return Posterior(
        grid=grid,
        fields=fields,
        units={"a": "m²/d"},
        observations=observations,
        truth={name: values[0] / 3 for name, values in fields.items()} if known else {},
        phases=phases,
        relative_residual=rng.random(3) * 1e-11,
        cost={"seconds_per_sample": 1.25, "pde_solves": 12},
        attrs={"case": "darcy-sparse", "hash": "", "resolved_case": '{"grid": {"shape": [6, 9]}}\n'},
    )


@pytest.mark.parametrize(
    "changes", [{}, {"phases": None}, {"known": False}, {"m": 0}, {"m": 0, "known": False}], ids=str
)
def test_round_trip_is_exact(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Every array, name, unit and attribute comes back identical, with or without truth, phases, data."""
    before = posterior(**changes)
    save(before, tmp_path / "posterior.nc")
    after = load(tmp_path / "posterior.nc")
    assert after.grid == before.grid
    assert list(after.fields) == list(before.fields)
    for kept, given in ((after.fields, before.fields), (after.truth, before.truth)):
        assert kept.keys() == given.keys()
        assert all(np.array_equal(kept[name], given[name]) for name in given)
    for name in ("field", "x", "y", "value", "sigma", "group", "predicted", "truth"):
        kept, given = getattr(after.observations, name), getattr(before.observations, name)
        assert (kept is None) == (given is None), name
        assert given is None or np.array_equal(kept, given), name
    assert np.array_equal(after.relative_residual, before.relative_residual)
    for name in ("units", "phases", "cost", "attrs"):
        assert getattr(after, name) == getattr(before, name), name


def test_xarray_opens_the_groups(tmp_path: Path) -> None:
    """ArviZ's layout: (chain, draw, ...) with coordinates and units; one group each for data, truth and diagnostics."""
    given = posterior()
    save(given, tmp_path / "posterior.nc")
    with xr.open_datatree(tmp_path / "posterior.nc", engine="h5netcdf") as tree:
        assert set(tree.children) == {"posterior", "observations", "truth", "diagnostics"}
        a = tree["posterior/a"]
        assert a.dims == ("chain", "draw", "y", "x")
        assert a.attrs["units"] == "m²/d"
        assert a.dtype == np.float64
        assert np.array_equal(a.x, given.grid.centres()[0])
        assert a.y.attrs["units"] == "km"
        assert tree["posterior"].attrs["phases"].tolist() == [3.0, 12.0]
        assert tree["observations/predicted"].dims == ("chain", "draw", "observation")
        assert tree.attrs["case"] == "darcy-sparse"


def test_h5py_opens_the_groups(tmp_path: Path) -> None:
    """The file is plain HDF5: fields are compressed, one chunk a draw, strings are strings."""
    given = posterior()
    save(given, tmp_path / "posterior.nc")
    with h5py.File(tmp_path / "posterior.nc") as file:
        assert np.array_equal(file["posterior/u"][0], given.fields["u"])
        assert file["posterior/u"].chunks == (1, 1, 6, 9)
        assert file["posterior/u"].compression == "gzip"
        assert file["observations/group"].asstr()[1] == "Bohrkerne Süd"


def test_arviz_style_selection(tmp_path: Path) -> None:
    """A statistic over (chain, draw), as every ArviZ user writes it, is the mean over the samples."""
    given = posterior()
    save(given, tmp_path / "posterior.nc")
    with xr.open_dataset(tmp_path / "posterior.nc", group="posterior", engine="h5netcdf") as group:
        assert np.allclose(group["u"].mean(("chain", "draw")), given.fields["u"].mean(axis=0), rtol=1e-14, atol=1e-15)


def test_a_missing_file_is_the_users_error(tmp_path: Path) -> None:
    """One line that names the file."""
    with pytest.raises(InputError, match=r"posterior\.nc: no such file"):
        load(tmp_path / "posterior.nc")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_the_users_error(tmp_path: Path, kept: float) -> None:
    """Cut anywhere, the file is refused with one line."""
    path = tmp_path / "posterior.nc"
    save(posterior(), path)
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    with pytest.raises(InputError, match=r"posterior\.nc: .*(truncated|damaged)") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_foreign_files_are_the_users_error(tmp_path: Path) -> None:
    """Text, somebody's HDF5 and a later version of this format are told apart and refused."""
    path = tmp_path / "x.nc"
    path.write_text("x,y,value\n")
    with pytest.raises(InputError, match="of another format"):
        load(path)
    with h5py.File(path, "w") as file:
        file["a"] = np.ones(3)
    with pytest.raises(InputError, match="an HDF5 file of another kind"):
        load(path)
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "pdediff posterior 99"
    with pytest.raises(InputError, match="its format is 'pdediff posterior 99'"):
        load(path)


@pytest.mark.parametrize("lost", ["posterior", "diagnostics", "observations/sigma", "posterior/a"])
def test_a_file_that_lost_a_part_is_the_users_error(tmp_path: Path, lost: str) -> None:
    """A missing group or column, or a truth without its field, is damage and not a traceback."""
    path = tmp_path / "posterior.nc"
    save(posterior(), path)
    with h5py.File(path, "a") as file:
        del file[lost]
    with pytest.raises(InputError, match="damaged posterior file"):
        load(path)


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    """A write that breaks half way changes nothing and leaves nothing behind."""
    path = tmp_path / "posterior.nc"
    save(posterior(), path)
    before = path.read_bytes()
    broken = posterior()
    broken.attrs = {"case": object()}  # type: ignore[dict-item]
    with pytest.raises((TypeError, ValueError)):
        save(broken, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["posterior.nc"]


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """NaN is not JSON: it is refused, and the earlier file stays."""
    path = tmp_path / "metrics.json"
    write_json({"chi2": None}, path)
    with pytest.raises(ValueError, match="JSON"):
        write_json({"chi2": float("nan")}, path)
    assert '"chi2": null' in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.json"]
