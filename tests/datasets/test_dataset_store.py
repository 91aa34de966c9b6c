"""The HDF5 store: what goes in comes out, from parts too; and what is not a store is refused in one line."""

import itertools
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr

from pdediff.datasets.store import Layout, Store, gather, part_index, parts_folder, write
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

GRID = Grid((6, 9), x=(0.0, 3.0), y=(-1.0, 1.0), unit="km")
LAYOUT = Layout(GRID, {"a": "m/d", "u": "m"}, samples=10, attributes={"seed": 4, "recipe": '{"law": "…"}'})


def _fields(samples=10, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((samples, 6, 9)).astype(np.float32) for name in ("a", "u")}


def _write_parts(folder, fields, cuts):
    paths = []
    for first, stop in itertools.pairwise(cuts):
        paths.append(folder / f"part-{first}.h5")
        write(paths[-1], LAYOUT, range(first, stop), {name: v[first:stop] for name, v in fields.items()})
    return paths


@pytest.fixture
def store(tmp_path):
    """A whole store of ten samples."""
    write(tmp_path / "store.h5", LAYOUT, range(10), _fields())
    return tmp_path / "store.h5"


def test_what_goes_in_comes_out(store):
    """Fields bit for bit, grid, units and attributes; each sample is a chunk of its own, with a checksum."""
    with Store(store) as opened:
        assert len(opened) == opened.samples == 10
        assert opened.grid == GRID
        assert opened.units == {"a": "m/d", "u": "m"}
        assert opened.attributes["seed"] == 4
        assert opened.attributes["recipe"] == '{"law": "…"}'
        for name, values in _fields().items():
            assert opened[name].dtype == np.float32
            assert opened[name].chunks == (1, 6, 9)
            assert opened[name].fletcher32
            assert np.array_equal(opened[name][...], values)
            assert np.array_equal(opened[name][3:7], values[3:7])


def test_double_precision_and_long_attributes(tmp_path):
    """float64 on request; an attribute may exceed the 64 kB that HDF5's oldest layout allows."""
    layout = Layout(GRID, {"u": ""}, 2, "float64", {"recipe": "x" * 200_000})
    u = np.random.default_rng(0).standard_normal((2, 6, 9))
    write(tmp_path / "d.h5", layout, range(2), {"u": u})
    with Store(tmp_path / "d.h5") as opened:
        assert np.array_equal(opened["u"][...], u)
        assert len(opened.attributes["recipe"]) == 200_000


def test_xarray_reads_it(store):
    """Dimension scales make it a NetCDF-4 file: names, coordinates and units are there."""
    with xr.open_dataset(store, engine="h5netcdf") as data:
        assert data["a"].dims == ("sample", "y", "x")
        np.testing.assert_allclose(data["x"], GRID.centres()[0])
        assert data["y"].attrs["units"] == "km"
        assert data["u"].attrs["units"] == "m"
        assert np.array_equal(data["sample"], np.arange(10))


@pytest.mark.parametrize("cuts", [(0, 10), (0, 1, 2, 7, 10), (0, 5, 10)])
def test_gathered_parts_are_one_file(tmp_path, cuts):
    """Whatever the parts, the file has the same bytes and the same samples."""
    fields = _fields()
    gather(tmp_path / "expected.h5", LAYOUT, _write_parts(tmp_path, fields, (0, 3, 10)))
    parts = _write_parts(tmp_path, fields, cuts)
    gather(tmp_path / "store.h5", LAYOUT, parts)
    assert (tmp_path / "store.h5").read_bytes() == (tmp_path / "expected.h5").read_bytes()
    with Store(tmp_path / "store.h5") as opened:
        assert all(np.array_equal(opened[name][...], values) for name, values in fields.items())


