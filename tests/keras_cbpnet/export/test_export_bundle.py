"""What a conversion refuses, and puts right, before it reads the model."""

import pytest

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.export import bundle, check
from keras_cbpnet.export.order import Order


@pytest.fixture
def run(tmp_path):
    """A run folder that seems finished."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.json").write_text('{"classes": ["a"]}')
    return run


def refused(run, output, **changes):
    with pytest.raises(UserError) as error:
        bundle.export_bundle(run, TrainConfig(), output, Order(("float32",)), **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_an_interpreter_the_message_names_the_command(run, monkeypatch):
    monkeypatch.setattr(check, "installed_interpreters", lambda: ())
    message = refused(run, run.with_name("bundle"))
    assert message == (
        "no interpreter of ai_edge_litert, tflite_runtime is installed to verify the bundle with; "
        "pip install 'keras-cbpnet[device]'"
    )


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_old_bundle_comes_back_after_a_kill(run, overwrite):
    output = run.with_name("bundle")
    old, part = run.with_name(".bundle.old"), run.with_name(".bundle.part")
    for folder, text in ((old, "old"), (part, "new")):
        folder.mkdir()
        (folder / "manifest.json").write_text(text)
    message = refused(run, output, overwrite=overwrite)
    assert ("statistics.npz is missing" if overwrite else "bundle exists; choose another --output") in message
    assert (output / "manifest.json").read_text() == "old"
    assert sorted(path.name for path in run.parent.iterdir()) == ["bundle", "run"]


def test_a_bank_alone_is_for_every_device():
    for target in ("linux", "micro"):
        assert check.refusal(TrainConfig(method="bank"), target) is None
