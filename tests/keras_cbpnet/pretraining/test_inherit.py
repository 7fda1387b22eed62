"""A student that begins as its teacher: the same function at equal sizes, the strongest units at smaller ones."""

import dataclasses

import numpy as np
import pytest

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.pretraining.distillation import Pupil, encoded
from keras_cbpnet.pretraining.inherit import inherit

TEACHER = BackboneConfig(
    image_size=32, stem=(), patch_size=8, width=16, depth=2, heads=2, mlp_width=32, activation="quick_gelu"
)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)


def built(config, randomised, seed=0):
    backbone = Backbone(config)
    backbone.build()
    randomised(backbone, seed)
    return backbone


def test_at_equal_sizes_student_and_teacher_are_one_function(images, randomised):
    teacher = built(TEACHER, randomised)
    student = built(dataclasses.replace(TEACHER, whitening=True), randomised, 1)
    inherit(student, teacher, images)
    np.testing.assert_allclose(student.features(images), teacher.features(images), atol=1e-5)


def test_a_narrow_student_keeps_the_units_that_give_most(images, randomised):
    teacher = built(TEACHER, randomised)
    kernel = np.array(teacher.blocks[0].contract.kernel)
    kernel[::2] *= 1e-3  # every other hidden unit of the first block gives next to nothing
    teacher.blocks[0].contract.kernel.assign(kernel)
    student = built(dataclasses.replace(TEACHER, mlp_width=16), randomised, 1)
    inherit(student, teacher, images)
    np.testing.assert_array_equal(student.blocks[0].contract.kernel, kernel[1::2])
    np.testing.assert_array_equal(student.blocks[0].expand.kernel, np.asarray(teacher.blocks[0].expand.kernel)[:, 1::2])
    middle = teacher.blocks[0].attention(teacher.embed(images))
    hidden = np.asarray(teacher.blocks[0].hidden(middle))[..., ::2]
    shift = hidden.mean(axis=(0, 1)) @ kernel[::2] * teacher.blocks[0].contract.input_gain
    np.testing.assert_allclose(
        student.blocks[0].contract.bias, np.asarray(teacher.blocks[0].contract.bias) + shift, atol=1e-6
    )


def test_positions_are_interpolated_for_another_image_size(images, randomised):
    teacher = built(TEACHER, randomised)
    student = built(dataclasses.replace(TEACHER, image_size=16), randomised, 1)
    inherit(student, teacher, images)
    np.testing.assert_array_equal(student.embedding.position[:, 0], teacher.embedding.position[:, 0])
    assert student.embedding.position.shape == (1, 5, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3}, "--inherit needs a teacher with the student's depth, 3, got 2"),
        ({"stem": ((8, 2),)}, "student's stem"),
        ({"mlp_width": 64}, "an mlp_width of at least 64, got 32"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message, images, randomised):
    student = Backbone(dataclasses.replace(TEACHER, **change))
    with pytest.raises(UserError, match=message):
        inherit(student, built(TEACHER, randomised), images)


def test_outputs_begin_at_their_regression(images, randomised):
    backbone = built(TEACHER, randomised)
    pixels = images.repeat(4, axis=0).astype(np.float32) + np.random.default_rng(1).normal(0, 20, (48, 32, 32, 3))
    tokens = np.asarray(encoded(backbone, pixels))
    rng = np.random.default_rng(2)
    truth = {"feature": rng.normal(size=(16, 3)), "patches": rng.normal(size=(16, 3))}
    targets = {"feature": tokens[:, 0] @ truth["feature"] + 1, "patches": tokens[:, 1:] @ truth["patches"] - 2}
    pupil = Pupil(backbone, {"feature": 3, "patches": 3}, {"feature": 1.0, "patches": 1.0})
    pupil.build()
    pupil.fit_outputs(pixels, targets)
    found = pupil(pixels)
    for name, wanted in targets.items():
        assert np.square(np.asarray(found[name]) - wanted).mean() < 0.02 * wanted.var()


def test_the_tokens_of_a_teacher_with_registers_are_class_and_patches(images, randomised):
    teacher = Backbone(dataclasses.replace(TEACHER, registers=3))
    teacher.build()
    randomised(teacher)
    x = teacher.embed(images)
    assert x.shape[1] == 1 + 3 + 16
    for block in teacher.blocks:
        x = block(x)
    whole = np.asarray(teacher.norm(x))
    found = np.asarray(encoded(teacher, images))
    np.testing.assert_allclose(found, np.concatenate([whole[:, :1], whole[:, 4:]], axis=1), atol=1e-5)
