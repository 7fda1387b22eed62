"""convert --target micro --end: the end sends features, the edge learns from them, and the end takes that over."""

import contextlib
import importlib.util
import io
import json
import shutil

import numpy as np
import pytest
from helpers import end_board

from firmware_host import Device
from firmware_host.bundle import read_bundle
from firmware_host.images.features import write_features
from keras_cbpnet.errors import UserError

KIB = 1024
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro is missing"),
]


@pytest.fixture(scope="module")
def end(once, road, convert):
    def make(folder):
        with contextlib.redirect_stdout(io.StringIO()):
            assert convert.main([str(road.run), "--output", str(folder / "bundle"), "--target", "micro", "--end"]) == 0

    return once("end", make) / "bundle"


def test_the_arena_is_that_of_the_backbone_alone(end):
    report = json.loads((end / "report.json").read_text())["micro"]
    assert list(report["arena"]) == ["backbone.tflite"]
    assert report["arena_bytes"] <= 110 * KIB
    assert report["feature_bytes"] == read_bundle(end).feature_size == 192
    assert not (end / "head_step.tflite").exists()
    text = (end / "micro" / "cbpnet.h").read_text()
    assert "Learn" not in text


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_end_says_what_the_edge_has_learned_from_its_features(end, road, device, tmp_path):
    from tflite_micro.python.tflite_micro import runtime

    from firmware_host.engines.tflm import BackboneRunner

    bundle, state = read_bundle(end), ("--state", tmp_path / "state")
    with np.load(road.device_npz) as file:
        parts = {part: (file[f"x_{part}"], file["class_names"][file[f"y_{part}"]]) for part in ("train", "test")}
    backbone = BackboneRunner(bundle, runtime.Interpreter, "backbone.tflite")  # TFLM, as on the board
    rows = {part: np.concatenate([backbone(x[None])["feature"] for x in images]) for part, (images, _) in parts.items()}
    assert rows["train"].dtype == np.int8
    write_features(tmp_path / "features.npz", bundle, rows["train"], list(map(str, parts["train"][1])))
    (record,) = device("learn", end, "--features", tmp_path / "features.npz", *state)[1]
    assert record["images"] == len(rows["train"])
    device("state", end, "export", tmp_path / "state.bin", "--format", "micro", *state)
    content = (tmp_path / "state.bin").read_bytes()
    (tmp_path / "board").mkdir()
    run = end_board.build(end / "micro", tmp_path / "board")
    label, logits, given = run(content, rows["test"])
    assert given == content
    with Device.open(end, tmp_path / "state", runtime="numpy") as edge:
        known, said = edge.classes, [edge.look(row).label for row in rows["test"]]
        feature = np.stack([edge._working.dequantize(row) for row in rows["test"]])
        expected = edge._working.head.infer(feature)[0]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert [known[slot] for slot in label] == said
    assert np.mean([a == b for a, b in zip(said, parts["test"][1])]) > 0.8
    device("state", end, "import", tmp_path / "state.bin", "--state", tmp_path / "other")
    device("state", end, "export", tmp_path / "again.bin", "--format", "micro", "--state", tmp_path / "other")
    assert (tmp_path / "again.bin").read_bytes() == content


def test_what_an_end_cannot_be_is_refused(convert, road, tmp_path):
    for arguments, said in (
        (["--end"], "--target micro"),
        (["--target", "micro", "--end", "--package", "arduino"], "micro/"),
    ):
        with pytest.raises(UserError, match=said):
            convert.main([str(road.run), "--output", str(tmp_path / "bundle"), *arguments])
    assert not (tmp_path / "bundle").exists()
