"""A sensor instead of a camera: the commands take recordings where the bundle does."""

import json

import numpy as np
import pytest
from helpers import csi
from PIL import Image

from firmware_host import Device
from firmware_host.bundle import BundleError, read_bundle, write_manifest
from firmware_host.cli import main

PLACES = ("sit", "fall")  # activities in the lower and in the upper subcarriers


@pytest.fixture
def taking(bundle):
    """taking(kind, channels): the bundle, which takes recordings of that kind from now on."""

    def taking(kind, channels=0):
        manifest = json.loads((bundle / "manifest.json").read_text())
        write_manifest(bundle, {**manifest, "input": {"kind": kind, "channels": channels}})
        return bundle

    return taking


@pytest.fixture
def run(capfd):
    def run(command, bundle, *arguments):
        code = main([command, str(bundle), *map(str, arguments), "--runtime", "numpy", "--json"])
        out, err = capfd.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return run


def test_a_device_learns_logs_and_tells_them_apart(taking, run, tmp_path):
    bundle = taking("csi")
    logs = csi.write_folders(tmp_path / "logs", activities=PLACES, settings=("hall",))
    (record,) = run("learn", bundle, logs)[1]
    assert (record["images"], record["new_classes"]) == (10, sorted(PLACES))
    (result,) = run("evaluate", bundle, f"csi:{logs}")[1]
    assert (result["accuracy"], result["images"]) == (1.0, 10)
    one = logs / "fall" / "3.dat"
    assert run("learn", bundle, one, "--label", "fall")[1][0]["images"] == 1
    assert run("learn", bundle, one, "--label", "fall", "--one-by-one")[0] == 0
    assert [each["label"] for each in run("predict", bundle, one, logs / "sit")[1]] == ["fall"] + 5 * ["sit"]
    with Device.open(bundle, runtime="numpy") as device:
        assert device.predict(one).label == "fall"
        device.teach(one, "fall")


def test_recordings_of_many_settings_in_one_file(taking, run, tmp_path):
    bundle = taking("csi")
    file = csi.write_npz(tmp_path / "all.npz", activities=PLACES, settings=("hall",))
    assert run("learn", bundle, f"csi:{file}")[1][0]["images"] == 8
    assert run("evaluate", bundle, f"csi:{file}")[1][0]["images"] == 2


def test_a_device_learns_windows_of_any_sensor(taking, run, tmp_path):
    bundle = taking("series", 3)
    rng = np.random.default_rng(0)
    for name, size in (("still", 0.01), ("shake", 10.0)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(4):
            np.save(tmp_path / "data" / name / f"{index}.npy", size * rng.normal(size=(64, 3)))
    assert run("learn", bundle, f"series:{tmp_path / 'data'}")[1][0]["images"] == 8
    assert run("evaluate", bundle, tmp_path / "data")[1][0]["accuracy"] == 1.0
    np.save(tmp_path / "other.npy", rng.normal(size=(64, 6)))
    assert "has 6 channels, 3 are expected" in run("predict", bundle, tmp_path / "other.npy")[2]


def test_what_a_bundle_does_not_take_is_refused_and_nothing_learned(taking, run, bundle, tmp_path):
    log = tmp_path / "a.dat"
    log.write_bytes(csi.log(csi.recording(0, 0, 1)))
    code, _, err = run("predict", bundle, log)  # it takes images still
    assert (code, len(err.splitlines())) == (2, 1)
    assert "a.dat is not an image" in err
    taking("csi")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    log.write_bytes(log.read_bytes()[:-5])
    for file, said in (("a.png", "is not of an Intel 5300"), ("a.dat", "is cut off at byte")):
        code, _, err = run("learn", bundle, tmp_path / file, "--label", "red")
        assert (code, len(err.splitlines())) == (2, 1)
        assert said in err
    assert not bundle.with_name(bundle.name + ".state").exists()


def test_info_says_what_is_taken(taking, capfd):
    assert main(["info", str(taking("series", 9))]) == 0
    assert "takes: series, 9 channels" in capfd.readouterr().out


@pytest.mark.parametrize(
    "given", [{"kind": "radar", "channels": 0}, {"kind": "csi"}, {"kind": "csi", "channels": -1}, "csi"]
)
def test_a_manifest_that_takes_something_unknown_is_refused(bundle, given):
    manifest = json.loads((bundle / "manifest.json").read_text())
    with pytest.raises(BundleError, match="input"):
        write_manifest(bundle, {**manifest, "input": given})
    assert read_bundle(bundle).input.kind == "image"
