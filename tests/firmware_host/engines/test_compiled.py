"""LiteRT's `CompiledModel` behind the interface of an interpreter; that it computes the same is in tests/pipeline."""

import importlib.util

import pytest

from firmware_host.bundle import DeviceError, read_bundle
from firmware_host.engines.find import find_runtime, open_backbone

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("ai_edge_litert"), reason="ai_edge_litert is not installed"
)


def test_features_are_those_of_the_interpreter(make, bundle):
    opened, image = read_bundle(bundle), make.images(["red"], 1)[0][0]
    there, here = (open_backbone(opened, find_runtime(name))(image) for name in ("ai_edge_litert", "litert_compiled"))
    assert (here.raw == there.raw).all()
    assert here.raw.dtype == there.raw.dtype
    assert (here.value == there.value).all()
    assert here.prompt == there.prompt


def test_a_litert_without_options_is_told(bundle, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ai_edge_litert.options" else find(name)
    )
    with pytest.raises(DeviceError, match=r"backbone.tflite does not open \(this ai-edge-litert compiles models with"):
        open_backbone(read_bundle(bundle), find_runtime("litert_compiled"))
