"""Structured pruning: scores by their formulas, gradients by differences, surgery that takes nothing of use."""

import dataclasses

import numpy as np
import pytest

from keras_cbpnet import presets
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.sizes import sizes
from keras_cbpnet.models.weights import save_weights
from keras_cbpnet.presets import Preset
from keras_cbpnet.sparsity import groups
from keras_cbpnet.sparsity.masks import kept
from keras_cbpnet.sparsity.members import Members
from keras_cbpnet.sparsity.request import Shrinking, parse
from keras_cbpnet.sparsity.scores import SCORES
from keras_cbpnet.sparsity.shrink import shrink

pytestmark = pytest.mark.slow  # each builds or trains networks


@pytest.fixture
def backbone(tiny_backbone, randomised):
    model = Backbone(dataclasses.replace(tiny_backbone, depth=3, whitening=True), name="tiny")
    model.build()
    randomised(model)
    return model


@pytest.fixture
def images(coloured_images):
    return coloured_images(40, [0, 1, 2, 5])


# Scores ---------------------------------------------------------------------------------------------------------------


def test_scores_are_their_formulas():
    members = Members(np.array([3.0, 1.0]), np.array([0.2, -0.1]), np.array([0.05, 0.02]), 20, np.zeros(2))
    expected = {"fts": [0.3, 0.3], "fisher": [0.5, 0.2], "taylor": [0.2, 0.1], "magnitude": [3.0, 1.0]}
    for name, values in expected.items():
        np.testing.assert_allclose(SCORES[name](members, np.random.default_rng(0)), values)
    drawn = [SCORES["random"](members, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).all()
    assert set(SCORES) == {*expected, "random"}


def test_a_unit_whose_absence_lowers_the_loss_goes_first():
    members = Members(np.ones(3), np.array([0.3, 0.0, -0.3]), np.full(3, 0.01), 20, np.zeros(3))
    assert kept(SCORES["fts"](members, np.random.default_rng(0)), 2 / 3).tolist() == [1, 2]
    # The published sign would keep it.
    assert kept(np.abs(members.gradient + 10 * members.square), 1 / 3).tolist() == [0]


@pytest.mark.parametrize(
    ("share", "expected"), [(1.0, [0, 1, 2, 3]), (0.5, [0, 2]), (0.25, [0]), (1e-9, [0]), (0.75, [0, 2, 3])]
)
def test_the_highest_scores_are_kept_exactly_and_of_equal_ones_the_first(share, expected):
    assert kept(np.array([2.0, -1.0, 2.0, 0.0]), share).tolist() == expected


def test_gradients_of_gates_are_those_of_differences(backbone, images, monkeypatch):
    """Of one unit, the loss with its outgoing weights scaled by 1 + e and 1 - e."""
    monkeypatch.setattr(groups, "MEASURED", 20)
    classify = groups._classifier(backbone, *images)
    rows = np.random.default_rng(0).permutation(len(images[0]))[:20]
    targets = np.searchsorted(np.unique(images[1]), images[1][rows])

    def loss():
        logits = np.asarray(classify(backbone.features(images[0][rows])), np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20), targets]))

    members = groups.mlp_units(backbone, *images)
    for block, unit in ((0, 3), (2, 17)):
        kernel = np.array(backbone.blocks[block].contract.kernel)
        found = []
        for scale in (1.05, 0.95):
            changed = kernel.copy()
            changed[unit] *= scale
            backbone.blocks[block].contract.kernel.assign(changed)
            found.append(loss())
        backbone.blocks[block].contract.kernel.assign(kernel)
        assert members[block].gradient[unit] == pytest.approx((found[0] - found[1]) / 0.1, rel=0.1, abs=2e-4)
        assert members[block].square[unit] == pytest.approx(members[block].gradient[unit] ** 2)  # of one batch


