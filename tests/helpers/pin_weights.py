"""What is pinned of the shipped weights: `PYTHONPATH=.:tests python tests/helpers/pin_weights.py` rewrites the pins.

A change of weights is a decision: run it, look at the difference, and commit both together.
"""

import hashlib
import json
from importlib import resources

import numpy as np
from helpers.paths import TESTS

PINS = TESTS / "keras_cbpnet" / "models" / "shipped_weights.json"
SHIPPED = ("vit_nano_32", "vit_micro_32", "vit_tiny_96")


def golden_image() -> np.ndarray:
    """One picture without a file: two waves and a disc, uint8 [1, 48, 40, 3]."""
    row, column = np.mgrid[0:48, 0:40]
    waves = [
        127 + 120 * np.sin(row / 5),
        127 + 120 * np.cos(column / 7),
        255 * ((row - 20) ** 2 + (column - 25) ** 2 < 90),
    ]
    return np.stack(waves, axis=-1).astype(np.uint8)[None]


def pin(name: str) -> dict:
    """The file's sha256 and the features of the golden picture."""
    from keras_cbpnet import Backbone
    from keras_cbpnet.presets import get_preset

    file = resources.files("keras_cbpnet") / "weights" / get_preset(name).weights
    backbone = Backbone.from_preset(name)
    feature = np.asarray(backbone(backbone.preprocess(golden_image())))[0]
    return {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "feature": [round(float(v), 5) for v in feature]}


if __name__ == "__main__":
    PINS.write_text(json.dumps({name: pin(name) for name in SHIPPED}, indent=1) + "\n")
