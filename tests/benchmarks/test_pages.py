"""The class-incremental benchmark's arithmetic and resumption, and the page of all results."""

import json
import math

import numpy as np
import pytest

from benchmarks import class_incremental, micro, page
from benchmarks.common import results, runs
from keras_cbpnet import cli
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError


def row(*accuracy):
    return {"average_accuracy": list(accuracy), "mean": sum(accuracy) / len(accuracy), "std": 0.01}


def test_the_interval_is_that_of_paired_differences():
    found = results.paired([0.65, 0.66, 0.70], [0.62, 0.62, 0.65])
    # Differences 0.03, 0.04, 0.05: deviation 0.01, and 4.3027 is Student's quantile for two degrees of freedom.
    half = 4.302652729911275 * 0.01 / math.sqrt(3)
    assert found == pytest.approx({"difference": 0.04, "low": 0.04 - half, "high": 0.04 + half})
    assert results.paired([0.5], [0.4])["low"] == -math.inf


def test_every_row_is_a_run_of_the_trainer():
    for settings in class_incremental.ROWS.values():
        TrainConfig(**{**class_incremental.COMMON, **settings})


def test_rows_are_measured_once_and_written(tmp_path, monkeypatch, capsys):
    from keras_cbpnet.training import trainer

    runs = []

    def train(config, folder):
        runs.append((config.method, config.tasks, config.seed))
        metrics = {
            "average_accuracy": 0.5 + 0.01 * config.seed + (config.method == "slda") / 10,
            "average_incremental_accuracy": 0.6,
            "forgetting": 0.1,
        }
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return metrics

    monkeypatch.setattr(trainer, "train", train)
    output = tmp_path / "out.json"
    arguments = ["--data", "digits", "--tasks", "2,5", "--rows", "ncm,slda", "--work", str(tmp_path / "work")]
    for seeds in ("0,1", "0,1,2"):
        assert cli.run(class_incremental.main, [*arguments, "--seeds", seeds, "--json", str(output)]) == 0
    assert len(runs) == len(set(runs)) == 2 * 2 * 3  # those of seeds 0 and 1 were not run again
    record = json.loads(output.read_text())
    assert record["tasks"]["5"]["slda"]["average_accuracy"] == pytest.approx([0.6, 0.61, 0.62])
    assert record["tasks"]["5"]["slda"]["std"] == pytest.approx(0.01)
    assert record["paired"] == {}
    shown = capsys.readouterr().out
    assert shown.index("slda") < shown.index("ncm")  # best first
    assert "61.0 ± 1.0" in shown


def test_a_part_of_the_images_is_a_data_set_of_its_own(tmp_path):
    from keras_cbpnet.data import open_dataset

    spec = runs.subset("digits", (7, 3), tmp_path / "work", 32)
    whole, part = open_dataset("digits", 32), open_dataset(spec, 32)
    assert part.class_names == whole.class_names
    for name, count in (("train", 7), ("test", 3)):
        labels, all_labels = getattr(part, f"y_{name}"), getattr(whole, f"y_{name}")
        assert [int(np.sum(labels == c)) for c in range(10)] == [count] * 10
        of_four = getattr(whole, f"x_{name}")[all_labels == 4][:count]
        np.testing.assert_array_equal(getattr(part, f"x_{name}")[labels == 4], of_four)


def test_a_part_may_have_fewer_classes(tmp_path):
    from keras_cbpnet.data import open_dataset

    part, whole = open_dataset(runs.subset("digits", (7, 3, 4), tmp_path, 32), 32), open_dataset("digits", 32)
    assert part.class_names == ("0", "2", "5", "7")
    five = np.flatnonzero(whole.y_test == 5)[:3]
    np.testing.assert_array_equal(part.x_test[part.y_test == 2], whole.x_test[five])
    with pytest.raises(UserError, match="asks for 11 classes; digits has 10"):
        runs.subset("digits", (7, 3, 11), tmp_path, 32)


def test_an_unknown_row_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        class_incremental.main(["--data", "digits", "--rows", "ncm,lda"])
    assert ended.value.code == 2
    assert "no row 'lda'" in capsys.readouterr().err


def test_the_page_is_that_of_the_result_files():
    text = page.PAGE.read_text()
    assert text == page.page(page.FOLDER)
    for file in page.FOLDER.iterdir():
        left_out = [name for name in page.LEFT_OUT if file.name.startswith(name)]
        assert file.name in text or f"`{left_out[0]}*.json`" in text


def result(command, tasks, **changes):
    rows = {name: {} for found in tasks.values() for name in found}
    common = {"prompt_tasks": 0}
    record = {"command": command, "commit": "1234567", "preset": "p", "image_size": 32, "per_class": None, "seeds": [0]}
    return {**record, "common": common, "rows": rows, "tasks": tasks, "paired": {}, **changes}


def test_results_of_the_same_runs_are_one_table(tmp_path):
    command = "python -m benchmarks.class_incremental --data npz:a.npz"
    files = {
        "1": result(command, {"10": {"ncm": row(0.5), "slda": row(0.75)}}),
        "2": result(command, {"5": {"slda": row(0.625)}, "10": {"ranpac": row(0.8125)}}),
        "3": result(command.replace("a.npz", "b.npz"), {"10": {"ncm": row(0.25)}}),
        "4": result(command, {"10": {"ncm": row(0.125)}}, seeds=[0, 1]),
    }
    for name, record in files.items():
        (tmp_path / f"class_incremental_{name}.json").write_text(json.dumps(record))
    text = page.page(tmp_path)
    lines = [[line.replace(" ", "") for line in part.splitlines()] for part in text.split("seeds")]
    tables = [[line for line in part if line.startswith("|")] for part in lines]
    merged, other, two_seeds = [table for table in tables if table]
    assert merged[0] == "||T=5|T=10|"
    assert merged[2:] == ["|slda|62.5±1.0|75.0±1.0|", "|ranpac|-|81.2±1.0|", "|ncm|-|50.0±1.0|"]
    assert (other[-1], two_seeds[-1]) == ("|ncm|25.0±1.0|", "|ncm|12.5±1.0|")
    with pytest.raises(UserError, match="two result files hold ncm for 10 tasks"):
        class_incremental.merge([files["1"], files["1"]])


def test_the_micro_page_shows_memory_by_preset_and_accuracy_by_kind():
    arena = {"bytes": 2048, "tensors": 512, "variables": 256, "persistent": 128, "tensor_records": 64}
    arena["operator_records"] = 32
    memory = {
        "arena": dict.fromkeys(("backbone.tflite", "head_step.tflite", "head_step_b8.tflite"), arena),
        "arena_bytes": 3584,
        "flash_bytes": 10240,
        "state_bytes": 1024,
        "multiply_adds": {"predict": 12_300_000, "learn": 12_300_000},
        "ethos_u": {"ethos-u55": {"source": "Vela", "sram_kib": 31.5, "per_second": 290.1}},
    }
    mean = dict.fromkeys(micro.CONVERSIONS, 0.931)
    std = {**mean, micro.SGD: 0.01}
    record = {"memory": {"vit_micro_32": memory}, "seeds": [0, 1], "mean": mean, "std": std}
    text = micro.render(record)
    assert "0.5 + 0.2 + 0.1 + 0.1 + 0.0" in text
    assert "31.5 KiB, 290/s" in text
    assert "not asked" in text  # Ethos-U85
    assert "93.1 ± 1.0" in text
    assert "3.5" in text
