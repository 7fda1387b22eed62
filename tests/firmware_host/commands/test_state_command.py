"""`state`: shown, exported, imported, compared and reset; nothing is overwritten and nothing is deleted."""

import json

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.bundle import read_bundle, write_manifest
from firmware_host.cli import main
from firmware_host.state import StateFolder


@pytest.fixture
def call(capfd):
    def call(*arguments):
        capfd.readouterr()  # the first interpreter of a process says something, whoever opened it
        code = main([*map(str, arguments), "--json"])
        out, err = capfd.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return call


@pytest.fixture
def refused(call, make, tmp_path):
    def refused(*arguments):
        before = make.tree(tmp_path)
        code, records, err = call(*arguments)
        assert (code, records, err.count("\n")) == (2, [], 1)
        assert make.tree(tmp_path) == before
        return err

    return refused


@pytest.fixture
def taught(make, bundle):
    def taught(name="blue", each=5, state=None, on=bundle, label=None):
        images, labels = make.images([name], each)
        with Device.open(on, state, runtime="numpy") as device:
            device.learn(images, [label] * each if label else labels, epochs=2, replay="buffer:8")
            device.save()
        return on

    return taught


@pytest.fixture
def with_slots(make, tmp_path):
    """A bundle whose head.tflite is another file, as it is with another number of slots."""

    def with_slots(name, slots, **changes):
        path = make.write_bundle(tmp_path / name, slots=slots, **changes)
        (path / "head.tflite").write_text(f"a head of {slots} slots")
        write_manifest(path, manifest_of(path))
        return path

    return with_slots


def manifest_of(path):
    return json.loads((path / "manifest.json").read_text())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_show(call, bundle, taught, tmp_path):
    assert call("state", bundle) == (0, [{"path": str(tmp_path / "tiny.state"), "classes": None}], "")
    taught()
    code, [record], _ = call("state", bundle)
    assert (code, record["classes"], record["images"], record["saves"]) == (0, ["red", "green", "blue"], 45, 1)
    assert record["images_per_class"] == {"red": 20, "green": 20, "blue": 5}
    assert (record["buffer"], record["rolled_back"]) == (5, 0)
    size = (tmp_path / "tiny.state" / "state.a.npz").stat().st_size
    assert record["bytes_written_per_hour"] == size  # in its first hour


@pytest.mark.parametrize("order", [1, -1])
def test_a_backup_brings_back_exactly_what_was_exported(call, bundle, taught, tmp_path, order):
    taught()
    exported = StateFolder(tmp_path / "tiny.state", read_bundle(bundle)).read()
    file = tmp_path / "backup.npz"
    code, [record], _ = call("state", *[bundle, "export"][::order], file)
    assert (code, record["bytes"], record["steps"]) == (0, file.stat().st_size, exported.head["step"])
    code, [record], _ = call("state", bundle, "diff", file)
    assert (code, record["equal"], record["images"], record["max_difference"]) == (0, True, {}, {})

    taught("white", 3)
    code, [record], _ = call("state", bundle, "diff", file)
    assert (code, record["equal"], record["images"]) == (0, False, {"white": [3, None]})
    assert record["max_difference"]["w2"] > 0

    folder = tmp_path / "tiny.state"
    newest = (folder / "state.b.npz").read_bytes()
    code, [record], _ = call("state", *[bundle, "import"][::order], file)
    assert (code, record["classes"]) == (0, ["red", "green", "blue"])
    assert names(folder) == ["lock", "state.a.npz", "state.b.npz.replaced-1"]
    assert (folder / "state.b.npz.replaced-1").read_bytes() == newest
    back = StateFolder(folder, read_bundle(bundle)).read()
    assert back.generator == exported.generator
    for name, value in exported.head.items():
        np.testing.assert_array_equal(back.head[name], value)
    for name, value in exported.buffer.arrays().items():
        np.testing.assert_array_equal(back.buffer.arrays()[name], value)
    assert call("state", bundle, "diff", file)[1][0]["equal"]


