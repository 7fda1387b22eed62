"""A frozen classifier's parts: scores, the second look, joined files, metadata."""

import io
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from helpers.head_case import Case
from helpers.paths import ROOT

from firmware_host.shared.bank import Mixture, empty_bank
from keras_cbpnet.export.frozen import metadata, scores
from keras_cbpnet.export.frozen.joined import head_graph, joined
from keras_cbpnet.export.frozen.learned import Learned
from keras_cbpnet.export.frozen.second_look import eliminated, likeliest
from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.export.tflite_file.ops import custom_ops, op_table

# Dimensions: N images, C classes, d features, r directions.
BACKBONE = ROOT / "tests/firmware_host/tiny_backbone.tflite"
D, SLOTS = 10, 12
ABOUT = {"name": "tiny", "description": "two colours", "version": "1", "author": "a", "license": "MIT"}


def learned(block="prototype", classes=7, each=20, directions=3, weight=0.3, offset=0.0, sure=0.4, images=50):
    """Head and bank that have learned `classes` clouds of features; the last name is known, and nothing of it."""
    case = Case(block, D, 6, SLOTS, 4, {})
    mean, scale = case.constants
    rng = np.random.default_rng(2)
    state = case.start()
    for name in ("w1", "b1", "w2", "b2", "w3", "b3"):
        if name in state:
            state[name] = rng.normal(0, 0.3, state[name].shape).astype(np.float32)
    state["class_mask"][:] = np.arange(SLOTS) < classes
    mixture = Mixture(empty_bank(SLOTS, SLOTS + 3, D, directions), mean, scale, weight, rebinds=False)
    centres = rng.normal(0, 0.4, (classes, D))
    spread = rng.normal(0, 0.5, (classes, D, D)) / np.sqrt(D)
    for c in range(classes):
        count = max(1, each - 3 * c)
        rows = (centres[c] + rng.normal(size=(count, D)) @ spread[c]) * scale + mean
        mixture.bank.learn(rows.astype(np.float32), np.full(count, c))
        state["class_mean"][c], state["class_count"][c] = rows.mean(axis=0), count
    mixture.temperature.sure[0] = sure
    names = (*(f"c{c}" for c in range(classes)), "named")
    bundle = SimpleNamespace(head={**case.settings, "feature_mean": mean.tolist(), "feature_scale": scale.tolist()})
    moved = np.full(D, offset, np.float32)
    features = (rng.normal(0, 0.7, (images, D)) * scale + mean + moved).astype(np.float32)
    engine = case.numpy_head(state)
    block_says = np.concatenate([engine.infer((row - moved)[None])[1] for row in features])
    assert np.isfinite(mixture.bank.logits(features - moved)).all()
    judged = mixture.probabilities(block_says, features - moved)[:, : len(names)]
    return Learned(bundle, names, state, mixture, moved, None, judged), features


@pytest.mark.parametrize(
    "changes",
    [
        {"images": 200},
        {"each": 3, "sure": -0.5},  # young classes
        {"classes": 3, "block": "mlp", "offset": 0.2},  # fewer than are judged again
        {"classes": 1},
        {"directions": 0, "block": "residual", "weight": 0.9},  # nothing to judge again
        {"weight": 0.0},  # the bank alone
    ],
    ids=str,
)
def test_scores_are_those_of_block_and_bank(changes):
    known, features = learned(**changes)
    compute = tf.function(lambda x: scores.probabilities(known, x), autograph=False)
    found = np.concatenate([compute(row[None]) for row in features])
    np.testing.assert_allclose(found, known.judged, atol=2e-5)
    assert found[:, -1].max() < 1e-6  # of the class that only has a name
    np.testing.assert_array_equal(found.argmax(axis=1), known.judged.argmax(axis=1))
    assert known.judged.max(axis=1).min() < 0.6 or changes.get("classes") == 1  # some images are undecided


def test_without_a_bank_the_block_decides():
    known, features = learned()
    known = known._replace(mixture=None)
    engine = Case("prototype", D, 6, SLOTS, 4, {}).numpy_head(known.head)
    expected = np.concatenate([engine.infer(row[None])[1] for row in features[:5]])[:, :8]
    found = np.concatenate([scores.probabilities(known, row[None]) for row in features[:5]])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_elimination_solves_and_gives_the_determinant():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3, 9, 20))
    system = vectors @ np.swapaxes(vectors, 1, 2) + np.diag([1.0] * 8 + [0.0])
    corner, logarithm = eliminated(tf.constant(system, tf.float32), 8)
    for one, c, log in zip(system, corner.numpy(), logarithm.numpy()):
        inner, last = one[:8, :8], one[:8, 8]
        np.testing.assert_allclose(c, one[8, 8] - last @ np.linalg.solve(inner, last), rtol=1e-4)
        np.testing.assert_allclose(log, np.linalg.slogdet(inner)[1], rtol=1e-5)


def test_the_likeliest_are_found_in_order():
    index, chosen = likeliest(tf.constant([[0.1, -1e9, 3.0, -2.0, 0.5]]), 4)
    np.testing.assert_array_equal(index, [2, 4, 0, 3])
    np.testing.assert_array_equal(chosen.numpy().argmax(axis=1), [2, 4, 0, 3])
    np.testing.assert_array_equal(chosen.numpy().sum(axis=1), 1)


