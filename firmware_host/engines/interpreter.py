"""A backbone and a head over TensorFlow Lite's `Interpreter`, whichever package it comes from.

Dimensions: d features; C class slots; B training rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_host.bundle import Bundle, DeviceError, file_shape
from firmware_host.engines.backbone import Backbone
from firmware_host.engines.protocol import Array, HeadState, TrainResult
from firmware_host.engines.unsigned import PlainRunner

if TYPE_CHECKING:
    from firmware_host.engines.find import Runtime

__all__ = ["InterpreterHead", "open_backbone", "open_head", "scalars_have_an_axis"]

Tensors = dict[str, tuple[tuple[int, ...], str]]


class InterpreterHead:
    """The head of a bundle run by an interpreter, through its five signatures.

    Args:
        interpreter: with allocated tensors.
        shapes: of every state tensor by name; the file may hold scalars as [1].
    """

    def __init__(self, interpreter: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._infer = interpreter.get_signature_runner("infer")
        self._observe = interpreter.get_signature_runner("observe")
        self._train = interpreter.get_signature_runner("train")
        self._get_state = interpreter.get_signature_runner("get_state")
        self._set_state = interpreter.get_signature_runner("set_state")
        self._shapes = shapes
        self._taken = {name: tuple(each["shape"]) for name, each in self._set_state.get_input_details().items()}
        self.get_state()  # runs the graph's one-time initialisation before anybody sets a state

    def infer(self, feature: Array) -> tuple[Array, Array]:
        """Return logits [n, C] and probabilities [n, C] for features [n, d], which the graph takes one by one."""
        outputs = [self._infer(feature=row[None]) for row in _float32(feature)]
        logits, probabilities = ([each[name] for each in outputs] for name in ("logits", "probabilities"))
        return np.concatenate(logits), np.concatenate(probabilities)

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
        """Return a copy of every state tensor by name: the runtime hands out copies of its own."""
        outputs = self._get_state()
        return {name: outputs[name].reshape(shape) for name, shape in self._shapes.items()}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Replace every state tensor; raises DeviceError when one is missing."""
        for name in self._shapes:
            if name not in state:
                raise DeviceError(f"state tensor {name!r} is missing: give all of {', '.join(self._shapes)}")
        self._set_state(**{name: np.array(state[name], np.float32).reshape(self._taken[name]) for name in self._shapes})


def open_backbone(bundle: Bundle, runtime: Runtime, threads: int, file: str, signature: str) -> Backbone:
    """Open a `signature` of a backbone's `file`; DeviceError when its tensors are not those the manifest names."""
    shapes, dtypes = bundle.manifest["shapes"], bundle.manifest["dtypes"]
    interpreter = _open(bundle, file, runtime, threads)
    tensors = {key: (tuple(shapes[key]), str(dtypes[key])) for key in ("image", "feature", "prompt")}
    inputs, outputs = {"image": tensors.pop("image")}, tensors
    if not hasattr(interpreter, "get_signature_runner"):
        only_first(runtime, signature)
        return Backbone(PlainRunner(interpreter, inputs, outputs), bundle.feature_size)
    _check_signature(bundle, file, interpreter, signature, inputs, outputs)
    return Backbone(interpreter.get_signature_runner(signature), bundle.feature_size)


def only_first(runtime: Runtime, signature: str) -> None:
    """Refuse another graph of a file than its first, for a runtime without signatures."""
    if signature != "serving_default":
        raise DeviceError(f"{runtime.name} runs the first graph of a file alone: leave out --depth {runtime.depth}")


def open_head(bundle: Bundle, runtime: Runtime, threads: int) -> InterpreterHead:
    """Open head.tflite in its start state; DeviceError when its signatures or tensors are not the contract's."""
    interpreter = _open(bundle, "head.tflite", runtime, threads)
    if not hasattr(interpreter, "get_signature_runner"):
        raise DeviceError(f"{runtime.name} is too old to run the head's signatures: use --runtime numpy")
    shapes = bundle.state_shapes
    stored = (
        {name: file_shape(shape) for name, shape in shapes.items()} if scalars_have_an_axis(interpreter) else shapes
    )
    for signature, (inputs, outputs) in _head_signatures(bundle, stored).items():
        _check_signature(bundle, "head.tflite", interpreter, signature, inputs, outputs)
    return InterpreterHead(interpreter, shapes)


def scalars_have_an_axis(interpreter: Any) -> bool:
    """Return whether a head's file holds the scalars of its state as [1], as of bundle schema 2."""
    if "get_state" not in interpreter.get_signature_list():
        return True
    step = interpreter.get_signature_runner("get_state").get_output_details().get("step", {"shape": [1]})
    return len(step["shape"]) > 0


def _head_signatures(bundle: Bundle, stored: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Tensors, Tensors]]:
    d, B, C = bundle.feature_size, int(bundle.head["batch"]), bundle.slots
    state: Tensors = {name: (shape, "float32") for name, shape in stored.items()}
    rows: Tensors = {"feature": ((B, d), "float32"), "label": ((B,), "int32")}
    step: Tensors = {"class_mask": ((C,), "float32"), "learning_rate": ((), "float32"), "fresh": ((d,), "float32")}
    result: Tensors = {"loss": ((), "float32"), "accuracy": ((), "float32"), "replaced": ((), "int32")}
    scores: Tensors = {"logits": ((1, C), "float32"), "probabilities": ((1, C), "float32")}
    return {  # what `ok` looks like does not matter
        "infer": ({"feature": ((1, d), "float32")}, scores),
        "observe": (rows, {}),
        "train": ({**rows, **step}, result),
        "get_state": ({}, state),
        "set_state": (state, {}),
    }


def _open(bundle: Bundle, name: str, runtime: Runtime, threads: int) -> Any:
    if threads < 1:
        raise DeviceError(f"threads is {threads}: use 1 or more")
    options = runtime.entry.sgd_options if name == "head.tflite" and bundle.optimizer == "sgd" else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # LiteRT's, of the memory that a few small tensors take
            interpreter = runtime.interpreter(model_path=str(bundle.file(name)), num_threads=threads, **options)
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
    return np.asarray(values, np.float32, order="C")  # ascontiguousarray would turn a scalar into a vector
