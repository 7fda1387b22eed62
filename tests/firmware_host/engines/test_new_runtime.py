"""A runtime is one row of the table: offered, found, chosen and run without another list being touched."""

import importlib
import json
import sys
import types

import pytest

from firmware_host import Device, DeviceError
from firmware_host.bundle import read_bundle
from firmware_host.cli import main
from firmware_host.engines.find import find_runtime, open_head
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.shared.runtimes import RUNTIMES, RuntimeEntry, interpreters


@pytest.fixture
def dummy(monkeypatch):
    """A package with the interface of TensorFlow Lite's interpreter, and its row; returns the files that it opened."""
    opened, real = [], find_runtime("auto").interpreter

    class Interpreter:
        def __init__(self, **options):
            opened.append(options["model_path"])
            self.real = real(**options)

        def __getattr__(self, name):
            return getattr(self.real, name)

    package, module = types.ModuleType("dummy_lite"), types.ModuleType("dummy_lite.interpreter")
    module.Interpreter = Interpreter
    monkeypatch.setitem(sys.modules, "dummy_lite", package)
    monkeypatch.setitem(sys.modules, "dummy_lite.interpreter", module)
    row = RuntimeEntry("dummy_lite.interpreter", "device", automatic=True, heads=False)
    monkeypatch.setitem(RUNTIMES, "dummy", row)
    return opened


def test_a_runtime_is_opened_by_its_name(dummy, bundle, make):
    with Device.open(bundle, runtime="dummy") as device, Device.open(bundle, runtime="numpy") as other:
        assert device.runtime == "dummy"
        head = open_head(read_bundle(bundle), find_runtime("dummy"))
        assert isinstance(head, NumpyHead)  # the row says that it runs no heads
        images, labels = make.images(["red", "blue"], 2)
        assert device.learn(images, labels, epochs=1) == other.learn(images, labels, epochs=1)
        for image in images:
            assert device.predict(image)[:2] == other.predict(image)[:2]
    assert set(dummy) == {str(bundle / "backbone.tflite")}


def test_auto_takes_it_where_none_before_it_is_there(dummy, bundle, monkeypatch):
    *before, last = interpreters()
    assert last == "dummy"
    assert find_runtime("auto").name in before
    for name in before:
        monkeypatch.setitem(sys.modules, RUNTIMES[name].module, None)
    assert Device.open(bundle).runtime == "dummy"


def test_the_command_line_offers_it(dummy, bundle, capsys):
    assert main(["selftest", str(bundle), "--runtime", "dummy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runtime"] == "dummy"
    assert main(["info", str(bundle), "--runtime", "torch"]) == 2
    assert "dummy" in capsys.readouterr().err
    with pytest.raises(DeviceError, match=r"use one of auto, ai_edge_litert, .*, dummy"):
        find_runtime("torch")


def test_one_that_is_not_installed_says_how(dummy, monkeypatch):
    monkeypatch.setitem(sys.modules, "dummy_lite.interpreter", None)
    with pytest.raises(DeviceError, match=r'dummy does not import .*; pip install "keras-cbpnet\[device\]", or choose'):
        find_runtime("dummy")


def test_every_row_can_be_followed():
    for name, entry in RUNTIMES.items():
        engine = importlib.import_module(entry.engine)
        assert callable(engine.open_backbone), name
        assert callable(engine.open_head), name
        assert entry.module is not None or not entry.automatic, name
