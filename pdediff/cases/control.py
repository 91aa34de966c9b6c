"""From a case to the conditional branch of its prior: the sensors as a map that the network has learnt to read."""

import numpy as np
import torch

from pdediff.cases.case import Case
from pdediff.cases.files import branch_of
from pdediff.cases.problem import Problem
from pdediff.denoisers import control_weights
from pdediff.denoisers.control import sensor_map
from pdediff.guidance.classifier_free import ClassifierFree


def build_control(case: Case, problem: Problem, device: torch.device) -> ClassifierFree:
    """The prior, told of the sensors, with the weight of the case."""
    assert case.prior_card is not None  # checked when the case was loaded
    controlled, _ = control_weights.load(branch_of(case.prior_card.stem), case.prior_card, device)
    controlled.denoiser.schedule = problem.prior.denoiser.schedule
    grid, data = problem.grid, problem.observations
    columns = np.clip(((data.x - grid.x[0]) / grid.dx).astype(int), 0, grid.nx - 1)
    rows = np.clip(((data.y - grid.y[0]) / grid.dy).astype(int), 0, grid.ny - 1)
    a = torch.full(grid.shape, float(np.mean(data.value)))
    a[rows, columns] = torch.as_tensor(np.maximum(data.value, 1e-3 * np.abs(data.value).max()), dtype=torch.float32)
    seen = torch.zeros(1, 1, *grid.shape, dtype=torch.bool)
    seen[0, 0, rows, columns] = True
    values = problem.prior.parametrisation.inverse(a[None, None])
    return ClassifierFree(controlled, sensor_map(values, seen).to(device), case.guidance.weight or 0.0)
