"""From a run folder to a bundle: convert, verify, write."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from firmware_host.bundle import ACCELERATOR_FILES, SCHEMA_VERSION, write_manifest
from firmware_host.shared.runtimes import installed_interpreters
from keras_cbpnet import __version__
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.data import Task, make_stream, open_dataset
from keras_cbpnet.errors import UserError
from keras_cbpnet.export import prompt_selection, samples, verify
from keras_cbpnet.export.accelerators import compile_edge_tpu, edge_tpu_compiler, target_rows
from keras_cbpnet.export.analysis import signal_to_noise, worst_places
from keras_cbpnet.export.backbone import convert_backbone
from keras_cbpnet.export.golden import golden_vectors
from keras_cbpnet.export.head import convert_head, shipped
from keras_cbpnet.export.micro import target as micro
from keras_cbpnet.export.micro.backbone import lean_backbone
from keras_cbpnet.export.recipes import DEFAULT, RECIPES
from keras_cbpnet.export.runtimes import run_backbone
from keras_cbpnet.export.tflite_file.macs import multiply_adds
from keras_cbpnet.export.tflite_file.ops import op_table
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.layers.fake_quant import float32
from keras_cbpnet.models.prompted_classifier import PromptedClassifier
from keras_cbpnet.plasticity import parse_rule
from keras_cbpnet.plasticity.cbp_surprise import CbpSurprise
from keras_cbpnet.tables import METHODS, RULES

GOLDEN = 8
Progress = Callable[[str], None]


def export_bundle(
    run: Path,
    config: TrainConfig,
    output: Path,
    recipe: str,
    overwrite: bool = False,
    progress: Progress = lambda line: None,
    analyse: bool = False,
    slots: int = 0,
    target: str = "linux",
    optimizer: str = "adam",
) -> dict[str, Any]:
    """Convert a finished run, verify the result and write the bundle, whole or not at all.

    Args:
        run: the run folder.
        config: its configuration.
        output: the bundle folder to write.
        recipe: a name in `RECIPES`.
        overwrite: whether an existing bundle may be replaced.
        progress: called with a line at every step.
        analyse: whether the report also tells what quantization costs where, and what training for it saved.
        slots: class slots of the head, for a device that ran out of them; 0: the run's.
        target: `linux`, or `micro`, which adds what a microcontroller needs.
        optimizer: of the learning on the device, `adam` or `sgd`.

    Returns:
        The contents of report.json.

    Raises:
        UserError: the run is unfinished, the folder exists, or a verification failed; nothing is written.
    """
    if not (run / "metrics.json").exists():
        raise UserError(f"{run} is not finished; run its training again, it goes on where it stopped")
    if output.exists():
        if not overwrite:
            raise UserError(f"{output} exists; choose another --output or give --overwrite")
        if not (output / "manifest.json").exists():
            raise UserError(f"{output} is no bundle, so --overwrite does not replace it; choose another --output")
    if reason := refusal(config, target):
        raise UserError(f"{run} cannot become a bundle: {reason}")
    runtimes = installed_interpreters()
    if not runtimes:
        raise UserError("no TFLite runtime is installed to verify with; install keras-cbpnet[train]")
    kind = RECIPES[recipe]
    if kind.quantized_activations and not config.qat:
        progress("this run was trained without --qat: ranges come from calibration alone")

    model, names, statistics = _load(run)
    learner = micro.with_optimizer(shipped(model.head, slots), optimizer)
    tasks = _host_tasks(config, model)
    train = samples.representative(tasks, config.seed)
    quantization = contextlib.nullcontext() if kind.quantized_activations else float32(model)
    with quantization:
        progress(f"converting the backbone ({recipe})")
        backbone = convert_backbone(model, recipe, train)
        if target == "micro":
            backbone = lean_backbone(backbone)
        cost = multiply_adds(backbone)
        test, labels = samples.held_out(tasks, config.seed, cost)
        expected = model.batched(lambda x: model.features(x)[0], test)
    progress("converting the head")
    head = convert_head(learner)

    progress("verifying")
    tables = {"backbone.tflite": op_table(backbone), "head.tflite": op_table(head)}
    verify.check_ops(tables, recipe)
    verify.check_weights({"backbone.tflite": backbone, "head.tflite": head}, recipe)
    head_error = verify.check_head(head, learner, runtimes[0])
    outputs = {name: run_backbone(backbone, test, name) for name in runtimes}
    first = outputs[runtimes[0]]
    with float32(model):
        plain = model.batched(lambda x: model.features(x)[0], test)
        hits = {"float32": _hits(model, plain, labels)}
    hits.update({name: _hits(model, output.feature, labels) for name, output in outputs.items()})
    try:
        cosine = min(verify.check_features(output.feature, expected, plain) for output in outputs.values())
        for name in runtimes:
            verify.check_accuracy(hits[name], hits["float32"])
    except UserError as error:
        raise UserError(f"{error}{worst_places(model, test) if kind.quantized_activations else ''}") from error

    report: dict[str, Any] = {
        "recipe": recipe,
        "operators": tables,
        "bytes": {"backbone.tflite": len(backbone), "head.tflite": len(head)},
        "multiply_adds": cost,
        "held_out_images": len(labels),
        "accuracy": {name: float(each.mean()) for name, each in hits.items()},
        "backbone_mean_cosine": cosine,
        "head_max_error_200_steps": head_error,
        "targets": target_rows(backbone, recipe),
    }
    compiled = None
    if kind.quantized_activations and (compiler := edge_tpu_compiler()):
        progress("compiling for the Edge TPU")
        compiled = compile_edge_tpu(backbone, compiler)
        report["targets"]["edge_tpu"] = compiled.row
    if analyse:
        progress("analysing the quantization")
        report["signal_to_noise"] = signal_to_noise(model, test)
        with float32(model):
            calibrated = run_backbone(convert_backbone(model, DEFAULT, train), test, runtimes[0])
        report["accuracy_without_qat"] = float(_hits(model, calibrated.feature, labels).mean())
        with contextlib.nullcontext() if kind.quantized_activations else float32(model):
            found = prompt_selection.compare(model, recipe, train, tasks, (test, labels), runtimes, progress)
        report["prompt_selection"] = found
    progress("writing the bundle")
    sample = np.random.default_rng(0).permutation(len(test))[:GOLDEN]
    golden = {name: run_backbone(backbone, test[sample], name) for name in runtimes}
    arrays = golden_vectors(test[sample], golden, expected[sample], learner)
    temporary = output.with_name(output.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    (temporary / "backbone.tflite").write_bytes(backbone)
    (temporary / "head.tflite").write_bytes(head)
    (temporary / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    if compiled:
        (temporary / ACCELERATOR_FILES[0]).write_bytes(compiled.model)
    np.savez(temporary / "golden.npz", **arrays)  # type: ignore[arg-type]
    np.savez(temporary / "statistics.npz", **statistics)  # type: ignore[arg-type]
    if target == "micro":
        progress("converting for microcontrollers")
        report["micro"] = micro.write_micro(temporary, backbone, learner, names, report["targets"])
    (temporary / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    extra = tuple(micro.files(learner.config)) if target == "micro" else ()
    write_manifest(temporary, _manifest(config, model, learner, recipe, names, first.raw), extra)
    if output.exists():
        shutil.rmtree(output)
    temporary.rename(output)
    return report


def refusal(config: TrainConfig, target: str = "linux") -> str | None:
    """Return why a run of `config` has no form on a device of `target`, or None if it has one."""
    if not METHODS[config.method].in_bundle:
        possible = ", ".join(name for name, method in METHODS.items() if method.in_bundle)
        return f"a device cannot go on with --method {config.method}; it can with {possible}"
    rule = parse_rule(config.plasticity)
    if not rule.on_device:
        known = ", ".join(name for name, kind in RULES.items() if kind.on_device)
        return f"a device does not know --plasticity {config.plasticity}; it knows {known}"
    if isinstance(rule, CbpSurprise) and target == "micro":
        return "--target micro has one step for everything, which cannot be surprised; train with --plasticity cbp"
    if config.stream == "drifting":
        return "the classes of --stream drifting are names for other things in every task; train a stream of classes"
    return None


def _load(run: Path) -> tuple[PromptedClassifier, list[str], dict[str, NDArray[np.float64]]]:
    """Return model, class names and statistics of a finished run; UserError where one of its files is damaged."""
    file = run / "metrics.json"
    try:
        names = [str(name) for name in json.loads(file.read_text())["classes"]]
        file = run / "statistics.npz"
        with np.load(file) as arrays:
            statistics = {"scatter": arrays["scatter"]}
        file = run / "model.keras"
        return keras.models.load_model(file), names, statistics
    except Exception as error:  # json, zipfile, h5py and Keras raise many kinds for one cause
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file} is missing or damaged ({reason[:120]}); train again into another folder") from error


def _host_tasks(config: TrainConfig, model: PromptedClassifier) -> list[Task]:
    """Return the tasks that the host trained."""
    data = open_dataset(config.dataset, model.backbone.config.image_size, config.seed)
    stream = make_stream(config.stream, data, config.tasks, config.seed, config.ways, config.shots)
    return stream[: len(stream) - config.device_tasks]


def _hits(model: PromptedClassifier, features: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    hits: NDArray[np.bool_] = np.asarray(model.head(features)).argmax(axis=1) == labels
    return hits


def _manifest(
    config: TrainConfig,
    model: PromptedClassifier,
    head: CBPHead,
    recipe: str,
    names: list[str],
    feature: NDArray[np.generic],
) -> dict[str, Any]:
    size, width = model.backbone.config.image_size, model.backbone.config.width
    return {
        "schema_version": SCHEMA_VERSION,
        "name": config.preset,
        "recipe": recipe,
        "quantization": RECIPES[recipe].describe(),
        "classes": names,
        "shapes": {"image": [1, size, size, 3], "feature": [1, width], "prompt": [1]},
        "dtypes": {"image": "uint8", "feature": str(feature.dtype), "prompt": "int32"},
        "versions": {"keras_cbpnet": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
        "head": head_entry(head, model.head),
    }


def head_entry(head: CBPHead, trained: CBPHead) -> dict[str, Any]:
    """Return what the manifest says of the `head` that is shipped, whose rule is that of the `trained` one."""
    constants = {name: getattr(head, name).numpy().tolist() for name in ("feature_mean", "feature_scale")}
    entry = {**head.config.to_dict(), **constants}
    if isinstance(trained.rule, CbpSurprise):
        entry["surprise"] = {"calming": trained.rule.calming, "calm": float(trained.state["calm"])}
    return entry
