"""The interpreters: which ones there are, and a backbone and a head over one of them.

Dimensions: H, W pixels; d features; C class slots; B training rows.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from firmware_host.bundle import Bundle, DeviceError
from firmware_host.engines import tflm
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.engines.protocol import Array, Head, HeadState, TrainResult
from firmware_host.engines.unsigned import PlainRunner

__all__ = [
    "RUNTIMES",
    "Backbone",
    "Feature",
    "InterpreterHead",
    "Runtime",
    "find_runtime",
    "open_backbone",
    "open_head",
]

INTERPRETERS = ("ai_edge_litert", "tflite_runtime")  # the faster one first
INSTALL = 'install "keras-cbpnet[device]" or "keras-cbpnet[device-legacy]"'
TFLM = "tflm"  # what a microcontroller runs, for the files of --target micro
RUNTIMES = ("auto", *INTERPRETERS, "numpy", TFLM)


class Runtime(NamedTuple):
    """The runtime in use: the name the user sees (`numpy` for the head) and its Interpreter class."""

    name: str
    interpreter: Any


class Feature(NamedTuple):
    """What the backbone says of one image: feature float32 [d], the same as stored [1, d], the E-prompt's index."""

    value: Array
    raw: Array
    prompt: int


def find_runtime(name: str = "auto") -> Runtime:
    """Return the runtime called `name`; `auto` and `numpy` (head only) take the first interpreter that imports.

    Raises DeviceError when it is unknown, not installed or cannot be loaded.
    """
    if name not in RUNTIMES:
        raise DeviceError(f"unknown runtime {name!r}: use one of {', '.join(RUNTIMES)}")
    if name == TFLM:
        return Runtime(TFLM, tflm.find_tflm())
    wanted = INTERPRETERS if name in ("auto", "numpy") else (name,)
    reasons = []
    for module in wanted:
        if module == "tflite_runtime" and "tensorflow" in sys.modules:
            reasons.append("tflite_runtime does not load after tensorflow in one process: start a process of its own")
            continue
        try:
            interpreter = importlib.import_module(f"{module}.interpreter").Interpreter
        except Exception as error:  # a wheel for another NumPy or processor fails with whatever it likes
            reasons.append(f"{module} does not import ({' '.join(str(error).split())})")
            continue
        return Runtime("numpy" if name == "numpy" else module, interpreter)
    raise DeviceError(
        f"no interpreter for runtime {name!r}: {'; '.join(reasons)}; {INSTALL}, or choose another --runtime"
    )


class Backbone:
    """The frozen network: one image in, one feature out."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        details = runner.get_output_details()["feature"]
        quantized = details["dtype"] != np.float32
        self._scale = np.float32(details["quantization"][0] if quantized else 1)
        self._zero_point = np.float32(details["quantization"][1] if quantized else 0)
        self.dtype = np.dtype(details["dtype"])

    def __call__(self, image: Array) -> Feature:
        """Return the Feature of `image`, uint8 RGB [H, W, 3] or [1, H, W, 3]."""
        outputs = self._runner(image=np.ascontiguousarray(image, np.uint8).reshape((1, *image.shape[-3:])))
        raw = outputs["feature"]  # (1, d)
        return Feature(self.dequantize(raw[0]), raw, int(outputs["prompt"][0]))

    def dequantize(self, raw: Array) -> Array:
        """Return what stored features of any shape stand for, float32."""
        values: Array = (raw.astype(np.float32) - self._zero_point) * self._scale
        return values


class InterpreterHead:
    """The head of a bundle run by an interpreter, through its five signatures."""

    def __init__(self, interpreter: Any, names: tuple[str, ...]) -> None:
        self._infer = interpreter.get_signature_runner("infer")
        self._observe = interpreter.get_signature_runner("observe")
        self._train = interpreter.get_signature_runner("train")
        self._get_state = interpreter.get_signature_runner("get_state")
        self._set_state = interpreter.get_signature_runner("set_state")
        self._names = names
        self.get_state()  # runs the graph's one-time initialisation before anybody sets a state

    def infer(self, feature: Array) -> tuple[Array, Array]:
        """Return logits [1, C] and probabilities [1, C] for one feature [1, d]."""
        outputs = self._infer(feature=_float32(feature))
        return outputs["logits"], outputs["probabilities"]

    def observe(self, feature: Array, label: Array) -> None:
        """Take real images, feature [B, d] and label [B] (-1 = empty row), into class_mean and class_count."""
        self._observe(feature=_float32(feature), label=np.ascontiguousarray(label, np.int32))

    def train(self, feature: Array, label: Array, class_mask: Array, learning_rate: float, fresh: Array) -> TrainResult:
        """Make one training step; shapes as in the bundle's `train` signature."""
        outputs = self._train(
            feature=_float32(feature),
            label=np.ascontiguousarray(label, np.int32),
            class_mask=_float32(class_mask),
            learning_rate=np.asarray(learning_rate, np.float32),
            fresh=_float32(fresh),
        )
        return TrainResult(float(outputs["loss"]), float(outputs["accuracy"]), int(outputs["replaced"]))

    def get_state(self) -> HeadState:
        """Return a copy of every state tensor by name."""
        outputs = self._get_state()
        return {name: np.array(outputs[name]) for name in self._names}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Replace every state tensor; raises DeviceError when one is missing."""
        for name in self._names:
            if name not in state:
                raise DeviceError(f"state tensor {name!r} is missing: give all of {', '.join(self._names)}")
        self._set_state(**{name: np.array(state[name], np.float32) for name in self._names})


def open_backbone(bundle: Bundle, runtime: Runtime, threads: int = 1) -> Backbone:
    """Open the bundle's backbone; raises DeviceError when its tensors are not those the manifest names."""
    if runtime.name == TFLM:
        return Backbone(tflm.BackboneRunner(bundle))
    shapes, dtypes = bundle.manifest["shapes"], bundle.manifest["dtypes"]
    interpreter = _open(bundle, "backbone.tflite", runtime, threads)
    tensors = {key: (tuple(shapes[key]), str(dtypes[key])) for key in ("image", "feature", "prompt")}
    inputs, outputs = {"image": tensors.pop("image")}, tensors
    if not hasattr(interpreter, "get_signature_runner"):
        return Backbone(PlainRunner(interpreter, inputs, outputs))
    _check_signature(bundle, "backbone.tflite", interpreter, "serving_default", inputs, outputs)
    return Backbone(interpreter.get_signature_runner("serving_default"))


