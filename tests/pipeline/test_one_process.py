"""Training and conversion in one process, and several recipes in one: the same files as by commands of their own."""

import json

import pytest

from keras_cbpnet import cli

pytestmark = pytest.mark.slow


def files(bundle):
    return {name: (bundle / name).read_bytes() for name in ("backbone.tflite", "head.tflite", "labels.txt")}


def test_a_training_makes_the_bundle_that_the_conversion_makes(road, convert, tmp_path, capsys):
    from keras_cbpnet.train import main

    run, bundle, alone, both = (tmp_path / name for name in ("run", "bundle", "alone", "both"))
    quick = ["--epochs", "0", "--no-prompts", "--head-epochs", "1"]
    assert cli.run(main, [*road.arguments, *quick, "--output", str(run), "--bundle", str(bundle), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["bundle"]["output"] == str(bundle)
    assert printed["bundle"]["accuracy"] == json.loads((bundle / "report.json").read_text())["accuracy"]
    assert cli.run(convert.main, [str(run), "--output", str(alone)]) == 0
    assert files(bundle) == files(alone)
    recipes = ["--recipe", "float32", "--recipe", "int8"]
    assert cli.run(convert.main, [str(run), "--output", str(both), *recipes]) == 0
    assert capsys.readouterr().out.count("next: ") == 3
    assert files(both / "int8") == files(alone)
    assert sorted(path.name for path in both.iterdir()) == ["float32", "int8"]
