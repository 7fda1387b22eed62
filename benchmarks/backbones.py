"""Quality of a frozen backbone: `python -m benchmarks.backbones --preset vit_nano_32 --data npz:cifar100.npz`.

Top-1 accuracy of three classifiers on its prompt-free features: nearest class mean, linear discriminant analysis,
multinomial logistic regression. A backbone that whitens is measured with and without, each in float32 and in int8, as
the bundle's file gives it under LiteRT.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import results
from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from benchmarks.parameters import multiply_adds
from keras_cbpnet import cli
from keras_cbpnet.presets import PRESETS, check_weights, get_preset

PENALTIES = (0.003, 0.01, 0.03, 0.1)  # C of the logistic regression, chosen on a fifth of the training images
CALIBRATION = 500  # training images that set the int8 ranges
FORMS = {"white": "whitened", "plain": "as they are"}
CLASSIFIERS = ("nearest_class_mean", "lda", "logistic_regression")

Features = tuple[NDArray[np.float32], NDArray[np.float32]]  # of the training and the test images


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.backbones", description=__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), default="vit_nano_32", help="backbone")
    parser.add_argument("--weights", type=Path, help="weights file; default: the shipped one")
    parser.add_argument("--data", required=True, metavar="SPEC", help="labelled images, as --dataset of the trainer")
    parser.add_argument("--float-only", action="store_true", help="measurement in float32 alone, without the int8 file")
    parser.add_argument(
        "--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists"
    )
    parser.add_argument("--features", type=Path, metavar="OUT", help="file for the float32 features, .npz; replaced")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the results."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(arguments)
    preset = get_preset(args.preset)
    check_weights(preset, args.weights)
    commit = results.commit(ROOT)
    from keras_cbpnet.data import open_dataset
    from keras_cbpnet.models.backbone import Backbone

    backbone = Backbone.from_preset(args.preset, args.weights)
    data = open_dataset(args.data, backbone.config.image_size)
    forms = list(FORMS) if backbone.config.whitening else ["plain"]
    measured: dict[str, dict[str, Any]] = {}
    for form in forms:
        if form == "plain" and backbone.config.whitening:
            backbone.set_whitening()
        say(f"{form}: float32 features")
        features = float_features(backbone, data)
        if args.features and form == forms[0]:
            save_features(args.features, features, data)
        measured[form] = {"float32": probes(features, data)}
        if not args.float_only:
            say(f"{form}: int8 features")
            measured[form]["int8"] = probes(int8_features(backbone, data), data)
    record = {
        **results.provenance("benchmarks.backbones", arguments, commit),
        "preset": args.preset,
        "parameters": backbone.count_params(),
        "multiply_adds": multiply_adds(backbone.config),
        "train_images": len(data.x_train),
        "test_images": len(data.x_test),
        "accuracy": measured,
    }
    if args.json:
        results.write(args.json, record)
    print(render(record))
    return 0


def float_features(backbone: Any, data: Any) -> Features:
    """Return what the Keras model gives for the images, from the cache of frozen features."""
    from keras_cbpnet.training.features.cache import FrozenFeatures

    frozen = FrozenFeatures(backbone, data, say)
    return frozen.rows("train", np.arange(len(data.x_train))), frozen.rows("test", np.arange(len(data.x_test)))


def save_features(path: Path, features: Features, data: Any) -> None:
    """Write what `benchmarks.plasticity` reads: x_train, y_train, x_test, y_test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, x_train=features[0], y_train=data.y_train, x_test=features[1], y_test=data.y_test)


def int8_features(backbone: Any, data: Any) -> Features:
    """Return what the converted int8 file gives under LiteRT, dequantized."""
    from keras_cbpnet.export.runtimes import run_backbone

    some = np.random.default_rng(0).permutation(len(data.x_train))[:CALIBRATION]
    file = int8_file(backbone, data.images("train", some))
    whole = data.resized()
    return tuple(run_backbone(file, part, "ai_edge_litert").feature for part in (whole.x_train, whole.x_test))


def int8_file(backbone: Any, images: NDArray[np.uint8]) -> bytes:
    """Return `backbone` without prompts as the int8 file of a bundle, its ranges those that `images` cause."""
    import tensorflow as tf

    from keras_cbpnet.export.backbone import convert
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.models.calibration import calibrate
    from keras_cbpnet.models.rotation import spread_outliers
    from keras_cbpnet.models.weights import copy_weights

    quantized = Backbone(dataclasses.replace(backbone.config, whitening=True), quantized=True)
    quantized.build()
    copy_weights(backbone, quantized)
    spread_outliers(quantized, images)
    calibrate(quantized, quantized.features, images)

    class Graph(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = quantized

        def __call__(self, image: Any) -> dict[str, Any]:
            return {"feature": self.backbone.features(image)}

    return convert(Graph(), backbone.config.image_size, "int8", images[:100])


def probes(features: Features, data: Any) -> dict[str, float]:
    """Return the classifiers' top-1 accuracy on features standardised by those of the training images."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import NearestCentroid

    mean, scale = features[0].mean(axis=0), features[0].std(axis=0) + 1e-6
    train, test = ((x - mean) / scale for x in features)
    order = np.random.default_rng(0).permutation(len(train))
    held, kept = order[: len(train) // 5], order[len(train) // 5 :]

    def regression(penalty: float) -> LogisticRegression:
        return LogisticRegression(C=penalty, max_iter=200, tol=1e-3)

    def on_held(penalty: float) -> float:
        return float(regression(penalty).fit(train[kept], data.y_train[kept]).score(train[held], data.y_train[held]))

    best = max(PENALTIES, key=on_held)
    classifiers = zip(CLASSIFIERS, (NearestCentroid(), LinearDiscriminantAnalysis(), regression(best)), strict=True)
    found = {name: float(c.fit(train, data.y_train).score(test, data.y_test)) for name, c in classifiers}
    return {**found, "logistic_regression_c": best}


def render(record: dict[str, Any]) -> str:
    """Return the table of a result."""
    rows = [["features", *(name.replace("_", " ") for name in CLASSIFIERS)]]
    for form, kinds in record["accuracy"].items():
        for kind, found in kinds.items():
            rows.append([f"{FORMS[form]}, {kind}", *(f"{100 * found[name]:.1f}" for name in CLASSIFIERS)])
    sizes = f"{record['parameters']:,} parameters, {record['multiply_adds'] / 1e6:.1f} M multiply-adds a pass"
    images = f"{record['train_images']:,} training and {record['test_images']:,} test images"
    return f"{record['preset']}: {sizes}; top-1 in %, {images}\n\n{markdown(rows)}"


def say(text: str) -> None:
    """Announce a stage."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(cli.run(main))
