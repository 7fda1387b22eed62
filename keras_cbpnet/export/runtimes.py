"""Runs a bundle's .tflite files under the device's runtimes, each in a separate process.

TensorFlow and tflite-runtime do not live in one process, and what counts is what the device's interpreter computes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_host.shared.runtimes import RUNTIMES
from keras_cbpnet.errors import UserError

_WORKER = """
import importlib, sys
import numpy as np
module, model, images, output, signature = sys.argv[1:]
interpreter = importlib.import_module(module).Interpreter(model_path=model)
run = interpreter.get_signature_runner(signature)
results = [run(image=image[None]) for image in np.load(images)]
scale, zero_point = run.get_output_details()["feature"]["quantization"]
arrays = {name: np.concatenate([result[name] for result in results]) for name in results[0]}
np.savez(output, **{"prompt": np.zeros(len(results), np.int32), **arrays}, scale=scale, zero_point=zero_point)
"""

_CLASSIFIER = """
import importlib, sys
import numpy as np
module, model, images, output = sys.argv[1:]
interpreter = importlib.import_module(module).Interpreter(model_path=model)
run = interpreter.get_signature_runner("serving_default")
scores = np.concatenate([run(image=image[None])["scores"] for image in np.load(images)])
scale, zero_point = run.get_output_details()["scores"]["quantization"]
np.save(output, (scores.astype(np.float32) - zero_point) * np.float32(scale or 1.0))
"""

_TIMER = """
import importlib, json, sys, time
import numpy as np
module, rounds, image, *models = sys.argv[1:]
make = importlib.import_module(module).Interpreter
image, runners = np.load(image)[None], []
for model in models:
    interpreter = make(model_path=model, num_threads=1)
    runners.append((interpreter, interpreter.get_signature_runner("serving_default")))
best = [float("inf")] * len(models)
for _ in range(int(rounds)):
    for i, (_, run) in enumerate(runners):
        begun = time.perf_counter()
        run(image=image)
        best[i] = min(best[i], time.perf_counter() - begun)
print(json.dumps([1000 * seconds for seconds in best]))
"""

# After every step: loss, replaced and the state's tensors in the order of their names, as one run of float32.
_LEARNER = """
import importlib, json, sys
import numpy as np
module, model, inputs, options = sys.argv[1:]
interpreter = importlib.import_module(module).Interpreter(model_path=model, **json.loads(options))
observe, train, get_state = map(interpreter.get_signature_runner, ("observe", "train", "get_state"))
inputs = dict(np.load(inputs))
for step in range(len(inputs["label"])):
    given = {name: values[step] for name, values in inputs.items()}
    observe(feature=given["feature"], label=given["label"])
    found, state = train(**given), get_state()
    values = [found["loss"], found["replaced"], *(state[name] for name in sorted(state))]
    sys.stdout.buffer.write(np.concatenate([np.ravel(value) for value in values]).astype(np.float32).tobytes())
"""


class BackboneOutput:
    """Outputs of a backbone file.

    Attributes:
        raw: [N, d], in the file's own type.
        feature: float32 [N, d], dequantized.
        prompt: int32 [N]; 0 where the graph has no prompts.
    """

    def __init__(self, raw: NDArray[np.generic], prompt: NDArray[np.int32], scale: float, zero_point: int) -> None:
        self.raw = raw
        self.prompt = prompt
        values = raw.astype(np.float32)
        self.feature = (values - zero_point) * np.float32(scale) if raw.dtype.kind in "iu" else values


def run_backbone(
    model: bytes, images: NDArray[np.uint8], runtime: str, signature: str = "serving_default"
) -> BackboneOutput:
    """Return what `signature` of `model` gives for uint8 `images` [N, H, W, 3] under `runtime`.

    Raises:
        UserError: the runtime could not run the file; the message ends with what it said.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(model)
        np.save(folder / "images.npy", images)
        paths = [str(folder / file) for file in ("model.tflite", "images.npy", "outputs.npz")]
        _run(_WORKER, runtime, *paths, signature)
        with np.load(folder / "outputs.npz") as file:
            return BackboneOutput(file["feature"], file["prompt"], float(file["scale"]), int(file["zero_point"]))


