"""Bundles and states that were shipped: every later version reads them and says what was said then.

The files are kept for ever; `make.py` says how they were made.
"""

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.bundle import SCHEMA_VERSION, STATE_SCHEMA_VERSION, manifest, read_bundle
from firmware_host.cli import main
from firmware_host.state import StateFolder, encoding, read_file

HERE = Path(__file__).parent
BUNDLES = sorted(HERE.glob("*/bundle_*"))
PAIRS = [(bundle, state) for bundle in BUNDLES for state in sorted(bundle.parent.glob("state_?.npz"))]
EXACT = 1e-5  # float32 sums in another order


@pytest.fixture(params=PAIRS, ids=lambda pair: "-".join([pair[0].parent.name, pair[0].name, pair[1].stem]))
def shipped(request, tmp_path):
    """A copy of the bundle and the state, and what was expected of them."""
    bundle, state = request.param
    with np.load(state.with_name(f"{state.stem}_expected.npz")) as file:
        expected = {name: file[name] for name in file.files}
    return Path(shutil.copytree(bundle, tmp_path / "bundle")), state, expected


def said(device, feature):
    return np.stack([device._working.judge(row)[0] for row in feature])


def check(device, expected):
    np.testing.assert_allclose(said(device, expected["feature"]), expected["learned"], atol=EXACT)
    assert list(device.classes) == expected["classes"].tolist()
    np.testing.assert_array_equal(device._working.statistics.count, expected["count"])


def test_every_schema_version_is_kept():
    assert {bundle.name for bundle in BUNDLES} == {f"bundle_{number + 1}" for number in range(SCHEMA_VERSION)}
    assert {state.stem for _, state in PAIRS} == {f"state_{number + 1}" for number in range(STATE_SCHEMA_VERSION)}


def test_a_bundle_says_what_it_said(shipped):
    bundle, _, expected = shipped
    device = Device.open(bundle, runtime="numpy")
    np.testing.assert_allclose(said(device, expected["feature"]), expected["start"], atol=EXACT)


def test_a_state_says_what_it_said_and_learns_on(shipped, make):
    bundle, state, expected = shipped
    folder = bundle.with_name("bundle.state")
    folder.mkdir()
    shutil.copy(state, folder / ("state.npz" if state.stem == "state_1" else "state.a.npz"))
    with Device.open(bundle, runtime="numpy") as device:
        check(device, expected)
        device.save()
    with Device.open(bundle, runtime="numpy") as device:
        check(device, expected)
        images, labels = make.images(["blue"], 2)
        assert device.learn(images, labels, epochs=1)["steps"] > 0


def test_a_state_is_imported(shipped, capsys):
    bundle, state, expected = shipped
    assert main(["state", str(bundle), "import", str(state)]) == 0
    check(Device.open(bundle, runtime="numpy"), expected)


def test_a_tensor_that_a_state_lacks_has_its_start_value(shipped):
    """As where the tensor came into being after the state was written."""
    bundle, state, _ = shipped
    opened = read_bundle(bundle)
    saved = read_file(state).snapshot(opened)
    start = Device.open(bundle, runtime="numpy")._working.head.get_state()
    lacking = ["w2", "class_count", "age", *(["calm"] if "calm" in start else [])]
    kept = {name: tensor for name, tensor in saved.head.items() if name not in lacking}
    with contextlib.closing(StateFolder(bundle.with_name("bundle.state"), opened)) as folder:
        folder.write(replace(saved, head=kept))
    found = Device.open(bundle, runtime="numpy")._working.head.get_state()
    assert found.keys() == saved.head.keys()
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, start[name] if name in lacking else saved.head[name], err_msg=name)
    assert not np.array_equal(start["w2"], saved.head["w2"])


def test_a_state_goes_through_every_upgrade_in_turn(shipped, monkeypatch):
    """As it will when there is a version more, whose `rolled_back` counts in pairs."""
    bundle, state, expected = shipped
    newest = STATE_SCHEMA_VERSION + 1
    before = read_file(state).meta.get("rolled_back", 0)
    upgrade = lambda arrays, meta: (arrays, {**meta, "rolled_back": 2 * meta.get("rolled_back", 0) + 2})  # noqa: E731
    monkeypatch.setattr(encoding, "STATE_SCHEMA_VERSION", newest)
    monkeypatch.setattr(encoding, "READ_VERSIONS", (*encoding.READ_VERSIONS, newest))
    monkeypatch.setitem(encoding.UPGRADES, newest - 1, upgrade)
    assert main(["state", str(bundle), "import", str(state)]) == 0
    with Device.open(bundle, runtime="numpy") as device:
        check(device, expected)
        assert device.rolled_back == 2 * before + 2
        device.save()
    with Device.open(bundle, runtime="numpy") as device:  # of the newest version: nothing is upgraded again
        assert device.rolled_back == 2 * before + 2


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: f"{bundle.parent.name}-{bundle.name}")
def test_a_bundle_goes_through_every_upgrade_in_turn(bundle, monkeypatch):
    newest = SCHEMA_VERSION + 1
    before = read_bundle(bundle)
    for number in range(1, newest):
        old = manifest.UPGRADES.get(number, lambda found: found)
        change = lambda found, old=old: {**old(found), "name": found["name"] + "+"}  # noqa: E731
        monkeypatch.setitem(manifest.UPGRADES, number, change)
    monkeypatch.setattr(manifest, "SCHEMA_VERSION", newest)
    after = read_bundle(bundle)
    assert after.name == before.name + "+" * (newest - int(bundle.name.partition("_")[2]))
    assert after.identity == before.identity  # that of the files as they are


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: f"{bundle.parent.name}-{bundle.name}")
def test_a_bundle_passes_its_self_test(bundle, tmp_path, capsys):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    assert main(["selftest", str(copy), "--runtime", "numpy"]) == 0, capsys.readouterr().err
