"""`train`, end to end on a tiny recipe: two files that load, and a card that tells what they are."""

import hashlib
import json

import pytest
import torch

from pdediff.denoisers import weights
from pdediff.solvers.errors import InputError
from pdediff.training.functions import law_of
from pdediff.training.recipe import Recipe
from pdediff.training.train import train

RECIPE = Recipe(
    law={"name": "two-phase", "shape": [8, 16], "low": 2.0, "high": 8.0},
    network={"patch": 2, "widths": [8, 16], "blocks": 1},
    training={"steps": 4, "batch": 2, "seed": 3},
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The card of a finished training and the folder of its files."""
    folder = tmp_path_factory.mktemp("trained")
    return train(RECIPE, "tiny", folder / "checkpoint", folder / "out"), folder


def test_writes_weights_that_load(trained):
    """The pair loads; it predicts, with a calibrated law, on the recipe's grid."""
    card, folder = trained
    denoiser, loaded = weights.load(folder / "out" / "tiny.safetensors")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["tiny.json", "tiny.safetensors"]
    assert loaded == json.loads((folder / "out/tiny.json").read_text())
    assert {key: loaded[key] for key in card} == json.loads(json.dumps(card))
    x_t = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
    assert bool(denoiser(x_t, 1.0).isfinite().all())
    assert denoiser.calibration is not None
    assert bool(denoiser.error_law(x_t, 1.0).root(x_t).isfinite().all())
    assert denoiser.precision == torch.float32


def test_the_card_tells_all(trained):
    """Law, network, training with its seed, machine, loss, held-out errors level by level, and the weights' hash."""
    _, folder = trained
    card = json.loads((folder / "out/tiny.json").read_text())
    assert card["law"] == RECIPE.law.model_dump(mode="json")
    assert card["parametrisation"] == {"kind": "two-phase", "low": 2.0, "high": 8.0}
    assert card["shape"] == [8, 16]
    assert card["training"]["steps"] == 4
    assert card["training"]["seed"] == 3
    assert card["training"]["noise"] == RECIPE.noise.model_dump(mode="json")
    assert 0 < card["loss"] < 10
    assert card["parameters"] > 1000
    assert card["machine"]
    assert (
        card["versions"]["torch"] == torch.__version__.split("+")[0] or card["versions"]["torch"] == torch.__version__
    )
    s, mse = ([row[key] for row in card["held_out"]] for key in ("s", "mse"))
    assert s == sorted(s)
    assert len(s) == 19
    assert mse[0] < 0.1  # nearly no noise: x_0 is seen
    assert 0.5 < mse[-1] < 2  # nearly no signal: the prior's variance 1 is left
    digest = hashlib.sha256((folder / "out/tiny.safetensors").read_bytes()).hexdigest()
    assert card["sha256"] == digest


def test_training_again_gives_the_same_weights(trained, tmp_path):
    """Same recipe, another folder, the global generator elsewhere: the same file, byte for byte."""
    _, folder = trained
    torch.manual_seed(99)
    train(RECIPE, "tiny", tmp_path / "checkpoint", tmp_path / "out")
    first, second = ((base / "out/tiny.safetensors").read_bytes() for base in (folder, tmp_path))
    assert first == second


def test_interrupted(tmp_path):
    """`stop` leaves a checkpoint and no weights; the same call then finishes, and another recipe is refused."""
    calls = []
    assert (
        train(RECIPE, "tiny", tmp_path / "c", tmp_path / "out", stop=lambda: calls.append(1) or len(calls) > 2) is None
    )
    assert not (tmp_path / "out").exists()
    other = RECIPE.model_copy(update={"training": RECIPE.training.model_copy(update={"seed": 4})})
    with pytest.raises(InputError, match="another recipe"):
        train(other, "tiny", tmp_path / "c", tmp_path / "out")
    seen = []
    train(RECIPE, "tiny", tmp_path / "c", tmp_path / "out", progress=lambda step, *_: seen.append(step))
    assert seen == [3, 4]
    weights.load(tmp_path / "out" / "tiny.json")


def test_the_law_is_the_recipes():
    """±1 on the recipe's grid, for its phases."""
    law = law_of(RECIPE.law)
    x = law.sample_x(3, torch.Generator().manual_seed(0))
    assert x.shape == (3, 8, 16)
    assert x.abs().eq(1).all()
    assert set(law.coefficient(x).unique().tolist()) == {2.0, 8.0}
