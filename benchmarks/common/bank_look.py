"""One prediction of a full bank, in NumPy and by a .tflite file: timed, or counted by an emulator. NumPy alone."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from firmware_host.shared.bank import Bank, empty_bank
from firmware_host.shared.bank.metric import NEAR, Metric, renewed
from firmware_host.shared.bank.sums import Sums

D, SLOTS, DIRECTIONS, IMAGES = 192, 126, 16, 40  # features; slots; directions and images of each
PARTS = ("NumPy, first look", "file, first look", "NumPy, both looks")


def full_metric() -> tuple[Metric, Sums]:
    """Return a metric of which every slot is in use, and its sums; the same on every machine."""
    rng = np.random.default_rng(0)
    bank = Bank(empty_bank(SLOTS, SLOTS, D, DIRECTIONS), np.zeros(D), np.ones(D), rebinds=False)
    for slot in range(SLOTS):
        centre, stretch = rng.normal(0, 0.6, D), rng.uniform(0.5, 1.2, D)
        rows = (centre + stretch * rng.normal(size=(IMAGES, D))).astype(np.float32)
        bank.learn(rows, np.full(IMAGES, slot))
    for metric in renewed(bank.sums):
        if metric.whole:
            return metric, bank.sums
    raise AssertionError("a renewal ends with a whole metric")


def features(count: int) -> Any:
    """Return `count` standardised features, float32 [count, 1, d]."""
    return np.random.default_rng(1).normal(0, 1, (count, 1, D)).astype(np.float32)


def ways(file: str, runtime: str) -> list[Callable[[Any], Any]]:
    """Return what gives the scores [1, K] of a feature [1, d], in the order of PARTS."""
    metric, sums = full_metric()
    slots, count = np.arange(SLOTS), np.asarray(sums.count)
    interpreter = importlib.import_module(f"{runtime}.interpreter").Interpreter(model_path=file, num_threads=1)
    run = interpreter.get_signature_runner("serving_default")
    return [
        lambda feature: metric.scores(feature, count, slots, near=0)[0],
        lambda feature: run(feature=feature)["scores"],
        lambda feature: metric.scores(feature, count, slots, near=NEAR)[0],
    ]


def main(runtime: str, file: str, calls: str, rounds: str) -> None:
    """Print the microseconds of processor time of a call by each way, round by round; mark the calls of one round."""
    found = ways(file, runtime)
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
