"""Files of weights: what is written is what is read, and everything else is refused in one line."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pdediff.cases.files import CARD_FORMAT
from pdediff.denoisers import weights
from pdediff.denoisers.calibration import CalibratedErrors
from pdediff.solvers.errors import InputError

CARD = {
    "fields": ["a"],
    "shape": [8, 8],
    "network": {"kind": "unet", "patch": 2, "widths": [8, 16], "blocks": 1, "attention": True},
    "preconditioning": {"sigma_data": 0.7, "mean": 0.1},
    "law": {"name": "two-phase", "low": 3.0, "high": 12.0},
}


@pytest.fixture
def saved(tmp_path):
    """A denoiser with random weights and a calibration, and the path of its card."""
    torch.manual_seed(0)
    denoiser = weights.build(CARD)
    for parameter in denoiser.network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    s, nodes = torch.tensor([0.1, 1.0], dtype=torch.float64), torch.linspace(-1, 1, 3, dtype=torch.float64)[None]
    variance = torch.rand(2, 1, 3, dtype=torch.float64) + 0.1
    denoiser.calibration = CalibratedErrors(s, nodes, variance, torch.rand(2, 1, 8, 8))
    weights.save(denoiser, CARD, tmp_path / "prior.json")
    return denoiser, tmp_path / "prior.json"


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_round_trip(saved, suffix):
    """Same predictions to the bit, same error law, same card; found by either file; ready for inference."""
    denoiser, path = saved
    loaded, card = weights.load(path.with_suffix(suffix))
    assert {key: card[key] for key in CARD} == CARD
    x_t = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded(x_t, 0.5), denoiser(x_t, 0.5))
    assert torch.equal(loaded.error_law(x_t, 0.5).root(x_t), denoiser.error_law(x_t, 0.5).root(x_t))
    assert loaded.space == denoiser.space
    assert loaded.preconditioning == denoiser.preconditioning
    assert not loaded.network.training
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())
    assert sorted(p.name for p in path.parent.iterdir()) == ["prior.json", "prior.safetensors"]


def test_without_calibration(saved, tmp_path):
    """A denoiser that was not measured comes back with the white error law."""
    denoiser, _ = saved
    denoiser.calibration = None
    weights.save(denoiser, CARD, tmp_path / "bare.json")
    assert weights.load(tmp_path / "bare.json")[0].calibration is None


def test_cases_know_the_same_format():
    """The module that checks cases may not import torch, and repeats the name of the format."""
    assert CARD_FORMAT == weights.FORMAT


def edit(path, **keys):
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def truncate(path):
    file = path.with_suffix(".safetensors")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def foreign(path):
    """Another network's weights under this card."""
    file = path.with_suffix(".safetensors")
    tensors = load_file(file)
    save_file({name: value + 1 for name, value in tensors.items()}, file)


def drop(path, key):
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != key}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"prior.json: no such file"),
        (lambda path: path.with_suffix(".safetensors").unlink(), r"prior.safetensors: no such file"),
        (lambda path: path.write_text("{"), r"prior.json: not a card of weights"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), r"prior.json: not a card of weights"),
        (lambda path: path.write_text("[1]"), r"its format is not pdediff-denoiser-1"),
        (lambda path: edit(path, format="pdediff-denoiser-9"), r"its format is not pdediff-denoiser-1"),
        (truncate, r"prior.safetensors: truncated or not safetensors"),
        (lambda path: path.with_suffix(".safetensors").write_bytes(b"PK\x03\x04"), r"truncated or not safetensors"),
        (foreign, r"prior.safetensors: not the weights that prior.json describes"),
        (lambda path: drop(path, "sha256"), r"not the weights that prior.json describes"),
        (lambda path: drop(path, "network"), r"prior.json: does not describe a denoiser with these weights"),
        (lambda path: edit(path, shape=8), r"prior.json: does not describe a denoiser with these weights"),
        (lambda path: edit(path, fields=["a", "a"]), r"prior.json: does not describe a denoiser with these weights"),
        (
            lambda path: edit(path, network=CARD["network"] | {"widths": [8, 24]}),
            r"prior.json: does not describe a denoiser with these weights",
        ),
    ],
)
def test_damaged_pairs_are_refused(saved, damage, message):
    """Missing, truncated, foreign, of another format, an edited card: InputError, one line, naming the file."""
    _, path = saved
    damage(path)
    with pytest.raises(InputError, match=message) as caught:
        weights.load(path)
    assert "\n" not in str(caught.value)
