"""Lessons are images: a bad one is named and moved aside, the good ones are learned exactly once, also after a kill."""

import json
import shutil
import subprocess
import sys

import pytest
from helpers.paths import ROOT
from PIL import Image

from firmware_host import Device, DeviceError
from firmware_host.cli import main
from firmware_host.inbox import Reading


class Kill(BaseException):
    """As SIGKILL: nothing more is done."""


@pytest.fixture
def inbox(make, tmp_path):
    return make.folder_of_images(tmp_path / "learning", names=("blue", "red", "white"), each=4)


@pytest.fixture
def learn(bundle, tmp_path, capfd):
    def learn(*options, folder="learning"):
        arguments = ["learn", str(bundle), str(tmp_path / folder), "--one-by-one", "--runtime", "numpy", "--json"]
        code = main([*arguments, *map(str, options)])
        out, err = capfd.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return learn


@pytest.fixture
def counts(bundle):
    def counts():
        with Device.open(bundle, runtime="numpy") as device:
            return dict(zip(device.classes, device._working.statistics.count.tolist()))

    return counts


def damage(folder):
    Image.new("RGB", (300, 300)).save(folder / "red" / "cut.jpg")
    content = (folder / "red" / "cut.jpg").read_bytes()
    (folder / "red" / "cut.jpg").write_bytes(content[:700])
    (folder / "white" / "notes.txt").write_text("not an image")


def test_a_bad_image_is_left_out_and_the_others_are_learned(learn, counts, inbox):
    damage(inbox)
    code, [cut, notes, result], _ = learn()
    assert code == 0
    assert (cut["image"], "cut.jpg cannot be read" in cut["error"]) == (str(inbox / "red" / "cut.jpg"), True)
    assert "notes.txt is not an image" in notes["error"]
    assert (result["images"], result["refused"], result["new_classes"]) == (12, 2, ["blue", "white"])
    assert counts() == {"red": 24, "green": 20, "blue": 4, "white": 4}
    assert (inbox / "red" / "cut.jpg").exists()  # nothing is moved unasked


def test_where_nothing_can_be_learned_the_exit_code_says_so(learn, bundle, inbox, tmp_path):
    for folder in ("red", "blue", "white"):
        shutil.rmtree(inbox / folder)
    (inbox / "red").mkdir()
    for name in ("a.png", "b.png"):
        (inbox / "red" / name).write_text("not an image")
    code, records, err = learn()
    assert (code, len(records)) == (2, 2)
    assert err == "error: none of 2 images could be learned: see the lines above\n"
    (inbox / "red" / "b.png").unlink()
    code, records, err = learn()
    assert (code, records, err.count("\n")) == (2, [], 1)
    assert not list((tmp_path / "tiny.state").glob("*.npz"))


def test_an_inbox_is_learned_once_however_often_it_is_started(learn, counts, inbox, tmp_path):
    damage(inbox)
    (inbox / "empty").mkdir()
    (inbox / "loose.png").write_bytes((inbox / "red" / "4.png").read_bytes())
    aside = ("--set-aside", tmp_path / "refused")
    code, [loose, cut, notes, result], _ = learn(*aside)
    assert (code, result["images"], result["refused"], result["known"]) == (0, 12, 3, 0)
    assert "loose.png names no class" in loose["error"]
    assert cut["moved_to"] == str(tmp_path / "refused" / "red" / "cut.jpg")
    assert notes["moved_to"] == str(tmp_path / "refused" / "white" / "notes.txt")
    assert not (inbox / "red" / "cut.jpg").exists()
    learned = counts()
    for _ in range(2):
        code, [result], _ = learn(*aside)
        assert (code, result["images"], result["refused"], result["known"]) == (0, 0, 0, 12)
        assert counts() == learned


def test_text_for_people(bundle, inbox, tmp_path, capsys):
    damage(inbox)
    arguments = ["learn", str(bundle), str(inbox), "--one-by-one", "--runtime", "numpy"]
    assert main([*arguments, "--set-aside", str(tmp_path / "refused")]) == 0
    out, err = capsys.readouterr()
    assert "learned 12 images in" in out
    assert "; 2 could not be learned\n" in out
    assert [line.rpartition("; ")[2] for line in err.splitlines() if line.startswith("error: ")] == [
        f"moved to {tmp_path / 'refused' / 'red' / 'cut.jpg'}",
        f"moved to {tmp_path / 'refused' / 'white' / 'notes.txt'}",
    ]
    assert main([*arguments, "--set-aside", str(tmp_path / "refused")]) == 0
    out, err = capsys.readouterr()
    assert ("; 12 were learned before\n" in out, err) == (True, "")


