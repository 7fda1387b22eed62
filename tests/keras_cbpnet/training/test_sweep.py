"""Several seeds in one command: all of them run, mean and deviation, going on after a kill."""

import json
import shutil

import distributed
import joblib
import numpy as np
import pytest
from helpers import tiny_stream
from helpers.tiny_stream import KilledError, killed_at
from PIL import Image

from keras_cbpnet.errors import UserError
from keras_cbpnet.training.sweep import train_seeds

pytestmark = pytest.mark.slow  # each builds or trains networks

SEEDS = [0, 1, 5]
SCALARS = {
    "average_accuracy",
    "average_incremental_accuracy",
    "forgetting",
    "backward_transfer",
    "learning_accuracy",
}


@pytest.fixture(scope="module")
def sweep(stream, tmp_path_factory):
    """A folder of three seeds, and what the call returned."""
    output = tmp_path_factory.mktemp("sweep") / "three"
    return output, train_seeds(stream.config(method="ncm"), SEEDS, output)


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_every_seed_has_its_run(sweep, stream):
    output, _ = sweep
    assert {path.name for path in output.iterdir()} == {"seed-0", "seed-1", "seed-5", "summary.json", "report.html"}
    for seed in SEEDS:
        config = json.loads((output / f"seed-{seed}" / "config.json").read_text())
        config.pop("version")
        assert config == stream.config(method="ncm", seed=seed).to_dict()
    assert len({json.dumps(metrics(output / f"seed-{seed}")) for seed in SEEDS}) > 1
    assert "<svg" in (output / "report.html").read_text()


