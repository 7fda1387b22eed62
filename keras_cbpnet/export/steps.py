"""The steps from a run to the contents of a bundle, in their order: convert, verify, measure."""

# Dimensions: N held-out images, H x W pixels, d feature size.

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.errors import UserError
from keras_cbpnet.export import prompt_selection, samples, verify
from keras_cbpnet.export.accelerators import compile_edge_tpu, edge_tpu_compiler, target_rows
from keras_cbpnet.export.analysis import signal_to_noise, worst_places
from keras_cbpnet.export.backbone import computed_by, convert_backbone
from keras_cbpnet.export.head import convert_head, shipped
from keras_cbpnet.export.micro import target as micro
from keras_cbpnet.export.micro.backbone import lean_backbone
from keras_cbpnet.export.micro.bank import predictor
from keras_cbpnet.export.recipes import INTEGER, RECIPES
from keras_cbpnet.export.runtimes import BackboneOutput, run_backbone
from keras_cbpnet.export.source import Source
from keras_cbpnet.export.tflite_file.macs import multiply_adds
from keras_cbpnet.export.tflite_file.ops import op_table
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.layers.fake_quant import float32
from keras_cbpnet.layers.mixed_head import MixedHead
from keras_cbpnet.methods.method import block_head
from keras_cbpnet.models.prompted_classifier import PromptedClassifier

Progress = Callable[[str], None]


class Order(NamedTuple):
    """What kind of bundle is wanted.

    Args:
        recipe: a name in `RECIPES`.
        target: `linux`, or `micro`, which adds what a microcontroller needs.
        slots: class slots of the head, for a device that ran out of them; 0: the run's.
        optimizer: of the learning on the device, `adam` or `sgd`.
        package: also written, for target `micro`: a name in `keras_cbpnet.export.micro.packages.PACKAGES`; None: none.
    """

    recipe: str
    target: str = "linux"
    slots: int = 0
    optimizer: str = "adam"
    package: str | None = None

    def predicts(self, model: PromptedClassifier, learner: CBPHead) -> Any:
        """Return what predicts as a device does: the model's head, or with its block `learner` the smaller bank."""
        head = block_head(model)
        return predictor(head, learner) if self.target == "micro" and isinstance(head, MixedHead) else head

    @property
    def rounds_activations(self) -> bool:
        """Whether activations of the backbone are int8, by ranges that the model knows."""
        return RECIPES[self.recipe].quantized_activations

    @contextlib.contextmanager
    def rounding(self, model: PromptedClassifier) -> Iterator[None]:
        """Within this context `model` computes as the recipe takes it: through its fake quantizers, or not."""
        plain = contextlib.nullcontext() if self.rounds_activations else float32(model)
        with plain, computed_by(self.recipe, model.backbone):
            yield


class Converted(NamedTuple):
    """The two files, and the images that they are judged by.

    Args:
        order: what they were made for.
        backbone: backbone.tflite.
        head: head.tflite.
        learner: the head as a layer, in the state that is shipped.
        multiply_adds: of the backbone, an image.
        representative: training images, uint8 [M, H, W, 3].
        images: held out, uint8 [N, H, W, 3].
        labels: their slots, int32 [N].
        expected: the model's features of them, [N, d], as the recipe takes it.
        plain: the same in float32.
    """

    order: Order
    backbone: bytes
    head: bytes
    learner: CBPHead
    multiply_adds: int
    representative: NDArray[np.uint8]
    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    expected: NDArray[np.float32]
    plain: NDArray[np.float32]


class Verified(NamedTuple):
    """What the verification found.

    Args:
        operators: of each file, as `op_table`.
        head_error: of the head against Keras.
        outputs: of the backbone for the held-out images, by runtime.
        hits: whether each held-out image is recognised, bool [N], by runtime and as `float32` model.
        cosine: least mean cosine of the features to the model's.
    """

    operators: dict[str, list[dict[str, Any]]]
    head_error: float
    outputs: dict[str, BackboneOutput]
    hits: dict[str, NDArray[np.bool_]]
    cosine: float


class Measured(NamedTuple):
    """The report on the files.

    Args:
        report: the contents of report.json.
        edge_tpu: the backbone compiled for the Edge TPU, where its compiler is installed.
    """

    report: dict[str, Any]
    edge_tpu: bytes | None


