"""What sees the fields: point sensors, or operators, one instrument for each group of a case.

Point sensors read a synthetic truth on the finer grid that it was solved on; operators see its averages over the cells
of the inference grid.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pdediff.cases.case import Case
from pdediff.cases.observing import SensorSection
from pdediff.cases.operators import AverageSection, BlurSection, MaskSection, TomographySection
from pdediff.cases.section import Section
from pdediff.cases.sensors import place
from pdediff.likelihoods.operators import (
    Composition,
    FieldOperator,
    GaussianBlur,
    Mask,
    OnCells,
    ParallelBeam,
    PointSensors,
    Scaled,
    SupportAverage,
)
from pdediff.solvers.grid import Grid


@dataclass(frozen=True)
class Instrument:
    """Data of one kind.

    Parameters
    ----------
    field: what it sees, "a" or "u".
    group: name of the group of its data.
    data: places of its data among the observations: (m,).
    operator: from the field on cells and walls to the data.
    places: coordinates (m, 2), as (x, y), of the data.
    floor, relative: noise standard deviation sqrt(floor² + (relative·v)²) at true value v.
    points: whether it reads values at points, on any grid.
    gain: what it multiplies them by.

    """

    field: str
    group: str
    data: NDArray[np.int64]
    operator: FieldOperator
    places: NDArray[np.float64]
    floor: float = 0.0
    relative: float = 0.0
    points: bool = True
    gain: float = 1.0

    def __len__(self) -> int:
        return len(self.data)


def instruments(case: Case, grid: Grid, device: str | torch.device = "cpu") -> list[Instrument]:
    """The instruments of a case, in the order of its sensor groups; those of a file field by field."""
    if case.measurements is not None:
        return _of_file(case, grid, device)
    found: list[Instrument] = []
    for section in case.observations.sensors or ():
        level = section.noise or case.observations.noise
        floor, relative = level.coefficients if level else (0.0, 0.0)
        operator = build_instrument(section, grid, device)
        start = found[-1].data[-1] + 1 if found else 0
        data, name = start + np.arange(len(operator)), section.name or section.field
        points = section.operator is None
        found.append(
            Instrument(section.field, name, data, operator, operator.places, floor, relative, points, section.gain)
        )
    return found


def build_instrument(section: SensorSection, grid: Grid, device: str | torch.device = "cpu") -> FieldOperator:
    """What a sensor group sees of a field on the cells and walls of a grid."""
    if section.operator is None:
        operator: FieldOperator = PointSensors(grid, place(section, grid), device)
    else:
        operator = OnCells(build_operators(section.operator, grid, device))
    return operator if section.gain == 1 else Scaled(operator, section.gain)


def build_operators(sections: tuple[Section, ...], grid: Grid, device: str | torch.device = "cpu") -> FieldOperator:
    """Operators on the cells of a grid, composed in their order. Raises InputError where one does not fit the grid."""
    whole, cells = _operator(sections[0], grid, device), grid
    for section in sections[1:]:
        cells = Grid((whole.out_shape[0], whole.out_shape[-1]), grid.x, grid.y, grid.unit)
        whole = Composition(_operator(section, cells, device), whole)
    return whole


def _operator(section: Section, grid: Grid, device: str | torch.device) -> FieldOperator:
    if isinstance(section, BlurSection):
        return GaussianBlur(grid, section.width, device=device)
    if isinstance(section, AverageSection):
        return SupportAverage(grid, section.factor)
    if isinstance(section, MaskSection):
        return getattr(Mask, section.seen)(grid, section.x, section.y, device=device)
    assert isinstance(section, TomographySection)
    angles = np.arange(section.angles) * 180 / section.angles
    return ParallelBeam(grid, angles, section.rays, device=device)


def _of_file(case: Case, grid: Grid, device: str | torch.device) -> list[Instrument]:
    m = case.measurements
    assert m is not None
    points, found = np.stack([m.x, m.y], axis=1), []
    for field in dict.fromkeys(m.field):
        here = np.flatnonzero(m.field == field)
        operator = PointSensors(grid, points[here], device)
        found.append(Instrument(str(field), str(field), here, operator, points[here]))
    return found
