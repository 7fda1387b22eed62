"""Backbones and the training step beside PyTorch and ONNX Runtime; the arena of the step; what recipes lose."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.common.stages import ROOT
from benchmarks.common.turns import Spread
from benchmarks.speed.bench import Area, Bench, MissingError
from benchmarks.speed.rows import Found, Row, single
from firmware_host.shared.runtimes import RUNTIMES

__all__ = ["ACCURACY", "ARENA", "BACKBONES", "STEP"]

LITERT = "ai_edge_litert"
CALLS = {"nano": 200, "deit": 8}  # of a turn
TURN = {"deit": 5}  # turns, where they are long
RESULTS = ROOT / "benchmarks" / "results"
KIB = 1024


def backbones(bench: Bench) -> dict[str, Found]:
    """Time the backbones of a bundle under LiteRT beside ONNX Runtime."""
    recipe = RUNTIMES[LITERT].recipe
    found = {}
    for name, kind in (("nano", "int8"), ("deit", "float32")):
        commands: dict[str, Any] = {
            each: (sys.executable, "tflite_worker.py", LITERT, bench.networks / f"{name}.{each}.tflite")
            for each in dict.fromkeys((recipe, "int8"))
        }
        missing = ""
        try:
            python, file = bench.peer("onnxruntime"), bench.onnx(name, kind)
            commands["onnx"] = (python, "onnx_worker.py", file)
        except MissingError as reason:
            missing = str(reason)
        ratios = bench.compare(commands, dict.fromkeys(commands, CALLS[name]), TURN.get(name, 0))
        pair = (recipe, "onnx")
        found[f"{name}_onnx"] = Found(ratios[pair]) if pair in ratios else Found(None, missing)
        found[f"{name}_default"] = Found(ratios[recipe, "int8"])
    return found


def step(bench: Bench) -> dict[str, Found]:
    """Time the training step of the head beside PyTorch."""
    record = bench.benchmark("step", "--torch", bench.peer("torch", "numpy"), "--rounds", str(2 * bench.rounds))
    found = {}
    for row in STEP.rows:
        _, runtime, case, base = row.name.split(":")
        cells = record["cases"][case]
        if runtime not in cells:
            found[row.name] = Found(None, f"{runtime} is not installed")
            continue
        mine, theirs = cells[runtime], cells["products" if base == "products" else "torch"]
        pairs = (("ratio", "ratio"), ("low", "high"), ("high", "low"))  # quartiles of a quotient, at their widest
        found[row.name] = Found(Spread(*(mine[a] / theirs[b] for a, b in pairs)))
    return found


def _step(runtime: str, case: str, base: str, asked: float) -> Row:
    beside = {"eager": "eager PyTorch", "products": "PyTorch's matrix products alone"}[base]
    return Row(f"step:{runtime}:{case}:{base}", "step", f"{runtime}, {case}, over {beside}", asked)


def arena(bench: Bench) -> dict[str, Found]:
    """Measure the arena of a small head's training step under TFLM."""
    answer = json.loads(bench.run("-c", ARENA_OF))
    if "missing" in answer:
        raise MissingError(answer["missing"])
    return {"arena": single(answer["bytes"] / KIB)}


ARENA_OF = """
import json, os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from keras_cbpnet.keras_settings import use_keras
use_keras("tensorflow")
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.micro.arena import measure_arena
from keras_cbpnet.export.micro.head_step import convert_head_step
from keras_cbpnet.layers.cbp_head import CBPHead
head = CBPHead(HeadConfig(units=32, slots=16, optimizer="sgd"), own_step=True)
head.build((None, 64))
try:
    print(json.dumps(measure_arena(convert_head_step(head, 1))))
except UserError as error:
    print(json.dumps({"missing": str(error)}))
"""


def accuracy(bench: Bench) -> dict[str, Found]:
    """Read from the committed tables what the recipe that LiteRT takes loses to float32, in points."""
    lost: Mapping[str, float] = {
        file.name: -100 * json.loads(file.read_text())["paired"][RUNTIMES[LITERT].recipe]["difference"]
        for file in sorted(RESULTS.glob("recipes_*.json"))
    }
    if not lost:
        raise MissingError("there is no benchmarks/results/recipes_*.json")
    bench.say("lost: " + ", ".join(f"{name} {points:+.2f}" for name, points in lost.items()))
    return {"accuracy": single(max(lost.values()))}


BACKBONES = Area(
    (
        Row("nano_onnx", "backbone", "vit_nano_32, as LiteRT takes it, over ONNX Runtime's static int8", 0.55),
        Row("deit_onnx", "backbone", "DeiT-tiny, as LiteRT takes it, over ONNX Runtime's float32", 0.45),
        Row("nano_default", "backbone", "vit_nano_32, as LiteRT takes it, over int8, once the default", None),
        Row("deit_default", "backbone", "DeiT-tiny, as LiteRT takes it, over int8, once the default", 0.16),
    ),
    backbones,
)
STEP = Area(
    (
        _step(LITERT, "prototype_16", "eager", 0.25),
        _step(LITERT, "prototype_100", "eager", 0.25),
        _step(LITERT, "prototype_100", "products", 1.0),
        _step(LITERT, "mlp_100", "products", 1.8),
        _step("tflite_runtime", "prototype_16", "eager", 0.75),
        _step("tflite_runtime", "prototype_100", "eager", 0.95),
        _step("tflite_runtime", "mlp_100", "eager", 1.8),
    ),
    step,
)
ARENA = Area(
    (Row("arena", "micro", "arena of a head's step under TFLM: 64 features, 32 units, 16 slots", 48, "KB"),), arena
)
ACCURACY = Area(
    (Row("accuracy", "backbone", "lost to float32 by the recipe that LiteRT takes, worst table", 0.2, "points"),),
    accuracy,
)
