"""Where images come from: files, folders, paths on standard input, a video, a camera; results as they come."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.video import Video

from firmware_host.bundle import DeviceError
from firmware_host.cli import main
from firmware_host.images.labelled import read_data
from firmware_host.images.sources import is_one_file, named_images
from firmware_host.shared.folders import image_files

COMMAND = [sys.executable, "-m", "firmware_host", "predict"]


def names(images):
    return [Path(image.name).name for image in images]


def test_files_and_folders_in_order(make, tmp_path):
    root = make.folder_of_images(tmp_path / "data", each=2)
    (root / "red" / ".hidden.png").write_text("")
    (root / "red" / "Thumbs.db").write_text("")
    (root / ".git").mkdir()
    (root / "a.png").write_text("")
    os.symlink(root, root / "red" / "circle")
    one = str(root / "red" / "0.png")
    assert names(named_images([one, str(root), "none.png"])) == [
        "0.png",
        "a.png",
        "2.png",
        "3.png",
        "0.png",
        "1.png",
        "none.png",
    ]
    assert is_one_file([one])
    assert not is_one_file([str(root)])
    assert not is_one_file([one, one])
    assert not is_one_file(["-"])


def test_a_folder_is_read_as_it_is_used(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_text("")
    files = image_files(tmp_path)
    assert next(files) == tmp_path / "a" / "1.png"
    (tmp_path / "b" / "2.png").write_text("")  # not yet listed
    assert [path.name for path in files] == ["1.png", "2.png"]


def test_an_empty_folder_among_others_has_its_line(predict, make, tmp_path):
    root = make.folder_of_images(tmp_path / "data", each=1)
    (tmp_path / "empty").mkdir()
    code, records, err = predict(tmp_path / "empty", root)
    assert (code, err) == (2, [])
    assert records[0] == {
        "image": str(tmp_path / "empty"),
        "error": f"folder {tmp_path / 'empty'} holds no image: add some or leave it out",
    }
    assert [record["label"] for record in records[1:]] == ["green", "red"]


def test_a_bad_image_among_many_stops_no_other(predict, make, tmp_path):
    root = make.folder_of_images(tmp_path / "data", names=("red",), each=3)
    (root / "red" / "1.png").write_text("no image")
    code, records, err = predict(root)
    assert (code, err) == (2, [])
    assert [record.get("label") for record in records] == ["red", None, "red"]
    assert set(records[1]) == {"image", "error"}
    assert records[1]["error"].startswith(f"{root / 'red' / '1.png'} is not an image: give a file")
    code, lines, err = predict(root, tmp_path / "none.png", json_lines=False)
    assert (code, len(lines), len(err)) == (2, 2, 2)
    assert err[0].startswith(f"error: {root / 'red' / '1.png'} is not an image")
    assert err[1] == f"error: image {tmp_path / 'none.png'} does not exist: check the path"


def test_paths_on_standard_input(predict, standard_input, make, tmp_path):
    root = make.folder_of_images(tmp_path / "data", each=2)
    standard_input(f"{root / 'red' / '0.png'}\r\n\n{root / 'green'}\nnone.png".encode())
    code, records, _ = predict("-")
    assert code == 2
    assert [record.get("label") for record in records] == ["red", "green", "green", None]
    assert records[-1]["error"] == "image none.png does not exist: check the path"


def test_a_list_may_begin_with_a_byte_order_mark(standard_input, tmp_path):
    standard_input("\ufeffcat/1.png\ncat/2.png\n".encode())
    assert read_data("-", "train").labels == ["cat", "cat"]
    standard_input("cat/1.png\n".encode("utf-16"))
    with pytest.raises(DeviceError, match="standard input is UTF-16 text: write the list of paths as UTF-8"):
        read_data("-", "train")


def test_classes_of_a_list_have_the_names_of_folders(standard_input):
    standard_input("cafe\u0301/1.png\ncaf\u00e9/2.png\n".encode())
    assert read_data("-", "train").labels == ["caf\u00e9"] * 2
    for listing, message in ((b"../1.png\n", "name '..' must be"), (b"gr\xfcn/1.png\n", "must be one line of text")):
        standard_input(listing)
        with pytest.raises(DeviceError, match=message):
            read_data("-", "train")
    standard_input(b"Cat/1.png\ncat/2.png\n")
    with pytest.raises(DeviceError, match="can hardly be told apart"):
        read_data("-", "train")


def test_what_is_no_list_of_paths_is_not_held(predict, standard_input):
    standard_input(b"y" * 200_000 + b"\n" + b"x" * 70_000)
    code, records, err = predict("-")
    assert (code, err, len(records)) == (2, [], 6)
    assert all("cannot be read (" in record["error"] for record in records)


def test_closed_standard_input(predict, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert predict("-")[2] == ["error: standard input is closed: write paths into it, one per line, or give files"]


def test_a_result_comes_before_the_next_path_is_known(bundle, make, tmp_path):
    root = make.folder_of_images(tmp_path / "data", each=1)
    process = subprocess.Popen(
        [*COMMAND, str(bundle), "-", "--runtime", "numpy", "--json"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    for path in (root / "red" / "0.png", root / "green" / "1.png"):
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["label"] == path.parent.name
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    process.stdout.close()


def test_a_name_that_stdout_cannot_show(bundle, make, tmp_path):
    root = make.folder_of_images(tmp_path / "data", names=("red",), each=1)
    odd = os.fsencode(root) + b"/caf\xe9.png"
    os.rename(root / "red" / "0.png", odd)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*COMMAND, str(bundle), odd, "--runtime", "numpy"], cwd=ROOT, capture_output=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"caf\\udce9.png: red (" in done.stdout


def test_learn_and_evaluate_take_classes_from_paths(standard_input, make, bundle, capfd, tmp_path):
    root = make.folder_of_images(tmp_path / "data", names=("red", "blue"), each=3)
    listing = "".join(f"{path}\n" for path in sorted(root.rglob("*.png"))).encode()
    standard_input(listing)
    assert read_data("-", "train").labels == ["blue"] * 3 + ["red"] * 3
    records = []
    for command in ("learn", "evaluate"):
        standard_input(listing)
        assert main([command, str(bundle), "-", "--runtime", "numpy", "--json"]) == 0
        records.append(json.loads(capfd.readouterr().out))
    assert records[0]["images"] == 6
    assert records[1]["per_class"] == {"red": 1.0, "blue": 1.0}
    for content, message in ((b"0.png\n", "0.png on standard input names no class"), (b"", "holds no path")):
        standard_input(content)
        with pytest.raises(DeviceError, match=message):
            read_data("-", "train")


def test_a_class_is_shown_to_the_camera(learn, predict, opencv, monkeypatch, make, tmp_path):
    blue = np.full((48, 64, 3), (220, 30, 30), np.uint8)  # BGR
    monkeypatch.setattr(Video, "frames", [blue] * 30)
    code, [result], _ = learn("--source", "camera:0", "--label", "blue", "--new", "--frames", 4, "--every", 5)
    assert (code, result["images"]) == (0, 4)
    assert [video.released for video in Video.opened] == [True]
    root = make.folder_of_images(tmp_path / "data", names=("blue", "red"), each=2)
    assert [record["label"] for record in predict(root)[1]] == ["blue", "blue", "red", "red"]


def test_a_folder_of_one_class(learn, predict, standard_input, make, bundle, tmp_path):
    root = make.folder_of_images(tmp_path / "data", names=("blue", "white"), each=3)
    code, [result], _ = learn(root / "blue", "--label", "cold", "--new")
    assert (code, result["images"]) == (0, 3)
    standard_input("".join(f"{path}\n" for path in (root / "white").iterdir()).encode())
    code, [result], _ = learn("-", "--label", "warm", "--new")
    assert (code, result["images"]) == (0, 3)
    assert [record["label"] for record in predict(root)[1]] == ["cold"] * 3 + ["warm"] * 3


def test_bad_things_to_learn(learn, opencv, monkeypatch, make, bundle, standard_input, tmp_path):
    (tmp_path / "a.avi").write_text("")
    (tmp_path / "empty").mkdir()
    video = ("--source", f"video:{tmp_path / 'a.avi'}")
    monkeypatch.setattr(Video, "frames", [Video.frames[0], False])
    standard_input(b"")
    for arguments, message in {
        (): "required: DATA or --source",
        video: "a.avi shows is unknown: give --label NAME",
        (tmp_path, *video, "--label", "a"): "are given: use one of them",
        ("--source", "camera:0", "--label", "a"): "source camera:0 has no end: give --frames N",
        (*video, "--label", "a"): "a.avi#1 is damaged: leave it out",
        (tmp_path / "empty", "--label", "a"): "empty holds no image",
        (tmp_path / "none.png", "--label", "a", "--new"): "none.png does not exist",
        ("-", "--label", "a", "--new"): "data - names no image: give at least one",
    }.items():
        code, records, err = learn(*arguments)
        assert (code, records) == (2, [])
        (line,) = [line for line in err if line.startswith("error: ")]
        assert message in line
    assert not bundle.with_name(bundle.name + ".state").exists()


def test_paths_that_zero_bytes_separate(bundle, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.png\0b.png\0")))
    assert main(["predict", str(bundle), "-", "--runtime", "numpy"]) == 2
    line = "error: standard input holds zero bytes: write one path per line (find -print, not -print0)\n"
    assert capsys.readouterr().err == line
