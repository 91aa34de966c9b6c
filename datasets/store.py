"""Many samples of a few fields in one HDF5 file, which h5py, xarray, MATLAB and h5dump open.

    /a, /u, /mu     (sample, y, x), whichever of them the store has; attributes units, long_name
    /sample         numbers of the samples: sample i is what (seed, i) determine, in any store
    /y, /x          cell centres, attribute units; dimension scales, as in NetCDF-4
    /               attributes format, samples (how many the store is to have), fields, domain_x, domain_y, domain_unit,
                    and what the writer says of law, equation, seed and versions

Every sample is a chunk of its own, shuffled, compressed and with a checksum, so that samples are read in any order at
no loss, and a damaged one is noticed when it is read.

HDF5 has no transactions: a process that is killed while it writes leaves a file that may not open. So a store in the
making is a set of small files of this same layout, the parts, each with the samples that `sample` says. The last act
is to `gather` them, chunk by chunk as they are on disk. Whoever writes gives each file a temporary name and renames it
when it is complete. Nothing in the file depends on when, in what parts, or by how many processes it was made: equal
samples are equal bytes.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

FORMAT = "pdediff dataset 1"
VERSION = "v110"  # of the HDF5 library that can read the file (2016); older layouts have no attributes beyond 64 kB
LONG_NAMES = {"a": "coefficient", "u": "solution", "mu": "Gaussian field behind the coefficient"}


@dataclass(frozen=True)
class Layout:
    """What a store holds.

    Parameters
    ----------
    grid : the cells of every field.
    units : name of each field, and its unit.
    samples : how many the whole store has.
    dtype : "float32" or "float64".
    attributes : what the file says of itself.
    """

    grid: Grid
    units: Mapping[str, str]
    samples: int
    dtype: str = "float32"
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)


def write(path: Path, layout: Layout, index: range, fields: Mapping[str, NDArray[np.floating]]) -> None:
    """Write the samples of `index`, fields (len(index), ny, nx) each, as a new file at `path`. Raises OSError."""
    with _new(path) as (file, _):
        _create(file, layout, index)
        for name in layout.units:
            file[name][...] = fields[name]


def gather(path: Path, layout: Layout, parts: Iterable[Path]) -> None:
    """Write the whole store as a new file at `path`, from parts that together hold every sample, in their order.

    Raises OSError.
    """
    with _new(path) as (file, disk):
        _create(file, layout, range(layout.samples))
        for part in parts:
            disk.check()
            with h5py.File(part) as source:
                for row, sample in enumerate(source["sample"][...].tolist()):
                    for name in layout.units:
                        mask, chunk = source[name].id.read_direct_chunk((row, 0, 0))
                        file[name].id.write_direct_chunk((sample, 0, 0), chunk, mask)


def part_index(path: Path, layout: Layout) -> range | None:
    """Which samples a part of this layout holds; None if the file is cut short or has other attributes."""
    try:
        with h5py.File(path) as file:
            sample = file["sample"][...]
            shapes = {file[name].shape for name in layout.units}
            same = all(file.attrs[name] == value for name, value in layout.attributes.items())
            whole = same and file.attrs["format"] == FORMAT and shapes == {(len(sample), *layout.grid.shape)}
    except (OSError, RuntimeError, KeyError):
        return None
    return range(int(sample[0]), int(sample[-1]) + 1) if whole else None


class Store:
    """A finished store, open for reading; a context manager.

    `store["a"]` is the h5py data set (samples, ny, nx) of a field: `store["a"][10:20]` reads ten samples.

    Parameters
    ----------
    path : the file.

    Attributes
    ----------
    samples, grid, units : as in `Layout`.
    attributes : of the whole file.

    Raises
    ------
    InputError : one line, if there is no such file, or it is not HDF5, cut short, of another kind, unfinished, or lacks
        a field.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = _open(self.path)
        try:
            self.attributes: dict[str, Any] = dict(self._file.attrs)
            self.samples, self.grid, self.units = _checked(self.path, self._file)
        except BaseException:
            self._file.close()
            raise

    def __getitem__(self, name: str) -> h5py.Dataset:
        if name not in self.units:
            raise InputError(f"{self.path}: has no field {name!r}; it has {', '.join(self.units)}")
        return self._file[name]

    def __len__(self) -> int:
        return self.samples

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Disk(io.FileIO):
    """A new file that keeps an error of the disk to itself until it is asked for.

    When its driver reports a full disk, the HDF5 library cannot close the file any more, and may bring the process down
    at exit. It is told that all is well, and what it has written by then is thrown away.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        try:
            while left:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = self.error or error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def check(self) -> None:
        """Raise the first error."""
        if self.error is not None:
            raise self.error


@contextmanager
def _new(path: Path) -> Iterator[tuple[h5py.File, _Disk]]:
    """A new HDF5 file, and where it is written. Raises OSError at the end if it could not all be written."""
    with _Disk(path, "w+b") as disk:
        with h5py.File(disk, "w", libver=VERSION) as file:
            yield file, disk
        disk.check()


def parts_folder(path: Path) -> Path:
    """Where the parts of a store are while it is made: beside it."""
    return path.with_name(f"{path.name}.parts")


def _create(file: h5py.File, layout: Layout, index: range) -> None:
    """Attributes, coordinates, and empty fields for the samples of `index`."""
    grid = layout.grid
    file.attrs["format"] = FORMAT
    file.attrs["samples"] = layout.samples
    file.attrs["fields"] = " ".join(layout.units)
    file.attrs["domain_x"], file.attrs["domain_y"] = np.array(grid.x), np.array(grid.y)
    file.attrs["domain_unit"] = grid.unit
    file.attrs.update(layout.attributes)
    x, y = grid.centres()
    axes = {"sample": np.array(index), "y": y, "x": x}
    for name, values in axes.items():
        file[name] = values
        file[name].make_scale(name)
        if name != "sample":
            file[name].attrs["units"] = grid.unit
    for name, unit in layout.units.items():
        data = file.create_dataset(
            name, (len(index), *grid.shape), layout.dtype, chunks=(1, *grid.shape),
            shuffle=True, compression="gzip", compression_opts=1, fletcher32=True,
        )  # fmt: skip
        data.attrs["units"] = unit
        data.attrs["long_name"] = LONG_NAMES.get(name, name)
        for axis, scale in enumerate(axes):
            data.dims[axis].attach_scale(file[scale])


def _open(path: Path) -> h5py.File:
    """The file, if it is HDF5 and says that it is a store of this version."""
    if not path.exists():
        unfinished = parts_folder(path).is_dir()
        why = "only parts of it: generate it again to finish it" if unfinished else "no such file"
        raise InputError(f"{path}: {why}")
    try:
        file = h5py.File(path)
    except OSError:
        raise InputError(f"{path}: not a readable HDF5 file; cut short, or of another format") from None
    kind = file.attrs.get("format")
    if kind != FORMAT:
        file.close()
        ours = isinstance(kind, str) and kind.startswith("pdediff")
        what = f"its format is {kind!r}" if ours else "an HDF5 file of another kind"
        raise InputError(f"{path}: not a data set that this pdediff can read: {what}, expected {FORMAT!r}")
    return file


def _checked(path: Path, file: h5py.File) -> tuple[int, Grid, dict[str, str]]:
    """Number of samples, grid and units, if everything that the attributes promise is there."""
    try:
        samples, names = int(file.attrs["samples"]), str(file.attrs["fields"]).split()
        (x0, x1), (y0, y1) = file.attrs["domain_x"], file.attrs["domain_y"]
        shape = (len(file["y"]), len(file["x"]))
        grid = Grid(shape, (float(x0), float(x1)), (float(y0), float(y1)), str(file.attrs["domain_unit"]))
        here = len(file["sample"])
    except (OSError, RuntimeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path}: damaged data set: its attributes or coordinates are incomplete") from None
    if here != samples:
        raise InputError(f"{path}: unfinished: it holds {here} of {samples} samples")
    for name in names:
        data = file.get(name)
        if not isinstance(data, h5py.Dataset) or data.shape != (samples, *shape) or data.dtype.kind != "f":
            raise InputError(f"{path}: damaged data set: field {name!r} is missing or not {(samples, *shape)} numbers")
    return samples, grid, {name: str(file[name].attrs.get("units", "")) for name in names}
