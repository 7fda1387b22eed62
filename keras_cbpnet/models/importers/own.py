"""This project's own names, those of the variables: `block_0/query/kernel`; what `save_weights` writes."""

from __future__ import annotations

from collections.abc import Mapping

from keras_cbpnet.models.importers.scheme import Entry, Scheme
from keras_cbpnet.models.sizes import PREFIX, SIZES


def scheme(shapes: Mapping[str, tuple[int, ...]]) -> Scheme:
    """Return the scheme of a backbone whose variables have these `shapes`."""
    table = {name: Entry(shape, (name,)) for name, shape in shapes.items()}
    return Scheme("names of save_weights", lambda config: table, ignored=(PREFIX, SIZES))