def open_head(bundle: Bundle, runtime: Runtime, threads: int = 1) -> Head:
    """Open the bundle's head in its start state, by NumPy or by the interpreter.

    NumPy takes the start state from golden.npz or, where a bundle of another program has none there, from head.tflite.
    Raises DeviceError when its signatures or tensors are not those of the contract.
    """
    if runtime.name == "numpy":
        return NumpyHead(bundle.head, _start_state(bundle, runtime, threads))
    if runtime.name == TFLM:
        return tflm.open_tflm_head(bundle)
    interpreter = _open(bundle, "head.tflite", runtime, threads)
    if not hasattr(interpreter, "get_signature_runner"):
        raise DeviceError(f"{runtime.name} is too old to run the head's signatures: use --runtime numpy")
    for signature, (inputs, outputs) in _head_signatures(bundle).items():
        _check_signature(bundle, "head.tflite", interpreter, signature, inputs, outputs)
    return InterpreterHead(interpreter, tuple(bundle.state_shapes))


def _start_state(bundle: Bundle, runtime: Runtime, threads: int) -> HeadState:
    state = bundle.arrays("golden.npz", prefix="state.")
    if state.keys() >= bundle.state_shapes.keys():
        return state
    if runtime.interpreter is None:
        raise DeviceError(
            f"{bundle.file('golden.npz')} holds no start state for NumPy and no interpreter is there to read it from "
            f"head.tflite: {INSTALL}"
        )
    interpreter = _open(bundle, "head.tflite", runtime, threads)
    _check_signature(bundle, "head.tflite", interpreter, "get_state", *_head_signatures(bundle)["get_state"])
    return dict(interpreter.get_signature_runner("get_state")())


Tensors = dict[str, tuple[tuple[int, ...], str]]


def _head_signatures(bundle: Bundle) -> dict[str, tuple[Tensors, Tensors]]:
    d, B, C = bundle.feature_size, int(bundle.head["batch"]), bundle.slots
    state: Tensors = {name: (shape, "float32") for name, shape in bundle.state_shapes.items()}
    rows: Tensors = {"feature": ((B, d), "float32"), "label": ((B,), "int32")}
    step: Tensors = {"class_mask": ((C,), "float32"), "learning_rate": ((), "float32"), "fresh": ((d,), "float32")}
    result: Tensors = {"loss": ((), "float32"), "accuracy": ((), "float32"), "replaced": ((), "int32")}
    scores: Tensors = {"logits": ((1, C), "float32"), "probabilities": ((1, C), "float32")}
    return {  # what `ok` looks like is nobody's business
        "infer": ({"feature": ((1, d), "float32")}, scores),
        "observe": (rows, {}),
        "train": ({**rows, **step}, result),
        "get_state": ({}, state),
        "set_state": (state, {}),
    }


def _open(bundle: Bundle, name: str, runtime: Runtime, threads: int) -> Any:
    if threads < 1:
        raise DeviceError(f"threads is {threads}: use 1 or more")
    plain: dict[str, Any] = {}
    if runtime.name == "ai_edge_litert" and name == "head.tflite" and bundle.head["optimizer"].lower() == "sgd":
        # LiteRT 2.3's default delegate computes this graph wrongly from the second step on.
        resolvers = importlib.import_module("ai_edge_litert.interpreter").OpResolverType
        plain["experimental_op_resolver_type"] = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = runtime.interpreter(model_path=str(bundle.file(name)), num_threads=threads, **plain)
        interpreter.allocate_tensors()
    except Exception as error:  # ValueError or RuntimeError, by runtime and version
        reason = " ".join(str(error).split())
        message = f"{bundle.file(name)} does not open ({reason}): use a newer runtime or convert again"
        raise DeviceError(message) from error
    return interpreter


def _check_signature(
    bundle: Bundle, file: str, interpreter: Any, signature: str, inputs: Tensors, outputs: Tensors
) -> None:
    where = f"{bundle.file(file)}: signature {signature!r}"
    if signature not in interpreter.get_signature_list():
        raise DeviceError(f"{where} is missing: convert the run again")
    runner = interpreter.get_signature_runner(signature)
    for kind, wanted, found in (
        ("input", inputs, runner.get_input_details()),
        ("output", outputs, runner.get_output_details()),
    ):
        for name, (shape, dtype) in wanted.items():
            if name not in found:
                raise DeviceError(f"{where} has no {kind} {name!r}: convert the run again")
            actual = (tuple(int(n) for n in found[name]["shape"]), np.dtype(found[name]["dtype"]).name)
            if actual != (shape, dtype):
                raise DeviceError(
                    f"{where}: {kind} {name!r} is {actual[1]} {list(actual[0])}, the manifest says "
                    f"{dtype} {list(shape)}: convert the run again"
                )


def _float32(values: Array) -> Array:
    return np.array(values, np.float32, order="C")  # copies; ascontiguousarray would turn a scalar into a vector
