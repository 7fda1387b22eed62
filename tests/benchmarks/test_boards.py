"""benchmarks.boards: one part measured again is merged, what is missing is said, the shipped table is the file's."""

import json
from pathlib import Path

import pytest

from benchmarks import boards
from benchmarks.common import emulation
from benchmarks.common.emulation import CPUS, MissingError
from keras_cbpnet import boards as picked
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError

SCORE = {"mean": 0.75, "deviation": 0.01}
MICRO = {"arena_bytes": 1 << 19, "flash_bytes": 1 << 20, "multiply_adds": {"predict": 9_000_000}}
BENCH = {"predict_ms": 1.5}
CANNED = {
    "accuracy": {
        "parameters": 1_984_000,
        "lda": {"float32": {"5": SCORE, "15": {"mean": 0.61444, "deviation": 0.02}}},
    },
    "cbpnet": {"5": {"mean": 0.5, "std": 0.02}, "15": {"mean": 0.6, "std": 0.02}},
    "files": {
        "bytes": {"backbone.tflite": 2_000_000, "head.tflite": 300_000},
        "multiply_adds": 8_000_000,
        "micro": MICRO,
        "ethos_u": {"ethos-u55": {"source": "Vela", "sram_kib": 30.0, "per_second": 500.0}},
    },
    "device": {"memory": {"ai_edge_litert": 61.25}, "instructions": dict.fromkeys(CPUS, 5_600_000)},
    "timing": {"ai_edge_litert": {"1": BENCH, "2": BENCH}, "tflite_runtime": {boards.MISSING: "not installed here"}},
}


@pytest.fixture
def canned(monkeypatch):
    parts = {name: lambda one, name=name: json.loads(json.dumps(CANNED[name])) for name in boards.PARTS}
    monkeypatch.setattr(boards, "PARTS", parts)
    return parts


def measure(tmp_path, *arguments):
    output, table = tmp_path / "boards.json", tmp_path / "table.json"
    command = ["--photos", "photos", "--json", str(output), "--table", str(table), "--work", str(tmp_path), *arguments]
    assert cli.run(boards.main, command) == 0
    return json.loads(output.read_text()), json.loads(table.read_text())


def test_one_part_is_measured_again_and_the_others_stay(canned, tmp_path, capsys):
    weights = tmp_path / "deit.npz"
    weights.write_bytes(b"weights")
    first, table = measure(tmp_path)
    assert list(first["backbones"]) == list(table) == ["vit_nano_32", "vit_micro_32", "vit_tiny_96"]
    assert table["vit_nano_32"] == {
        "accuracy": 0.6144,
        "bytes": 2_000_000,
        "memory": 61.2,
        "instructions": dict.fromkeys(CPUS, 5_600_000),
        "multiply_adds": 9_000_000,
        "arena": 0.5,
        "flash": 1.0,
        "ethos_u55_per_second": 500.0,
    }
    shown = capsys.readouterr().out
    for row in ("ai_edge_litert, threads: 2, ms", "TFLM arena, KiB", "instructions, emulated cortex-a72, M"):
        assert row in shown
    assert "| pi4: Raspberry Pi 4, 1 GB " in shown
    assert "- vit_nano_32: not installed here" in shown
    assert "ms: " + first["machine"]["processor"] in shown

    canned["timing"] = lambda one: {"ai_edge_litert": {"1": {**BENCH, "predict_ms": 9.0}, "2": BENCH}}
    canned["accuracy"] = None  # is not called
    second, _ = measure(tmp_path, "--only", "timing", "--preset", "vit_nano_32")
    changed, kept = second["backbones"]["vit_nano_32"], first["backbones"]["vit_nano_32"]
    assert changed["timing"]["ai_edge_litert"]["1"]["predict_ms"] == 9.0
    assert changed["made"]["timing"]["command"].endswith("--only timing --preset vit_nano_32")
    assert {key: changed[key] for key in ("accuracy", "files", "device")} == {
        key: kept[key] for key in ("accuracy", "files", "device")
    }
    assert second["backbones"]["vit_tiny_96"] == first["backbones"]["vit_tiny_96"]
    assert second["command"] == first["command"]

    third, table = measure(tmp_path, "--only", "files", "--preset", "deit_tiny_16_224", "--weights", str(weights))
    assert list(third["backbones"])[-1] == "deit_tiny_16_224"
    assert "deit_tiny_16_224" not in table  # not before all that it is picked by was measured


