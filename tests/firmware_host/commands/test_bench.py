"""The benchmarks of a device left alone: what they measure on a small bundle, and what they make of it."""

import json

import numpy as np
import pytest

from benchmarks import endurance, unattended
from firmware_host import Device
from firmware_host.images.labelled import LabelledImages
from keras_cbpnet import cli


@pytest.mark.slow
def test_unattended_measures_new_classes_and_wrong_labels(make, bundle, tmp_path):
    names = ["red", "green", "blue", "white"]
    arrays = {"class_names": np.array(names)}
    for split, count in (("train", 14), ("test", 5)):
        images, labels = make.images(names, count, seed=len(split))
        arrays[f"x_{split}"] = np.stack(images)
        arrays[f"y_{split}"] = np.array([names.index(label) for label in labels])
    np.savez(tmp_path / "data.npz", **arrays)
    output = tmp_path / "out.json"
    arguments = [str(bundle), "--data", f"npz:{tmp_path / 'data.npz'}", "--runtime", "numpy", "--seeds", "3"]
    assert cli.run(unattended.main, [*arguments, "--images", "30", "--json", str(output)]) == 0
    result = json.loads(output.read_text())
    assert {record["new_class"] for record in result["new_classes"]} == {"blue", "white"}
    assert all(record["new_few"] == record["new_all"] == 1 for record in result["new_classes"])
    [stream] = result["wrong_labels"]
    assert (stream["images"], stream["seed"], stream["rolled_back_right"]) == (30, 3, 0)
    assert 0 < stream["wrong"] < 0.5
    assert stream["at_once_right"] == 1
    assert "| new class | | 100.0 | 100.0 | 10 images reach 80 % of all | 100 % | 2 of 2 |" in unattended.render(result)


def test_a_class_that_never_came_counts_as_wrong(make, bundle, tmp_path):
    images, labels = make.images(["red", "green", "white"], 4, seed=5)
    with Device.open(bundle, tmp_path / "state", "numpy") as device:
        assert "white" not in device.classes
        known = [row for row, label in enumerate(labels) if label != "white"]
        right = device.evaluate([images[row] for row in known], [labels[row] for row in known])["accuracy"]
        assert unattended.accuracy(device, LabelledImages(images, labels)) == pytest.approx(right * 2 / 3)


def test_unattended_says_how_many_cases_hold():
    early = {f"{kind}_{n}": 0.1 * n for kind in ("new", "old") for n in unattended.EARLY}
    new = [
        {"old_before": 0.9, "old_few": old, "new_few": few, "new_all": 0.8, "old_all": 0.9, **early}
        for old, few in ((0.9, 0.8), (0.88, 0.64), (0.89, 0.6))
    ]
    wrong = [
        {"wrong": 0.2, "images": 60, **dict.fromkeys(("one_by_one_right", "at_once_right"), 0.9), **lost}
        for lost in ({"one_by_one_wrong": 0.86, "at_once_wrong": 0.8}, {"one_by_one_wrong": 0.9, "at_once_wrong": 0.9})
    ]
    whole = unattended.summary({"new_classes": new, "wrong_labels": wrong})
    assert whole["reached"] == pytest.approx((1 + 0.8 + 0.75) / 3)
    assert (whole["cases_reached"], whole["largest_cost"]) == (2, pytest.approx(0.02))
    assert whole["cost"] == pytest.approx(0.01)
    assert (whole["one_by_one_cases"], whole["at_once_cases"]) == (2, 1)
    assert whole["at_once_most_lost"] == pytest.approx(0.1)
    assert whole["new_early"] == pytest.approx([0.1, 0.2, 0.4])


def test_endurance_compares_with_the_first_round_and_with_new_processes():
    calls = {"teach_ms": 5.0, "learn_ms": 90.0, "predict_ms": 2.0}
    rounds = [{"steps": 1000, "predictions": 1000, "memory_mb": size, **calls} for size in (60.0, 60.4, 60.9, 60.1)]
    ratios = [{"teach": 1.0, "learn": 0.99, "predict": slow} for slow in (1.2, 1.01, 1.02)]
    whole = endurance.summary(rounds, ratios)
    assert (whole["steps"], whole["predictions"]) == (4000, 4000)
    assert whole["memory_growth_mb"] == pytest.approx(0.9)
    assert (whole["predict_slow_down"], whole["holds"]) == (1.02, True)
    assert not endurance.summary([*rounds, {**rounds[0], "memory_mb": 61.1}], ratios)["holds"]
    assert not endurance.summary(rounds, [{**ratios[0], "teach": 1.06}])["holds"]
    lived = {"runtime": "ai_edge_litert", "saves": 4, "rolled_back": 0}
    text = endurance.render({"summary": {**whole, **lived}, "rounds": rounds, "ratios": ratios})
    assert "| memory, MiB | 60.0 | 60.9 | 60.1 | at most +0.90 | +1 |" in text
    assert "| prediction, ms | 2.0 | 2.0 | 2.0 | +2.0% | +5% |" in text


def test_endurance_needs_rounds_to_compare(capsys):
    assert cli.run(endurance.main, ["nowhere", "--rounds", "3"]) == 2
    assert capsys.readouterr().err == "error: --rounds 3 is too few; use 4 or more\n"


@pytest.mark.slow
def test_a_new_process_answers_call_by_call(make, tmp_path):
    bundle = make.write_bundle(tmp_path / "b")
    with endurance.Device.open(bundle, tmp_path / "state", "numpy") as device:
        calls = endurance.Calls(device, endurance.World(device, 0), "buffer:20")
        assert calls.time("teach") > 0
        device.save()
        args = endurance.build_parser().parse_args([str(bundle), "--runtime", "numpy"])
        compared = {"teach": 2, "learn": 1, "predict": 2}
        ratios = endurance.slow_down(calls, device, args, compared)
    assert ratios.keys() == compared.keys()
    assert all(0 < ratio < 100 for ratio in ratios.values())
