"""The tables of names: complete, and read without Keras by help, choices and errors."""

import json
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

from firmware_host.bundle import BLOCKS
from keras_cbpnet.data.sources import source_names
from keras_cbpnet.errors import UserError
from keras_cbpnet.tables import METHODS, NAMED_SOURCES, PATH_SOURCES, RULES, SELECTIONS, STREAMS, Table
from keras_cbpnet.train import build_parser

COMMAND = """
import json, sys
from keras_cbpnet import cli
from keras_cbpnet.train import main
try:
    code = cli.run(main, sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print(json.dumps([code, sorted({"keras", "tensorflow"} & set(sys.modules))]))
"""


@pytest.mark.parametrize(
    "table", [METHODS, RULES, SELECTIONS, STREAMS, NAMED_SOURCES, PATH_SOURCES], ids=lambda table: table.kind
)
def test_every_name_stands_for_something_of_its_own(table):
    found = list(table.values())
    assert len(set(found)) == len(found) == len(table) > 1
    with pytest.raises(UserError, match=f"unknown {table.kind} 'other'; choose one of {', '.join(table)}$"):
        table.find("other")


@pytest.mark.parametrize("words", [["--dataset", "nope"], ["--help"]], ids=" ".join)
def test_a_wrong_name_of_a_data_set_and_help_need_not_even_numpy(words):
    said = subprocess.run(
        [sys.executable, "-c", COMMAND.replace('"keras"', '"numpy", "keras"'), *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert json.loads(said.stdout.splitlines()[-1]) == [0 if words == ["--help"] else 2, []]


def test_names_are_read_without_importing_what_they_stand_for():
    table = Table("thing", {"one": "no_such_module:One"})
    assert ("one" in table, "two" in table, list(table), len(table)) == (True, False, ["one"], 1)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        table["one"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--help", "data set"),
        ("--dataset nope", "error: unknown data set 'nope'; choose one of digits, cifar100, "),
        ("--whiten nope", "error: unknown data set 'nope'; choose one of digits, cifar100, "),
        ("--plasticity nope", "error: unknown plasticity rule 'nope'; choose one of cbp, cbp_random, "),
        ("--plasticity redo:threshold=-1", "error: ReDo: threshold must be from 0 on, got -1.0"),
        ("--plasticity l2:decya=1", "error: rule l2 has no 'decya'; it has decay"),
        ("--prompts --query-depth 99 --dataset digits", "error: --query-depth must be from 0 to "),
        ("--method ncm --plasticity l2", "error: --plasticity l2 is for --method cbpnet and foster, not ncm"),
        ("--method nope", "error: argument --method: invalid choice: 'nope'"),
        ("--stream nope", "error: argument --stream: invalid choice: 'nope'"),
        ("--block nope", "error: argument --block: invalid choice: 'nope'"),
        ("--prompt-selection nope", "error: argument --prompt-selection: invalid choice: 'nope'"),
        ("--batch 0", "error: --batch must be at least 1, got 0"),
        ("--weights nope", "error: no weights file 'nope'"),
    ],
)
def test_help_and_bad_input_need_no_keras(arguments, said, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COMMAND, *arguments.split()]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    *shown, result = done.stdout.splitlines()
    assert said in "\n".join(shown) + done.stderr
    assert json.loads(result) == [0 if arguments == "--help" else 2, []]
    assert not list(tmp_path.iterdir())


def test_the_help_names_what_the_tables_hold():
    actions = {action.dest: action for action in build_parser()._actions}
    tables = {"method": METHODS, "stream": STREAMS, "prompt_selection": SELECTIONS, "block": BLOCKS}
    for option, table in tables.items():
        assert list(actions[option].choices) == list(table)
    assert all(name in actions["plasticity"].help for name in RULES)
    assert all(name in actions["dataset"].help for name in source_names())
    assert "domains:PATH" in source_names()
