"""A kernel as a sum of branches: that of the paper's formula, and merged the same function without them."""

import math

import keras
import numpy as np
import pytest

from keras_cbpnet.layers.orepa import EXPANSION, FACTORS, OREPA
from keras_cbpnet.layers.projection import Convolution
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.weights import merge, named_variables

# Dimensions: k kernel, i input channels, o output channels.
K, I, O = 3, 4, 6  # noqa: E741


@pytest.fixture
def branches(randomised):
    keras.utils.set_random_seed(0)
    layer = OREPA()
    layer.build((K, K, I, O))
    randomised(layer)
    return layer


def test_the_sum_is_that_of_the_paper(branches):
    kernel = np.random.default_rng(1).normal(size=(K, K, I, O)).astype(np.float32)
    found = np.asarray(branches(kernel))
    parts = {variable.name.removeprefix("branch_"): np.asarray(variable) for variable in branches.weights}
    for h, w, i, o in [(0, 0, 0, 0), (1, 1, 2, 2), (2, 0, 3, 4), (1, 2, 1, 5)]:
        angle = (h + 0.5) * (o + 1) if o < O / 2 else (w + 0.5) * (o + 1 - O / 2)
        mixed = sum((parts["mix"][i, t] + (i == t)) * parts["expand"][h, w, t, o] for t in range(I))
        deep = range(i * EXPANSION, (i + 1) * EXPANSION)
        wanted = [
            kernel[h, w, i, o],
            parts["average"][0, 0, i, o] / K**2,
            parts["wave"][0, 0, i, o] * math.cos(math.pi * angle / K),
            mixed,
            parts["point"][0, 0, i, o] * (h == w == 1),
            sum(parts["deep"][h, w, 0, e] * parts["wide"][0, 0, e, o] for e in deep),
        ]
        assert found[h, w, i, o] == pytest.approx(float(np.dot(parts["factors"][:, o], wanted)), rel=1e-5)


def test_it_starts_as_large_as_a_kernel_of_its_own():
    keras.utils.set_random_seed(1)
    layer = Convolution(48, 3, 1, branched=True)
    layer.build((None, 8, 8, 32))
    assert np.std(np.asarray(layer.effective_kernel())) == pytest.approx(math.sqrt(2 / (9 * 32)), rel=1e-4)
    factors = np.asarray(layer.branches.factors)[:, 0]
    np.testing.assert_allclose(factors / factors[4], FACTORS, rtol=1e-6)


def test_merged_it_is_the_same_function(tiny_backbone, randomised, coloured_images):
    branched, plain = Backbone(tiny_backbone, branched=True), Backbone(tiny_backbone)
    for model in (branched, plain):
        model.build()
    randomised(branched)
    merge(branched, plain)
    images = coloured_images(6, [0, 1])[0].astype(np.float32)
    np.testing.assert_allclose(plain.features(images), branched.features(images), rtol=0, atol=1e-5)
    kernel = "embedding/convolution_0/kernel"
    assert np.abs(np.asarray(named_variables(plain)[kernel]) - named_variables(branched)[kernel]).max() > 1e-3
    assert not [name for name in named_variables(plain) if "branch" in name]
    again = Backbone.from_config(branched.get_config())
    again.build()
    assert set(named_variables(again)) == set(named_variables(branched))