def test_reset_keeps_everything_aside(call, refused, bundle, taught, tmp_path):
    assert "nothing learned yet" in refused("state", bundle, "reset")
    taught()
    taught("white", 3)
    code, [record], _ = call("state", bundle, "reset")
    folder = tmp_path / "tiny.state"
    assert (code, len(record["kept"])) == (0, 2)
    assert names(folder) == ["lock", "state.a.npz.reset-1", "state.b.npz.reset-1"]
    assert Device.open(bundle, runtime="numpy").classes == ("red", "green")
    code, [record], _ = call("state", bundle, "import", folder / "state.a.npz.reset-1")
    assert (code, record["classes"]) == (0, ["red", "green", "blue"])


@pytest.mark.parametrize("remedy", ["import", "reset"])
def test_two_damaged_slots_are_kept_by_the_remedies(call, refused, bundle, taught, tmp_path, remedy):
    taught()
    file, folder = tmp_path / "backup.npz", tmp_path / "tiny.state"
    assert call("state", bundle, "export", file)[0] == 0
    taught("white", 3)
    for slot in ("state.a.npz", "state.b.npz"):
        (folder / slot).write_bytes((folder / slot).read_bytes()[:-7])
    for action in ([], ["export", tmp_path / "other.npz"], ["diff", file]):
        line = refused("state", bundle, *action)
        assert "is damaged (state.a.npz: " in line
        assert "`state BUNDLE import FILE`, or start again from the bundle with `state BUNDLE reset`" in line
    assert call("state", bundle, remedy, *([file] if remedy == "import" else []))[0] == 0
    aside = {"import": "damaged", "reset": "reset"}[remedy]
    assert {f"state.a.npz.{aside}-1", f"state.b.npz.{aside}-1"} <= set(names(folder))
    expected = ("red", "green", "blue") if remedy == "import" else ("red", "green")
    assert Device.open(bundle, runtime="numpy").classes == expected


@pytest.mark.parametrize("block", ["prototype", "mlp", "residual"])
def test_a_bundle_with_more_slots_takes_over_what_was_learned(call, make, with_slots, taught, tmp_path, block):
    """As when a run is converted again because the slots ran out: same backbone, same head but for its slots."""
    small = make.write_bundle(tmp_path / "small", block=block)
    large = with_slots("large", 7, block=block)
    taught("blue", 6, on=small)
    file = tmp_path / "small.npz"
    assert call("state", small, "export", file)[0] == 0
    code, [record], _ = call("state", large, "import", file)
    assert (code, record["classes"]) == (0, ["red", "green", "blue"])
    before, after = (Device.open(path, runtime="numpy") for path in (small, large))
    for image in make.images(["red", "green", "blue"], 2, seed=8)[0]:
        a, b = before.predict(image), after.predict(image)
        assert (b.label, b.probability) == (a.label, pytest.approx(a.probability, abs=1e-6))
    for name in ("white", "a", "b", "c"):
        after.teach(make.images(["white"], 1)[0][0], name)
    assert len(after.classes) == 7


def test_what_does_not_fit_is_refused(refused, make, with_slots, bundle, taught, tmp_path):
    taught()
    file = tmp_path / "tiny.state" / "state.a.npz"
    other = make.write_bundle(tmp_path / "other", block="mlp")
    fewer = with_slots("fewer", 2)
    more_known = with_slots("more", 5, known=("red", "green", "white"))
    version_1 = tmp_path / "tiny.state" / "v1.npz"
    version_1.write_bytes(b"PK no archive")
    assert "was learned with another head than that of" in refused("state", other, "import", file)
    assert "has 4 class slots" in refused("state", fewer, "import", file)
    assert "does not know white, which" in refused("state", more_known, "import", file)
    assert "v1.npz is damaged" in refused("state", bundle, "import", version_1)
    assert "does not exist: check the path" in refused("state", bundle, "import", tmp_path / "none.npz")
    assert "exists: give another file" in refused("state", bundle, "export", file)
    assert "does not exist: make it first" in refused("state", bundle, "export", tmp_path / "no" / "a.npz")
    assert "nothing learned yet" in refused("state", other, "export", tmp_path / "x.npz")


