"""`train_control`: it learns from sensors what the prior cannot know, resumes, and leaves the prior alone."""

import hashlib
import json
import math

import pytest
import torch

from pdediff.denoisers import control_weights, weights
from pdediff.solvers.errors import InputError
from pdediff.training.control import Sensors, recipe_for, train_control
from pdediff.training.functions import functions_of
from pdediff.training.loop import Training
from pdediff.training.recipe import NoiseLevels, Optimisation, Recipe

PRIOR_RECIPE = Recipe(
    law={"name": "two-phase", "shape": [16, 16], "low": 2.0, "high": 8.0},
    network={"patch": 2, "widths": [8, 16], "blocks": 1},
    training={"steps": 60, "batch": 16, "seed": 3, "learning_rate": 3e-3, "precision": "float32"},
)
SENSORS = Sensors(fewest=20, most=200)


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    """The card's path of a tiny prior."""
    folder = tmp_path_factory.mktemp("prior")
    functions = functions_of(PRIOR_RECIPE)
    card = functions.card | PRIOR_RECIPE.model_dump(mode="json", include={"law", "network"})
    card |= {"name": "tiny", "shape": [16, 16]}
    torch.manual_seed(0)
    denoiser = weights.build(card)
    Training(PRIOR_RECIPE, denoiser, functions.draw, folder / "checkpoint").run()
    weights.save(denoiser, card, folder / "tiny.json")
    return folder / "tiny.json"


def recipe(prior, steps, **settings):
    optimisation = Optimisation(steps=steps, batch=8, learning_rate=3e-3, warmup=5, seed=4, precision="float32")
    card = json.loads(prior.read_text())
    return recipe_for(card, optimisation, NoiseLevels(mean=1.5, sd=1.0), widths=(8, 16), sensors=SENSORS, **settings)


@pytest.fixture(scope="module")
def trained(prior, tmp_path_factory):
    """A branch after 80 steps: its card and the folder of its files."""
    folder = tmp_path_factory.mktemp("branch")
    return train_control(recipe(prior, 80), prior, "branch", folder / "checkpoint", folder / "out"), folder


def test_learns_what_the_sensors_say(trained):
    """At the noise-to-signal ratio 8, where x_t says little, 200 of 256 observed cells bring the error well below the
    prior's (measured: 0.65 of it); 50 less so.
    """
    card, _ = trained
    row = next(row for row in card["held_out"] if row["s"] == 8.0)
    assert row["cells_200"] < 0.75 * row["prior"]
    assert row["cells_200"] < row["cells_50"] < row["prior"]


def test_files_and_card(trained, prior):
    """The pair loads on its prior, whose own files it has not touched, and gives the card's numbers of it."""
    card, folder = trained
    denoiser, loaded = control_weights.load(folder / "out" / "branch.json", prior)
    assert {key: loaded[key] for key in card} == json.loads(json.dumps(card))
    assert card["prior"]["sha256"] == hashlib.sha256(prior.with_suffix(".safetensors").read_bytes()).hexdigest()
    assert card["parameters"] == sum(p.numel() for p in denoiser.branch.parameters())
    assert card["sensors"] == SENSORS.model_dump(mode="json")
    assert [row["s"] for row in card["held_out"]] == sorted(row["s"] for row in card["held_out"])


def test_resumed_as_if_never_stopped(prior, tmp_path):
    """Stopped after two of four steps and run again, the weights are those of a run in one go, to the bit."""
    whole = train_control(recipe(prior, 4), prior, "a", tmp_path / "a", tmp_path)
    asked = iter([False] * 2 + [True])
    assert train_control(recipe(prior, 4), prior, "b", tmp_path / "b", tmp_path, stop=lambda: next(asked)) is None
    assert not (tmp_path / "b.json").exists()
    train_control(recipe(prior, 4), prior, "b", tmp_path / "b", tmp_path)
    assert whole is not None
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_refuses_another_recipe_and_another_prior(prior, tmp_path):
    """A folder holds one run; a recipe names the weights it was made for."""
    train_control(recipe(prior, 1), prior, "a", tmp_path / "a", tmp_path)
    with pytest.raises(InputError, match="another recipe"):
        train_control(recipe(prior, 2), prior, "a", tmp_path / "a", tmp_path)
    card = json.loads(prior.read_text()) | {"sha256": "0" * 64}
    other = recipe_for(card, Optimisation(steps=1), widths=(8, 16))
    with pytest.raises(InputError, match="belongs to the prior 'tiny'"):
        train_control(other, prior, "a", tmp_path / "c", tmp_path)


def test_maps_of_sensors():
    """Numbers of cells lie between the fewest and the most; readings err by sigma; one map in ten is empty."""
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.ones(400, 1, 16, 16)
    condition = SENSORS.draw(x_0, generator)
    values, mask = condition.split(1, dim=1)
    cells = mask.sum(dim=(1, 2, 3))
    empty = cells == 0
    assert float(empty.float().mean()) == pytest.approx(0.1, abs=0.06)
    assert int(cells[~empty].min()) >= 20
    assert int(cells.max()) <= 200
    assert float(cells[~empty].log().mean()) == pytest.approx(math.log(20 * 200) / 2, rel=0.05)
    assert float((values[mask > 0] - 1).std()) == pytest.approx(0.05, rel=0.05)
    assert float(values[mask == 0].abs().max()) == 0
    exact = SENSORS.observe(x_0, 50, generator)[:, 1:]
    assert bool((exact.sum(dim=(1, 2, 3)) == 50).all())
    assert float(exact.mean(dim=0).std()) < 0.04, "places are uniform"
