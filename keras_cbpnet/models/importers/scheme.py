"""A naming scheme: a table of a file's arrays, their shapes, and what each becomes here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.importers.positions import POSITION

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of a file.

    Attributes:
        shape: that it must have; a table of positions may have those of another square grid, and no row for the class
            token.
        names: of the arrays here that are made of it. The norms inside a block, which have no weights here, are called
            `block_0/norm1/scale`, `block_0/norm1/offset` and so on, for `fold_norms`.
        split: makes them of it, in this order.
        optional: whether a file may lack it, if it lacks all such arrays.
    """

    shape: tuple[int, ...]
    names: tuple[str, ...]
    split: Callable[[Array], Sequence[Array]] = lambda array: [array]
    optional: bool = False


Table = dict[str, Entry]


@dataclasses.dataclass(frozen=True)
class Scheme:
    """The names that one project gives to the weights of a Vision Transformer.

    Attributes:
        title: for messages.
        table: of a configuration, without prefix.
        ignored: beginnings of names, after the prefix, that are of no use here: classifiers.
        prefixes: that names of the model are known to begin with. Any other one is found too, as training programs
            write it (`_orig_mod.`, `model.backbone.`), but where several hold the whole model, a known one is taken.
            What else is in the file, an optimizer's state for example, is of no use here.
    """

    title: str
    table: Callable[[BackboneConfig], Table]
    ignored: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    def prefix(self, config: BackboneConfig, arrays: Mapping[str, Array]) -> str:
        """Return the prefix under which the file has most of the table's names.

        Raises:
            UserError: the model is there more than once, and none of them under a known prefix.
        """
        names = list(self.table(config))
        known = ("", *self.prefixes)
        ends = tuple(f"{mark}{names[0]}" for mark in "./")
        others = sorted({name[: -len(names[0])] for name in arrays if name.endswith(ends)} - set(known))
        counts = {prefix: sum(prefix + name in arrays for name in names) for prefix in (*known, *others)}
        best = max(counts, key=counts.__getitem__)  # the first of several
        twins = [prefix for prefix in others if counts[prefix] == counts[best]]
        if best in twins and len(twins) > 1:
            raise UserError(
                f"the weights hold the model more than once ({', '.join(twins)}); write one of them alone into a file"
            )
        return best

    def expected(self, config: BackboneConfig, arrays: Mapping[str, Array]) -> Table:
        """Return the table under the prefix that the file's own names have; optional arrays only if it has any."""
        prefix = self.prefix(config, arrays)
        table = {prefix + name: entry for name, entry in self.table(config).items()}
        all_of_them = any(entry.optional and name in arrays for name, entry in table.items())
        return {name: entry for name, entry in table.items() if all_of_them or not entry.optional}

    def unexpected(self, config: BackboneConfig, arrays: Mapping[str, Array]) -> list[str]:
        """Return the names that a model of this size does not have; what lies beside the prefix is not the model."""
        prefix = self.prefix(config, arrays)
        known = self.expected(config, arrays).keys()
        starts = tuple(prefix + start for start in self.ignored)
        return sorted(name for name in arrays.keys() - known if name.startswith(prefix) and not name.startswith(starts))


def recognise(schemes: Sequence[Scheme], config: BackboneConfig, arrays: Mapping[str, Array]) -> Scheme | None:
    """Return the scheme that shares most names with the file, None where none shares any."""
    shared = [len(arrays.keys() & scheme.expected(config, arrays).keys()) for scheme in schemes]
    best = max(range(len(schemes)), key=shared.__getitem__)
    return schemes[best] if shared[best] else None


def misfits(scheme: Scheme, config: BackboneConfig, arrays: Mapping[str, Array]) -> list[str]:
    """Return a phrase for each array that is missing, unexpected, of another shape, or not of finite numbers."""
    table = scheme.expected(config, arrays)
    wrong = [f"missing {name}" for name in sorted(table.keys() - arrays.keys())]
    wrong += [f"unexpected {name}" for name in scheme.unexpected(config, arrays)]
    for name, entry in table.items():
        if name not in arrays:
            continue
        array, free = arrays[name], entry.names == (POSITION,)
        if array.shape != entry.shape and not (free and _other_grid(array.shape, entry.shape)):
            more = ", or a square of patches in the middle, with or without 1 more" if free else ""
            wrong.append(f"{name} has shape {list(array.shape)}, expected {list(entry.shape)}{more}")
        if not (np.issubdtype(array.dtype, np.floating) or array.dtype == ml_dtypes.bfloat16):
            wrong.append(f"{name} has type {array.dtype}, expected floating point")
        elif count := int(np.sum(~np.isfinite(_float32(array)))):
            wrong.append(f"{name} is not finite in {count} of {array.size} numbers (NaN, or too large for float32)")
    return wrong


def _float32(array: Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which `misfits` names
        return array.astype(np.float32)


def _other_grid(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Return whether `shape` is [1, G * G + 1, D] or [1, G * G, D] with the D of `expected`."""
    if len(shape) != 3 or shape[0] != 1 or shape[2] != expected[2] or shape[1] < 2:
        return False
    return any(math.isqrt(patches) ** 2 == patches for patches in (shape[1] - 1, shape[1]))


def convert(scheme: Scheme, config: BackboneConfig, arrays: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of a file that fits, float32, under the names here."""
    found: dict[str, NDArray[np.float32]] = {}
    for name, entry in scheme.expected(config, arrays).items():
        parts = entry.split(_float32(arrays[name]))
        found.update(zip(entry.names, parts, strict=True))
    return found