def test_the_next_inbox_is_learned_though_its_images_have_the_same_names(learn, make, counts, inbox, tmp_path):
    aside = ("--set-aside", tmp_path / "refused")
    assert learn(*aside)[0] == 0
    inbox.rename(tmp_path / "learned")
    make.folder_of_images(inbox, names=("blue", "red", "white"), each=4, seed=9)
    code, [result], _ = learn(*aside)
    assert (code, result["images"], result["known"]) == (0, 12, 0)
    assert counts() == {"red": 28, "green": 20, "blue": 8, "white": 8}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "killed_at"), [*(("teach", at) for at in (1, 2, 7, 12)), *(("save", at) for at in (1, 2, 4))]
)
def test_after_a_kill_every_good_image_was_learned_once(learn, counts, inbox, tmp_path, monkeypatch, moment, killed_at):
    damage(inbox)
    options = ("--set-aside", tmp_path / "refused", "--save-every", 30)  # after every second image of a new class
    done = []
    original = getattr(Device, moment)

    def until_killed(self, *arguments, **named):
        done.append(arguments)
        if len(done) == killed_at:
            if moment == "save":
                original(self, *arguments, **named)  # written, and killed right after
            raise Kill
        return original(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Device, moment, until_killed)
        with pytest.raises(Kill):
            learn(*options)
    assert learn(*options)[0] == 0
    assert counts() == {"red": 24, "green": 20, "blue": 4, "white": 4}
    assert sorted(path.name for path in (tmp_path / "refused").rglob("*.*")) == ["cut.jpg", "notes.txt"]


POISON = """
import os, sys
import firmware_host.intake as intake
from firmware_host.cli import main

good = intake.load_image

def load_image(image, *arguments):
    return os._exit(9) if str(image).endswith("5.png") else good(image, *arguments)

intake.load_image = load_image
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_an_image_that_ends_the_process_is_moved_aside_after_the_second_time(counts, bundle, inbox, tmp_path):
    """A decoder that crashes, a board that runs out of memory."""
    options = ["--one-by-one", "--set-aside", tmp_path / "refused", "--save-every", 30, "--runtime", "numpy"]
    command = [sys.executable, "-c", POISON, "learn", bundle, inbox, *options]
    codes = []
    for _ in range(3):
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=120)
        codes.append(done.returncode)
    assert codes == [9, 9, 0]
    assert "5.png ended the process that read it 2 times: make it smaller or remove it; moved to" in done.stderr
    assert [path.name for path in (tmp_path / "refused" / "red").iterdir()] == ["5.png"]
    assert counts() == {"red": 23, "green": 20, "blue": 4, "white": 4}
    assert not list((tmp_path / "tiny.state").glob("*.json"))


def test_a_process_that_was_stopped_leaves_no_image_under_suspicion(tmp_path):
    Reading(tmp_path).begin("a")
    again = Reading(tmp_path)
    for name in ("a", "b", "c"):
        again.begin(name)
    again.end()
    for _ in range(2):
        Reading(tmp_path).begin("a")
    with pytest.raises(DeviceError, match="image a ended the process"):
        Reading(tmp_path).begin("a")
    Reading(tmp_path).begin("b")
    for content in ("", "[]", "{", '{"ended": 3}', '{"ended": {}}'):
        (tmp_path / "reading.json").write_text(content)
        Reading(tmp_path).begin("a")
    Reading(tmp_path / "a" / "file").end()


def test_a_class_without_a_slot_stops_no_other(learn, make, counts, inbox, tmp_path):
    make.folder_of_images(inbox / "more", names=("red",), each=2)
    (inbox / "more" / "red").rename(inbox / "yellow")
    (inbox / "more").rmdir()
    code, records, _ = learn("--set-aside", tmp_path / "refused")
    assert (code, records[-1]["images"], records[-1]["refused"]) == (0, 12, 2)
    assert "1 new class (yellow) for 0 spare of 4 slots" in records[0]["error"]
    assert counts() == {"red": 24, "green": 20, "blue": 4, "white": 4}
    assert len(list((tmp_path / "refused" / "yellow").iterdir())) == 2


def test_nothing_aside_is_overwritten(learn, inbox, tmp_path):
    for _ in range(3):
        damage(inbox)
        assert learn("--set-aside", tmp_path / "refused")[0] == 0
    assert sorted(path.name for path in (tmp_path / "refused" / "red").iterdir()) == [
        "cut-1.jpg",
        "cut-2.jpg",
        "cut.jpg",
    ]


def test_what_set_aside_is_not_for(learn, inbox, tmp_path, bundle, capfd):
    assert "is in DATA" in learn("--set-aside", inbox / "bad")[2]
    assert "is for a folder" in learn("--set-aside", tmp_path / "bad", "--label", "red")[2]
    assert "is for a folder" in learn("--set-aside", tmp_path / "bad", folder="none")[2]
    assert main(["learn", str(bundle), str(inbox), "--set-aside", str(tmp_path / "bad")]) == 2
    assert "is for --one-by-one: give both" in capfd.readouterr().err
