"""Adaptation of the backbone to the first task: what it moves, that nothing is left of the adapters, bad settings."""

import dataclasses

import numpy as np
import pytest

from keras_cbpnet.data import Dataset, make_stream
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.training.adaptation import Adapted, adapt_backbone
from keras_cbpnet.training.adaptation_settings import Adaptation, parse_adaptation

SMALL = Adaptation(experts=2, rank=4, epochs=60, rate=1e-2, batch=16)


@pytest.fixture(scope="module")
def task(coloured_images):
    x, y = coloured_images(32, range(2))  # of two colours, and striped across each other
    y = y.astype(np.int64)
    return make_stream("class", Dataset(x, y, x, y, ["rows", "columns"]), 1, 0)[0]


def built(config):
    backbone = Backbone(config)
    backbone.build()
    return backbone


@pytest.mark.slow
def test_merged_it_gives_what_the_adapters_gave(tiny_backbone, task, randomised):
    backbone = built(tiny_backbone)
    model = Adapted(backbone, 2, SMALL)
    for adapter in model.adapters:
        randomised(adapter)
    names = [(v.path, v.shape) for v in backbone.weights]
    before = np.asarray(backbone.features(task.x_train))
    model.merge()
    after = np.asarray(backbone.features(task.x_train))
    assert [(v.path, v.shape) for v in backbone.weights] == names  # the same bytes, the same operators
    assert all(block.adapt is None for block in backbone.blocks)
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert np.abs(after - np.asarray(built(tiny_backbone).features(task.x_train))).max() > 1e-2


@pytest.mark.slow
def test_the_first_task_is_learned(tiny_backbone, task):
    backbone, lines = built(dataclasses.replace(tiny_backbone, depth=1)), []
    [block] = backbone.blocks
    before = {name: np.array(getattr(block, name).kernel) for name in ("query", "expand", "contract")}
    adapt_backbone(backbone, task, SMALL, 0, lines.append)
    for name, kernel in before.items():
        moved = np.abs(np.array(getattr(block, name).kernel) - kernel).max()
        assert (moved == 0) if name == "contract" else (moved > 1e-3), name
    assert "warning: the first task has 2 classes and at least 16 images of each" in lines[0]
    assert float(lines[1].partition("loss ")[2]) < 0.2  # chance: 0.69


def test_settings():
    assert parse_adaptation("none") is None
    assert parse_adaptation("alore") == Adaptation()
    assert parse_adaptation("alore:experts=2,rank=8,rate=0.01") == Adaptation(experts=2, rank=8, rate=0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lora", "--adapt is 'lora'; give none, or alore"),
        ("alore:size=3", "'size=3' is none of experts=N"),
        ("alore:rank=x", "'rank=x' is none of"),
        ("alore:rank=0", "numbers must be positive"),
        ("alore:experts=3,rank=16", "experts divide rank"),
    ],
)
def test_bad_settings(text, message):
    with pytest.raises(UserError, match=message):
        parse_adaptation(text)


def test_a_width_that_does_not_fit(tiny_backbone, task):
    with pytest.raises(UserError, match="experts=5 does not divide the width 16"):
        adapt_backbone(built(tiny_backbone), task, Adaptation(experts=5, rank=10), 0, lambda line: None)
