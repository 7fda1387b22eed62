"""What scores of the members of a group are made from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Dimensions: F members.


class Members(NamedTuple):
    """What is known of the F members of a group, such as the hidden units of one block's MLP.

    Attributes:
        weight: length of each one's incoming weights times that of its outgoing ones, float64 [F].
        gradient: mean over the batches of the gradient of the loss by each one's gate, which is 1, [F].
        square: the mean of its square, [F].
        batch: images of a batch.
        activation: what each gives on average, in the unit of its outgoing weights, [F].
    """

    weight: NDArray[np.float64]
    gradient: NDArray[np.float64]
    square: NDArray[np.float64]
    batch: int
    activation: NDArray[np.float64]
