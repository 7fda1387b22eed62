"""`tflite/convert.py --report`: where quantization hurts, what training for it saved, which operator runs where."""

import json
import sys

import numpy as np
import pytest

from firmware_host.bundle import read_bundle
from keras_cbpnet.errors import UserError

pytestmark = pytest.mark.slow

EDGE_TPU = """import pathlib, sys
folder, model = pathlib.Path(sys.argv[sys.argv.index("--out_dir") + 1]), pathlib.Path(sys.argv[-1])
(folder / "backbone_edgetpu.tflite").write_bytes(b"compiled:" + model.read_bytes()[:100])
print("Edge TPU Compiler version 16.0")
print("CONV_2D                        5          Mapped to Edge TPU")
print("BATCH_MATMUL                   41         Operation not supported")
"""


@pytest.fixture(scope="module")
def model(road):
    import keras

    return keras.models.load_model(road.run / "model.keras")


@pytest.fixture(scope="module")
def images(road):
    with np.load(road.npz) as file:
        return file["x_test"]


@pytest.fixture(scope="module")
def reported(road, int8, convert, tmp_path_factory):
    """Bundle and printed lines of a conversion with --report, whose two files come from the bundle at hand."""
    import contextlib
    import io

    from keras_cbpnet.export import prompt_selection, steps

    folder, tools = (tmp_path_factory.mktemp(name) for name in ("reported", "tools"))
    (tools / "compiler.py").write_text(EDGE_TPU)
    run = f'exec "{sys.executable}" "{tools}/compiler.py" "$@"'  # a first line takes no path with a space
    (tools / "edgetpu_compiler").write_text(f"#!/bin/sh\n{run}\n")
    (tools / "edgetpu_compiler").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setenv("PATH", str(tools))
        for part in ("backbone", "head"):
            content = (int8 / f"{part}.tflite").read_bytes()
            patch.setattr(steps, f"convert_{part}", lambda *_, content=content: content)
        patch.setattr(prompt_selection, "convert_backbone", lambda *_: (int8 / "backbone.tflite").read_bytes())
        arguments = [str(road.run), "--output", str(folder / "bundle"), "--recipe", "int8", "--report"]
        assert convert.main(arguments) == 0
    return folder / "bundle", printed.getvalue()


def test_the_report_is_printed_and_kept(reported):
    bundle, printed = reported
    report = json.loads((bundle / "report.json").read_text())
    assert set(report["targets"]) == {"edge_tpu", "tflm", "ethos-u55", "ethos-u65", "ethos-u85"}
    # The backbone of the stand-in for the conversion without fake quantizers is the shipped one.
    assert report["accuracy_without_qat"] == report["accuracy"]["ai_edge_litert"]
    assert "  60 FULLY_CONNECTED int8, weights int8\n" in printed
    assert (
        "edge_tpu: 5 of 46 operators accelerated (10.9%), on the CPU 41 BATCH_MATMUL [edgetpu_compiler 16.0]" in printed
    )
    rows = report["prompt_selection"]
    assert [row["name"] for row in rows] == [
        "two passes",
        "query depth 1",
        "query depth 2",
        "query depth 3",
        "fixed",
    ]
    assert [row["name"] for row in rows if row["shipped"]] == ["two passes"]
    assert {row["multiply_adds"] for row in rows} == {report["multiply_adds"]}
    assert rows[0]["accuracy"] > 0.8
    cost = f"{report['multiply_adds'] / 1e6:.1f} M multiply-adds (100%), ai_edge_litert "
    assert f"  two passes: accuracy {rows[0]['accuracy']:.3f}, {cost}" in printed
    worst = report["signal_to_noise"][0]
    assert f"  {worst['place']}: {worst['ratio_db']} ({worst['own_db']})\n" in printed
    lost = report["accuracy"]["float32"] - report["accuracy"]["ai_edge_litert"]
    shipped = f"accuracy lost under ai_edge_litert: {lost:.3f} as int8, shipped, "
    assert f"{shipped}{lost:.3f} as int8 with ranges from calibration alone\n" in printed


def test_the_compiled_file_is_part_of_the_bundle(reported, int8):
    opened = read_bundle(reported[0])
    assert "backbone_edgetpu.tflite" in opened.files
    content = opened.file("backbone_edgetpu.tflite").read_bytes()
    assert content == b"compiled:" + (int8 / "backbone.tflite").read_bytes()[:100]
    opened.file("backbone_edgetpu.tflite").write_bytes(content + b"!")
    with pytest.raises(Exception, match=r"backbone_edgetpu.tflite was changed"):
        read_bundle(reported[0])
    opened.file("backbone_edgetpu.tflite").write_bytes(content)


def test_without_a_report_there_is_no_analysis(int8):
    report = json.loads((int8 / "report.json").read_text())
    assert not {"signal_to_noise", "accuracy_without_qat", "prompt_selection"} & set(report)
    assert report["targets"]["edge_tpu"]["first_on_cpu"] == "CONCATENATION"  # of the class token
    assert report["targets"]["tflm"]["missing"] == []


def test_noise_is_found_where_it_is_made(model, images):
    from keras_cbpnet.export.analysis import signal_to_noise, worst_places
    from keras_cbpnet.layers.fake_quant import get_mode

    before = {row["place"]: row for row in signal_to_noise(model, images, "int8")}
    assert len(before) > 100
    assert before["feature"]["ratio_db"] < before["feature"]["own_db"]
    # A range sixteen times too wide for the keys of one block: four of eight bits are lost there.
    place = "block_2/at_key"
    layer = model.backbone.blocks[2].at["key"]
    ranges = {name: variable.numpy() for name, variable in layer.range.items()}
    try:
        for name, variable in layer.range.items():
            variable.assign(16 * ranges[name])
        rows = signal_to_noise(model, images, "int8")
        message = worst_places(model, images, "int8", count=1)
    finally:
        for name, variable in layer.range.items():
            variable.assign(ranges[name])
    after = {row["place"]: row for row in rows}
    assert after[place]["own_db"] == pytest.approx(before[place]["own_db"] - 24.1, abs=2)  # 20 log10(16)
    assert after["block_1/at_key"] == before["block_1/at_key"]
    assert after["block_2/at_scores"]["ratio_db"] < before["block_2/at_scores"]["ratio_db"] - 6  # the keys' product
    assert rows[0]["place"] == place
    assert message == f"; signal to noise, worst first: {place} {rows[0]['ratio_db']} dB (alone {rows[0]['own_db']})"
    assert get_mode(model) == "on"
    assert layer.watch is None


def test_a_refused_conversion_names_the_noisiest_places(road, int8, convert, tmp_path, monkeypatch):
    from keras_cbpnet.export import steps, verify

    for part in ("backbone", "head"):
        content = (int8 / f"{part}.tflite").read_bytes()
        monkeypatch.setattr(steps, f"convert_{part}", lambda *_, content=content: content)
    monkeypatch.setattr(verify, "check_head", lambda *_: 0.0)
    cosines = iter([0.5, 0.97])  # to the model, and of the model to its float32 features
    monkeypatch.setattr(verify, "mean_cosine", lambda *_: next(cosines))
    with pytest.raises(
        UserError,
        match=r"of 0.5000 to .*, needed 0.9700; signal to noise, worst first: (\S+ \S+ dB \(alone [^)]+\)(, )?){5}; "
        "use --recipe mixed or hybrid or float32$",
    ):
        convert.main([str(road.run), "--output", str(tmp_path / "bundle"), "--recipe", "int8"])
    assert list(tmp_path.iterdir()) == []
