"""benchmarks.defaults: what it trains, that the default is compared with the best, and bad input in one line."""

import json

import numpy as np
import pytest

from benchmarks import defaults
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError
from keras_cbpnet.train import build_parser

ACCURACY = {"": 0.8, "--no-bank": 0.7, "--whiten": 0.9, "--replay": 0.85}


@pytest.fixture
def trained(monkeypatch):
    """Words of every run of a trainer whose accuracy is that of its last option, and a hundredth for each seed."""
    from keras_cbpnet import train

    asked = []

    def main(words):
        asked.append(words)
        args = vars(build_parser().parse_args(words))
        known = [option for option in ACCURACY if option in words]
        args["output"].mkdir(parents=True)
        accuracy = ACCURACY[known[-1] if known else ""] + args["seed"] / 100
        (args["output"] / "metrics.json").write_text(json.dumps({"average_accuracy": accuracy}))
        return 0

    monkeypatch.setattr(train, "main", main)
    return asked


@pytest.fixture
def photos(tmp_path):
    """Twelve small images of each of two classes, every one of another grey."""
    grey = np.arange(24, dtype=np.uint8)[:, None, None, None]
    x, y = np.broadcast_to(grey, (24, 8, 8, 3)), np.arange(24) % 2
    parts = {"x_train": x[:16], "y_train": y[:16], "x_test": x[16:], "y_test": y[16:]}
    np.savez(tmp_path / "photos.npz", class_names=["cup", "dog"], **parts)
    return f"npz:{tmp_path / 'photos.npz'}"


def test_the_default_is_compared_with_the_best(trained, tmp_path, capsys):
    output, work = tmp_path / "out.json", tmp_path / "work"
    words = ["--settings", "no bank,whitened by data,replay of statistics", "--whiten", "digits", "--work", str(work)]
    words += ["--json", str(output), "--options=--no-qat"]
    for seeds in ("0,1", "0,1,2"):
        assert cli.run(defaults.main, [*words, "--seeds", seeds]) == 0
    assert len(trained) == 4 * 3  # those of seeds 0 and 1 were not run again
    assert all("--no-qat" in asked for asked in trained)
    assert [asked[asked.index("--whiten") + 1] for asked in trained if "--whiten" in asked] == ["digits"] * 3
    record = json.loads(output.read_text())
    assert list(record["found"]) == ["digits"]  # the others were given no images
    assert record["compared"]["digits"]["best"] == "whitened by data"
    pair = record["compared"]["digits"]["differences"]["no bank"]
    assert pair == pytest.approx({"difference": -0.1, "low": -0.1, "high": -0.1})
    shown = capsys.readouterr().out
    assert "-10.0 (more than 0.5) |" in shown
    assert "| no bank: `--no-bank`" in shown


def test_a_default_that_nothing_beats_is_the_best(trained, tmp_path, capsys):
    arguments = ["--settings", "no bank,cbp_surprise", "--seeds", "0", "--work", str(tmp_path)]
    assert defaults.main(arguments) == 0  # cbp_surprise: as good
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| digits ")]
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["80.0", "default", "80.0", "+0.0"]


def test_every_setting_is_one_of_the_trainer():
    for words in defaults.SETTINGS.values():
        build_parser().parse_args(words.split())


def test_a_seed_draws_images_of_each_class(photos, tmp_path):
    draws = {}
    for seed in (0, 1):
        for count in (3, 5):
            spec = defaults.drawn(photos, defaults.Entry("photos", count, 4), seed, tmp_path / "work")
            with np.load(spec.removeprefix("npz:")) as drawn:
                train, test = (set(drawn[f"x_{part}"][:, 0, 0, 0].tolist()) for part in ("train", "test"))
                each = [np.bincount(drawn[f"y_{part}"]).tolist() for part in ("train", "test")]
            assert each == [[count] * 2, [4] * 2]
            assert (len(train), len(test), train & test) == (2 * count, 8, set())
            draws[seed, count] = train, test
    assert draws[0, 3][1] == draws[0, 5][1] != draws[1, 5][1]
    assert draws[0, 3][0] < draws[0, 5][0]


def test_too_few_images_are_one_line(photos, tmp_path):
    with pytest.raises(UserError, match="has 12 images; give 13 of each class"):
        defaults.drawn(photos, defaults.Entry("photos", 9, 4), 0, tmp_path)


def test_entries_are_chosen(trained, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(defaults.ENTRIES, "photos 5", defaults.Entry("photos", 5, 4))
    arguments = ["--photos", photos, "--entries", "photos 5", "--settings", "no bank", "--seeds", "3"]
    assert defaults.main([*arguments, "--work", str(tmp_path / "work")]) == 0
    assert [asked[1] for asked in trained] == [f"npz:{tmp_path / 'work' / 'photos-5-3.npz'}"] * 2


def test_an_unknown_setting_is_one_line(refused):
    assert "no setting 'bank'; known are default, " in refused(defaults.main, ["--settings", "bank"])
