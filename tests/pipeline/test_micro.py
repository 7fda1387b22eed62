"""convert --target micro: the files, the C++ project, and TFLM as a runtime."""

import contextlib
import importlib.util
import io
import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import build_tflm
from helpers.paths import TESTS
from PIL import Image

from firmware_host.bundle import read_bundle
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.micro.bank import DIRECTIONS, memory, state_bytes
from keras_cbpnet.export.tflite_file.ops import op_table

TFLM_ROOT = os.environ.get("TFLM_ROOT")  # a TFLM source tree with its downloads; else our own interfaces of it
WARNINGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-DTF_LITE_STATIC_MEMORY")
SKETCH = (f"-I{TESTS / 'micro' / 'arduino'}", "-include", "Arduino.h")
INTERFACES = TESTS / "micro" / "tflm_interfaces"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro is missing"),
]


@pytest.fixture(scope="module")
def micro(once, road, convert):
    def make(folder):
        arguments = ["--output", str(folder / "bundle"), "--target", "micro", "--optimizer", "sgd"]
        arguments += ["--package", "arduino"]
        with contextlib.redirect_stdout(io.StringIO()):
            assert convert.main([str(road.run), *arguments]) == 0

    return once("micro", make) / "bundle"


@pytest.fixture(scope="module")
def report(micro):
    return json.loads((micro / "report.json").read_text())["micro"]


def array(text, name):
    body = re.search(rf"{name}\[\] = \{{(.*?)\}};", text, re.DOTALL).group(1)
    return bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", body))


def test_the_reader_accepts_the_bundle_and_holds_the_new_files_to_their_checksums(micro):
    bundle = read_bundle(micro)
    assert bundle.head["batch"] == 16
    assert {"head_step.tflite", "head_step_b8.tflite", "head_step_b16.tflite"} <= set(bundle.files)
    assert bundle.head["optimizer"] == "sgd"
    bank = bundle.bank()
    assert bundle.head["bank"] == {"slots": bundle.slots, "directions": DIRECTIONS, "block_weight": 0.05}
    known = np.arange(bundle.slots) < len(bundle.classes)
    np.testing.assert_array_equal(bank["binding"], np.where(known, np.arange(1, bundle.slots + 1), 0))
    assert (bank["count"][known] > 10).all()
    assert "m_w1" not in bundle.state_shapes


def test_the_arrays_are_the_files_byte_by_byte(micro):
    text = (micro / "micro" / "cbpnet_models.cc").read_text()
    assert array(text, "kBackboneModel") == (micro / "backbone.tflite").read_bytes()
    assert array(text, "kHeadStepModel") == (micro / "head_step.tflite").read_bytes()
    assert array(text, "kBankStart") == state_bytes(read_bundle(micro).bank())


def test_the_report_says_what_a_board_needs(micro, report):
    head = read_bundle(micro)
    files = [(micro / name).stat().st_size for name in ("backbone.tflite", "head_step.tflite")]
    bank = len(state_bytes(read_bundle(micro).bank()))
    assert report["flash_bytes"] == sum(files) + bank
    assert bank < report["bank_bytes"] == memory(head.slots, head.feature_size)
    arenas = [report["arena"][name] for name in ("backbone.tflite", "head_step.tflite")]
    kept = [arena["bytes"] - arena["tensors"] for arena in arenas]
    assert report["arena_bytes"] == sum(kept) + max(arena["tensors"] for arena in arenas)
    assert min(kept) > 0
    floats = sum(int.__mul__(*(*shape, 1, 1)[:2]) for name, shape in head.state_shapes.items() if name != "class_mask")
    assert report["state_bytes"] == 16 + 4 * floats + bank
    counts = report["multiply_adds"]
    assert counts["backbone"] > 10 * counts["head_step"] > 0
    assert counts["predict"] == counts["learn"] == counts["backbone"] + counts["head_step"]  # one graph does both
    assert set(report["ethos_u"]) == {"ethos-u55", "ethos-u65", "ethos-u85"}  # or why Vela told nothing
    assert all(row["source"] for row in report["ethos_u"].values())


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("source", ["cbpnet.cc", "cbpnet_models.cc", "main.cc"])
def test_the_project_compiles_without_a_warning(micro, tmp_path, source):
    includes = build_tflm.include_flags(Path(TFLM_ROOT)) if TFLM_ROOT else [f"-I{INTERFACES}"]
    build_tflm.run("g++", *WARNINGS, *includes, "-c", micro / "micro" / source, "-o", tmp_path / "out.o")


@pytest.mark.skipif(not TFLM_ROOT, reason="TFLM_ROOT does not name the sources of TFLM")
def test_the_example_runs_in_tflm(micro, device, tmp_path):
    """The example's images are a pattern; a class it is taught is then the answer, and gone with the saved state."""
    files = [(micro / name).read_bytes() for name in ("backbone.tflite", "head_step.tflite")]
    kinds = sorted({row["op"] for content in files for row in op_table(content)})
    build = Path(os.environ.get("TFLM_BUILD", tmp_path / "tflm"))  # kept objects save the next run minutes
    library = build_tflm.build_library(Path(TFLM_ROOT), kinds, build)
    sources = sorted((micro / "micro").glob("*.cc"))
    build_tflm.run(
        "g++", *WARNINGS, *build_tflm.include_flags(Path(TFLM_ROOT)), *sources, library, "-o", tmp_path / "example"
    )
    lines = build_tflm.run(tmp_path / "example").splitlines()
    said = {line.split(":")[0]: re.findall(r"-?[\d.]+", line.split(":")[1]) for line in lines}
    known = len(read_bundle(micro).classes)
    assert [line.split(":")[0] for line in lines] == ["before", *(f"step {i}" for i in range(10)), "after", "restored"]
    assert int(said["after"][0]) == known != int(said["before"][0])
    # Its class mean is the image itself by then: better than a guess from the first step on.
    assert all(0 <= float(said[f"step {i}"][0]) < math.log(known + 1) for i in range(10))
    assert said["restored"] == said["before"]
    pattern = (np.arange(32 * 32 * 3) * 7 % 256).astype(np.uint8).reshape(32, 32, 3)  # what main.cc calls a picture
    Image.fromarray(pattern).save(tmp_path / "picture.png")
    (expected,) = device("predict", micro, tmp_path / "picture.png", "--runtime", "tflm")[1]
    assert read_bundle(micro).classes[int(said["before"][0])] == expected["label"]
    assert float(said["before"][1]) == pytest.approx(expected["probability"], abs=1e-4)


