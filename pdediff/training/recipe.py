"""Training recipes: what is drawn, what network learns it, for how long.

A recipe is a YAML file, read with the same care as a case: unknown keys are errors. The shipped priors' recipes are
`pdediff/priors/*.yaml`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Cells = Annotated[int, Field(ge=4, le=4096)]
Channels = Annotated[int, Field(ge=1, le=4096)]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Shape = Annotated[tuple[Cells, Cells], BeforeValidator(_as_tuple)]
Widths = Annotated[tuple[Channels, ...], BeforeValidator(_as_tuple)]
Phase = Annotated[float, Field(ge=1e-30, le=1e30)]


HELD_OUT_SEED = 2**31 - 1  # of the functions on which errors are measured; no recipe's seed


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TwoPhase(_Section):
    """Phases split by the sign of a Gaussian field; the network sees x = ±1, and a = √(low·high)·(high/low)^(x/2)."""

    name: Literal["two-phase"]
    shape: Shape = Field(description="cells [ny, nx]")
    alpha: float = Field(default=2.0, gt=0.5, le=20, description="smoothness of the Gaussian field")
    tau: float = Field(default=3.0, gt=0, le=1e4, description="inverse length scale of the Gaussian field")
    low: Phase = Field(default=3.0, description="coefficient of the low phase")
    high: Phase = Field(default=12.0, description="coefficient of the high phase")

    @model_validator(mode="after")
    def _phases_differ(self) -> "TwoPhase":
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, got {self.low:g} and {self.high:g}")
        return self


class Solution(_Section):
    """The solution u as a second channel: −∇·(a∇u) = source on the unit square, u = boundary on its walls.

    The network sees (u − mean)/sd times `amplitude`. White noise of one level hides a smooth field less than a rough
    one, and a field of larger amplitude less still: the amplitude says which of a and u is settled first.
    """

    pde: Literal["darcy"] = "darcy"
    boundary: float = Field(default=0.0, description="u on the walls")
    source: float = Field(default=1.0, description="f, the same everywhere")
    amplitude: float = Field(default=4.0, gt=0, le=100, description="standard deviation of the channel")

    @model_validator(mode="after")
    def _not_constant(self) -> "Solution":
        if self.source == 0:
            raise ValueError("without a source u is the same everywhere and there is nothing to learn")
        return self


class UNetShape(_Section):
    """Size of the U-Net."""

    kind: Literal["unet"] = "unet"
    patch: int = Field(default=2, ge=1, le=8, description="pixels per patch side")
    widths: Widths = Field(
        default=(64, 128, 128), min_length=1, max_length=6, description="channels of each level, finest first"
    )
    blocks: int = Field(default=1, ge=1, le=8, description="residual blocks per level")
    attention: bool = Field(default=True, description="self-attention at the coarsest level")

    @property
    def divisor(self) -> int:
        """What ny and nx must be divisible by: patches are halved from level to level."""
        return int(self.patch * 2 ** (len(self.widths) - 1))


class NoiseLevels(_Section):
    """ln s ~ Normal(mean, sd), clipped to [ln low, ln high]; s = sigma_t/alpha_t."""

    mean: float = Field(default=1.0, description="mean of ln s")
    sd: float = Field(default=1.4, gt=0, description="standard deviation of ln s")
    low: float = Field(default=0.02, gt=0, description="smallest s")
    high: float = Field(default=200.0, gt=0, description="largest s")

    @model_validator(mode="after")
    def _increasing(self) -> "NoiseLevels":
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, got {self.low:g} and {self.high:g}")
        return self


class Optimisation(_Section):
    """Adam: linear warm-up, a constant rate, then a cosine decay to zero over the last part."""

    steps: int = Field(ge=1, le=10**9, description="optimiser steps")
    batch: int = Field(default=16, ge=1, le=2**16, description="functions per step")
    learning_rate: float = Field(default=1e-3, gt=0, description="largest learning rate")
    warmup: int = Field(default=200, ge=0, description="steps of linear warm-up")
    decay: float = Field(default=0.4, gt=0, le=1, description="part of the steps, the last, in which the rate decays")
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm")
    ema: float = Field(default=0.999, ge=0, lt=1, description="decay of the weight average")
    seed: int = Field(default=1, ge=0, lt=HELD_OUT_SEED, description="seed of initial weights, data and noise")
    precision: Literal["float32", "bfloat16"] = Field(default="bfloat16", description="arithmetic of the network")


class Recipe(_Section):
    """A whole recipe."""

    law: TwoPhase = Field(description="what is drawn")
    solution: Solution | None = Field(default=None, description="the solution, for a joint prior of a and u")
    network: UNetShape = Field(default=UNetShape(), description="what learns it")
    noise: NoiseLevels = Field(default=NoiseLevels(), description="the noise it is learnt at")
    training: Optimisation = Field(description="for how long, and how")

    @model_validator(mode="after")
    def _network_fits(self) -> "Recipe":
        divisor = self.network.divisor
        if any(n % divisor for n in self.law.shape):
            raise ValueError(
                f"the network needs a shape divisible by patch · 2^(levels − 1) = {divisor}, got {list(self.law.shape)}"
            )
        return self
