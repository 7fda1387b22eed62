"""From a run folder to a bundle: convert, verify, measure, write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from firmware_host.bundle import ACCELERATOR_FILES, SCHEMA_VERSION, Input, write_manifest
from keras_cbpnet import __version__
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.export import card
from keras_cbpnet.export.check import prepare, runtimes_to_verify
from keras_cbpnet.export.depths import depth_rows
from keras_cbpnet.export.early import signature_of
from keras_cbpnet.export.golden import golden_vectors
from keras_cbpnet.export.micro import target as micro
from keras_cbpnet.export.micro.bank import DIRECTIONS, small_bank
from keras_cbpnet.export.micro.packages import write_package
from keras_cbpnet.export.micro.project import Learner
from keras_cbpnet.export.order import Converted, Order
from keras_cbpnet.export.recipes import RECIPES
from keras_cbpnet.export.replacing import replacing
from keras_cbpnet.export.runtimes import BackboneOutput, run_backbone
from keras_cbpnet.export.source import RunFiles, Source, load_source
from keras_cbpnet.export.steps import Heads, Measured, Progress, convert, measure, verify_files
from keras_cbpnet.export.tflite_file.feature import SIGNATURE
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.layers.mixed_head import MixedHead, bank_sizes
from keras_cbpnet.methods.method import block_head
from keras_cbpnet.models.sizes import backbone_of
from keras_cbpnet.plasticity.cbp_surprise import CbpSurprise

GOLDEN = 8


def export_bundle(
    run: Path,
    config: TrainConfig,
    output: Path,
    order: Order,
    overwrite: bool = False,
    progress: Progress = lambda line: None,
    analyse: bool = False,
    others: Iterable[Source] = (),
) -> dict[str, Any]:
    """Convert a finished run, verify the result and write the bundle, whole or not at all.

    Args:
        run: the run folder.
        config: its configuration.
        output: the bundle folder to write.
        order: what kind of bundle is wanted.
        overwrite: whether an existing bundle may be replaced; until the new one is whole, the old one stays.
        progress: called with a line at every step.
        analyse: whether the report also tells what quantization costs where, and what training for it saved.
        others: the same run at other depths, for the report's table of them.

    Returns:
        The contents of report.json.

    Raises:
        UserError: the run is unfinished, the folder exists, or a verification failed; nothing is written.
    """
    files = prepare(run, config, [output], order.target, overwrite, progress)
    return write_bundles(files, {output: order}, progress, analyse, list(others))[output]


def write_bundles(
    files: RunFiles,
    orders: Mapping[Path, Order],
    progress: Progress = lambda line: None,
    analyse: bool = False,
    others: Sequence[Source] = (),
) -> dict[Path, dict[str, Any]]:
    """Convert the run that `export.check.prepare` has read into a bundle for each order, as `export_bundle` does.

    The model is loaded once, and heads that are alike are converted once. A bundle that was written stays when a later
    one is refused.

    Args:
        files: of the run.
        orders: what kind of bundle is wanted, by the folder to write it to.
        progress: as for `export_bundle`.
        analyse: as for `export_bundle`.
        others: as for `export_bundle`.

    Returns:
        The contents of every report.json.

    Raises:
        UserError: the model is damaged, or a verification failed.
    """
    runtimes = runtimes_to_verify()
    if any(order.rounds_activations for order in orders.values()) and not files.config.qat:
        progress("this run was trained without --qat: ranges come from calibration alone")
    source = load_source(files)
    heads = Heads(source)
    reports = {}
    for output, order in orders.items():
        if len(orders) > 1:
            progress(f"bundle {output}")
        converted = convert(source, order, heads, progress)
        verified = verify_files(source, converted, heads, runtimes, progress)
        measured = measure(source, converted, verified, analyse, runtimes, progress)
        if rows := depth_rows(source, converted, measured.report, others, runtimes, progress):
            measured.report["depths"] = rows
        with replacing(output) as folder:
            _write(folder, source, converted, measured, runtimes, progress)
            if order.package is not None:
                write_package(folder, order.package, output.absolute().name)
        reports[output] = measured.report
    return reports


def _write(
    folder: Path,
    source: Source,
    converted: Converted,
    measured: Measured,
    runtimes: Sequence[str],
    progress: Progress,
) -> None:
    """Write the files of a bundle into an empty folder; what a microcontroller needs is added to the report."""
    progress("writing the bundle")
    order, learner, report = converted.order, converted.learner, measured.report
    sample = np.random.default_rng(0).permutation(len(converted.images))[:GOLDEN]
    images = converted.images[sample]
    forms: dict[str, tuple[dict[str, BackboneOutput], NDArray[np.float32]]] = {}
    beside: dict[str, tuple[dict[str, BackboneOutput], NDArray[np.float32]]] = {}
    for form in converted.forms:
        outputs = {name: run_backbone(form.content, images, name) for name in runtimes}
        forms[f"{form.recipe}." if forms else ""] = outputs, form.expected[sample]
        (folder / form.file).write_bytes(form.written)
        for early in form.early:
            name = signature_of(early.depth)
            outputs = {runtime: run_backbone(form.written, images, runtime, name) for runtime in runtimes}
            key = f"{name}." if form is converted.forms[0] else f"{name}.{form.recipe}."
            beside[key] = outputs, early.expected[sample]
    golden = golden_vectors(images, {**forms, **beside}, learner)
    (folder / "head.tflite").write_bytes(converted.head)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in source.names), encoding="utf-8")
    if measured.edge_tpu is not None:
        (folder / ACCELERATOR_FILES[0]).write_bytes(measured.edge_tpu)
    np.savez(folder / "golden.npz", **golden)  # type: ignore[arg-type]
    statistics: dict[str, Any] = dict(source.statistics)
    bank = _bank(block_head(source.model), learner.slots, order.target)
    statistics.update({f"bank.{name}": value for name, value in bank.items()})
    np.savez_compressed(folder / "statistics.npz", **statistics)
    extra, board = tuple(form.file for form in converted.forms[1:]), None
    if order.target == "micro":
        progress("converting for microcontrollers")
        weight = getattr(block_head(source.model), "block_weight", 1.0)
        taught = Learner(learner, bank, weight, source.names)
        write = micro.write_micro_end if order.end else micro.write_micro
        report["micro"], board = write(folder, converted.backbone, taught, report["targets"], order.compress)
        extra = () if order.end else tuple(micro.files(learner.config))
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    manifest = _manifest(source, converted, str(forms[""][0][runtimes[0]].raw.dtype))
    if board is not None:
        manifest["micro"] = {"bundle": board.bundle, "variables": board.variables}
    for name, text in card.papers(manifest, report, source.config).items():
        (folder / name).write_text(text, encoding="utf-8")
    write_manifest(folder, manifest, extra)


def _manifest(source: Source, converted: Converted, feature: str) -> dict[str, Any]:
    """Return the manifest; `feature` is the type of the backbone's feature."""
    backbone, recipe = source.model.backbone.config, converted.order.recipe
    beside = {form.recipe: form.file for form in converted.forms[1:]}
    depths = {str(depth): signature_of(depth) for depth in converted.order.early}
    depths[str(backbone.depth)] = SIGNATURE
    taken = source.tasks[0].data.input
    return {
        **({"input": taken._asdict()} if taken != Input() else {}),
        "schema_version": SCHEMA_VERSION,
        "name": source.config.preset,
        **({"depth": backbone.depth} if backbone.depth < backbone_of(source.config, 0).depth else {}),
        "license": card.license_of(source.config),
        "source": card.source_entry(source.config, sum(len(task.train_rows) for task in source.tasks)),
        "recipe": recipe,
        "quantization": RECIPES[recipe].describe(),
        **({"backbones": beside} if beside else {}),
        **({"depths": depths} if converted.order.early else {}),
        "classes": source.names,
        "shapes": {
            "image": [1, backbone.image_size, backbone.image_size, 3],
            "feature": [1, backbone.width],
            "prompt": [1],
        },
        "dtypes": {"image": "uint8", "feature": feature, "prompt": "int32"},
        "versions": {"keras_cbpnet": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
        "head": head_entry(converted.learner, block_head(source.model), converted.order.target),
    }


def _bank(trained: CBPHead, slots: int, target: str) -> dict[str, Any]:
    """Return the tensors of the bank that is shipped, for `slots` class slots; none where `trained` has no bank."""
    if not isinstance(trained, MixedHead):
        return {}
    return small_bank(trained.mixture.arrays(), slots) if target == "micro" else trained.shipped_bank(slots)


def head_entry(head: CBPHead, trained: CBPHead, target: str = "linux") -> dict[str, Any]:
    """Return what the manifest says of the `head` shipped to `target`, whose rule and bank are those of `trained`."""
    constants = {name: getattr(head, name).numpy().tolist() for name in ("feature_mean", "feature_scale")}
    entry = {**head.config.to_dict(), **constants}
    if isinstance(trained.rule, CbpSurprise):
        entry["surprise"] = {"calming": trained.rule.calming, "calm": float(trained.state["calm"])}
    if isinstance(trained, MixedHead):
        small = target == "micro"
        slots, directions = (head.slots, DIRECTIONS) if small else bank_sizes(head.slots, head.width)
        entry["bank"] = {"slots": slots, "directions": directions, "block_weight": trained.block_weight}
    return entry
