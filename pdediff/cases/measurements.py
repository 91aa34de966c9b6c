"""A user's measurements as arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Measurements:
    """m measured values, each with its own error.

    Parameters
    ----------
    field : "u" or "a": (m,).
    x, y : places, in the unit of the domain: (m,).
    value : measured values, in the unit of their field: (m,).
    sigma : standard deviations of the errors, positive, in the unit of their field: (m,).
    own_sigma : whether sigma came with the value, not from the case: (m,).
    group : name of the group of each, its field where none was given: (m,).
    name : the user's name of each, empty where none was given: (m,).
    """

    field: NDArray[np.str_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    value: NDArray[np.float64]
    sigma: NDArray[np.float64]
    own_sigma: NDArray[np.bool_]
    group: NDArray[np.str_]
    name: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.value)
