"""What the tests of the host side share; TensorFlow is imported by the fixtures that need it, never by this file."""

import inspect
import json
import os
import random

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
FIRST = "test_bundle.py"  # of tests/pipeline: makes the run and the bundle that the last files share


def pytest_collection_modifyitems(items):
    """Put `FIRST` before all others, so that no second process waits for what it makes."""
    items.sort(key=lambda item: (item.path.parent.name, item.path.name) != ("pipeline", FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Seed what Keras draws the seeds of its initializers from: before the fixtures, whatever ran earlier."""
    random.seed(27)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """No test writes into the user's cache."""
    os.environ["KERAS_CBPNET_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def randomise(layer, seed=0):
    """Give every trained float variable a value that no initializer gives, biases and offsets included."""
    rng = np.random.default_rng(seed)
    for variable in layer.weights:
        if variable.trainable and variable.dtype.startswith("float"):
            deviation = 0.5 / np.sqrt(max(np.prod(variable.shape[:-1]), 1))
            variable.assign(rng.normal(np.mean(variable.numpy()), max(deviation, 0.05), variable.shape))


def constructor_keys(layer_class):
    parameters = inspect.signature(layer_class.__init__).parameters.values()
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self"}


def check_layer(layer, inputs, output_shape, folder):
    """Assert what every layer owes (config, saving, shape, batch independence); return its output for `inputs`."""
    import keras

    config = layer.get_config()
    assert set(config) - {"name", "trainable", "dtype"} == constructor_keys(type(layer))
    assert type(layer).from_config(config).get_config() == config
    assert (
        config
        == keras.saving.deserialize_keras_object(
            json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
        ).get_config()
    )

    model = keras.Sequential([keras.Input(inputs.shape[1:], dtype=str(inputs.dtype)), layer])
    randomise(layer)
    outputs = model(inputs).numpy()
    assert outputs.shape == output_shape
    assert model.output_shape == (None, *output_shape[1:])
    assert np.ptp(outputs) > 0

    model.save(folder / "model.keras")
    reloaded = keras.models.load_model(folder / "model.keras")
    np.testing.assert_array_equal(reloaded(inputs).numpy(), outputs)
    assert reloaded.layers[-1].get_config() == config

    for i in range(len(inputs)):
        np.testing.assert_allclose(layer(inputs[i : i + 1]).numpy()[0], outputs[i], rtol=3e-7, atol=1e-5)
    return outputs


@pytest.fixture
def checked(tmp_path):
    """check_layer(layer, inputs, output shape) in a folder of its own."""
    return lambda layer, inputs, output_shape: check_layer(layer, inputs, output_shape, tmp_path)


@pytest.fixture(scope="session")
def randomised():
    return randomise


@pytest.fixture(scope="session")
def tiny_backbone():
    """A ViT of 5 tokens, width 16, depth 5: the smallest with DualPrompt's five prompted blocks."""
    from keras_cbpnet.config import BackboneConfig

    return BackboneConfig(image_size=16, stem=((8, 2),), patch_size=4, width=16, depth=5, heads=2, mlp_width=32)


@pytest.fixture(scope="session")
def coloured_images():
    """coloured_images(n, classes, seed): uint8 [n, 16, 16, 3] of noisy stripes, a colour and a direction a class."""

    def make(n, classes, seed=0):
        rng = np.random.default_rng(seed)
        label = np.resize(np.asarray(classes, np.int32), n)
        colours = np.random.default_rng(99).uniform(60, 200, (16, 3))
        wave = np.sin(np.arange(16))[:, None, None] * 40
        images = [colours[c] + (wave if c % 2 else np.swapaxes(wave, 0, 1)) for c in label]
        noisy = np.stack([np.broadcast_to(image, (16, 16, 3)) for image in images]) + rng.normal(0, 15, (n, 16, 16, 3))
        return np.clip(noisy, 0, 255).astype(np.uint8), label

    return make