def test_a_part_says_what_it_holds(tmp_path):
    """Its samples; nothing if it is cut short, of another layout or recipe, or no HDF5 at all."""
    (part,) = _write_parts(tmp_path, _fields(), (3, 7))
    assert part_index(part, LAYOUT) == range(3, 7)
    assert part_index(part, Layout(Grid((9, 6)), LAYOUT.units, 10, attributes=LAYOUT.attributes)) is None
    assert part_index(part, Layout(GRID, {**LAYOUT.units, "mu": ""}, 10, attributes=LAYOUT.attributes)) is None
    assert part_index(part, Layout(GRID, LAYOUT.units, 10, attributes={**LAYOUT.attributes, "seed": 5})) is None
    whole = part.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        part.write_bytes(whole[:size])
        assert part_index(part, LAYOUT) is None


def _no_h5(path):
    path.write_text("a,u\n1,2\n")


def _cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def _foreign(path):
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros((10, 6, 9))


def _newer(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "pdediff dataset 9"


def _posterior(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "pdediff posterior 1"


def _without_u(path):
    with h5py.File(path, "r+") as file:
        del file["u"]


def _without_samples(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["samples"]


def _flat(path):
    with h5py.File(path, "r+") as file:
        del file["a"]
        file["a"] = np.zeros(10)


def _integers(path):
    with h5py.File(path, "r+") as file:
        del file["a"]
        file["a"] = np.zeros((10, 6, 9), int)


def _part(path):
    write(path, LAYOUT, range(4), _fields(4))


def _group(path):
    with h5py.File(path, "r+") as file:
        del file["x"]
        file.create_group("x")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (_no_h5, "not a readable HDF5 file"),
        (_cut_short, "not a readable HDF5 file; cut short"),
        (_foreign, "an HDF5 file of another kind"),
        (_newer, "its format is 'pdediff dataset 9', expected 'pdediff dataset 1'"),
        (_posterior, "its format is 'pdediff posterior 1'"),
        (_without_u, "field 'u' is missing"),
        (_without_samples, "attributes or coordinates are incomplete"),
        (_group, "attributes or coordinates are incomplete"),
        (_flat, "field 'a' is missing or not"),
        (_integers, "field 'a' is missing or not"),
        (_part, "unfinished: it holds 4 of 10 samples"),
    ],
)
def test_what_is_no_store_is_refused(store, damage, message):
    """One line that names the file and says why."""
    damage(store)
    with pytest.raises(InputError, match=message) as caught:
        Store(store)
    assert str(caught.value).startswith(f"{store}: ")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_store(tmp_path):
    """Nor is a store of which there are only parts."""
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        Store(tmp_path)
    parts_folder(tmp_path / "x.h5").mkdir()
    with pytest.raises(InputError, match="only parts of it"):
        Store(tmp_path / "x.h5")


def test_an_unknown_field_is_named(store):
    """The message lists the fields that are there."""
    with Store(store) as opened, pytest.raises(InputError, match="no field 'mu'; it has a, u"):
        opened["mu"]


def test_damaged_numbers_are_noticed(store):
    """A flipped byte in a sample fails its checksum on reading; the others can be read."""
    with h5py.File(store) as file:
        chunk = file["u"].id.get_chunk_info(4)
    content = bytearray(store.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    store.write_bytes(content)
    with Store(store) as opened:
        assert np.array_equal(opened["u"][:4], _fields()["u"][:4])
        with pytest.raises(OSError, match="read data"):
            opened["u"][4]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_an_ordinary_error(tmp_path):
    """At whatever size the disk is full, writing and gathering raise OSError with its number, and the process ends
    well: HDF5 itself, told of the error, cannot close the file and crashes at exit."""
    script = f"""
import resource, signal, numpy as np
from pathlib import Path
from pdediff.datasets.store import Layout, gather, write
from pdediff.solvers.grid import Grid
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
layout, folder = Layout(Grid((32, 32)), {{"a": ""}}, 40), Path({str(tmp_path)!r})
a = np.random.default_rng(0).standard_normal((40, 32, 32))
write(folder / "part.h5", layout, range(40), {{"a": a}})
for limit in (100, 5_000, 60_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for task in (lambda: write(folder / "w.h5", layout, range(40), {{"a": a}}),
                 lambda: gather(folder / "g.h5", layout, [folder / "part.h5"])):
        try:
            task()
        except OSError as error:
            print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "27\n" * 6, "")
