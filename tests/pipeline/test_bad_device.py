"""Bad input to the device package on a real bundle, by its command line: exit code 2, one line, nothing changed."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

FILES = ("backbone.tflite", "golden.npz", "head.tflite", "labels.txt", "manifest.json", "report.json", "statistics.npz")


@pytest.fixture
def copied(shipped, tmp_path):
    return shutil.copytree(shipped, tmp_path / "bundle")


@pytest.fixture
def refuse(device, tree, tmp_path, shipped):
    """Run a command that must fail in a process of its own; return the one line it prints."""

    def refuse(command, bundle, *arguments):
        before = tree(tmp_path, shipped)
        code, records, err = device(command, bundle, *arguments, check=False)
        assert (code, records) == (2, [])
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert tree(tmp_path, shipped) == before
        assert not shipped.with_name(shipped.name + ".state").exists()
        return err

    return refuse


@pytest.fixture
def arguments(road):
    """Valid arguments of each command."""
    picture = next(path for path in sorted(road.images.rglob("*.png")))
    return {"info": [], "selftest": [], "predict": [picture], "learn": [road.images], "evaluate": [road.images]}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_changed_byte(refuse, copied, arguments, name, where):
    content = bytearray((copied / name).read_bytes())
    index = {"first": 0, "middle": len(content) // 2, "last": len(content) - 1}[where]
    content[index] ^= 1
    (copied / name).write_bytes(content)
    command = ("info", "predict", "learn")[("first", "middle", "last").index(where)]
    line = refuse(command, copied, *arguments[command])
    assert str(copied / name) in line
    assert "copy the bundle again from where it was made" in line


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(refuse, copied, arguments, name):
    (copied / name).unlink()
    line = refuse("predict", copied, *arguments["predict"])
    assert f"bundle file {copied / name} is missing: copy the bundle again" in line


@pytest.mark.parametrize("command", ["info", "selftest", "predict", "learn", "evaluate"])
def test_another_schema_version(refuse, copied, arguments, command):
    from firmware_host.bundle import canonical_text, manifest_sha256

    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["schema_version"] = 3
    manifest["manifest_sha256"] = manifest_sha256(manifest)
    (copied / "manifest.json").write_text(canonical_text(manifest))
    line = refuse(command, copied, *arguments[command])
    assert "has schema version 3, this firmware_host reads 1 and 2: convert the run again or install" in line


def test_no_bundle(refuse, tmp_path, arguments):
    assert "none is not a folder: give the folder that" in refuse("info", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "manifest.json is missing" in refuse("predict", tmp_path / "empty", *arguments["predict"])


def test_no_image(refuse, shipped, tmp_path):
    (tmp_path / "text.png").write_text("this is text\n")
    (tmp_path / "data" / "eight").mkdir(parents=True)
    shutil.copy(tmp_path / "text.png", tmp_path / "data" / "eight" / "1.png")
    assert "text.png is not an image: give a file" in refuse("predict", shipped, tmp_path / "text.png")
    assert "none.png does not exist: check the path" in refuse("predict", shipped, tmp_path / "none.png")
    assert "1.png is not an image: give a file" in refuse("learn", shipped, tmp_path / "data")


def test_no_classes(refuse, shipped, tmp_path):
    (tmp_path / "data").mkdir()
    for command in ("learn", "evaluate"):
        assert "data has no classes: put the images of each class in" in refuse(command, shipped, tmp_path / "data")
    (tmp_path / "data" / "eight").mkdir()
    assert "eight has no images: add some or remove the folder" in refuse("learn", shipped, tmp_path / "data")
    assert "none.npz does not exist" in refuse("learn", shipped, f"npz:{tmp_path / 'none.npz'}")


def test_more_classes_than_slots(refuse, shipped, tmp_path):
    for index in range(13):
        folder = tmp_path / "data" / f"class_{index:02d}"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((32, 32, 3), index, np.uint8)).save(folder / "1.png")
    line = refuse("learn", shipped, tmp_path / "data")
    assert "13 new classes" in line
    assert "for 12 spare of 16 slots: convert the run again with --slots 17 or more" in line


def test_a_label_the_bundle_does_not_know(refuse, shipped, road):
    line = refuse("evaluate", shipped, road.images)
    assert f"unknown label {', '.join(map(repr, sorted(road.new)))}: the device knows" in line


@pytest.mark.slow
def test_a_state_of_another_bundle(refuse, bundles, shipped, device, arguments, road, tmp_path):
    state = tmp_path / "state"
    device("learn", bundles("float32"), road.images, "--state", state, "--epochs", 1)
    for command in ("info", "predict", "learn", "evaluate"):
        line = refuse(command, shipped, *arguments[command], "--state", state)
        assert f"state {state} belongs to another bundle" in line
        assert "give the state of this bundle with --state" in line
