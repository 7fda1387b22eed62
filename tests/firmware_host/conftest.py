"""A complete small bundle without TensorFlow: a real int8 backbone of 3 KB, and a head that only NumPy can run."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.bundle import state_shapes, write_manifest
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.shared.bank import Mixture, empty_bank
from firmware_host.shared.runtimes import interpreters

D, H, C, B, SIDE = 6, 5, 4, 4, 8
COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "white": (230, 230, 230)}
KNOWN = ("red", "green")
REFERENCES = interpreters()


def head_config(block="prototype", d=D, h=H, slots=C, batch=B, **changes):
    config = {
        "block": block,
        "optimizer": "adam",
        "units": h,
        "slots": slots,
        "batch": batch,
        "decay_rate": 0.99,
        "replacement_rate": 1e-4,
        "maturity_threshold": 100,
        "learning_rate": 1e-3,
        "block_rate": 1.0,
        "logit_scale": 20.0,
        "feature_mean": [0.4] * d,
        "feature_scale": [0.3] * d,
    }
    return {**config, **changes}


def start_state(config, seed=0, known=0):
    d = len(config["feature_mean"])
    shapes = state_shapes(config["block"], d, config["units"], config["slots"])
    state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    state["w1"][:] = np.random.default_rng(seed).uniform(-1, 1, shapes["w1"]) * np.sqrt(6 / d)
    state["class_mask"][:known] = 1
    return state


def colour_image(name, rng, side=SIDE):
    noise = rng.integers(-25, 26, (side, side, 3))
    return np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)


def expected_feature(image):
    """What tiny_backbone.tflite gives: mean of each colour in the left and the right half, as quanta of 1/255."""
    halves = [image[:, : SIDE // 2], image[:, SIDE // 2 :]]
    means = np.concatenate([half.reshape(-1, 3).mean(axis=0) for half in halves])
    return np.round(means - 128).astype(np.int8)


def write_bundle(folder, block="prototype", known=KNOWN, bank=False, **head_changes):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    config = head_config(block, **head_changes)
    head = NumpyHead(config, start_state(config, known=len(known)))
    scatter = np.zeros((D, D))
    if bank:
        config["bank"] = {"slots": config["slots"] + 2, "directions": 2, "block_weight": 0.05}
    mixture = Mixture(empty_bank(config["slots"], config["slots"] + 2, D, 2), np.full(D, 0.4), np.full(D, 0.3))
    for slot, name in enumerate(known):
        rows = np.stack([(expected_feature(colour_image(name, rng)).astype(np.float32) + 128) / 255 for _ in range(20)])
        for start in range(0, 20, config["batch"]):
            part = rows[start : start + config["batch"]]
            head.observe(part, np.full(len(part), slot, np.int32))
        scatter += (rows - rows.mean(axis=0)).T @ (rows - rows.mean(axis=0))
        mixture.bank.learn(rows, np.full(len(rows), slot))
    np.savez(folder / "golden.npz", **golden_arrays(config, head, rng))
    arrays = {f"bank.{name}": value for name, value in mixture.arrays().items()} if bank else {}
    np.savez(folder / "statistics.npz", scatter=scatter, **arrays)
    shutil.copy(Path(__file__).with_name("tiny_backbone.tflite"), folder / "backbone.tflite")
    (folder / "head.tflite").write_text(f"no interpreter opens this {block} head of {len(known)} classes")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in known), encoding="utf-8")
    (folder / "report.json").write_text("{}\n")
    manifest = {
        "name": "tiny",
        "recipe": "int8",
        "classes": list(known),
        "shapes": {"image": [1, SIDE, SIDE, 3], "feature": [1, D], "prompt": [1]},
        "dtypes": {"image": "uint8", "feature": "int8", "prompt": "int32"},
        "versions": {"keras_cbpnet": "0"},
        "head": config,
    }
    write_manifest(folder, manifest)
    return folder


def golden_arrays(config, head, rng, steps=3):
    image = np.stack([np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in COLOURS.values()])
    feature = np.stack([expected_feature(one) for one in image])
    start, known = head.get_state(), max(int(head.state["class_mask"].sum()), 1)
    train = {
        "feature": rng.uniform(0, 1, (steps, config["batch"], D)).astype(np.float32),
        "label": rng.integers(0, known, (steps, config["batch"])).astype(np.int32),
        "class_mask": np.tile(start["class_mask"], (steps, 1)),
        "learning_rate": np.full(steps, 1e-3, np.float32),
        "fresh": rng.uniform(-1, 1, (steps, D)).astype(np.float32),
    }
    rows = rng.uniform(0, 1, (2, D)).astype(np.float32)
    logits, probabilities = map(np.concatenate, zip(*(head.infer(row[None]) for row in rows)))
    results = [head.train(*inputs) for inputs in zip(*train.values())]
    arrays = {"image": image}
    for runtime in REFERENCES:
        arrays[f"feature.{runtime}"] = feature
        arrays[f"prompt.{runtime}"] = feature.argmax(axis=1).astype(np.int32)
    arrays.update({f"state.{name}": value for name, value in start.items()})
    arrays.update({f"train.{name}": value for name, value in train.items()})
    arrays["train.loss"] = np.array([result.loss for result in results], np.float32)
    arrays["train.replaced"] = np.array([result.replaced for result in results], np.int32)
    arrays.update({f"final.{name}": value for name, value in head.get_state().items()})
    arrays.update({"infer.feature": rows, "infer.logits": logits, "infer.probabilities": probabilities})
    head.set_state(start)
    return arrays


def foreign(bundle: Path, golden=("state.",)):
    """Turn a bundle into one of another program: no more than the contract asks, in another format."""
    with np.load(bundle / "golden.npz") as file:
        arrays = {name: file[name] for name in file.files if name.startswith(tuple(golden))}
    np.savez(bundle / "golden.npz", inputs=np.arange(3), **arrays)
    (bundle / "statistics.npz").unlink()
    (bundle / "labels.txt").write_text("\n".join((bundle / "labels.txt").read_text().splitlines()))
    manifest = json.loads((bundle / "manifest.json").read_text())
    kept = ("schema_version", "classes", "recipe", "shapes", "dtypes", "head")
    files = sorted(path for path in bundle.iterdir() if path.name != "manifest.json")
    manifest = {**{key: manifest[key] for key in kept}, "versions": {"another_program": "3.1"}}
    manifest["sha256"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def tree(*roots: Path) -> dict[str, str]:
    """Checksum of every file under the roots: what must not change."""
    files = [path for root in roots for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Factory:
    """What tests of the device package build with."""

    head_config = staticmethod(head_config)
    start_state = staticmethod(start_state)
    colour_image = staticmethod(colour_image)
    write_bundle = staticmethod(write_bundle)
    foreign = staticmethod(foreign)
    tree = staticmethod(tree)

    @staticmethod
    def images(names, each, seed=5):
        rng = np.random.default_rng(seed)
        labels = [name for name in names for _ in range(each)]
        return [colour_image(name, rng) for name in labels], labels

    @staticmethod
    def tinted(images):
        """Images as a camera that sees more red and blue takes them: some deviations of an image's features."""
        more = np.array([10, -5, 8])
        return [np.clip(image.astype(int) + more, 0, 255).astype(np.uint8) for image in images]

    @classmethod
    def through_camera(cls, names, each, seed=5):
        images, labels = cls.images(names, each, seed)
        return cls.tinted(images), labels

    @classmethod
    def folder_of_images(cls, root: Path, names=("red", "green"), each=3, seed=5, tinted=False):
        from PIL import Image

        images, labels = (cls.through_camera if tinted else cls.images)(names, each, seed)
        for index, (image, label) in enumerate(zip(images, labels)):
            (root / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / label / f"{index}.png")
        return root

    @staticmethod
    def rewrite_manifest(bundle: Path, change):
        """Change the manifest as somebody would who also corrects its checksum."""
        from firmware_host.bundle import canonical_text, manifest_sha256

        manifest = json.loads((bundle / "manifest.json").read_text())
        change(manifest)
        manifest["manifest_sha256"] = manifest_sha256(manifest)
        (bundle / "manifest.json").write_text(canonical_text(manifest))


@pytest.fixture(scope="session")
def make() -> type[Factory]:
    return Factory


@pytest.fixture(scope="session")
def _knowing(tmp_path_factory) -> Path:
    path = write_bundle(tmp_path_factory.mktemp("knowing") / "b", bank=True)
    with Device.open(path, runtime="numpy") as device:
        for image, label in zip(*Factory.images(["red", "green"], 40)):
            device.teach(image, label)
        device.save()
    return path.parent


@pytest.fixture
def knowing_bundle(_knowing, tmp_path) -> Path:
    """A bundle, with its state, that knows red and green so well that white is told to be neither."""
    return shutil.copytree(_knowing, tmp_path, dirs_exist_ok=True) / "b"


@pytest.fixture(scope="session")
def pristine_bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def bundle(pristine_bundle, tmp_path) -> Path:
    return Path(shutil.copytree(pristine_bundle, tmp_path / "tiny"))


@pytest.fixture(autouse=True)
def small_process(monkeypatch):
    """A test process may have loaded TensorFlow; --max-memory is about a device, and tested in processes of its own."""
    monkeypatch.setattr("firmware_host.process_memory.resident_memory_mb", lambda: 50.0)