@pytest.mark.parametrize("order", [1, -1])
def test_a_class_is_forgotten_and_its_slot_is_free_again(call, refused, bundle, taught, tmp_path, order):
    taught(label="bleu")
    assert "class 'blue' is not known: the device knows red, green, bleu; do you mean 'bleu'?" in refused(
        "state", bundle, "forget", "blue", "--runtime", "numpy"
    )
    code, [record], _ = call("state", *[bundle, "forget"][::order], "bleu", "--runtime", "numpy")
    assert (code, record["classes"], record["spare_slots"]) == (0, ["red", "green"], 2)
    assert call("state", bundle)[1][0]["images_per_class"] == {"red": 20, "green": 20}
    taught("blue", 4)
    assert call("state", bundle)[1][0]["images_per_class"] == {"red": 20, "green": 20, "blue": 4}


def test_a_class_is_renamed_and_keeps_what_it_learned(call, refused, make, bundle, taught, tmp_path):
    taught(label="bleu")
    before = StateFolder(tmp_path / "tiny.state", read_bundle(bundle)).read()
    code, [record], _ = call("state", bundle, "rename", "bleu", "blue", "--runtime", "numpy")
    assert (code, record["classes"]) == (0, ["red", "green", "blue"])
    after = StateFolder(tmp_path / "tiny.state", read_bundle(bundle)).read()
    np.testing.assert_array_equal(after.statistics.count, before.statistics.count)
    np.testing.assert_array_equal(after.head["w1"], before.head["w1"])
    images, labels = make.images(["blue"], 3, seed=8)
    with Device.open(bundle, runtime="numpy") as device:
        assert [device.predict(image).label for image in images] == labels
    for name, what in (("green", "is known already"), ("Green", "can hardly be told apart"), ("", "must be one line")):
        assert what in refused("state", bundle, "rename", "blue", name, "--runtime", "numpy")
    assert "class 'pink' is not known" in refused("state", bundle, "rename", "pink", "rose", "--runtime", "numpy")


def test_a_path_may_begin_with_the_home_folder_or_be_empty(call, refused, bundle, taught, tmp_path, monkeypatch):
    taught()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert call("state", "~/tiny", "export", "~/backup.npz")[1][0]["file"] == str(tmp_path / "backup.npz")
    assert call("state", "export", "~/tiny", "~/other.npz")[1][0]["file"] == str(tmp_path / "other.npz")
    assert call("info", "~/tiny", "--state=~/tiny.state")[1][0]["state"]["images"] == 45
    assert not (tmp_path / "~").exists()
    assert "argument --state: it is empty: give a path" in refused("state", bundle, "--state", "")
    assert "argument BUNDLE: it is empty" in refused("info", "")
    assert "FILE is empty: give a path" in refused("state", bundle, "export", "")
    assert "BUNDLE is empty: give a path" in refused("state", "show", "")


def test_bad_usage(refused, bundle):
    assert "state has no action 'erase': use one of show, export" in refused("state", bundle, "erase")
    assert "write `state BUNDLE export FILE`" in refused("state", bundle, "export")
    assert "write `state BUNDLE reset`" in refused("state", bundle, "reset", "x")
    assert "write `state BUNDLE rename OLD NEW`" in refused("state", bundle, "rename", "x")


def test_text_for_people(capsys, bundle, taught, tmp_path):
    taught()
    assert main(["state", str(bundle)]) == 0
    assert "45 images, 6 steps (0 rolled back), 5 images kept for replay" in capsys.readouterr().out
    assert main(["state", str(bundle), "export", str(tmp_path / "b.npz")]) == 0
    assert main(["state", str(bundle), "diff", str(tmp_path / "b.npz")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "equal"
    assert main(["state", str(bundle), "reset"]) == 0
    assert "back to the bundle; kept as " in capsys.readouterr().out
