"""The bank of a microcontroller: its constants, which are those of the bank in NumPy, and the state it starts with.

Dimensions: C class slots of the head, which are the bank's slots; d features, r directions of a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_host.shared.bank import bank, empty_bank, metric, mixture, sums

DIRECTIONS = 4  # r; the memory of a board allows no more
CONSTANTS = {
    "kBankTemperature": bank.TEMPERATURE,
    "kBankGrowth": bank.GROWTH,
    "kBankShrinkage": metric.SHRINKAGE,
    "kBankSettled": metric.SETTLED,
    "kBankFloor": metric.FLOOR,
    "kBankPrior": metric.PRIOR,
    "kBankRest": metric.REST,
    "kBankTrust": metric.TRUST,
    "kBankShare": metric.SHARE,
    "kBankWeight": metric.WEIGHT,
    "kBankFew": metric.FEW,
    "kBankBoost": metric.BOOST,
    "kBankCrowd": metric.CROWD,
    "kBankMost": sums.MOST,
    "kBankMostTogether": sums.MOST_TOGETHER,
    "kMixtureForget": mixture.FORGET,
    "kMixtureRate": mixture.RATE,
    "kMixtureWorst": mixture.WORST,
}
STATE = ("total", "losses", "count", "mean", "scatter", "rows", "factor")  # BankState, in its order


def constants() -> str:
    """Return the constants as lines of C++."""
    lines = [f"constexpr int kBankNear = {metric.NEAR};\n"]
    for name, value in CONSTANTS.items():
        numbers = [f"{float(each)!r}f" for each in (value if isinstance(value, tuple) else (value,))]
        listed = isinstance(value, tuple)
        lines.append(f"constexpr float {name}{'[]' * listed} = {'{' * listed}{', '.join(numbers)}{'}' * listed};\n")
    return "".join(lines)


def small_bank(arrays: Mapping[str, NDArray[Any]], slots: int) -> dict[str, NDArray[Any]]:
    """Return the tensors of a bank with C = `slots` = K and r = 4 that knows what the bank of `arrays` does.

    Class c has slot c; of each class's rows the four that come nearest to all of them are left.
    """
    small = empty_bank(slots, slots, arrays["mean"].shape[1], DIRECTIONS)
    for name in ("total", "losses", "scatter", "usual", "novelties"):
        small[name][...] = arrays[name]
    for c in np.flatnonzero(arrays["binding"]):
        slot = int(arrays["binding"][c]) - 1
        small["binding"][c] = c + 1
        for name in ("count", "mean", "used"):
            small[name][c] = arrays[name][slot]
        rows = arrays["factor"][slot, : arrays["rows"][slot]].astype(np.float64)
        _, size, axes = np.linalg.svd(rows, full_matrices=False)
        leading = (size[:, None] * axes)[:DIRECTIONS]
        small["factor"][c, : len(leading)], small["rows"][c] = leading, len(leading)
    small["clock"][...] = arrays["clock"]
    return small


def state_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a BankState, little-endian, of the tensors of a bank whose class c has slot c."""
    d = len(arrays["scatter"])
    packed = {**arrays, "scatter": arrays["scatter"][np.tril_indices(d)]}
    return b"".join(packed[name].astype(packed[name].dtype.newbyteorder("<")).tobytes() for name in STATE)
