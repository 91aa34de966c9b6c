"""The training loop: fresh functions, fresh noise, one step at a time (Zhang & Wonka, algorithm 1, on a grid).

Data is drawn from its law at every step, so there is no data set to overfit and no epoch. Everything that the next step
depends on (weights, average, optimiser, generator) is in the checkpoint: a resumed run continues as if it had never
stopped, whether it was asked to or killed.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pdediff.solvers.errors import ConvergenceError, InputError
from pdediff.solvers.files import replacing
from pdediff.training.ema import ExponentialAverage
from pdediff.training.recipe import NoiseLevels, Recipe

Progress = Callable[[int, int, float], None]  # step, steps, smoothed loss

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps for every parameter


class Learner(Protocol):
    """What is trained: a network, and the loss that it is to lower. A denoiser, or one with a part that learns."""

    @property
    def network(self) -> nn.Module:
        """What moves."""
        ...

    def loss(self, x_0: Tensor, g: Tensor, s: Tensor, /) -> Tensor:
        """Loss (B,) of functions x_0 and white noise g (B, channels, ny, nx) at noise-to-signal ratios s (B,)."""
        ...


class Training:
    """One training run in a folder: `state.json`, the `state-STEP.safetensors` that it names, and `loss.csv`.

    `loss.csv` has a line `step,loss,learning rate` for every step. Only one process at a time may use the folder.

    Parameters
    ----------
    recipe: what to train.
    denoiser: what is trained, on the device to train on.
    draw: `draw(count, generator) -> x_0` of shape (count, channels, ny, nx), on the generator's device.
    folder: where checkpoints go; an existing checkpoint of the same recipe is continued.

    Raises
    ------
    InputError: the folder holds a run of another recipe, or a damaged one.

    """

    def __init__(
        self,
        recipe: Recipe,
        denoiser: Learner,
        draw: Callable[[int, torch.Generator], Tensor],
        folder: Path,
    ) -> None:
        self.recipe, self.denoiser, self.draw, self.folder = recipe, denoiser, draw, folder
        o = recipe.training
        self.network = denoiser.network
        self.device = next(self.network.parameters()).device
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=o.learning_rate, weight_decay=1e-4)
        self.average = ExponentialAverage(self.network, o.ema)
        self.generator = torch.Generator(self.device).manual_seed(o.seed)
        self.step, self.smoothed, self.seconds = 0, math.nan, 0.0
        if (folder / "state.json").exists():
            self._restore()
        self._forget_what_a_kill_left()

    def run(
        self, progress: Progress | None = None, stop: Callable[[], bool] = lambda: False, save_seconds: float = 120.0
    ) -> bool:
        """Train to the recipe's last step, with a checkpoint every `save_seconds` and at the end.

        `stop` is asked between steps; when it says yes the run is saved and left. Returns whether the last step was
        reached; the network then holds the averaged weights. Raises ConvergenceError when the loss is no longer finite;
        the last checkpoint stays.
        """
        o = self.recipe.training
        self.folder.mkdir(parents=True, exist_ok=True)
        started = saved = time.monotonic()
        spent = self.seconds
        log: list[str] = []
        self.network.train()
        while self.step < o.steps and not stop():
            loss = self._one_step()
            self.smoothed = loss if math.isnan(self.smoothed) else 0.99 * self.smoothed + 0.01 * loss
            log.append(f"{self.step},{loss:.6g},{self.optimiser.param_groups[0]['lr']:.4g}\n")
            now = time.monotonic()
            self.seconds = spent + now - started
            if progress is not None:
                progress(self.step, o.steps, self.smoothed)
            if now - saved > save_seconds:
                saved = now
                self._save(log)
        self._save(log)
        if self.step < o.steps:
            return False
        self.network.load_state_dict(self.average.state)
        self.network.eval()
        return True

    def _one_step(self) -> float:
        o = self.recipe.training
        x_0 = self.draw(o.batch, self.generator)
        s = noise_levels(self.recipe.noise, o.batch, self.generator)
        g = torch.randn(x_0.shape, generator=self.generator, device=self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.denoiser.loss(x_0, g, s).mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ConvergenceError(
                f"training diverged: the loss of step {self.step + 1} is {value}; lower the learning rate"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), o.clip)
        self.optimiser.step()
        self.average.update(self.network, self.step)
        self.step += 1
        return value

    def _learning_rate(self) -> float:
        o = self.recipe.training
        warm = min(1.0, (self.step + 1) / max(1, o.warmup))
        decayed = max(0.0, (self.step / o.steps - 1 + o.decay) / o.decay)  # 0 until the decay starts, 1 at the end
        return o.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * decayed))

    def _save(self, log: list[str]) -> None:
        """Write loss lines, then tensors, then the small file that makes them count; each by rename."""
        with (self.folder / "loss.csv").open("a") as f:
            f.writelines(log)
        log.clear()
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state.items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
        tensors["generator"] = self.generator.get_state()
        name = f"state-{self.step}.safetensors"
        _write(self.folder / name, save({k: v.detach().contiguous().cpu() for k, v in tensors.items()}))
        state = {
            "step": self.step,
            "smoothed": self.smoothed,
            "seconds": self.seconds,
            "file": name,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        _write(self.folder / "state.json", json.dumps(state, indent=1).encode())
        for old in self.folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()

    def _restore(self) -> None:
        try:
            state = json.loads((self.folder / "state.json").read_text())
            if state["recipe"] != self.recipe.model_dump(mode="json"):
                raise InputError(f"{self.folder}: holds a training run of another recipe; choose another folder")
            tensors = load_file(self.folder / state["file"])
            self.step, self.smoothed, self.seconds = state["step"], state["smoothed"], state["seconds"]
            average = _strip(tensors, "average.")
            self.network.load_state_dict(average)  # checks its names and shapes
            self.network.load_state_dict(_strip(tensors, "network."))
            self.average.state = {k: v.to(self.device) for k, v in average.items()}
            moments = {i: {name: tensors[f"optimiser.{i}.{name}"] for name in MOMENTS} for i in self._moved()}
            groups = self.optimiser.state_dict()["param_groups"]
            self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
            self.generator.set_state(tensors["generator"])
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, RuntimeError, FileNotFoundError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self.folder}: damaged checkpoint ({reason}); choose another folder") from None

    def _moved(self) -> range:
        """Numbers of the parameters that the optimiser has moved: none before the first step, then all."""
        return range(len(self.optimiser.param_groups[0]["params"]) if self.step else 0)

    def _forget_what_a_kill_left(self) -> None:
        """Drop half-written files, and the loss lines of steps after the checkpoint, so that every step has one."""
        for part in self.folder.glob("*.part"):
            part.unlink()
        path = self.folder / "loss.csv"
        if path.exists():
            _write(path, b"".join(path.read_bytes().splitlines(True)[: self.step]))


def noise_levels(law: NoiseLevels, count: int, generator: torch.Generator) -> Tensor:
    """Noise-to-signal ratios (count,), one from each of `count` equally likely strata of the law: a steadier loss."""
    device = generator.device
    u = (torch.arange(count, device=device) + torch.rand(count, generator=generator, device=device)) / count
    z = torch.erfinv(2 * u.clamp(1e-4, 1 - 1e-4) - 1) * math.sqrt(2)
    return (law.mean + law.sd * z).clamp(math.log(law.low), math.log(law.high)).exp()


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(content)


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