def test_mean_and_sample_deviation_are_numpys(sweep):
    output, returned = sweep
    summary = json.loads((output / "summary.json").read_text())
    assert summary == json.loads(json.dumps(returned))
    assert summary["seeds"] == SEEDS
    assert "seed" not in summary["config"]
    assert summary["config"]["method"] == "ncm"
    assert set(summary) - {"config", "seeds"} == SCALARS
    for name in SCALARS:
        values = [metrics(output / f"seed-{seed}")[name] for seed in SEEDS]
        assert summary[name]["mean"] == pytest.approx(np.mean(values), abs=1e-12)
        assert summary[name]["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert summary["average_accuracy"]["std"] > 0


def test_a_killed_sweep_goes_on_and_ends_with_the_same_numbers(sweep, stream, tmp_path):
    output, _ = sweep
    here = tmp_path / "killed"
    config = stream.config(method="ncm")
    seed_1 = []

    def progress(line):
        seed_1.extend([line] if seed_1 or line == "seed 1" else [])
        if len(seed_1) > 1 and line.startswith("task 1/2:"):
            raise KilledError

    with pytest.raises(KilledError):
        train_seeds(config, [0, 1], here, progress)
    assert {path.name for path in here.iterdir()} == {"seed-0", "seed-1"}
    before = (here / "seed-0" / "metrics.json").stat()
    lines = []
    assert train_seeds(config, [0, 1], here, lines.append)["seeds"] == [0, 1]
    assert (here / "seed-0" / "metrics.json").stat().st_mtime_ns == before.st_mtime_ns
    assert [line for line in lines if line.startswith("seed")] == ["seed 1"]
    assert not any(line.startswith("task 1/2:") for line in lines)  # seed 1 goes on with its second task
    for seed in (0, 1):
        assert metrics(here / f"seed-{seed}") == metrics(output / f"seed-{seed}")


def test_several_jobs_give_the_numbers_of_one(stream, tmp_path, capfd):
    config = stream.config(method="ncm", preset="vit_micro_32", weights="")  # other processes know no preset of tests
    one = train_seeds(config, [0, 1], tmp_path / "one")
    assert train_seeds(config, [0, 1], tmp_path / "two", jobs=2) == one
    assert "seed 1: task 2/2" in capfd.readouterr().err
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        assert train_seeds(config, [0, 1], tmp_path / "far", jobs=-1) == one
    for seed in (0, 1):
        found = [metrics(tmp_path / folder / f"seed-{seed}") for folder in ("one", "two", "far")]
        assert found[0] == found[1] == found[2]


def test_what_is_wrong_with_a_run_is_said_whoever_trains_it(stream, tmp_path):
    config = stream.config(method="ncm", slots=1, preset="vit_micro_32", weights="")
    with pytest.raises(UserError, match="--slots 1 is too few"):
        train_seeds(config, SEEDS[:2], tmp_path / "few", jobs=2)


def test_seeds_of_other_data_are_not_taken_up(sweep, stream, tmp_path):
    output, _ = sweep
    here = tmp_path / "changed"
    shutil.copytree(output / "seed-0", here / "seed-0")
    record = json.loads((here / "seed-0" / "data.json").read_text())
    record["classes"]["red"]["sha256"] = "0" * 64  # as if it had been trained on other images
    (here / "seed-0" / "data.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"seed-0 was trained on: it has other images of 'red'; put the data back"):
        train_seeds(stream.config(method="ncm"), [0, 1], here)
    assert {path.name for path in here.iterdir()} == {"seed-0"}


def killed_at_the_end(monkeypatch, config, seed, output):
    """Train one seed and kill the sweep where it writes its summary."""

    def killed(path, values):
        raise KilledError(path)

    with monkeypatch.context() as patch:
        patch.setattr("keras_cbpnet.training.sweep.write_json", killed)
        with pytest.raises(KilledError):
            train_seeds(config, [seed], output)


def test_a_kill_between_report_and_summary_is_no_end(sweep, stream, tmp_path, monkeypatch):
    output, _ = sweep
    config, here = stream.config(method="ncm"), tmp_path / "late"
    killed_at_the_end(monkeypatch, config, 5, here)
    assert (here / "report.html").exists()
    lines = []
    assert train_seeds(config, [5], here, lines.append)["average_accuracy"]["std"] is None
    assert lines == []  # nothing was trained again
    assert metrics(here / "seed-5") == metrics(output / "seed-5")  # as among others


def refused(stream, seeds, output, **changes):
    with pytest.raises(UserError) as error:
        train_seeds(stream.config(method="ncm", **changes), seeds, output)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_nothing_is_overwritten(sweep, stream, tmp_path):
    output, _ = sweep
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert "three holds a finished run of several seeds; choose another --output" in refused(stream, SEEDS, output)
    assert "exists and is not an unfinished run of several seeds" in refused(stream, SEEDS, output / "seed-0")
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine\n")
    assert "exists and is not an unfinished run" in refused(stream, SEEDS, tmp_path / "other")
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine\n"


def test_a_sweep_of_another_configuration_is_refused(sweep, stream, tmp_path):
    with pytest.raises(KilledError):
        train_seeds(stream.config(method="ncm"), [0, 1], tmp_path / "begun", killed_at("seed 1"))
    line = refused(stream, [0], tmp_path / "begun", batch=5)
    assert "seed-0 holds a run of another configuration" in line
    (tmp_path / "begun" / "seed-0" / "metrics.json").write_text('{"average')
    assert "metrics.json is damaged" in refused(stream, [0], tmp_path / "begun")


def test_as_many_tasks_as_there_are_domains_go_on_too(stream, tmp_path, monkeypatch):
    pixels, label = tiny_stream.images(2, seed=0)
    for index, (image, c) in enumerate(zip(pixels, label)):
        for domain in ("day", "night"):
            path = tmp_path / "domains" / domain / tiny_stream.CLASSES[c] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image // (1 + (domain == "night"))).save(path)
    config = stream.config(method="ncm", dataset=f"domains:{tmp_path / 'domains'}", stream="domain", tasks=0)
    killed_at_the_end(monkeypatch, config, 0, tmp_path / "run")
    lines = []
    assert train_seeds(config, [0], tmp_path / "run", lines.append)["seeds"] == [0]
    assert lines == []
