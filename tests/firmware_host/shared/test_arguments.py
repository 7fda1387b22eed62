"""What the command lines share: options in any order, paths, seeds, commands to copy."""

import argparse
import os
import shlex
from pathlib import Path

import pytest

from firmware_host.bundle import DeviceError
from firmware_host.shared.arguments import (
    ArgumentParser,
    command_line,
    data_argument,
    folder_argument,
    given_path,
    name_argument,
    path_argument,
    seed_argument,
)


class Parser(ArgumentParser):
    def error(self, message):
        raise DeviceError(message)


@pytest.fixture
def parser():
    parser = Parser()
    commands = parser.add_subparsers(required=True, dest="command")
    predict = commands.add_parser("predict")
    predict.add_argument("bundle")
    predict.add_argument("images", nargs="*")
    predict.add_argument("--json", action="store_true")
    predict.add_argument("--state")
    learn = commands.add_parser("learn")
    learn.add_argument("bundle")
    learn.add_argument("data", nargs="?")
    learn.add_argument("--seed", type=int)
    return parser


@pytest.mark.parametrize(
    "line",
    [
        "predict B a b --json --state s",
        "predict B --json a --state s b",
        "predict --json B --state s a b",
        "predict --json --state=s B a b",
        "predict B --state s --json -- a b",
        "--json predict B a --state s b",
        "--state s --json predict B a b",
        "--json predict --state s B a b",
    ],
)
def test_options_stand_anywhere(parser, line):
    args = parser.parse_args(line.split())
    assert (args.bundle, args.images, args.json, args.state) == ("B", ["a", "b"], True, "s")


def test_what_looks_like_an_option_comes_after_two_hyphens(parser):
    assert parser.parse_args(["predict", "B", "--json", "--", "-x.jpg", "--json"]).images == ["-x.jpg", "--json"]
    assert parser.parse_args(["predict", "B", "--json", "-"]).images == ["-"]
    args = parser.parse_args(["learn", "B", "--seed", "-1", "d"])
    assert (args.seed, args.data) == (-1, "d")


@pytest.mark.parametrize("line", ["predict B --jsn a", "--jsn predict B a", "predict B a --state", "prdict B", ""])
def test_a_slip_of_the_pen_is_refused(parser, line):
    with pytest.raises(DeviceError):
        parser.parse_args(line.split())


def test_home_is_expanded_wherever_a_path_is_given(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert path_argument("~/st") == Path("/home/me/st")
    assert path_argument("~") == Path("/home/me")
    assert data_argument("npz:~/d.npz") == "npz:/home/me/d.npz"
    assert data_argument("folder:~/photos") == "folder:/home/me/photos"
    assert data_argument("video:~/a.avi") == "video:/home/me/a.avi"
    assert data_argument("~/photos") == "/home/me/photos"
    assert (data_argument("-"), data_argument("camera:0"), data_argument("digits")) == ("-", "camera:0", "digits")
    assert path_argument("a/~/b") == Path("a/~/b")
    assert path_argument("~$letter.jpg") == Path("~$letter.jpg")  # of no user: a name like others


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_an_empty_path_is_not_the_working_directory(text):
    for kind in (path_argument, data_argument, name_argument):
        with pytest.raises(argparse.ArgumentTypeError, match="empty: give a "):
            kind(text)
    with pytest.raises(argparse.ArgumentTypeError, match="what follows npz: is empty: give a path"):
        data_argument(f"npz:{text}")
    with pytest.raises(DeviceError, match="state is empty: give a path"):
        given_path(text, "state")


@pytest.mark.parametrize("text", ["0", "20261129", "4294968", str(2**32), str(2**64 - 1), "0020"])
def test_every_seed_of_64_bits(text):
    assert seed_argument(text) == int(text)


@pytest.mark.parametrize("text", ["-1", str(2**64), "1.5", "", "2026-11-29", "1e3"])
def test_what_is_no_seed(text):
    with pytest.raises(argparse.ArgumentTypeError, match="use a whole number from 0 to 18446744073709551615"):
        seed_argument(text)


@pytest.mark.parametrize("path", ["run", "my run", "it's", "-run", "a;b", "$HOME", "~", "ü"])
def test_a_command_can_be_copied(path):
    words = shlex.split(command_line("python", "convert.py", Path(path), "--slots"))
    assert [words[0], os.path.normpath(words[2]), words[3]] == ["python", path, "--slots"]
    assert not words[2].startswith("-")


def test_a_file_in_place_of_a_folder_is_refused_first(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "state" / "new"):
        with pytest.raises(argparse.ArgumentTypeError, match=rf"^{tmp_path}/file is not a folder: give another path"):
            folder_argument(str(path))
    for path in (tmp_path, tmp_path / "new" / "state"):
        assert folder_argument(str(path)) == path
    with pytest.raises(argparse.ArgumentTypeError, match="it is empty"):
        folder_argument("")
