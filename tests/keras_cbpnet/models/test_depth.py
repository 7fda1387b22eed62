"""A backbone's first blocks: their sizes, their features, the whitening transforms stored for them."""

import dataclasses

import numpy as np
import pytest

from keras_cbpnet import presets
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.methods.method import dual_prompts, prompted_blocks
from keras_cbpnet.models.backbone import Backbone, truncated
from keras_cbpnet.models.sizes import sizes, stored_depths, stored_whitening, whitened
from keras_cbpnet.models.weights import save_weights
from keras_cbpnet.presets import Preset, get_preset

pytestmark = pytest.mark.slow  # each builds or trains networks


@pytest.fixture(scope="module")
def backbone(tiny_backbone, randomised):
    model = Backbone(dataclasses.replace(tiny_backbone, whitening=True), name="tiny")
    model.build()
    randomised(model)
    return model


@pytest.fixture
def preset(backbone, monkeypatch):
    found = Preset("tiny", backbone.config)
    monkeypatch.setitem(presets.PRESETS, "tiny", lambda: found)
    return found


@pytest.fixture
def weights(backbone, tmp_path):
    """A file with transforms for two depths."""
    rng = np.random.default_rng(0)
    file = tmp_path / "tiny.npz"
    save_weights(backbone, file, {d: (rng.normal(size=(16, 16)), rng.normal(size=16)) for d in (2, 3)})
    return file


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_the_first_blocks_give_the_class_token_after_them(backbone, coloured_images, depth):
    images, _ = coloured_images(3, [0, 1])
    shallow = truncated(backbone, depth)
    token = backbone.class_token(backbone.embed(images), depth=depth)
    np.testing.assert_allclose(shallow.features(images), backbone.norm(token), rtol=0, atol=1e-5)
    assert shallow.config.depth == len(shallow.blocks) == depth


def test_without_whitening_the_last_norm_has_no_scale(tiny_backbone, randomised, coloured_images):
    backbone = Backbone(tiny_backbone)
    backbone.build()
    randomised(backbone)
    features = np.asarray(truncated(backbone, 2).features(coloured_images(3, [0, 1])[0]))
    np.testing.assert_allclose(np.square(features).mean(axis=1), 1, atol=1e-4)


def test_stored_transforms_whiten_their_own_depth(backbone, preset, weights, coloured_images):
    assert stored_depths(preset, weights) == (2, 3)
    assert stored_depths(preset) == stored_depths(preset, "hf:owner/name") == ()
    images, _ = coloured_images(3, [0, 1])
    kernel, bias = stored_whitening(preset, weights, 3)
    found = Backbone.from_preset("tiny", weights, depth=3)
    plain = truncated(Backbone.from_preset("tiny", weights), 3).features(images)
    np.testing.assert_allclose(found.features(images), np.asarray(plain) @ kernel + bias, rtol=0, atol=1e-4)
    assert stored_whitening(preset, weights, 4) is None
    whole = Backbone.from_preset("tiny", weights)  # as without the transforms
    np.testing.assert_allclose(whole.features(images), backbone.features(images), rtol=0, atol=0.05)
    np.testing.assert_array_equal(
        Backbone.from_preset("tiny", weights, depth=5).features(images), whole.features(images)
    )


def test_transforms_of_another_width_are_refused(backbone, preset, tmp_path):
    save_weights(backbone, tmp_path / "wrong.npz", {2: (np.eye(8), np.zeros(8))})
    with pytest.raises(UserError, match=r"whitening_d2 has shapes \[8, 8\] and \[8\], expected \[16, 16\] and \[16\]"):
        Backbone.from_preset("tiny", tmp_path / "wrong.npz", depth=2)


@pytest.mark.parametrize("depth", [-1, 6])
def test_a_depth_that_the_backbone_does_not_have_is_one_line(preset, depth):
    with pytest.raises(UserError, match=f"--depth must be from 1 to 5, the blocks of tiny; got {depth}"):
        sizes(preset, depth=depth)


def test_the_first_task_whitens_where_no_transform_is_stored(preset, weights):
    config = TrainConfig(preset="tiny", weights=str(weights))
    for depth, whiten in ((0, "none"), (2, "none"), (5, "none"), (4, "task")):
        settled, why = whitened(dataclasses.replace(config, depth=depth))
        assert settled.whiten == whiten
        assert bool(why) == (whiten == "task")
    assert whitened(dataclasses.replace(config, depth=4, whiten="npz:other.npz"))[0].whiten == "npz:other.npz"


def test_prompts_are_in_the_blocks_that_there_are():
    assert [prompted_blocks(depth) for depth in (12, 5, 3)] == [
        ((0, 1), (2, 3, 4)),
        ((0, 1), (2, 3, 4)),
        ((0,), (1, 2)),
    ]
    for depth in (1, 2, 3, 4):
        general, expert = prompted_blocks(depth)
        assert (*general, *expert) == tuple(range(depth))
        assert expert


def test_prompts_of_a_run_follow_its_depth(preset):
    config = TrainConfig(preset="tiny", depth=3, tasks=2)
    assert dual_prompts(config, 16).blocks == (0, 1, 2)


@pytest.mark.parametrize("name", ["vit_nano_32", "vit_micro_32"])
def test_shipped_backbones_have_transforms_for_fewer_blocks(name, coloured_images):
    preset = get_preset(name)
    depths = stored_depths(preset)
    assert depths
    assert max(depths) < preset.backbone.depth
    shallow = Backbone.from_preset(name, depth=depths[0])
    features = np.asarray(shallow(shallow.preprocess(coloured_images(8, [0, 1, 2])[0])))
    assert np.isfinite(features).all()
    assert np.abs(features).max() < 30  # white on photographs, so no number is huge on anything
