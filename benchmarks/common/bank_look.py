"""One prediction of a full bank, in NumPy and by a .tflite file: timed, or counted by an emulator. NumPy alone."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from firmware_host.shared.bank import Bank, empty_bank
from firmware_host.shared.bank.metric import NEAR

D, SLOTS, DIRECTIONS, IMAGES = 192, 126, 16, 40  # features; slots; directions and images of each
PARTS = ("NumPy, first look", "file, first look", "NumPy, both looks", "file, both looks")


def full_bank() -> Bank:
    """Return a bank of which every slot is in use; the same on every machine."""
    rng = np.random.default_rng(0)
    bank = Bank(empty_bank(SLOTS, SLOTS, D, DIRECTIONS), np.zeros(D), np.ones(D), rebinds=False)
    for slot in range(SLOTS):
        centre, stretch = rng.normal(0, 0.6, D), rng.uniform(0.5, 1.2, D)
        rows = (centre + stretch * rng.normal(size=(IMAGES, D))).astype(np.float32)
        bank.learn(rows, np.full(IMAGES, slot))
    bank.renew()
    return bank


def features(count: int) -> Any:
    """Return `count` standardised features, float32 [count, 1, d]."""
    return np.random.default_rng(1).normal(0, 1, (count, 1, D)).astype(np.float32)


def ways(files: Sequence[str], runtime: str) -> list[Callable[[Any], Any]]:
    """Return what gives the scores [1, K] of a feature [1, d], in the order of PARTS; the last one's are probabilities.

    Args:
        files: of the first look, and of both.
        runtime: that runs them.
    """
    bank = full_bank()
    metric, slots, count = bank.metric(), np.arange(SLOTS), np.asarray(bank.sums.count)
    make = importlib.import_module(f"{runtime}.interpreter").Interpreter
    runners = [make(model_path=file, num_threads=1).get_signature_runner() for file in files]
    return [
        lambda feature: metric.scores(feature, count, slots, near=0)[0],
        lambda feature: runners[0](feature=feature)["scores"],
        lambda feature: metric.scores(feature, count, slots, near=NEAR)[0],
        lambda feature: runners[1](feature=feature)["scores"],
    ]


def main(runtime: str, calls: str, rounds: str, *files: str) -> None:
    """Print the microseconds of processor time of a call by each way, round by round; mark the calls of one round."""
    found = ways(files, runtime)
    rows = features(int(calls))
    for way in found:
        way(rows[0])
    for _ in range(int(rounds)):
        spent = []
        for way in found:
            os.getppid()
            began = time.process_time()
            for row in rows:
                way(row)
            spent.append(1e6 * (time.process_time() - began) / len(rows))
        os.getppid()
        print(*spent)
