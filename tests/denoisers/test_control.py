"""A branch on a frozen denoiser: nothing before training, only the branch in training, files that find their prior."""

import json
from pathlib import Path

import pytest
import torch

import pdediff.priors
from pdediff.denoisers import control_weights, weights
from pdediff.denoisers.control import ControlBranch, ControlledDenoiser, sensor_map
from pdediff.denoisers.unet import UNet
from pdediff.guidance.classifier_free import ClassifierFree
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.schedules import levels
from pdediff.solvers.errors import InputError
from pdediff.training.control import Sensors
from pdediff.training.functions import law_of
from pdediff.training.recipe import TwoPhase

CARD = {
    "name": "prior",
    "fields": ["a"],
    "shape": [8, 16],
    "network": {"kind": "unet", "patch": 2, "widths": [8, 16], "blocks": 1, "attention": True},
    "preconditioning": {"sigma_data": 0.7, "mean": 0.1},
}
BRANCH_CARD = {"name": "branch", "branch": {"conditions": 3, "widths": [8, 8]}}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomised(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module


def frozen():
    torch.manual_seed(0)
    denoiser = weights.build(CARD)
    randomised(denoiser.network).requires_grad_(False)
    return denoiser


def controlled(seed=1, trained=True):
    """A branch with random weights, as if it were trained, or as it is at first."""
    denoiser = frozen()
    torch.manual_seed(seed)
    branch = control_weights.build(BRANCH_CARD, denoiser)
    return ControlledDenoiser(denoiser, randomised(branch) if trained else branch)


X_T, CONDITION = normal(4, 128), normal(4, 3, 8, 16, seed=1)


@pytest.mark.parametrize("t", [0.1, 1.0, 20.0])
def test_an_untrained_branch_is_the_frozen_denoiser(t):
    """To the bit, whatever the condition: the 1 × 1 convolutions are zero."""
    denoiser = controlled(trained=False)
    assert torch.equal(denoiser(X_T, t, condition=1e3 * CONDITION), denoiser.denoiser(X_T, t))


def test_without_condition_it_is_the_prior():
    """None gives the frozen denoiser to the bit, after training too; a condition gives something else, for each row its
    own; one row of condition serves a batch.
    """
    denoiser = controlled()
    denoiser.branch.requires_grad_(False)
    assert torch.equal(denoiser(X_T, 1.0), denoiser.denoiser(X_T, 1.0))
    given = denoiser(X_T, 1.0, condition=CONDITION)
    assert float((given - denoiser(X_T, 1.0)).abs().mean()) > 1e-3
    torch.testing.assert_close(denoiser(X_T[2:3], 1.0, condition=CONDITION[2:3]), given[2:3], rtol=1e-4, atol=1e-5)
    shared = denoiser(X_T, 1.0, condition=CONDITION[:1])
    torch.testing.assert_close(shared, denoiser(X_T, 1.0, condition=CONDITION[:1].repeat(4, 1, 1, 1)))
    torch.testing.assert_close(shared[:1], given[:1], rtol=1e-4, atol=1e-5)


def test_only_the_branch_learns():
    """The loss reaches the zero convolutions at the first step, and all of the branch at the third, once these and the
    zeros inside its blocks have moved; it never reaches the frozen network, which the optimiser leaves as it was.
    """
    denoiser = controlled(trained=False)
    before = {k: v.clone() for k, v in denoiser.denoiser.network.state_dict().items()}
    optimiser = torch.optim.SGD(denoiser.branch.parameters(), 0.1)
    x_0, g, s = normal(4, 1, 8, 16, seed=2), normal(4, 1, 8, 16, seed=3), torch.tensor([0.2, 1.0, 3.0, 9.0])
    for step in range(3):
        optimiser.zero_grad()
        denoiser.given(CONDITION).loss(x_0, g, s).mean().backward()
        moved = {name for name, p in denoiser.branch.named_parameters() if float(p.grad.abs().max()) > 0}
        if step == 0:
            assert moved == {f"enter.{i}.{kind}" for i in range(5) for kind in ("weight", "bias")}
        optimiser.step()
    assert {"first.weight", "down.0.conv_1.weight", "embedding.layers.0.weight"} <= moved
    assert len(moved) > 0.9 * len(list(denoiser.branch.parameters()))
    after = denoiser.denoiser.network.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert all(p.grad is None for p in denoiser.denoiser.network.parameters())


def test_classifier_free_weighting():
    """D(∅) + weight (D(c) − D(∅)): the branch and the prior it leaves alone are all that it needs."""
    denoiser = controlled()
    free, given = denoiser(X_T, 1.0), denoiser(X_T, 1.0, condition=CONDITION)
    torch.testing.assert_close(ClassifierFree(denoiser, CONDITION, 2.5)(X_T, 1.0), free + 2.5 * (given - free))


def test_differentiable_in_x_t():
    """The derivative along a direction is a difference quotient (relative step 1e-3 in float32: to 2 %)."""
    denoiser, direction = controlled(), normal(4, 128, seed=5)
    denoiser.branch.requires_grad_(False)
    x_t = X_T.clone().requires_grad_()
    v = normal(4, 128, seed=6)
    (gradient,) = torch.autograd.grad((denoiser(x_t, 1.0, condition=CONDITION) * v).sum(), x_t)
    h = 3e-3
    ahead, behind = (denoiser(X_T + sign * h * direction, 1.0, condition=CONDITION) for sign in (1, -1))
    quotient = float(((ahead - behind).double() * v).sum() / (2 * h))
    assert float((gradient * direction).sum()) == pytest.approx(quotient, rel=0.02, abs=0.05)


def test_the_face_of_a_denoiser():
    """Space, schedule, bounds, ladder and error law are the prior's."""
    denoiser = controlled()
    assert denoiser.space == denoiser.denoiser.space
    assert denoiser.noise_range == denoiser.denoiser.noise_range
    assert torch.equal(denoiser.bounds[1], denoiser.denoiser.bounds[1])
    assert torch.equal(denoiser.error_law(X_T, 1.0).root(X_T), denoiser.denoiser.error_law(X_T, 1.0).root(X_T))
    with pytest.raises(ValueError, match="query points"):
        denoiser(X_T, 1.0, query=torch.zeros(1, 2), condition=CONDITION)
    with pytest.raises(ValueError, match="branch wants"):
        denoiser(X_T, 1.0, condition=CONDITION[:, :2])


def test_sized_small():
    """The default branch of the shipped prior's network has at most 0.6 million parameters."""
    branch = ControlBranch(UNet(1, 2, (64, 128, 128), 1), 2)
    assert sum(p.numel() for p in branch.parameters()) < 600_000
    with pytest.raises(ValueError, match="as many widths"):
        ControlBranch(UNet(1, 2, (64, 128, 128), 1), 2, (32, 64))


def test_sensor_map():
    """Readings where the mask is set, zeros elsewhere even if the value there is no number; then the mask."""
    values, mask = torch.full((1, 1, 2, 2), torch.nan), torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    values[0, 0, 1, 0], mask[0, 0, 1, 0] = 0.3, True
    expected = torch.tensor([[[[0.0, 0.0], [0.3, 0.0]], [[0.0, 0.0], [1.0, 0.0]]]])
    assert torch.equal(sensor_map(values, mask), expected)


PRIOR = Path(pdediff.priors.__file__).parent / "two-phase-64.json"
SHIPPED = PRIOR.parent / "control" / "two-phase-64-control.json"


def shipped(count, cells):
    """The shipped branch, functions of its law (count, 1, 64, 64), and what so many sensors say of them."""
    denoiser, card = control_weights.load(SHIPPED, PRIOR)
    law = law_of(TwoPhase(**json.loads(PRIOR.read_text())["law"]))
    generator = torch.Generator().manual_seed(12345)
    x_0 = law.sample_x(count, generator)[:, None]
    return denoiser, x_0, Sensors(**card["sensors"]).observe(x_0, cells, generator)


def test_the_shipped_branch():
    """Given 500 cells of 4096, the mean square error at s = 8 is less than half the prior's (its card: 0.11, 0.36)."""
    denoiser, x_0, condition = shipped(4, 500)
    alpha_t, sigma_t = denoiser.schedule(8.0)
    x_t = alpha_t * x_0.flatten(1) + sigma_t * normal(4, 4096, seed=7)
    given, free = (denoiser(x_t, 8.0, condition=c) - x_0.flatten(1) for c in (condition, None))
    assert float(given.square().mean()) < 0.5 * float(free.square().mean())


@pytest.mark.slow
def test_samples_of_the_shipped_branch():
    """16 ancestral samples of 40 levels, given 500 cells read with noise 0.05: 4.3 % wrong cells (± 0.5); without data
    the prior's are wrong in about half, and what the sensors say is met in all but 1.4 % of their cells.
    """
    denoiser, x_0, condition = shipped(16, 500)
    times = levels(denoiser.schedule, denoiser.noise_range[1], denoiser.noise_range[0], 40)
    wrong = {}
    for name, mean in (("given", ClassifierFree(denoiser, condition)), ("free", denoiser)):
        generators = Generators(7, range(16))
        z = DDIM(eta=1.0)(mean, pure_noise(mean, times[0], generators), times, generators).view_as(x_0)
        wrong[name] = (z > 0) != (x_0 > 0)
    assert float(wrong["given"].float().mean()) < 0.06
    assert float(wrong["free"].float().mean()) > 0.35
    assert float(wrong["given"][condition[:, 1:] > 0].float().mean()) < 0.025


@pytest.fixture
def saved(tmp_path):
    """A branch with random weights and its prior, in files."""
    denoiser = controlled()
    weights.save(denoiser.denoiser, CARD, tmp_path / "prior.json")
    sha256 = json.loads((tmp_path / "prior.json").read_text())["sha256"]
    card = BRANCH_CARD | {"prior": {"name": "prior", "sha256": sha256}}
    control_weights.save(denoiser.branch, card, tmp_path / "branch.json")
    return denoiser, tmp_path


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_round_trip(saved, suffix):
    """Same predictions to the bit, found by either file, frozen and ready for inference."""
    denoiser, folder = saved
    loaded, card = control_weights.load(folder / f"branch{suffix}", folder / "prior.json")
    assert card["branch"] == BRANCH_CARD["branch"]
    assert torch.equal(loaded(X_T, 0.5, condition=CONDITION), denoiser(X_T, 0.5, condition=CONDITION))
    assert not loaded.branch.training
    assert not any(p.requires_grad for p in loaded.branch.parameters())


def test_refuses_another_prior(saved):
    """A branch is loaded on the very weights that it was trained on: a retrained prior is not one of that name."""
    _, folder = saved
    torch.manual_seed(5)
    weights.save(weights.build(CARD), CARD | {"name": "other"}, folder / "other.json")
    with pytest.raises(InputError, match="belongs to the prior 'prior', whose weights are not those of 'other'"):
        control_weights.load(folder / "branch.json", folder / "other.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "pdediff-denoiser-1"}, "not the card of a branch"),
        ({"sha256": "0" * 64}, "SHA-256 differs"),
        ({"prior": None}, "belongs to the prior None"),
        ({"branch": {"conditions": 2, "widths": [8, 8]}}, "does not describe a branch with these weights"),
        ({"branch": {"conditions": 3, "widths": [8]}}, "does not describe a branch with these weights"),
        ({"branch": {}}, "does not describe a branch with these weights"),
    ],
)
def test_refuses_damage(saved, change, message):
    """A card that was edited is refused in one line."""
    _, folder = saved
    card = json.loads((folder / "branch.json").read_text())
    (folder / "branch.json").write_text(json.dumps(card | change))
    with pytest.raises(InputError, match=message) as refusal:
        control_weights.load(folder / "branch.json", folder / "prior.json")
    assert "\n" not in str(refusal.value)


def test_refuses_missing_and_truncated_files(saved):
    """No card; a card that is no JSON; weights cut short."""
    _, folder = saved
    with pytest.raises(InputError, match="not a trained branch"):
        control_weights.load(folder / "nothing.json", folder / "prior.json")
    content = (folder / "branch.safetensors").read_bytes()
    (folder / "branch.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="not a trained branch"):
        control_weights.load(folder / "branch.json", folder / "prior.json")
    (folder / "branch.json").write_text("{")
    with pytest.raises(InputError, match="not a trained branch"):
        control_weights.load(folder / "branch.json", folder / "prior.json")
