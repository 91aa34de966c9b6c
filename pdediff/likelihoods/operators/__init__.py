"""Observation operators: linear maps A from fields to data, each with its adjoint."""

from pdediff.likelihoods.operators.average import SupportAverage
from pdediff.likelihoods.operators.base import (
    Composition,
    FieldOperator,
    Identity,
    LinearOperator,
    OnCells,
    Scaled,
    Stack,
)
from pdediff.likelihoods.operators.blur import GaussianBlur, gaussian_kernel
from pdediff.likelihoods.operators.mask import Mask
from pdediff.likelihoods.operators.sensors import PointSensors
from pdediff.likelihoods.operators.tomography import ParallelBeam

__all__ = [
    "Composition",
    "FieldOperator",
    "GaussianBlur",
    "Identity",
    "LinearOperator",
    "Mask",
    "OnCells",
    "ParallelBeam",
    "PointSensors",
    "Scaled",
    "Stack",
    "SupportAverage",
    "gaussian_kernel",
]
