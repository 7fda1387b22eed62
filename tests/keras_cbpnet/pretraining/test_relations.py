"""Attention relations, by hand, and what a pupil learns from them."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.pretrain import build_parser, check
from keras_cbpnet.pretraining.distillation import Pupil, tokens_after
from keras_cbpnet.pretraining.relations import HEADS, queries_keys_values, relation_loss, relations_of

pytestmark = pytest.mark.slow  # each builds or trains networks

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (4, 16, 16, 3)).astype(np.float32)


def backbone(width, seed=1, **changes):
    keras.utils.set_random_seed(seed)
    sizes = {"image_size": 16, "stem": ((8, 2),), "patch_size": 4, "depth": 2, "heads": 2, "mlp_width": 32}
    made = Backbone(BackboneConfig(width=width, **{**sizes, **changes}))
    made.build()
    return made


def by_hand(student, teacher):
    """The sum over queries, keys and values of the mean over images, heads and tokens, loop by loop."""
    total = 0.0
    for part in range(3):
        found = []
        for image in range(len(student)):
            for head in range(HEADS):
                rows = []
                for x in (student, teacher):
                    d = x.shape[-1] // HEADS
                    mine = x[image, part, :, head * d : (head + 1) * d].astype(np.float64)
                    powers = np.exp(mine @ mine.T / np.sqrt(d))
                    rows.append(powers / powers.sum(axis=1, keepdims=True))
                found += np.sum(rows[1] * np.log(rows[1] / rows[0]), axis=1).tolist()
        total += np.mean(found)
    return total


def test_the_divergence_is_that_of_the_equation_whatever_the_widths():
    student, teacher = RNG.normal(size=(2, 3, 5, 24)), RNG.normal(size=(2, 3, 5, 48))
    found = float(relation_loss(*(ops.convert_to_tensor(x, "float32") for x in (student, teacher))))
    assert found == pytest.approx(by_hand(student, teacher), rel=1e-5)
    assert found > 0.1
    assert float(relation_loss(student.astype("float32"), student.astype("float32"))) == pytest.approx(0, abs=1e-6)


def test_queries_have_the_scale_of_keys():
    body = backbone(24)
    given = []
    tokens_after(body, IMAGES, given=given)
    x, block = given[-1], body.blocks[-1]
    assert len(given) == 2
    block.query.set_weights(block.key.get_weights())
    found = np.asarray(queries_keys_values(block, x))
    assert found.shape == (4, 3, 5, 24)
    np.testing.assert_allclose(found[:, 0], found[:, 1] * (24 // 2) ** 0.5 * block.query.gain, rtol=1e-5, atol=1e-6)


def test_a_pupil_comes_nearer_to_its_teachers_relations():
    teacher, student = backbone(48, seed=2), backbone(24)
    pupil = Pupil(student, {}, {}, relations=(1.0, relations_of(teacher, student)))
    pupil.build()
    pupil.compile(keras.optimizers.Adam(3e-3), jit_compile=False)
    before = {id(v): np.array(v) for v in teacher.weights}
    assert not any(v is w for v in teacher.weights for w in pupil.weights)
    losses = [float(pupil.train_on_batch(IMAGES, {"none": np.zeros((4, 1))})) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    assert all(np.array_equal(before[id(v)], v) for v in teacher.weights)
    assert "relation" not in pupil(IMAGES)  # of no use but in training


def test_what_cannot_be_compared_is_refused():
    for changes, said in (({"patch_size": 2}, "the number of tokens is 17 and 5"), ({"image_size": 32}, "image size")):
        with pytest.raises(UserError, match=said):
            relations_of(backbone(24, **changes), backbone(24))
    with pytest.raises(UserError, match="needs widths that are multiples of 12, got 16"):
        relations_of(backbone(16), backbone(24))
    arguments = ["--data", "npz:a.npz", "--output", "b.npz", "--relation-weight"]
    for weight, said in (("1", "needs --teacher"), ("-1", "must be a number from 0 on"), ("nan", "from 0 on")):
        with pytest.raises(UserError, match=said):
            check(build_parser().parse_args([*arguments, weight]))