def test_what_is_missing_is_a_dash_with_its_reason(canned, tmp_path, capsys):
    missing = {boards.MISSING: "qemu-aarch64 is not installed"}
    canned["device"] = lambda one: {**CANNED["device"], "instructions": missing}
    files = {**CANNED["files"], "micro": {boards.MISSING: "TFLM lacks GELU"}}
    canned["files"] = lambda one: {**files, "ethos_u": {"ethos-u55": {boards.MISSING: "Vela is not installed"}}}
    _, table = measure(tmp_path, "--preset", "vit_micro_32")
    assert table["vit_micro_32"]["arena"] is table["vit_micro_32"]["ethos_u55_per_second"] is None
    assert table["vit_micro_32"]["instructions"] == dict.fromkeys(CPUS)
    lines = capsys.readouterr().out.replace(" ", "").splitlines()
    assert "|TFLMarena,KiB|-|" in lines
    assert "|instructions,emulatedcortex-a53,M|-|" in lines
    for reason in ("qemu-aarch64isnotinstalled", "TFLMlacksGELU", "Velaisnotinstalled"):
        assert f"-vit_micro_32:{reason}" in lines
    assert any(line.startswith("|pi4:") and line.endswith("|wasnotmeasured|") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "speed"], "no part 'speed'; known are accuracy, files, device, cbpnet, timing"),
        (["--preset", "vit_giant"], "no preset 'vit_giant'"),
        (["--preset", "deit_tiny_16_224"], "no weights of deit_tiny_16_224; give --weights FILE"),
        (["--weights", "nowhere.npz"], "no weights of deit_tiny_16_224; give --weights FILE"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, refused):
    assert message in refused(boards.main, ["--photos", str(tmp_path), *arguments])


def test_accuracy_wants_the_results_of_the_photos_benchmark(tmp_path, monkeypatch):
    monkeypatch.setattr(boards, "RESULTS", tmp_path)
    with pytest.raises(UserError, match=r"no result of benchmarks\.photos for vit_nano_32; run python -m"):
        boards.accuracy(boards.Subject("vit_nano_32", None, tmp_path, tmp_path))


def test_the_shipped_table_is_that_of_the_result_file():
    text = (boards.RESULTS / "boards.json").read_text(encoding="utf-8")
    record = json.loads(text)
    assert json.loads(picked.FILE.read_text(encoding="utf-8")) == boards.table(record)
    for one in record["backbones"].values():
        for made in one["made"].values():
            assert not [word for word in made["command"].split() if word.startswith("/")]
    assert str(Path.home()) not in text


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """programs(lines of a shell for the emulator): the only programs on the PATH, beside those of a shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(emulation, "_system", lambda: (tmp_path, tmp_path / "python"))

    def write(emulator):
        for name, text in ((emulation.EMULATOR, emulator), (emulation.COMPILER, "true")):
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)

    return write


def test_instructions_are_those_between_two_marks(programs, tmp_path):
    programs("echo 'a warning' >&2; echo 'instructions 1000' >&2; echo 'instructions 3500' >&2")
    assert emulation.count_instructions(tmp_path, "cortex-a72") == 2500


def test_an_emulator_without_plugins_is_a_reason(programs, tmp_path, monkeypatch):
    programs("echo 'qemu: unknown option plugin' >&2; exit 1")
    with pytest.raises(MissingError, match="qemu-aarch64 with a plugin failed: qemu: unknown option plugin"):
        emulation.count_instructions(tmp_path, "cortex-a72")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match=r"qemu-aarch64 is not installed \(apt install qemu-user\)"):
        emulation.count_instructions(tmp_path, "cortex-a72")
