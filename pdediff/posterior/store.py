"""A posterior as one NetCDF-4 file, which is HDF5: xarray, ArviZ, h5py, Panoply and ncdump all open it.

    /posterior      a, u (chain, draw, y, x) with units; attributes phases, domain_x, domain_y, domain_unit
    /observations   field, x, y, value, sigma, group, truth (observation); predicted (chain, draw, observation)
    /truth          a, u (y, x); empty where no truth is known
    /parameters     what was inferred along (chain, draw), true values as attributes; absent where nothing was
    /diagnostics    relative_residual (chain, draw); the cost of the run as attributes
    /               provenance as attributes

The layout of the sample groups is ArviZ's: draws are independent, so there is one chain. Fields keep float64, because
a solution rounded to float32 no longer satisfies its equation (relative residual 1e-5 and not 1e-11). A file appears
whole or not at all: it is written beside its name and renamed.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from pdediff.posterior.files import replacing
from pdediff.posterior.result import COST_KEYS, Observations, Posterior
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

FORMAT = "pdediff posterior 1"
_SAMPLE = ("chain", "draw")
_COLUMNS = ("field", "x", "y", "value", "sigma", "group")


def save(posterior: Posterior, path: str | Path) -> None:
    """Write a posterior to path; an earlier file of that name is replaced only by a complete new one.

    Raises:
        OSError: the file cannot be written; the earlier one, if any, is untouched.
    """
    tree = _tree(posterior)
    # One chunk a draw: reading one sample reads one chunk. Level 1: noise in the low bits does not compress further.
    shape = (1, 1, *posterior.grid.shape)
    fields = {name: {"zlib": True, "complevel": 1, "shuffle": True, "chunksizes": shape} for name in posterior.fields}
    content = tree.to_netcdf(engine="h5netcdf", encoding={"/posterior": fields})
    with replacing(path) as part:
        part.write_bytes(content)  # HDF5 itself crashes the process when the disk is full


def load(path: str | Path) -> Posterior:
    """Read a posterior that `save` wrote; arrays come back bit for bit.

    Raises:
        InputError: there is no such file, or it is truncated, damaged, of another kind, or of a later version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    _check_kind(path)
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            return _posterior(tree)
    except (OSError, RuntimeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: damaged posterior file ({_one_line(error)})") from error


def _check_kind(path: Path) -> None:
    """Raise InputError unless path is an HDF5 file whose attributes say that it is a posterior of this version."""
    try:
        with h5py.File(path) as file:
            kind = str(file.attrs.get("format"))
    except OSError as error:
        raise InputError(f"{path}: not a readable NetCDF-4 file; truncated, or of another format") from error
    if kind != FORMAT:
        what = f"its format is {kind!r}" if kind.startswith("pdediff") else "an HDF5 file of another kind"
        raise InputError(f"{path}: not a posterior file that this pdediff can read; {what}, expected {FORMAT!r}")


def _tree(posterior: Posterior) -> xr.DataTree:
    grid, observations = posterior.grid, posterior.observations
    x, y = grid.centres()
    space = {
        "y": ("y", y, {"units": grid.unit, "long_name": "cell centres, from the bottom"}),
        "x": ("x", x, {"units": grid.unit, "long_name": "cell centres, from the left"}),
    }
    sample = {"chain": [0], "draw": np.arange(posterior.n)}
    fields = {
        name: ((*_SAMPLE, "y", "x"), values[None], {"units": posterior.units[name]})
        for name, values in posterior.fields.items()
    }
    truth = {name: (("y", "x"), values, {"units": posterior.units[name]}) for name, values in posterior.truth.items()}
    data: dict[str, tuple] = {name: ("observation", _storable(getattr(observations, name))) for name in _COLUMNS}
    if observations.predicted is not None:
        data["predicted"] = ((*_SAMPLE, "observation"), observations.predicted[None])
    if observations.truth is not None:
        data["truth"] = ("observation", observations.truth)
    domain = {"domain_x": np.array(grid.x, float), "domain_y": np.array(grid.y, float), "domain_unit": grid.unit}
    phases = {} if posterior.phases is None else {"phases": np.array(posterior.phases)}
    cost = {key: np.nan if value is None else float(value) for key, value in posterior.cost.items()}
    root = {**posterior.attrs, "format": FORMAT}
    groups = {
        "/": xr.Dataset(attrs=root),
        "/posterior": xr.Dataset(fields, coords={**sample, **space}, attrs={**domain, **phases}),
        "/observations": xr.Dataset(data, coords=sample),
        "/truth": xr.Dataset(truth, coords=space),
        "/diagnostics": xr.Dataset(
            {"relative_residual": (_SAMPLE, posterior.relative_residual[None])}, coords=sample, attrs=cost
        ),
    }
    if posterior.parameters:
        true = posterior.true_parameters
        groups["/parameters"] = xr.Dataset(
            {
                name: (_SAMPLE, values[None], {"truth": true[name]} if name in true else {})
                for name, values in posterior.parameters.items()
            },
            coords=sample,
        )
    return xr.DataTree.from_dict(groups)


def _posterior(tree: xr.DataTree) -> Posterior:
    samples, data = tree["posterior"].to_dataset(), tree["observations"].to_dataset()
    diagnostics, truth = tree["diagnostics"].to_dataset(), tree["truth"].to_dataset()
    low_high = samples.attrs.get("phases")
    (x0, x1), (y0, y1) = samples.attrs["domain_x"], samples.attrs["domain_y"]
    grid = Grid(
        shape=(samples.sizes["y"], samples.sizes["x"]),
        x=(float(x0), float(x1)),
        y=(float(y0), float(y1)),
        unit=str(samples.attrs["domain_unit"]),
    )
    observations = Observations(
        **{name: data[name].values for name in _COLUMNS},
        predicted=data["predicted"].values[0] if "predicted" in data else None,
        truth=data["truth"].values if "truth" in data else None,
    )
    cost = {key: float(diagnostics.attrs[key]) for key in COST_KEYS}
    parameters = tree["parameters"].to_dataset().data_vars if "parameters" in tree.children else {}
    return Posterior(
        grid=grid,
        fields={str(name): values.values[0] for name, values in samples.data_vars.items()},
        units={str(name): str(values.attrs["units"]) for name, values in samples.data_vars.items()},
        observations=observations,
        truth={str(name): values.values for name, values in truth.data_vars.items()},
        phases=None if low_high is None else (float(low_high[0]), float(low_high[1])),
        relative_residual=diagnostics["relative_residual"].values[0],
        parameters={str(name): values.values[0] for name, values in parameters.items()},
        true_parameters={str(name): float(v.attrs["truth"]) for name, v in parameters.items() if "truth" in v.attrs},
        cost={key: None if np.isnan(value) else value for key, value in cost.items()},
        attrs={str(k): str(v) for k, v in tree.attrs.items() if k != "format"},
    )


def _storable(column: np.ndarray) -> np.ndarray:
    """Return strings as objects, which NetCDF-4 stores as strings and not as arrays of characters."""
    return column.astype(object) if column.dtype.kind == "U" else column


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