# Surgery --------------------------------------------------------------------------------------------------------------


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "score", ["fisher", *(pytest.param(each, marks=SLOW) for each in ("fts", "taylor", "magnitude"))]
)
def test_units_without_use_go_and_the_features_stay(backbone, images, score):
    idle = np.random.default_rng(1).permutation(32)[:16]
    for block in backbone.blocks:
        kernel = np.array(block.contract.kernel)
        kernel[idle] = 0
        block.contract.kernel.assign(kernel)
    if score == "fts":  # no use is better than harm: every other unit must help
        chosen = [kept(np.asarray(each.square), 0.5) for each in groups.mlp_units(backbone, *images)]
        assert all(set(each) == set(range(32)) - set(idle) for each in chosen)
        return
    smaller = shrink(backbone, Shrinking(score, mlp=0.5), *images, np.random.default_rng(0))
    assert smaller.config == dataclasses.replace(backbone.config, mlp_width=16)
    np.testing.assert_allclose(smaller.features(images[0][:5]), backbone.features(images[0][:5]), rtol=0, atol=1e-4)


def test_what_a_unit_gives_on_average_stays(backbone, images):
    """Units that give the same whatever the image can go without a loss."""
    for block in backbone.blocks:
        kernel, bias = np.array(block.expand.kernel), np.array(block.expand.bias)
        kernel[:, :8], bias[:8] = 0, 2.0
        block.expand.kernel.assign(kernel)
        block.expand.bias.assign(bias)
    smaller = shrink(backbone, Shrinking("magnitude", mlp=0.75), *images, np.random.default_rng(0))
    np.testing.assert_allclose(smaller.features(images[0][:5]), backbone.features(images[0][:5]), rtol=0, atol=1e-4)


def test_fewer_blocks_and_narrower_ones(backbone, images):
    smaller = shrink(backbone, parse("random:mlp=0.25,depth=2"), *images, np.random.default_rng(0))
    assert (smaller.config.depth, smaller.config.mlp_width) == (2, 8)
    blocks_alone = shrink(backbone, parse("fts:depth=2"), *images, np.random.default_rng(0))
    assert (blocks_alone.config.depth, blocks_alone.config.mlp_width) == (2, 32)


def test_a_smaller_backbone_is_loaded_under_the_name_of_its_preset(backbone, images, tmp_path, monkeypatch):
    preset = Preset("tiny", backbone.config)
    monkeypatch.setitem(presets.PRESETS, "tiny", lambda: preset)
    smaller = shrink(backbone, parse("fts:mlp=0.5,depth=2"), *images, np.random.default_rng(0))
    file = tmp_path / "small.npz"
    save_weights(smaller, file, preset=backbone.config)
    assert sizes(preset, file) == smaller.config
    found = Backbone.from_preset("tiny", file)
    np.testing.assert_allclose(found.features(images[0][:5]), smaller.features(images[0][:5]), rtol=0, atol=0.05)
    with pytest.raises(UserError, match=r"--depth must be from 1 to 2, the blocks of .*small\.npz; got 3"):
        sizes(preset, file, 3)


@pytest.mark.parametrize("text", ['{"depth": 0}', '{"heads": 2}', '{"depth": true}', "[]x", "{}"])
def test_sizes_that_are_none_are_one_line(backbone, tmp_path, text):
    np.savez(tmp_path / "bad.npz", sizes=np.frombuffer(text.encode(), np.uint8))
    with pytest.raises(UserError, match=r"bad\.npz: its sizes are none"):
        sizes(Preset("tiny", backbone.config), tmp_path / "bad.npz")


# The request ----------------------------------------------------------------------------------------------------------


def test_what_is_asked_for():
    assert parse("fts:mlp=0.25,depth=3") == Shrinking("fts", 0.25, 3)
    assert parse("random:mlp=0.5") == Shrinking("random", 0.5, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("snip:mlp=0.5", "unknown score 'snip'; known scores: fts, fisher, taylor, magnitude, random"),
        ("fts:mlp=0", "mlp must be above 0 and at most 1, got 0"),
        ("fts:mlp=nan", "mlp must be above 0 and at most 1, got nan"),
        ("fts:mlp=1.5", "at most 1, got 1.5"),
        ("fts:mlp=many", "'mlp=many' is not understood; the form is SCORE:mlp=SHARE,depth=N"),
        ("fts:stem=0.5", "'stem=0.5' is not understood"),
        ("fts", "keeps everything"),
        ("fts:mlp=1", "keeps everything"),
        ("fts:depth=-1", "depth must be from 1 on, got -1"),
    ],
)
def test_a_request_that_is_wrong_is_one_line(text, reason):
    with pytest.raises(UserError) as error:
        parse(text)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