def run_classifier(model: bytes, images: NDArray[np.uint8], runtime: str) -> NDArray[np.float32]:
    """Return the scores [N, C] that a frozen classifier gives for uint8 `images` [N, H, W, 3] under `runtime`.

    Raises:
        UserError: the runtime could not run the file; the message ends with what it said.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(model)
        np.save(folder / "images.npy", images)
        _run(_CLASSIFIER, runtime, *(str(folder / file) for file in ("model.tflite", "images.npy", "scores.npy")))
        scores: NDArray[np.float32] = np.load(folder / "scores.npy")
        return scores


def time_backbones(
    models: Mapping[str, bytes], image: NDArray[np.uint8], runtime: str, rounds: int = 100
) -> dict[str, float]:
    """Return the milliseconds that each of `models` takes for `image`, uint8 [H, W, 3], under `runtime`, on one thread.

    It is the best of `rounds` calls; the models take turns, so that other load on the machine affects all alike.

    Raises:
        UserError: the runtime could not run a file.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "image.npy", image)
        paths = [folder / f"{i}.tflite" for i in range(len(models))]
        for path, model in zip(paths, models.values(), strict=True):
            path.write_bytes(model)
        best = json.loads(_run(_TIMER, runtime, str(rounds), str(folder / "image.npy"), *map(str, paths)))
        return dict(zip(models, best, strict=True))


def run_head(
    model: bytes,
    inputs: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[int, ...]],
    optimizer: str,
    runtime: str,
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield `loss`, `replaced` and the state of a head after each step of observing and training under `runtime`.

    Args:
        model: head.tflite.
        inputs: of its signature `train`, [S, ...], S steps.
        shapes: of the state's tensors, by name.
        optimizer: of the head, `adam` or `sgd`.
        runtime: to run it with.

    Raises:
        UserError: the runtime could not run the file; the message ends with what it said.
    """
    options = json.dumps(dict(RUNTIMES[runtime].sgd_options) if optimizer == "sgd" else {})
    parts = {"loss": (), "replaced": (), **{name: shapes[name] for name in sorted(shapes)}}
    ends = np.cumsum([int(np.prod(shape)) for shape in parts.values()])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "head.tflite").write_bytes(model)
        np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type]
        paths = [str(folder / file) for file in ("head.tflite", "inputs.npz")]
        command = _command(_LEARNER, runtime, *paths, options)
        with (folder / "log").open("w+") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as child:
            assert child.stdout is not None  # noqa: S101
            for _ in inputs["label"]:
                values = np.frombuffer(child.stdout.read(4 * int(ends[-1])), np.float32)
                if len(values) < ends[-1]:
                    raise UserError(_failure("head", runtime, (folder / "log").read_text()))
                found = np.split(values, ends[:-1])
                yield {name: part.reshape(shape) for (name, shape), part in zip(parts.items(), found, strict=True)}


def _run(program: str, runtime: str, *arguments: str) -> str:
    """Run `program` in a separate process; return the last line that it prints."""
    done = subprocess.run(_command(program, runtime, *arguments), capture_output=True, text=True)
    if done.returncode:
        raise UserError(_failure("backbone", runtime, done.stderr))
    return (done.stdout.splitlines() or [""])[-1]


def _command(program: str, runtime: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, str(RUNTIMES[runtime].module), *arguments]


def _failure(what: str, runtime: str, log: str) -> str:
    said = (log.strip().splitlines() or ["it ended without a word"])[-1]
    package, extra = runtime.replace("_", "-"), RUNTIMES[runtime].extra
    return (
        f"{runtime} cannot run the {what} ({said}); pip install --force-reinstall 'keras-cbpnet[train,{extra}]', or "
        f"pip uninstall {package} to verify without it"
    )