@pytest.mark.parametrize("classes", [2, 5, 400])
def test_in_steps_of_1_256_the_largest_score_stays_the_only_one(classes):
    rng = np.random.default_rng(classes)
    found = rng.dirichlet(np.ones(classes), 60).astype(np.float32)
    found[:, 1] = found[:, 0] = found[:, :2].mean(axis=1)
    found[::2, 0] += 1e-5  # nearly two largest
    apart = np.concatenate([scores.told_apart(tf.constant(row[None])).numpy() for row in found])
    steps, plain = (np.clip(np.round(256 * each), 0, 255) for each in (apart, found))
    best = found.argmax(axis=1)
    np.testing.assert_array_equal(steps.argmax(axis=1), best)
    assert np.sum(steps == steps.max(axis=1, keepdims=True)) == len(found)
    assert np.abs(steps - plain).max() <= 1


def run(content, images):
    interpreter = tf.lite.Interpreter(model_content=content)
    signature = interpreter.get_signature_runner("serving_default")
    return np.concatenate([signature(image=image[None])["scores"] for image in images])


@pytest.fixture(scope="module")
def features_alone():
    """A graph that gives half of each of the tiny backbone's six features as a score."""
    return head_graph(lambda x: x * 0.5, 6)


@pytest.fixture(scope="module")
def tiny_images():
    return np.random.default_rng(3).integers(0, 256, (5, 8, 8, 3), np.uint8)


def test_a_joined_file_has_one_graph_of_builtins_and_keeps_the_backbone(features_alone, tiny_images):
    content = joined(BACKBONE.read_bytes(), features_alone, "float32")
    model, backbone = Model(content), Model(BACKBONE.read_bytes())
    assert len(model.root.subgraphs) == 1
    assert custom_ops(op_table(content)) == []
    kinds, before = ([each.kind(op) for op in each.root.subgraphs[0].operators] for each in (model, backbone))
    assert kinds[-2:] == ["DEQUANTIZE", "MUL"]
    assert kinds[:-2] == before[: len(kinds) - 2]
    assert "ARG_MAX" in before[len(kinds) - 2 :]  # the prompt's number is not needed
    halves = np.stack([tiny_images[:, :, :4], tiny_images[:, :, 4:]], axis=1).mean(axis=(2, 3)).reshape(5, 6)
    np.testing.assert_allclose(run(content, tiny_images), halves / 510, atol=0.26 / 255)


def test_where_the_backbones_tensors_lie_is_not_kept(features_alone):
    planned = Model(BACKBONE.read_bytes())
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"OfflineMemoryAllocation", planned.buffer(bytes(16))  # TFLM refuses a plan that misfits
    planned.root.metadata = [entry]
    assert not Model(joined(planned.pack(), features_alone, "uint8")).root.metadata


def test_uint8_scores_are_steps_of_1_256_from_0(features_alone, tiny_images):
    floats, steps = (run(joined(BACKBONE.read_bytes(), features_alone, kind), tiny_images) for kind in KINDS)
    assert steps.dtype == np.uint8
    np.testing.assert_array_equal(steps, np.floor(floats * 256 + 0.5))


KINDS = ("float32", "uint8")


@pytest.mark.parametrize("size", [4, 11, 16, 24, 30])
def test_an_image_of_another_size_is_resized_inside(size, features_alone):
    y, x = np.mgrid[0:size, 0:size] / size
    images = np.stack([np.stack([200 * x + 20, 200 * y + 20, 250 * (1 - x)], axis=2), np.full((size, size, 3), 90)])
    images = np.round(images).astype(np.uint8)
    content = joined(BACKBONE.read_bytes(), features_alone, "float32", size)
    details = tf.lite.Interpreter(model_content=content).get_input_details()[0]
    assert (details["shape"].tolist(), details["dtype"], details["name"]) == ([1, size, size, 3], np.uint8, "image")
    found = run(content, images)
    # The features are means over halves, which a good resizing keeps.
    half = size / 2
    weight = np.clip(half - np.arange(size), 0, 1)
    for image, row in zip(images, found):
        columns = image.mean(axis=0)  # (size, 3)
        expected = np.concatenate([weight @ columns, (1 - weight) @ columns]) / half / 510
        np.testing.assert_allclose(row, expected, atol=0.01)


def test_metadata_and_labels_are_in_the_file(features_alone, tiny_images):
    plain = joined(BACKBONE.read_bytes(), features_alone, "float32")
    labels = ["naïve", 'a "b", c', "猫"]
    content = metadata.described(plain, ABOUT, labels)
    assert metadata.described(plain, ABOUT, labels) == content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert {file.compress_type for file in archive.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(archive.read("metadata.json")) == ABOUT
        assert archive.read("labels.txt").decode().splitlines() == labels
    model = Model(content)
    entry = next(each for each in model.root.metadata if each.name == b"TFLITE_METADATA")
    described = bytes(model.root.buffers[entry.buffer].data)
    assert described[4:8] == b"M001"
    assert all(word in described for word in (b"tiny\0", b"two colours\0", b"labels.txt\0", b"MIT\0", b"1.0.0\0"))
    np.testing.assert_array_equal(run(content, tiny_images), run(plain, tiny_images))
