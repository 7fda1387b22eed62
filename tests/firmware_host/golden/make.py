"""Makes golden files: a bundle and a state as today's tree writes them, and what they say of given features.

    python tests/firmware_host/golden/make.py plain|axis|surprised|banked

Needs no TensorFlow. Files that are here stay as they are: whatever was shipped once must be read for ever. When a
schema version rises, run this after the change and keep the result beside the older files. `plain/state_1.npz` was
written by version 0.1.0, and `head_1.tflite`, a head for an interpreter of the size of these, by bundle schema 1.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

from firmware_host import Device
from firmware_host.bundle import SCHEMA_VERSION, STATE_SCHEMA_VERSION

HERE = Path(__file__).parent
HEADS = {
    "plain": {"block": "prototype"},
    "axis": {"block": "prototype"},  # of bundle schema 2, whose head.tflite has scalars as [1]
    "banked": {"block": "prototype", "bank": True},
    "surprised": {"block": "mlp", "surprise": {"calming": 50.0, "calm": 20.0}},
}


def factory():
    spec = importlib.util.spec_from_file_location("factory", HERE.parent / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Factory


def said(device, feature):
    """What a device makes of features [n, d]: probabilities float32 [n, C]."""
    return np.stack([device._working.judge(row)[0] for row in feature])


def main(name):
    make, folder = factory(), HERE / name
    bundle, state = folder / f"bundle_{SCHEMA_VERSION}", folder / f"state_{STATE_SCHEMA_VERSION}.npz"
    for path in (bundle, state):
        if path.exists():
            raise SystemExit(f"{path} exists: what was shipped stays as it is")
    make.write_bundle(bundle, **HEADS[name])
    feature = np.random.default_rng(7).uniform(0, 1, (8, 6)).astype(np.float32)
    with Device.open(bundle, folder / "made", runtime="numpy", seed=3) as device:
        start = said(device, feature)
        images, labels = make.images(["red", "green", "blue"], 6)
        device.learn(images, labels, replay="buffer:10", epochs=2)
        device.teach(make.colour_image("white", np.random.default_rng(4)), "white")
        device.save().rename(state)
        expected = {"feature": feature, "start": start, "learned": said(device, feature)}
        expected.update(classes=np.array(device.classes), count=device._working.statistics.count)
    np.savez(folder / f"{state.stem}_expected.npz", **expected)
    (folder / "made" / "lock").unlink()
    (folder / "made").rmdir()


if __name__ == "__main__":
    main(*sys.argv[1:])
