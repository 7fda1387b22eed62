"""The steps from a run to the contents of a bundle, in their order: convert, verify, measure."""

# Dimensions: N held-out images, H x W pixels, d feature size.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.errors import UserError
from keras_cbpnet.export import prompt_selection, samples, verify
from keras_cbpnet.export.accelerators import compile_edge_tpu, edge_tpu_compiler, target_rows
from keras_cbpnet.export.analysis import signal_to_noise, worst_places
from keras_cbpnet.export.backbone import convert_backbone
from keras_cbpnet.export.early import Early, convert_early, early_model, verify_early
from keras_cbpnet.export.head import convert_head, shipped
from keras_cbpnet.export.micro import target as micro
from keras_cbpnet.export.micro.backbone import lean_backbone
from keras_cbpnet.export.micro.decode import rounded
from keras_cbpnet.export.order import Converted, Form, Order
from keras_cbpnet.export.recipes import INTEGER, RECIPES
from keras_cbpnet.export.runtimes import run_backbone, time_backbones
from keras_cbpnet.export.source import Source
from keras_cbpnet.export.tflite_file.feature import feature_as_in
from keras_cbpnet.export.tflite_file.macs import multiply_adds
from keras_cbpnet.export.tflite_file.ops import op_table
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.layers.fake_quant import float32
from keras_cbpnet.methods.method import block_head
from keras_cbpnet.models.prompted_classifier import PromptedClassifier

Progress = Callable[[str], None]
TIMED = 20  # calls, of which the best is reported


