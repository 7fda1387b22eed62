"""The tensors of a bank and its mixture with a block: their names, shapes and types, once.

Dimensions: K slots of the bank, C class slots of the head, d features, r directions of a slot.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["BANK", "bank_axes", "bank_shapes", "empty_bank"]

Array = np.ndarray[Any, Any]
BINS = 80  # of the histogram of novelties
# A shape is written as its letters; R is 2 r. Bindings hold a slot + 1, and 0 for none.
BANK: dict[str, tuple[str, str]] = {
    "count": ("K", "float32"),  # images of each slot
    "mean": ("Kd", "float32"),  # of them, standardised
    "scatter": ("dd", "float32"),  # squares around the means, of all slots together
    "total": ("", "float32"),  # images that `scatter` stands for
    "factor": ("KRd", "float16"),  # rows whose squares are about the scatter of one slot
    "rows": ("K", "int32"),  # how many of them are in use
    "used": ("K", "float64"),  # when each slot was last learned, by `clock`
    "binding": ("C", "int32"),  # the slot that a class means
    "trial": ("C", "int32"),  # the slot that a doubted class is tried with
    "doubted": ("C", "int32"),  # whether a class may mean something else by now
    "tried": ("C2", "float32"),  # sum and number of its losses since
    "clock": ("", "float64"),
    "page": ("", "float32"),  # Page's sum of losses
    "losses": ("2", "float32"),  # discounted, of block and bank
    "usual": ("6", "float64"),  # how novel labelled images were: see `Novelty`
    "novelties": ("B", "float32"),  # and a histogram of that
    "sure": ("2", "float64"),  # how sure probabilities may be: see `Temperature`
}


def bank_shapes(labels: int, slots: int, features: int, directions: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a bank of K = `slots` for C = `labels`, d = `features`, r = `directions`."""
    sizes = {"C": labels, "K": slots, "d": features, "R": 2 * directions, "2": 2, "6": 6, "B": BINS}
    return {name: tuple(sizes[letter] for letter in letters) for name, (letters, _) in BANK.items()}


def bank_axes(letter: str) -> dict[str, int]:
    """Return, of the tensors that have an axis `letter` (C or K), which axis it is."""
    return {name: letters.index(letter) for name, (letters, _) in BANK.items() if letter in letters}


def empty_bank(labels: int, slots: int, features: int, directions: int) -> dict[str, Array]:
    """Return the tensors of a bank that has seen no image; arguments as of `bank_shapes`."""
    shapes = bank_shapes(labels, slots, features, directions)
    return {name: np.zeros(shapes[name], dtype) for name, (_, dtype) in BANK.items()}
