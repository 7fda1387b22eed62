"""What a bundle knows, or a device that learned with it: read by the device's own code, in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import Bundle, state_shapes
from firmware_host.shared.bank import Mixture
from keras_cbpnet.errors import UserError

# Dimensions: n images, d features, C classes known.

_WORKER = """
import json, sys
from pathlib import Path
import numpy as np
from firmware_host.bundle import DeviceError, read_bundle
from firmware_host.engines.find import find_runtime, open_backbone, open_head
from firmware_host.learning.start import start_snapshot
from firmware_host.learning.surprise import noticing
from firmware_host.learning.working_state import WorkingState
from firmware_host.state import StateFolder, read_file, snapshot_for

path, state, images, output = sys.argv[1:]
try:
    bundle = read_bundle(path)
    runtime = find_runtime("numpy", bundle.recipe)  # of backbone.tflite, which becomes part of the classifier
    backbone, head = open_backbone(bundle, runtime, 1), noticing(bundle, open_head(bundle, runtime, 1))
    if not state:
        learned = start_snapshot(bundle, head)
    elif Path(state).is_dir():
        learned = StateFolder(Path(state), bundle).read()
        if learned is None:
            raise DeviceError(f"nothing learned yet in {state}: give the folder of a state, or an exported file")
    else:
        learned = snapshot_for(bundle, read_file(Path(state)))
    working = WorkingState(bundle, head, learned, backbone.dequantize)
except DeviceError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
features = [working.dequantize(backbone(image).raw[0]) for image in np.load(images)]
arrays = {f"head.{name}": value for name, value in head.get_state().items()}
if working.mixture is not None:
    arrays.update({f"bank.{name}": value for name, value in working.mixture.arrays().items()})
judged = np.stack([working.judge(feature)[0] for feature in features])[:, : len(working.classes)]
np.savez(output, **arrays, offset=working.camera.offset, classes=json.dumps(working.classes), judged=judged)
"""


class Learned(NamedTuple):
    """What is known.

    Args:
        bundle: that it was learned with.
        classes: names of the classes known, in slot order.
        head: the tensors of the block, over all slots.
        mixture: bank and block together; None where the bundle has no bank.
        offset: of the device's camera, taken from every feature, [d].
        images: those that the bundle carries to be tested by, or else noise, uint8 [n, H, W, 3].
        judged: their probabilities as a device gives them, [n, C].
    """

    bundle: Bundle
    classes: tuple[str, ...]
    head: dict[str, NDArray[np.float32]]
    mixture: Mixture | None
    offset: NDArray[np.float32]
    images: NDArray[np.uint8]
    judged: NDArray[np.float32]


def read_learned(bundle: Bundle, state: Path | None) -> Learned:
    """Return what `bundle` knows, with a device's `state`: an exported file or a state folder; None: without any.

    Raises:
        UserError: the state is of another bundle or damaged, or no class was learned yet.
    """
    noise = np.random.default_rng(0).integers(0, 256, (8, *bundle.image_size, 3), np.uint8)
    images = bundle.arrays("golden.npz").get("image", noise)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "images.npy", images)
        paths = [bundle.path, state or "", folder / "images.npy", folder / "learned.npz"]
        command = [sys.executable, "-c", _WORKER, *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it ended without a word"]
            raise UserError(lines[-1] if done.returncode == 2 else f"{bundle.path} cannot be run here ({lines[-1]})")
        with np.load(folder / "learned.npz") as file:
            arrays = dict(file)
    classes = tuple(json.loads(str(arrays["classes"])))
    names = state_shapes(bundle.head["block"], 1, 1, 1, bundle.optimizer)
    head = {key: arrays[f"head.{key}"] for key in names}
    if not head["class_mask"][: len(classes)].any():
        raise UserError(f"{bundle.path} knows no class yet; teach it some with learn and give what it learned: --state")
    return Learned(bundle, classes, head, _mixture(bundle, arrays), arrays["offset"], images, arrays["judged"])


def _mixture(bundle: Bundle, arrays: dict[str, NDArray[Any]]) -> Mixture | None:
    bank = {key.removeprefix("bank."): value for key, value in arrays.items() if key.startswith("bank.")}
    if not bank:
        return None
    mean, scale = (np.array(bundle.head[key], np.float32) for key in ("feature_mean", "feature_scale"))
    return Mixture(bank, mean, scale, float(bundle.head["bank"]["block_weight"]))
