"""How much the members of a group matter: one score a file; the members of the lowest scores go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.sparsity.members import Members
from keras_cbpnet.sparsity.scores import fisher, fts, magnitude, random, taylor

Score = Callable[[Members, np.random.Generator], NDArray[np.float64]]
SCORES: Mapping[str, Score] = {
    "fts": fts.score,
    "fisher": fisher.score,
    "taylor": taylor.score,
    "magnitude": magnitude.score,
    "random": random.score,
}