def test_the_package_holds_the_project(micro):
    (folder,) = (micro / "arduino").iterdir()
    assert folder.name == "cbpnet_bundle"  # after the bundle's folder
    for source in (micro / "micro").iterdir():
        if source.name != "main.cc":
            name = source.name.replace(".cc", ".cpp")
            assert (folder / "src" / "cbpnet" / name).read_bytes() == source.read_bytes()
    assert (folder / "LICENSE").read_bytes() == (micro / "LICENSE").read_bytes()


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_sketch_of_the_package_compiles(micro, tmp_path):
    (folder,) = (micro / "arduino").iterdir()
    includes = build_tflm.include_flags(Path(TFLM_ROOT)) if TFLM_ROOT else [f"-I{INTERFACES}"]
    sketch = [*SKETCH, f"-I{folder / 'src'}", "-x", "c++", folder / "examples" / "Learn" / "Learn.ino"]
    build_tflm.run("g++", *WARNINGS, *includes, *sketch, "-c", "-o", tmp_path / "sketch.o")


@pytest.mark.skipif(not TFLM_ROOT, reason="TFLM_ROOT does not name the sources of TFLM")
def test_the_sketch_of_the_package_runs_in_tflm(micro, tmp_path):
    (folder,) = (micro / "arduino").iterdir()
    files = [(micro / name).read_bytes() for name in ("backbone.tflite", "head_step.tflite")]
    kinds = sorted({row["op"] for content in files for row in op_table(content)})
    build = Path(os.environ.get("TFLM_BUILD", tmp_path / "tflm"))
    library = build_tflm.build_library(Path(TFLM_ROOT), kinds, build)
    flags = [*WARNINGS, *build_tflm.include_flags(Path(TFLM_ROOT)), *SKETCH, f"-I{folder / 'src'}"]
    sources = [folder / "examples" / "Learn" / "Learn.ino", TESTS / "micro" / "arduino" / "main.cc"]
    sources += sorted((folder / "src" / "cbpnet").glob("*.cpp"))
    build_tflm.run("g++", *flags, "-x", "c++", *sources, "-x", "none", library, "-o", tmp_path / "sketch")
    new = len(read_bundle(micro).classes)
    typed = f"?{str(new) * 6}?"  # what is it; six times: this one is new
    done = subprocess.run([str(tmp_path / "sketch")], input=typed, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    before, *learned, after = lines
    assert re.fullmatch(r"class (\d+) (\S+), probability [\d.]+", before)
    assert before.split()[2].rstrip(",") == read_bundle(micro).classes[int(before.split()[1])]
    assert [line.split(",")[0] for line in learned] == [f"learned class {new}"] * 6
    assert after.startswith(f"class {new}, probability ")


def test_the_project_uses_no_heap(micro):
    text = (micro / "micro" / "cbpnet.cc").read_text()
    assert not re.search(
        r"malloc|std::vector|std::string|\bnew (?!\(\w+_place\))(?!>)\w", text.replace("#include <new>", "")
    )


def test_tflm_predicts_learns_and_evaluates_like_the_engine_in_numpy(micro, road, device, tmp_path):
    data, found = f"npz:{road.device_npz}", {}
    for runtime in ("tflm", "numpy"):
        common = ("--state", tmp_path / runtime, "--runtime", runtime)
        (learned,) = device("learn", micro, data, "--epochs", 3, *common)[1]
        (result,) = device("evaluate", micro, data, *common)[1]
        found[runtime] = learned, result
    assert found["tflm"][0]["images"] == found["numpy"][0]["images"] > 0
    assert abs(found["tflm"][1]["accuracy"] - found["numpy"][1]["accuracy"]) < 0.02
    # and what was learned under TFLM is there when it is opened again, under another runtime too
    (again,) = device("evaluate", micro, data, "--state", tmp_path / "tflm", "--runtime", "numpy")[1]
    assert abs(again["accuracy"] - found["tflm"][1]["accuracy"]) < 0.02


def test_tflm_passes_the_selftest(micro, device):
    (found,) = device("selftest", micro, "--runtime", "tflm")[1]
    assert (found["ok"], found["replaced_equal"], found["prompts_equal"]) == (True, True, True)
    assert found["head_max_error"] <= 1e-5


def test_a_linux_bundle_has_nothing_for_tflm(shipped, road, device):
    code, _, error = device("evaluate", shipped, f"npz:{road.device_npz}", "--runtime", "tflm", check=False)
    assert code == 2
    assert "--target micro" in error


def test_the_optimizer_is_for_micro_alone(convert, road, tmp_path):
    with pytest.raises(UserError, match="--target micro"):
        convert.main([str(road.run), "--output", str(tmp_path / "bundle"), "--optimizer", "sgd"])
    assert not (tmp_path / "bundle").exists()