def convert(source: Source, order: Order, progress: Progress) -> Converted:
    """Make the two files of a bundle.

    Raises:
        UserError: a part of the order does not fit the run.
    """
    model, seed = source.model, source.config.seed
    learner = micro.with_optimizer(shipped(block_head(model), order.slots), order.optimizer)
    train = samples.representative(source.tasks, seed)
    with order.rounding(model):
        progress(f"converting the backbone ({order.recipe})")
        backbone = convert_backbone(model, order.recipe, train)
        if order.target == "micro":
            backbone = lean_backbone(backbone)
        cost = multiply_adds(backbone)
        images, labels = samples.held_out(source.tasks, seed, cost)
        expected = _features(model, images)
    with float32(model):
        plain = _features(model, images)
    progress("converting the head")
    head = convert_head(learner)
    return Converted(order, backbone, head, learner, cost, train, images, labels, expected, plain)


def verify_files(source: Source, converted: Converted, runtimes: Sequence[str], progress: Progress) -> Verified:
    """Refuse files that are not what the recipe promises, or that do not compute what the model does.

    Args:
        source: the run.
        converted: its files.
        runtimes: to run the backbone with; the first one runs the head.
        progress: called with a line.

    Raises:
        UserError: what is wrong.
    """
    progress("verifying")
    model, recipe = source.model, converted.order.recipe
    files = {"backbone.tflite": converted.backbone, "head.tflite": converted.head}
    operators = {name: op_table(content) for name, content in files.items()}
    verify.check_ops(operators, recipe)
    verify.check_weights(files, recipe)
    head_error = verify.check_head(converted.head, converted.learner, runtimes[0])
    outputs = {name: run_backbone(converted.backbone, converted.images, name) for name in runtimes}
    features = {"float32": converted.plain, **{name: output.feature for name, output in outputs.items()}}
    head = converted.order.predicts(model, converted.learner)
    hits = {name: _hits(head, rows, converted.labels) for name, rows in features.items()}
    try:
        cosine = min(
            verify.check_features(output.feature, converted.expected, converted.plain) for output in outputs.values()
        )
        for name in runtimes:
            verify.check_accuracy(hits[name], hits["float32"])
    except UserError as error:
        order = converted.order
        places = worst_places(model, converted.images, order.recipe) if order.rounds_activations else ""
        raise UserError(f"{error}{places}{verify.remedy(order.recipe, source.config.qat)}") from error
    return Verified(operators, head_error, outputs, hits, cosine)


def measure(
    source: Source, converted: Converted, verified: Verified, analyse: bool, runtimes: Sequence[str], progress: Progress
) -> Measured:
    """Measure what the files cost, lose and need.

    Args:
        source: the run.
        converted: its files.
        verified: what their verification found.
        analyse: whether to report also what quantization costs, place by place, and what training for it saved.
        runtimes: to run backbones with.
        progress: called with a line at every step.
    """
    order, backbone = converted.order, converted.backbone
    report: dict[str, Any] = {
        "recipe": order.recipe,
        "operators": verified.operators,
        "bytes": {"backbone.tflite": len(backbone), "head.tflite": len(converted.head)},
        "multiply_adds": converted.multiply_adds,
        "held_out_images": len(converted.labels),
        "accuracy": {name: float(each.mean()) for name, each in verified.hits.items()},
        "backbone_mean_cosine": verified.cosine,
        "head_max_error_200_steps": verified.head_error,
        "targets": target_rows(backbone, order.recipe),
    }
    compiled = None
    if RECIPES[order.recipe].integer and (compiler := edge_tpu_compiler()):
        progress("compiling for the Edge TPU")
        report["targets"]["edge_tpu"], compiled = compile_edge_tpu(backbone, compiler)
    if analyse:
        progress("analysing the quantization")
        report.update(_analysis(source, converted, runtimes, progress))
    return Measured(report, compiled)


def _analysis(source: Source, converted: Converted, runtimes: Sequence[str], progress: Progress) -> dict[str, Any]:
    model, images, labels = source.model, converted.images, converted.labels
    order = converted.order
    calibrated = order.recipe if order.rounds_activations else INTEGER
    noise = signal_to_noise(model, images, calibrated)
    head = order.predicts(model, converted.learner)
    with float32(model):
        untrained = convert_backbone(model, calibrated, converted.representative)
    found = run_backbone(untrained, images, runtimes[0]).feature
    with order.rounding(model):
        selection = prompt_selection.compare(
            model,
            order.recipe,
            converted.representative,
            source.tasks,
            (images, labels),
            runtimes,
            progress,
        )
    return {
        "signal_to_noise": noise,
        "accuracy_without_qat": float(_hits(head, found, labels).mean()),
        "prompt_selection": selection,
    }


def _features(model: PromptedClassifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(model.batched(lambda x: model.features(x)[0], images))


def _hits(head: Any, features: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    hits: NDArray[np.bool_] = np.asarray(head(features)).argmax(axis=1) == labels
    return hits
