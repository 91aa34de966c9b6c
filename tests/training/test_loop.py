"""The training loop: a resumed run is the run that was never stopped; what it draws; what it refuses."""

import json
import math

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from pdediff.denoisers import weights
from pdediff.solvers.errors import ConvergenceError, InputError
from pdediff.training.ema import ExponentialAverage
from pdediff.training.loop import Training, noise_levels
from pdediff.training.recipe import NoiseLevels, Recipe

RECIPE = {
    "law": {"name": "two-phase", "shape": [8, 8]},
    "network": {"patch": 2, "widths": [8, 16], "blocks": 1},
    "training": {"steps": 6, "batch": 4, "warmup": 2, "decay": 0.5, "seed": 5, "precision": "float32"},
}


def recipe(**training):
    return Recipe(**RECIPE | {"training": RECIPE["training"] | training})


def draw(count, generator):
    """Smooth signs, from the generator alone."""
    noise = torch.randn(count, 1, 8, 8, generator=generator)
    return torch.where(torch.nn.functional.avg_pool2d(noise, 3, 1, 1) >= 0, 1.0, -1.0)


def training(folder, plan=None, draw=draw):
    """A fresh object, as a new process would make it."""
    torch.manual_seed(0)
    card = {
        "fields": ["a"],
        "shape": [8, 8],
        "network": recipe().network.model_dump(),
        "preconditioning": {"sigma_data": 1.0},
    }
    return Training(plan or recipe(), weights.build(card), draw, folder)


def stop_after(run, steps):
    return lambda: run.step >= steps


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resume_continues_identically(tmp_path, precision):
    """3 steps, a new object from the checkpoint, 3 more: weights, average, optimiser, generator, log, to the bit."""
    plan = recipe(precision=precision)
    for name, parts in (("whole", [6]), ("parts", [3, 6])):
        for steps in parts:
            run = training(tmp_path / name, plan)
            run.denoiser.precision = getattr(torch, precision)
            assert run.run(stop=stop_after(run, steps)) == (steps == 6)
    whole, parts = (load_file(tmp_path / name / "state-6.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert {key.split(".")[0] for key in whole} == {"network", "average", "optimiser", "generator"}
    for key, value in whole.items():
        assert torch.equal(value, parts[key]), key
    logs = [(tmp_path / name / "loss.csv").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    states = [json.loads((tmp_path / name / "state.json").read_text()) for name in ("whole", "parts")]
    assert states[0]["smoothed"] == states[1]["smoothed"]


def test_a_finished_run_holds_the_average(tmp_path):
    """At the end the network has the averaged weights, in evaluation mode; so has one that is opened again."""
    for _ in range(2):
        run = training(tmp_path)
        assert run.run()
        assert run.step == 6
        assert not run.network.training
        for name, value in run.network.state_dict().items():
            assert torch.equal(value, run.average.state[name])
    assert len((tmp_path / "loss.csv").read_text().splitlines()) == 6


def test_stop_leaves_a_checkpoint(tmp_path):
    """`stop` is asked before each step; the run ends with a checkpoint of the last one, and says it is not done."""
    run = training(tmp_path)
    assert not run.run(stop=stop_after(run, 2))
    assert json.loads((tmp_path / "state.json").read_text())["step"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.csv", "state-2.safetensors", "state.json"]
    assert training(tmp_path).step == 2


def test_checkpoints_while_it_runs(tmp_path):
    """With `save_seconds=0` there is one after every step; only the newest file of tensors stays; progress is told."""
    run, seen = training(tmp_path), []

    def progress(step, steps, smoothed):
        seen.append((step, steps, math.isfinite(smoothed)))
        if step > 1:
            assert [path.name for path in tmp_path.glob("state-*")] == [f"state-{step - 1}.safetensors"]

    run.run(progress, save_seconds=0)
    assert seen == [(step, 6, True) for step in range(1, 7)]


def test_a_kill_costs_the_steps_since_the_checkpoint(tmp_path):
    """Loss lines of lost steps, even half a line, are dropped: after resuming, every step has one line."""
    whole = training(tmp_path / "whole")
    whole.run()
    run = training(tmp_path / "killed")
    run.run(stop=stop_after(run, 3))
    with (tmp_path / "killed/loss.csv").open("a") as file:
        file.write("4,0.9,1e-3\n5,0.8,1e-3\n6")
    training(tmp_path / "killed").run()
    assert (tmp_path / "killed/loss.csv").read_text() == (tmp_path / "whole/loss.csv").read_text()


def test_a_kill_before_the_first_checkpoint(tmp_path):
    """Lines without any checkpoint belong to no run."""
    (tmp_path / "loss.csv").write_text("1,0.9,1e-3\n2,0.8,1e-3\n")
    training(tmp_path).run()
    steps = [int(line.split(",")[0]) for line in (tmp_path / "loss.csv").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_another_recipe_in_the_folder_is_refused(tmp_path):
    """InputError that names the folder; what is there stays as it was."""
    training(tmp_path).run()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="holds a training run of another recipe"):
        training(tmp_path, recipe(learning_rate=2e-3))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["network.", "average.", "optimiser.3.exp_avg", "optimiser.0.step", "generator", ""])
def test_a_damaged_checkpoint_is_said_so(tmp_path, name):
    """A tensor that is missing, or a key of the state: InputError in one line, and the files stay as they are."""
    training(tmp_path).run(stop=lambda: (tmp_path / "state-2.safetensors").exists(), save_seconds=-1)
    state = json.loads((tmp_path / "state.json").read_text())
    if name:
        tensors = load_file(tmp_path / state["file"])
        del tensors[next(key for key in tensors if key.startswith(name))]
        save_file(tensors, tmp_path / state["file"])
    else:
        del state["seconds"]
        (tmp_path / "state.json").write_text(json.dumps(state))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="damaged checkpoint") as caught:
        training(tmp_path)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_divergence_is_an_error(tmp_path):
    """A loss that is not finite ends the run before it reaches the weights; the last checkpoint is good."""
    calls = []

    def poisoned(count, generator):
        calls.append(count)
        return draw(count, generator) * (math.nan if len(calls) == 4 else 1)

    run = training(tmp_path, draw=poisoned)
    with pytest.raises(ConvergenceError, match="step 4 is nan"):
        run.run(save_seconds=0)
    assert all(bool(parameter.isfinite().all()) for parameter in run.network.parameters())
    assert training(tmp_path).step == 3


def test_the_loss_falls(tmp_path):
    """120 steps on a law of two functions, x = ±1 everywhere: from the untrained network's loss, 1, to below 0.7."""

    def constant(count, generator):
        return torch.randint(0, 2, (count, 1, 1, 1), generator=generator).float().expand(-1, 1, 8, 8) * 2 - 1

    run = training(tmp_path, recipe(steps=120, batch=8, learning_rate=5e-3, warmup=5), constant)
    run.run()
    losses = [float(line.split(",")[1]) for line in (tmp_path / "loss.csv").read_text().splitlines()]
    assert sum(losses[:3]) / 3 > 0.7
    assert sum(losses[-20:]) / 20 < 0.7


def test_learning_rate(tmp_path):
    """Linear warm-up over 4 steps, a constant rate, a cosine to zero over the last half; logged as it was used."""
    plan = recipe(steps=20, warmup=4, decay=0.5, learning_rate=1e-3)
    training(tmp_path, plan).run()
    rates = [float(line.split(",")[2]) for line in (tmp_path / "loss.csv").read_text().splitlines()]
    assert rates[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3], rel=1e-3)
    assert rates[4:11] == pytest.approx([1e-3] * 7)
    assert rates[11:] == pytest.approx([0.5e-3 * (1 + math.cos(math.pi * i / 10)) for i in range(1, 10)], rel=1e-3)


def test_average_is_the_formula():
    """a ← d a + (1 − d) w with d = min(decay, (1 + k)/(10 + k)) at step k; whole numbers are copied."""
    network = torch.nn.BatchNorm1d(1)
    average = ExponentialAverage(network, decay=0.15)
    expected, bias = 1.0, [2.0, -1.0, 4.0]
    for k, value in enumerate(bias):
        with torch.no_grad():
            network.weight.fill_(value)
            network.num_batches_tracked.fill_(k)
        average.update(network, k)
        d = min(0.15, (1 + k) / (10 + k))
        expected = d * expected + (1 - d) * value
    assert float(average.state["weight"]) == pytest.approx(expected, rel=1e-6)
    assert int(average.state["num_batches_tracked"]) == 2
    network.weight.data.fill_(100.0)
    assert float(average.state["weight"]) == pytest.approx(expected, rel=1e-6)  # a copy, not a view


def test_noise_levels_follow_their_law():
    """ln s is Normal(mean, sd): by strata, the distribution of a batch of 50 is within 1/50 of it.

    Every batch has exactly one s in each of its 50 equally likely strata.
    """
    law, generator = NoiseLevels(mean=0.5, sd=1.2, low=1e-3, high=1e3), torch.Generator().manual_seed(0)
    s = torch.stack([noise_levels(law, 50, generator) for _ in range(400)]).double()
    u = torch.special.ndtr((s.log() - 0.5) / 1.2)
    edges = torch.arange(50) / 50
    assert bool(((u >= edges - 1e-5) & (u <= edges + 1 / 50 + 1e-5)).all())
    place = (u - edges) * 50  # within the stratum: uniform, mean 1/2 to 4/√(12 × 20000)
    assert float(place.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * 20_000))