class Heads:
    """Heads of the bundles of one run; those that are alike are converted, and compared with Keras, once.

    Args:
        source: the run.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._made: dict[tuple[int, str], tuple[CBPHead, bytes]] = {}
        self._errors: dict[tuple[int, str], float] = {}

    def learner(self, order: Order) -> CBPHead:
        """Return the head as a layer, in the state that is shipped."""
        if made := self._made.get((order.slots, order.optimizer)):
            return made[0]
        return micro.with_optimizer(shipped(block_head(self._source.model), order.slots), order.optimizer)

    def content(self, order: Order, learner: CBPHead, progress: Progress) -> bytes:
        """Return head.tflite of `learner`."""
        key = (order.slots, order.optimizer)
        if key not in self._made:
            progress("converting the head")
            self._made[key] = learner, convert_head(learner)
        return self._made[key][1]

    def error(self, converted: Converted, runtime: str) -> float:
        """Return the largest difference of head.tflite from Keras; raises UserError as `verify.check_head`."""
        key = (converted.order.slots, converted.order.optimizer)
        if key not in self._errors:
            self._errors[key] = verify.check_head(converted.head, converted.learner, runtime)
        return self._errors[key]


class Verified(NamedTuple):
    """What the verification found.

    Args:
        operators: of each file, as `op_table`.
        head_error: of the head against Keras.
        accuracy: of the model in float32 on the held-out images.
        accuracies: of each form of the backbone by file and runtime.
        cosines: of each by file, the least mean cosine of its features to the model's.
        early: of the first blocks alone, as `verify_early`.
    """

    operators: dict[str, list[dict[str, Any]]]
    head_error: float
    accuracy: float
    accuracies: dict[str, dict[str, float]]
    cosines: dict[str, float]
    early: dict[str, Any]


class Measured(NamedTuple):
    """The report on the files.

    Args:
        report: the contents of report.json.
        edge_tpu: the backbone compiled for the Edge TPU, where its compiler is installed.
    """

    report: dict[str, Any]
    edge_tpu: bytes | None


def convert(source: Source, order: Order, heads: Heads, progress: Progress) -> Converted:
    """Make the files of a bundle.

    Raises:
        UserError: a part of the order does not fit the run.
    """
    model, seed = source.model, source.config.seed
    learner = heads.learner(order)
    train = samples.representative(source.tasks, seed)
    with order.rounding(model):
        progress(f"converting the backbone ({order.recipe})")
        backbone = convert_backbone(model, order.recipe, train)
        if order.target == "micro":
            backbone = rounded(lean_backbone(backbone), order.compress)
        cost = multiply_adds(backbone)
        images, labels = samples.held_out(source.tasks, seed, cost)
        forms = [Form("backbone.tflite", order.recipe, backbone, _features(model, images))]
    with float32(model):
        plain = _features(model, images)
    for recipe in order.recipes[1:]:
        other = order._replace(recipes=(recipe,))
        with other.rounding(model):
            progress(f"converting the backbone ({recipe})")
            content = feature_as_in(convert_backbone(model, recipe, train), backbone)
            forms.append(Form(f"backbone_{recipe}.tflite", recipe, content, _features(model, images)))
    forms = _with_early(forms, source, order, train, images, progress)
    head = heads.content(order, learner, progress)
    return Converted(order, tuple(forms), head, learner, cost, train, images, labels, plain)


def _with_early(
    forms: list[Form],
    source: Source,
    order: Order,
    train: NDArray[np.uint8],
    images: NDArray[np.uint8],
    progress: Progress,
) -> list[Form]:
    """Return `forms` with those of the first blocks alone that `order` names."""
    for depth in order.early:
        progress(f"converting the first {depth} encoder blocks")
        model = early_model(source.model, depth, source.tasks, source.config.seed)
        with float32(model):
            plain = _features(model, images)
        for i, form in enumerate(forms):
            with order._replace(recipes=(form.recipe,)).rounding(model):
                content = convert_early(model, form.recipe, train, forms[0].content)
                early = Early(depth, content, _features(model, images), plain)
            forms[i] = form._replace(early=(*form.early, early))
    return forms


def verify_files(
    source: Source, converted: Converted, heads: Heads, runtimes: Sequence[str], progress: Progress
) -> Verified:
    """Refuse files that are not what the recipe promises, or that do not compute what the model does.

    Args:
        source: the run.
        converted: its files.
        heads: that its head is one of.
        runtimes: to run the backbone with; the first one runs the head.
        progress: called with a line.

    Raises:
        UserError: what is wrong.
    """
    progress("verifying")
    files = {form.file: form.written for form in converted.forms} | {"head.tflite": converted.head}
    operators = {name: op_table(content) for name, content in files.items()}
    recipes = {form.file: form.recipe for form in converted.forms}
    verify.check_ops(operators, recipes)
    verify.check_weights(files, recipes)
    head_error = heads.error(converted, runtimes[0])
    head = converted.order.predicts(source.model, converted.learner)
    plain = _hits(head, converted.plain, converted.labels)
    accuracies: dict[str, dict[str, float]] = {}
    cosines: dict[str, float] = {}
    for form in converted.forms:
        found = {name: run_backbone(form.content, converted.images, name).feature for name in runtimes}
        hits = {name: _hits(head, feature, converted.labels) for name, feature in found.items()}
        try:
            # Tables round by choice: accuracy judges them, and the least cosine of all.
            coarse = bool(converted.order.compress and converted.order.compress.bits)
            allowed = {name: feature if coarse else converted.plain for name, feature in found.items()}
            checked = [verify.check_features(each, form.expected, allowed[name]) for name, each in found.items()]
            for each in hits.values():
                verify.check_accuracy(each, plain)
        except UserError as error:
            rounds = RECIPES[form.recipe].quantized_activations
            places = worst_places(source.model, converted.images, form.recipe) if rounds else ""
            remedy = verify.remedy(form.recipe, source.config.qat)
            remedy += "; give --compress more bits, or leave it out" if coarse else ""
            raise UserError(f"{form.file}: {error}{places}{remedy}") from error
        accuracies[form.file] = {name: float(each.mean()) for name, each in hits.items()}
        cosines[form.file] = min(checked)
    early = verify_early(converted.forms, head, converted.labels, converted.images, runtimes)
    return Verified(operators, head_error, float(plain.mean()), accuracies, cosines, early)


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
    sizes = {form.file: len(form.written) for form in converted.forms} | {"head.tflite": len(converted.head)}
    taken = {name: verified.accuracies[converted.taken(name).file][name] for name in runtimes}
    report: dict[str, Any] = {
        "recipe": order.recipe,
        "operators": verified.operators,
        "bytes": sizes,
        "multiply_adds": converted.multiply_adds,
        "held_out_images": len(converted.labels),
        "accuracy": {"float32": verified.accuracy, **taken},
        "backbone_mean_cosine": verified.cosines["backbone.tflite"],
        "backbones": {
            form.file: {
                "recipe": form.recipe,
                "accuracy": verified.accuracies[form.file],
                "mean_cosine": verified.cosines[form.file],
            }
            for form in converted.forms
        },
        "head_max_error_200_steps": verified.head_error,
        "targets": target_rows(backbone, order.recipe),
        **({"early": verified.early} if verified.early else {}),
    }
    compiled = None
    if RECIPES[order.recipe].integer and (compiler := edge_tpu_compiler()):
        progress("compiling for the Edge TPU")
        report["targets"]["edge_tpu"], compiled = compile_edge_tpu(backbone, compiler)
    if analyse:
        progress("analysing the quantization")
        report.update(_analysis(source, converted, runtimes, progress))
        contents = {form.file: form.content for form in converted.forms}
        times = {name: time_backbones(contents, converted.images[0], name, TIMED) for name in runtimes}
        for file, row in report["backbones"].items():
            row["milliseconds"] = {name: times[name][file] for name in runtimes}
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
