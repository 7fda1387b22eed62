"""How fast and how big: milliseconds per image and per training step, peak memory of the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from firmware_host.board import board, temperature_c
from firmware_host.bundle import Bundle, DeviceError
from firmware_host.engines.find import Runtime, open_backbone, recipe_of
from firmware_host.learning.start import start_head, start_snapshot
from firmware_host.learning.working_state import WorkingState
from firmware_host.process_memory import peak_memory_mb

__all__ = ["bench"]


def bench(
    bundle: Bundle,
    runtime: Runtime,
    threads: int = 1,
    repeat: int = 50,
    seed: int = 0,
    others: Sequence[Bundle] = (),
) -> dict[str, Any]:
    """Time the bundle on random images and features, in its start state; nothing learned is touched.

    Args:
        bundle: the bundle.
        runtime: what computes it.
        threads: threads of the interpreter.
        repeat: how often each thing is timed, after one call that is not.
        seed: of the random inputs.
        others: bundles of the same run by other recipes, whose backbones are timed as those of this one are.

    Returns:
        Medians predict_ms (backbone, block and bank), backbone_ms, train_ms (one step of a full batch), and open_ms,
        peak_memory_mb (of the whole process so far; None where the system does not say), runtime, threads, repeat;
            bundle: its name and the beginning of its identity;
            machine: what `board` says of this one;
            temperature_c: of the processor before and after; None where the system does not say;
            recipe: of the backbone that the runtime takes;
            backbones: of every backbone of the bundles, in turns, bundle (its folder), recipe and backbone_ms;
            best: the one of these that took the least time.
    """
    if repeat < 1:
        raise DeviceError(f"repeat is {repeat}: use 1 or more")
    rng = np.random.default_rng(seed)
    machine, cool = board(), temperature_c()
    started = time.perf_counter()
    recipe = recipe_of(bundle, runtime)
    backbone, head = open_backbone(bundle, runtime, threads), start_head(bundle, runtime, threads)
    working = WorkingState(bundle, head, start_snapshot(bundle, head), backbone.dequantize)
    working.judge(np.zeros(bundle.feature_size, np.float32))
    open_ms = (time.perf_counter() - started) * 1e3

    d, B, C = bundle.feature_size, int(bundle.head["batch"]), bundle.slots
    known = max(len(bundle.classes), 1)
    image = rng.integers(0, 256, (*bundle.image_size, 3), np.uint8)  # (H, W, 3)
    mean, scale = (np.array(bundle.head[name], np.float32) for name in ("feature_mean", "feature_scale"))
    feature = mean + scale * rng.standard_normal((B, d)).astype(np.float32)  # (B, d)
    label = (np.arange(B) % known).astype(np.int32)  # (B,)
    mask = (np.arange(C) < known).astype(np.float32)  # (C,)
    fresh = np.zeros(d, np.float32)
    rate = float(bundle.head["learning_rate"])
    predict_ms = _medians_ms([lambda: working.judge(backbone(image).value)], repeat)[0]
    train_ms = _medians_ms([lambda: head.train(feature, label, mask, rate, fresh)], repeat)[0]
    memory = peak_memory_mb()  # before other backbones are opened
    compared = _compared((bundle, *others), runtime, threads, repeat, rng)
    return {
        "bundle": f"{bundle.name} {bundle.identity[:12]}",
        "machine": machine,
        "temperature_c": [cool, temperature_c()],
        "runtime": runtime.name,
        "recipe": recipe,
        "threads": threads,
        "repeat": repeat,
        "predict_ms": predict_ms,
        "backbone_ms": next(each["backbone_ms"] for each in compared if each["recipe"] == recipe),
        "train_ms": train_ms,
        "open_ms": open_ms,
        "peak_memory_mb": memory,
        "backbones": compared,
        "best": min(compared, key=lambda each: float(each["backbone_ms"])),
    }


def _compared(
    bundles: Sequence[Bundle], runtime: Runtime, threads: int, repeat: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Time every backbone of the bundles."""
    found: list[dict[str, Any]] = []
    calls = []
    for bundle in bundles:
        image = rng.integers(0, 256, (*bundle.image_size, 3), np.uint8)  # (H, W, 3)
        for recipe in bundle.backbones:
            found.append({"bundle": str(bundle.path), "recipe": recipe})
            calls.append(partial(open_backbone(bundle, runtime._replace(recipe=recipe), threads), image))
    for row, milliseconds in zip(found, _medians_ms(calls, repeat)):
        row["backbone_ms"] = milliseconds
    return found


def _medians_ms(calls: Sequence[Callable[[], object]], repeat: int) -> list[float]:
    """Return the median time of each of the calls, which take turns, so that other load meets all alike."""
    for call in calls:
        call()  # the first one allocates
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeat):
        for call, found in zip(calls, times):
            started = time.perf_counter()
            call()
            found.append(time.perf_counter() - started)
    return [median(found) * 1e3 for found in times]
