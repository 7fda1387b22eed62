"""The TFLM interpreter: a microcontroller's runtime on this machine, for the files that `--target micro` makes.

The head's state is read from the outputs where it lies, and set by writing it into the file's first values: TFLM's
Python interface writes inputs alone. Dimensions: d features; C class slots; B training rows.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_host.bundle import Bundle, DeviceError
from firmware_host.engines.backbone import Backbone
from firmware_host.engines.interpreter import only_first
from firmware_host.engines.protocol import Array, HeadState, TrainResult

if TYPE_CHECKING:
    from firmware_host.engines.find import Runtime

__all__ = ["BackboneRunner", "TflmHead", "open_backbone", "open_head"]

HEAD_FILES = ("head_step_b{batch}.tflite", "head_step_b8.tflite")  # the first that there is; batch: the bundle's
ARENA = 1 << 25  # bytes; a workstation has them, and what a board needs stands in report.json
START = "start."  # goes before the name of a state tensor in that of its first value
FEATURE, LABEL, CLASS_MASK, LEARNING_RATE, FRESH, OBSERVE = range(6)
LOSS, LOGITS, REPLACED = range(3)


def _open(interpreter: Any, path: str, content: bytes) -> Any:
    try:
        return interpreter.from_bytes(content, arena_size=ARENA)
    except RuntimeError as error:
        raise DeviceError(f"{path} does not open in TFLM ({error}): convert the run again") from error


class BackboneRunner:
    """A backbone's `file` with the calls of a signature runner; `interpreter` is TFLM's class."""

    def __init__(self, bundle: Bundle, interpreter: Any, file: str) -> None:
        path = bundle.file(file)
        content = path.read_bytes()
        self._interpreter = _open(interpreter, str(path), content)
        d = bundle.feature_size
        shapes = [tuple(self._interpreter.get_output_details(i)["shape"]) for i in range(2)]
        if sorted(shapes) != sorted([(1, d), (1,)]):
            raise DeviceError(f"{path}: outputs {shapes} are not feature [1, {d}] and prompt [1]: convert again")
        self._outputs = {"feature": shapes.index((1, d)), "prompt": shapes.index((1,))}

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """Return dtype and quantization (scale, zero point) of each output by name."""
        found = {}
        for name, index in self._outputs.items():
            details = self._interpreter.get_output_details(index)
            scales, zeros = (details["quantization_parameters"][key] for key in ("scales", "zero_points"))
            pair = (scales[0], zeros[0]) if len(scales) else (0.0, 0)
            found[name] = {"dtype": details["dtype"], "quantization": pair}
        return found

    def __call__(self, image: Array) -> dict[str, Array]:
        """Return the outputs by name for `image`, uint8 [1, H, W, 3]."""
        self._interpreter.set_input(image, 0)
        self._interpreter.invoke()
        return {name: np.array(self._interpreter.get_output(index)) for name, index in self._outputs.items()}


class TflmHead:
    """A head_step file as a head engine; a batch of more than B rows is trained on in pieces of B.

    Args:
        interpreter: TFLM's class.
        path: the file, for messages.
        content: its bytes.
        names: every state tensor of the contract.
        class_mask: start value of the one that the graph does not keep, float32 [C].
    """

    def __init__(self, interpreter: Any, path: str, content: bytes, names: tuple[str, ...], class_mask: Array) -> None:
        schema = importlib.import_module("tflite_micro.tensorflow.lite.micro.python.schema_py_generated")
        self._class, self._path, self._names = interpreter, path, names
        self._content = bytearray(content)
        self._mask = np.array(class_mask, np.float32)  # (C,)
        model = schema.Model.GetRootAsModel(self._content, 0)
        graph = model.Subgraphs(0)
        self._start: dict[str, tuple[int, tuple[int, ...]]] = {}  # of each state tensor: place in the file, and shape
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            name = (tensor.Name() or b"").decode()
            if name.startswith(START):
                buffer = model.Buffers(tensor.Buffer())
                shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
                self._start[name[len(START) :]] = buffer._tab.Vector(buffer._tab.Offset(4)), shape
        outputs = [graph.Tensors(graph.Outputs(i)).Name().decode() for i in range(graph.OutputsLength())]
        self._outputs = {name: outputs.index(name) for name in self._start if name in outputs}
        missing = sorted(set(names) - set(self._outputs) - {"class_mask"})
        if missing:
            raise DeviceError(f"{path} lacks {', '.join(missing)}: convert the run again")
        self._restart()

    def _restart(self) -> None:
        self._interpreter = _open(self._class, self._path, bytes(self._content))
        self._invoked = False
        details = [self._interpreter.get_input_details(i)["shape"] for i in range(6)]
        self._rows, self._width = (int(n) for n in details[FEATURE])

    @property
    def rows(self) -> int:
        """B."""
        return self._rows

    def infer(self, feature: Array) -> tuple[Array, Array]:
        """Return logits [n, C] and probabilities [n, C] for features [n, d]."""
        pieces = self._pieces(feature, np.full(len(feature), -1))
        found = [self._invoke(rows, labels, self._mask, 0.0, None, False)[LOGITS] for rows, labels in pieces]
        logits = np.concatenate(found)[: len(feature)]
        masked = np.where(self._mask > 0, logits, np.float32(-1e9))
        powers = np.exp(masked - masked.max(axis=1, keepdims=True))
        return logits, powers / powers.sum(axis=1, keepdims=True)

    def observe(self, feature: Array, label: Array) -> None:
        """Take real images, feature [n, d] and label [n] (-1 = empty row), into class_mean and class_count."""
        for rows, labels in self._pieces(feature, label):
            self._invoke(rows, labels, self._mask, 0.0, None, True)

    def train(self, feature: Array, label: Array, class_mask: Array, learning_rate: float, fresh: Array) -> TrainResult:
        """Make one training step on every B rows; the results are means over the steps, and the last reset unit."""
        label = np.asarray(label)
        losses, hits, replaced, total = 0.0, 0.0, -1, max(int(np.sum(label >= 0)), 1)
        for rows, labels in self._pieces(feature, label):
            valid = int(np.sum(labels >= 0))
            if not valid:
                continue
            loss, logits, unit = self._invoke(rows, labels, class_mask, learning_rate, fresh, False)
            best = np.argmax(np.where(np.asarray(class_mask) > 0, logits, np.float32(-1e9)), axis=1)
            losses += float(loss) * valid
            hits += float(np.sum((best == labels) & (labels >= 0)))
            replaced = int(unit) if int(unit) >= 0 else replaced
        return TrainResult(losses / total, hits / total, replaced)

    def get_state(self) -> HeadState:
        """Return a copy of every state tensor by name."""
        state = {"class_mask": self._mask.copy()}
        for name, (start, shape) in self._start.items():
            if self._invoked:
                state[name] = np.array(self._interpreter.get_output(self._outputs[name]))
            else:
                count = int(np.prod(shape, dtype=np.int64))
                state[name] = np.frombuffer(self._content, "<f4", count, start).astype(np.float32).reshape(shape)
        return {name: state[name] for name in self._names}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Replace every state tensor; raises DeviceError when one is missing."""
        for name in self._names:
            if name not in state:
                raise DeviceError(f"state tensor {name!r} is missing: give all of {', '.join(self._names)}")
        self._mask = np.array(state["class_mask"], np.float32)
        for name, (start, _) in self._start.items():
            content = np.asarray(state[name], "<f4").tobytes()
            self._content[start : start + len(content)] = content
        self._restart()

    def _invoke(
        self, rows: Array, labels: Array, mask: Array, rate: float, fresh: Array | None, observe: bool
    ) -> tuple[Array, Array, Array]:
        zeros = np.zeros(self._width, np.float32)
        values = {
            FEATURE: np.asarray(rows, np.float32),
            LABEL: np.asarray(labels, np.int32),
            CLASS_MASK: np.asarray(mask, np.float32),
            LEARNING_RATE: np.asarray(rate, np.float32),
            FRESH: zeros if fresh is None else np.asarray(fresh, np.float32),
            OBSERVE: np.asarray(observe, np.float32),
        }
        for index, value in values.items():
            self._interpreter.set_input(np.array(value, order="C"), index)
        self._interpreter.invoke()
        self._invoked = True
        loss, logits, replaced = (np.array(self._interpreter.get_output(i)) for i in range(3))
        return loss, logits, replaced

    def _pieces(self, feature: Array, label: Array) -> list[tuple[Array, Array]]:
        count = -(-len(label) // self._rows) * self._rows
        rows = np.zeros((count, self._width), np.float32)
        labels = np.full(count, -1, np.int32)
        rows[: len(label)], labels[: len(label)] = feature, label
        return [
            (rows[start : start + self._rows], labels[start : start + self._rows])
            for start in range(0, count, self._rows)
        ]


def open_backbone(bundle: Bundle, runtime: Runtime, threads: int, file: str, signature: str) -> Backbone:
    """Open a backbone's `file` on one thread; raises DeviceError when its outputs are not those of the contract."""
    only_first(runtime, signature)
    return Backbone(BackboneRunner(bundle, runtime.interpreter, file), bundle.feature_size)


def open_head(bundle: Bundle, runtime: Runtime, threads: int) -> TflmHead:
    """Open the head step of a bundle with as many rows as its batch has, or eight, in its start state.

    Raises:
        DeviceError: there is none.
    """
    names = [name.format(batch=bundle.head["batch"]) for name in HEAD_FILES]
    found = [name for name in names if name in bundle.files]
    if not found:
        raise DeviceError(f"{bundle.path} has no {names[-1]}: convert the run with --target micro")
    path = bundle.file(found[0])
    mask = bundle.arrays("golden.npz", prefix="state.").get("class_mask")
    if mask is None:
        mask = (np.arange(bundle.slots) < len(bundle.classes)).astype(np.float32)
    return TflmHead(runtime.interpreter, str(path), path.read_bytes(), tuple(bundle.state_shapes), mask)
