"""benchmarks.unknown_classes: unknown classes that lie apart are told, and what cannot be meant is one line."""

import json

import numpy as np
import pytest

from benchmarks import unknown_classes
from benchmarks.plasticity.stream import load_raw
from keras_cbpnet.errors import UserError


@pytest.fixture
def features(tmp_path):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(14, 16)) * 2
    arrays = {}
    for part, each in (("train", 60), ("test", 20)):
        arrays[f"y_{part}"] = np.repeat(np.arange(14), each)
        arrays[f"x_{part}"] = (centres[arrays[f"y_{part}"]] + rng.normal(size=(14 * each, 16))).astype(np.float32)
    np.savez(tmp_path / "f.npz", **arrays)
    return tmp_path / "f.npz"


@pytest.mark.slow
def test_unknown_classes_are_told(features, tmp_path, capsys):
    output = tmp_path / "out.json"
    words = ["--features", str(features), "--known", "10", "--images", "40", "--seeds", "0,1", "--json", str(output)]
    assert unknown_classes.main(words) == 0
    found = json.loads(output.read_text())["found"]
    assert found["novelty"]["mean"] > 0.9
    assert found["accuracy"]["mean"] > 0.9
    assert found["rejected_0.05"]["mean"] == pytest.approx(0.05, abs=0.05)
    assert found["offered_purity"]["mean"] > 0.9
    assert found["offered_classes"]["mean"] > 0.7
    printed = capsys.readouterr().out
    assert "| area under the ROC curve, novelty" in printed
    assert "| unknown classes offered" in printed


def test_half_of_the_stream_is_of_unknown_classes_and_none_of_it_was_learned(features):
    data, rng = unknown_classes.load_raw(features), np.random.default_rng(3)
    feature, label = unknown_classes.stream(data, np.arange(400), np.arange(10), rng)
    assert (label < 10).sum() == (label >= 10).sum() == 320
    learned = {row.tobytes() for row in data.x_train[:400].astype(np.float32)}
    assert not learned & {row.tobytes() for row in feature}


@pytest.mark.slow
def test_nothing_offered_is_said_as_such(monkeypatch, features):
    data = unknown_classes.load_raw(features)
    monkeypatch.setattr(unknown_classes, "RATES", (0.0, 0.1))
    found = unknown_classes.measure(data, 10, 40, 0)
    assert [found[name] for name in unknown_classes.OFFERS] == [0.0, 0.0, 0.0]


def test_few_images_of_few_classes_are_enough(tmp_path, capsys):
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(4), 3)
    arrays = {f"x_{part}": rng.normal(0, 1, (12, 6)) + 9 * np.eye(4, 6)[labels] for part in ("train", "test")}
    np.savez(tmp_path / "few.npz", **arrays, y_train=labels, y_test=labels)
    with pytest.raises(UserError, match="4 classes of at least 3 training images; 10 of at least 50 are needed"):
        load_raw(tmp_path / "few.npz")
    assert unknown_classes.main(["--features", str(tmp_path / "few.npz"), "--known", "3", "--seeds", "0"]) == 0
    assert "3 classes known" in capsys.readouterr().out


def test_a_calibration_error_is_the_gap_between_sure_and_right():
    assert unknown_classes.calibration_error(np.full(10, 0.9), np.arange(10) < 6) == pytest.approx(0.3)
    assert unknown_classes.calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--known", "14"], "--known is 14; use 2 to 13"),
        (["--known", "1"], "--known is 1; use 2 to 13"),
        (["--known", "5", "--images", "0"], "--images is 0; use 1 or more"),
    ],
)
def test_bad_input_is_one_line(features, arguments, message, refused):
    assert message in refused(unknown_classes.main, ["--features", str(features), *arguments])
