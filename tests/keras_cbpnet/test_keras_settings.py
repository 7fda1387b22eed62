"""Settings of the user's other projects, in keras.json or the environment, do not reach this one."""

import os
import subprocess
import sys
import types

import pytest
from helpers.paths import ROOT

from keras_cbpnet import keras_settings
from keras_cbpnet.errors import UserError
from keras_cbpnet.keras_settings import use_keras


class FakeConfig:
    """What `keras.config` has, with the settings of another project."""

    def __init__(self, backend):
        self.values = {"floatx": "float16", "image_data_format": "channels_first", "max_epochs": 1}
        self.backend = lambda: backend

    def __getattr__(self, name):
        return lambda value: self.values.update({name.removeprefix("set_"): value})


@pytest.fixture
def keras_on(monkeypatch):
    """keras_on(backend) or keras_on(error): what is imported as Keras; returns its configuration."""

    def use(backend):
        config = FakeConfig(backend)

        def import_module(name):
            if isinstance(backend, Exception):
                raise backend
            return types.SimpleNamespace(config=config)

        monkeypatch.setattr(keras_settings.importlib, "import_module", import_module)
        return config

    monkeypatch.setenv("KERAS_BACKEND", "")
    return use


def test_what_the_layers_take_for_granted_is_set(keras_on):
    config = keras_on("tensorflow")
    use_keras("tensorflow")
    assert config.values == {
        "floatx": "float32",
        "dtype_policy": "float32",
        "epsilon": 1e-7,
        "image_data_format": "channels_last",
        "max_epochs": None,
        "max_steps_per_epoch": None,
    }


def test_a_command_that_needs_tensorflow_gets_it_and_says_so(keras_on, monkeypatch, caplog):
    keras_on("tensorflow")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    use_keras("tensorflow")
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert [record.getMessage() for record in caplog.records] == [
        "KERAS_BACKEND=jax is not used: this command needs tensorflow"
    ]


def test_a_command_of_any_backend_keeps_that_of_the_user(keras_on, monkeypatch, caplog):
    keras_on("jax")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    use_keras()
    assert os.environ["KERAS_BACKEND"] == "jax"
    assert not caplog.records


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("jax", "needs Keras on tensorflow, which runs on jax; start again with KERAS_BACKEND=tensorflow"),
        (ModuleNotFoundError("No module", name="keras"), "keras is not installed; pip install 'keras-cbpnet.train.'"),
        (
            ModuleNotFoundError("No module 'torch'", name="torch"),
            "No module 'torch'.; correct .*keras.json",
        ),
        (
            ValueError("Invalid `floatx`"),
            "Invalid `floatx`.; correct .*keras.json or KERAS_BACKEND, which is tensor",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(backend, message, keras_on):
    keras_on(backend)
    with pytest.raises(UserError, match=message):
        use_keras("tensorflow")


@pytest.mark.slow
def test_the_layers_are_float32_and_channels_last_in_a_process_of_other_settings(tmp_path):
    (tmp_path / "keras.json").write_text('{"floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1}')
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import keras; print(keras.config.floatx()); "
        "import keras_cbpnet.layers as layers; from keras import config; "
        "print(config.floatx(), config.image_data_format(), config.epsilon(), keras.layers.Dense(1).compute_dtype)"
    )
    settings = {**os.environ, "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["float16", "float32 channels_last 1e-07 float32"], done.stderr
