"""A command is one file: found, offered and run without another being touched."""

import json

import firmware_host.commands
from firmware_host.cli import main

MODULE = """
from firmware_host.bundle import read_bundle
from firmware_host.commands.common import Command, Output


def _slots(args):
    bundle = read_bundle(args.bundle)
    free = bundle.slots - len(bundle.classes)
    yield Output({"free": free * args.times}, f"{free} slots are free")


def _add_arguments(parser):
    parser.add_argument("--times", type=int, default=1, help="factor")


COMMANDS = (Command("slots", "count the free slots", _slots, _add_arguments),)
"""


def test_a_command_is_added_by_one_file(bundle, tmp_path, monkeypatch, capsys):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "dummy_slots.py").write_text(MODULE)
    paths = [*firmware_host.commands.__path__, str(tmp_path / "more")]
    monkeypatch.setattr(firmware_host.commands, "__path__", paths)
    assert main(["slots", str(bundle), "--times", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"free": 6}
    assert main(["slots", str(bundle), "--times", "x"]) == 2
    assert "argument --times: invalid int value" in capsys.readouterr().err
