"""Losses after earlier blocks, blocks that are left out, transforms for fewer blocks."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_cbpnet import cli, presets
from keras_cbpnet.models.backbone import Backbone, truncated
from keras_cbpnet.models.sizes import stored_depths
from keras_cbpnet.models.weights import save_weights
from keras_cbpnet.pretrain import main
from keras_cbpnet.pretraining.distillation import Pupil, early_whitening, encoded, tokens_after

pytestmark = pytest.mark.slow  # each builds or trains networks


@pytest.fixture
def backbone(tiny_backbone, randomised):
    model = Backbone(dataclasses.replace(tiny_backbone, depth=3, whitening=True), name="tiny")
    model.build()
    randomised(model)
    return model


@pytest.fixture
def images(coloured_images):
    return coloured_images(12, [0, 1])[0].astype(np.float32)


def pupil(backbone, **changes):
    sizes = {"label": 2, "feature": 6, "patches": 6}
    found = Pupil(backbone, sizes, {"label": 1.0, "feature": 0.5, "patches": 2.0}, **changes)
    found.build()
    return found


def targets(count):
    rng = np.random.default_rng(0)
    shapes = {"feature": (count, 6), "patches": (count, 4, 6)}
    label = np.eye(2, dtype=np.float32)[np.arange(count) % 2]
    return {"label": label, **{name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}}


def test_the_last_of_the_tokens_are_those_after_all_blocks(backbone, images):
    every = tokens_after(backbone, images, early=True)
    assert len(every) == 3
    np.testing.assert_array_equal(every[-1], encoded(backbone, images))
    for depth in (1, 2):
        np.testing.assert_allclose(every[depth - 1], encoded(truncated(backbone, depth), images), rtol=0, atol=1e-5)


def test_exits_weigh_the_losses_after_earlier_blocks(backbone, images):
    wanted, plain = targets(len(images)), pupil(backbone)
    with_exits = pupil(backbone, exits=0.3)
    for mine, theirs in zip(with_exits.outputs_by_name.values(), plain.outputs_by_name.values(), strict=True):
        mine.set_weights(theirs.get_weights())
    found = float(with_exits.compute_loss(y=wanted, y_pred=with_exits(images, training=True)))
    losses = []
    for depth in (1, 2, 3):
        shallow = pupil(truncated(backbone, depth))
        for mine, theirs in zip(shallow.outputs_by_name.values(), plain.outputs_by_name.values(), strict=True):
            mine.set_weights(theirs.get_weights())
        losses.append(float(shallow.compute_loss(y=wanted, y_pred=shallow(images))))
    assert found == pytest.approx(0.7 * losses[2] + 0.3 * np.mean(losses[:2]), rel=1e-5)
    assert float(with_exits.compute_loss(y=wanted, y_pred=with_exits(images))) == pytest.approx(losses[2], rel=1e-6)


def test_blocks_are_left_out_in_training_alone(backbone, images):
    dropping = pupil(backbone, layer_drop=0.5, seed=4)
    still = [np.asarray(dropping(images)["label"]) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    kinds = {np.asarray(dropping(images, training=True)["label"]).round(4).tobytes() for _ in range(30)}
    assert 4 <= len(kinds) <= 8  # 2 to the number of blocks
    scaled = tokens_after(backbone, images, keep=[1.0, 0.0, 1.0])[-1]
    x = backbone.blocks[2](backbone.blocks[0](backbone.embed(images)))
    np.testing.assert_allclose(scaled, backbone.norm(x), rtol=0, atol=1e-5)


def test_transforms_whiten_the_features_after_fewer_blocks(backbone, coloured_images):
    images, labels = coloured_images(200, [0, 1, 2])
    found = early_whitening(backbone, (1, 2), images, labels, 0.05)
    assert list(found) == [1, 2]
    for depth, (kernel, bias) in found.items():
        features = np.asarray(truncated(backbone, depth, (kernel, bias)).features(images), np.float64)
        assert np.abs(features.mean(axis=0)).max() < 1e-3
        means = np.stack([features[labels == label].mean(axis=0) for label in np.unique(labels)])
        within = features - means[labels]
        spread = np.linalg.eigvalsh(within.T @ within / len(features))
        assert 0.5 < spread[-1] < 1.5
    assert early_whitening(backbone, (), images, labels, 0.05) == {}


def test_a_step_with_exits_and_dropped_blocks_trains(backbone, images, tmp_path):
    model = pupil(backbone, exits=0.5, layer_drop=0.2)
    model.compile(keras.optimizers.AdamW(1e-3))
    before = [np.array(w) for w in backbone.blocks[0].weights]
    history = model.fit(images, targets(len(images)), epochs=3, batch_size=6, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    model.save_weights(tmp_path / "checkpoint.weights.h5")
    before_more = np.array(model.draws.state)
    model(images, training=True)
    assert (np.asarray(model.draws.state) != before_more).any()
    model.load_weights(tmp_path / "checkpoint.weights.h5")
    np.testing.assert_array_equal(model.draws.state, before_more)  # goes on with the blocks that would have been next
    assert all(np.abs(a - b).max() > 0 for a, b in zip(before, backbone.blocks[0].weights, strict=True))


def test_a_smaller_backbone_is_pretrained_from_a_larger_one(backbone, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    pixels = rng.integers(0, 60, (64, 16, 16, 3), np.uint8)
    pixels[labels == 1, :, ::2] += 150
    part = {"x_train": pixels, "y_train": labels, "x_test": pixels[:8], "y_test": labels[:8]}
    np.savez(tmp_path / "data.npz", **part, class_names=np.array(["plain", "striped"]))
    monkeypatch.setitem(presets.PRESETS, "tiny", lambda: presets.Preset("tiny", backbone.config))
    save_weights(backbone, tmp_path / "whole.npz")
    words = ["--preset", "tiny", "--start", str(tmp_path / "whole.npz"), "--data", f"npz:{tmp_path / 'data.npz'}"]
    words += ["--teacher", "tiny", "--teacher-weights", str(tmp_path / "whole.npz"), "--batch", "16", "--depths", "1"]
    words += ["--shrink", "fts:mlp=0.25,depth=2", "--epochs", "1", "--qat-epochs", "0", "--exits", "0.3"]
    assert main([*words, "--output", str(tmp_path / "small.npz")]) == 0
    small = Backbone.from_preset("tiny", tmp_path / "small.npz")
    assert (small.config.depth, small.config.mlp_width) == (2, 8)
    white = np.asarray(small.features(pixels))
    assert np.abs(white.mean(axis=0)).max() < 0.5 * white.std()  # half precision of weights drawn at random
    assert stored_depths(presets.get_preset("tiny"), tmp_path / "small.npz") == (1,)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shrink", "fts:mlp=0.25"], "--shrink fts:mlp=0.25 needs --start"),
        (["--start", "vit_nano_32", "--shrink", "fts:depth=6"], "--shrink fts:depth=6: there are 5 blocks"),
        (["--start", "vit_micro_32"], "--start vit_micro_32 are weights of another preset; give --preset vit_micro_32"),
        (["--depths", "5"], "--depths must be below 5, the blocks that there are; got 5"),
        (["--start", "vit_nano_32", "--shrink", "fts:depth=3", "--depths", "3"], "--depths must be below 3"),
        (["--exits", "1"], "--exits must be in 0..1, got 1.0"),
        (["--layer-drop", "nan"], "--layer-drop must be in 0..1, got nan"),
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
    ],
)
def test_a_wrong_request_is_one_line(words, message, tmp_path, capsys):
    given = ["--data", "digits", "--output", str(tmp_path / "out.npz"), *words]
    assert cli.run(main, given) == cli.BAD_INPUT
    assert message in (line := capsys.readouterr().err)
    assert line.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
