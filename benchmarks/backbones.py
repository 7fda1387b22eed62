"""Quality of a frozen backbone: `python -m benchmarks.backbones --data npz:cifar100.npz`.

Nearest class mean, linear discriminant analysis and multinomial logistic regression on its prompt-free features.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_cbpnet import cli
from keras_cbpnet.presets import PRESETS


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.backbones", description=__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), default="vit_nano_32", help="backbone")
    parser.add_argument("--weights", type=Path, help="weights file; default: the shipped one")
    parser.add_argument("--data", required=True, metavar="SPEC", help="labelled images, as --dataset of the trainer")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print top-1 accuracy of the three classifiers on the test images."""
    args = build_parser().parse_args(argv)
    import keras

    from keras_cbpnet.data import load_dataset
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.models.weights import load_preset_weights, load_weights
    from keras_cbpnet.presets import get_preset

    preset = get_preset(args.preset)
    backbone = Backbone(preset.backbone)
    backbone.build()
    if args.weights:
        load_weights(backbone, args.weights)
    else:
        load_preset_weights(backbone, preset)
    data = load_dataset(args.data, preset.backbone.image_size)
    image = keras.Input((preset.backbone.image_size, preset.backbone.image_size, 3))
    model = keras.Model(image, backbone(image))
    train, test = (model.predict(x.astype("float32"), 256, verbose=0) for x in (data.x_train, data.x_test))
    result = {"preset": args.preset, "parameters": backbone.count_params(), "data": args.data}
    result.update(probes(train, data.y_train, test, data.y_test))
    print(json.dumps(result) if args.json else "\n".join(f"{name}: {value}" for name, value in result.items()))
    return 0


def probes(train: np.ndarray, y_train: np.ndarray, test: np.ndarray, y_test: np.ndarray) -> dict[str, Any]:
    """Return top-1 accuracy of three classifiers on features [N, d], standardised by the training features."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import NearestCentroid

    mean, scale = train.mean(axis=0), train.std(axis=0)
    train, test = (train - mean) / scale, (test - mean) / scale
    classifiers = {
        "nearest_class_mean": NearestCentroid(),
        "lda": LinearDiscriminantAnalysis(),
        "logistic_regression": LogisticRegression(C=0.05, max_iter=300),
    }
    return {name: float(c.fit(train, y_train).score(test, y_test)) for name, c in classifiers.items()}


if __name__ == "__main__":
    cli.hide_native_output()
    sys.exit(cli.run(main))