def test_noise_levels_are_clipped():
    """Nothing outside [low, high]."""
    law, generator = NoiseLevels(mean=0.0, sd=5.0, low=0.1, high=10.0), torch.Generator().manual_seed(0)
    s = noise_levels(law, 1000, generator)
    assert float(s.min()) == pytest.approx(0.1)
    assert float(s.max()) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("training", "stepz", 3, "Extra inputs are not permitted"),
        ("training", "steps", 0, "greater than or equal to 1"),
        ("training", "learning_rate", math.inf, "finite number"),
        ("training", "seed", 2**31 - 1, "less than"),
        ("training", "precision", "float16", "'float32' or 'bfloat16'"),
        ("network", "widths", [], "at least 1 item"),
        ("network", "widths", [8, 0], "greater than or equal to 1"),
        ("network", "widths", [8, 8, 8, 8], r"divisible by patch · 2\^\(levels − 1\) = 16, got \[8, 8\]"),
        ("network", "kind", "fno", "'unet'"),
        ("law", "shape", [8], "Field required"),
        ("law", "shape", [8, 10], "divisible"),
        ("law", "low", 12.0, "low must be less than high"),
        ("law", "name", "three-phase", "'two-phase'"),
        ("noise", "low", 300.0, "low must be less than high"),
    ],
)
def test_recipes_that_cannot_be(section, key, value, message):
    """Unknown keys, values out of bounds, a network that does not divide its grid: refused before anything runs."""
    plan = RECIPE | {section: RECIPE.get(section, {}) | {key: value}}
    with pytest.raises(ValidationError, match=message):
        Recipe(**plan)


def test_unknown_sections_are_refused():
    """At the top level too."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        Recipe(**RECIPE, optimiser={})
