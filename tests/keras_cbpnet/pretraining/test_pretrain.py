"""The pretraining command: labels and a teacher, a kill that changes nothing, white features, one-line errors."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from keras_cbpnet import cli, presets
from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.presets import Preset

SIZES = {"image_size": 32, "patch_size": 4, "width": 16, "depth": 2, "heads": 2, "mlp_width": 32}
STUDENT = BackboneConfig(stem=((8, 2),), whitening=True, **SIZES)
TEACHER = BackboneConfig(stem=(), activation="gelu", **{**SIZES, "width": 24})


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    labels = np.arange(64) % 2
    pixels = rng.integers(0, 60, (64, 32, 32, 3), np.uint8)
    pixels[labels == 1, :, ::2] += 150
    part = {"x_train": pixels, "y_train": labels, "x_test": pixels[:8], "y_test": labels[:8]}
    np.savez(path, **part, class_names=np.array(["plain", "striped"]))
    return path


@pytest.fixture
def arguments(images, tmp_path, monkeypatch):
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.models.weights import save_weights

    monkeypatch.setitem(presets.PRESETS, "student", lambda: Preset("student", STUDENT))
    monkeypatch.setitem(presets.PRESETS, "teacher", lambda: Preset("teacher", TEACHER))
    teacher = Backbone(TEACHER)
    teacher.build()
    save_weights(teacher, tmp_path / "teacher.npz")
    weights = ["--teacher", "teacher", "--teacher-weights", str(tmp_path / "teacher.npz")]
    return ["--preset", "student", "--data", f"npz:{images}", "--batch", "16", "--epochs", "2", *weights]


def read(path):
    with np.load(path) as file:
        return dict(file)


@pytest.mark.slow
def test_a_killed_pretraining_ends_as_one_that_was_not(arguments, images, tmp_path, monkeypatch, capsys):
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.models.weights import load_weights
    from keras_cbpnet.pretrain import main
    from keras_cbpnet.pretraining.epochs import Follow

    arguments = [*arguments, "--mixup", "0.5", "--cutmix", "1", "--qat-epochs", "2", "--shrinkage", "0.1"]
    whole, killed = tmp_path / "whole.npz", tmp_path / "killed.npz"
    assert main([*arguments, "--output", str(whole)]) == 0

    begin = Follow.on_epoch_begin

    def die_in(number):
        def die(self, epoch, logs=None):
            if self.first + epoch == number:
                raise KeyboardInterrupt
            begin(self, epoch, logs)

        return die

    for number in (1, 3):  # without quantizers and with
        with monkeypatch.context() as patch:
            patch.setattr(Follow, "on_epoch_begin", die_in(number))
            assert cli.run(main, [*arguments, "--output", str(killed)]) == cli.INTERRUPTED
        assert not killed.exists()
    stamp = (tmp_path / "killed.work" / "teacher.npy").stat().st_mtime_ns
    assert cli.run(main, [*arguments, "--output", str(killed), "--epochs", "9"]) == 2  # another training
    assert "--epochs 2" in capsys.readouterr().err
    assert main([*arguments, "--output", str(killed)]) == 0
    assert (tmp_path / "killed.work" / "teacher.npy").stat().st_mtime_ns == stamp  # computed once
    first, second = read(whole), read(killed)
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values, err_msg=name)
    log = json.loads(killed.with_suffix(".json").read_text())
    assert [record["epoch"] for record in log["epochs"]] == [0, 1, "averaged after 2", 2, 3, "averaged after 4"]
    same = ("epoch", "loss", "accuracy")
    records = (json.loads(file.with_suffix(".json").read_text())["epochs"] for file in (whole, killed))
    for one, other in zip(*records, strict=True):
        assert [one.get(key) for key in same] == [other.get(key) for key in same]

    backbone = Backbone(STUDENT)
    backbone.build()
    load_weights(backbone, killed)
    assert log["parameters"] == backbone.count_params()
    data = read(images)
    features = backbone.features(data["x_train"]).numpy()
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=0.05)  # white up to float16 and the shrinkage
    within = np.concatenate([features[data["y_train"] == c] - features[data["y_train"] == c].mean(0) for c in (0, 1)])
    values = np.linalg.eigvalsh(within.T @ within / 62)
    assert values.max() < 1.2
    before = killed.read_bytes()
    assert cli.run(main, [*arguments, "--output", str(killed)]) == 2  # no --overwrite
    assert killed.read_bytes() == before


@pytest.mark.slow
def test_pretraining_learns(arguments, tmp_path):
    from keras_cbpnet.pretrain import main

    output = tmp_path / "weights.npz"
    assert main([*arguments, "--output", str(output), "--learning-rate", "0.01", "--ema", "0", "--epochs", "8"]) == 0
    records = json.loads(output.with_suffix(".json").read_text())["epochs"]
    assert records[-1]["accuracy"] == 1.0
    assert records[7]["loss"] < 0.8 * records[0]["loss"]
    further = tmp_path / "further.npz"
    started = ["--start", str(output), "--qat-epochs", "0", "--learning-rate", "1e-4"]
    assert main([*arguments, "--output", str(further), *started]) == 0
    change = [np.abs(values - read(output)[name]).max() for name, values in read(further).items() if "expand" in name]
    assert 0 < max(change) < 0.02  # random weights would differ by more than 0.1


@pytest.mark.slow
def test_a_student_begins_as_its_teacher_and_learns_from_views(arguments, tmp_path, monkeypatch):
    from keras_cbpnet.pretrain import main

    narrow = BackboneConfig(stem=(), whitening=True, **{**SIZES, "width": 24, "mlp_width": 16})
    monkeypatch.setitem(presets.PRESETS, "student", lambda: Preset("student", narrow))
    output = tmp_path / "weights.npz"
    views = ["--inherit", "--label-weight", "0", "--views", "48", "--mosaics", "0.5", "--qat-epochs", "0"]
    assert main([*arguments, *views, "--ema", "0", "--epochs", "8", "--output", str(output)]) == 0
    records = json.loads(output.with_suffix(".json").read_text())["epochs"]
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses[-1] < 0.5 * losses[0]
    assert records[-1]["agreement"] > 0  # a share of the variance: an untrained student explains nothing
    assert "accuracy" not in records[-1]
    assert len(np.load(tmp_path / "weights.work" / "teacher.npy")) == 48


@pytest.mark.slow
def test_branches_of_the_stem_are_merged(arguments, images, tmp_path):
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.models.weights import load_weights
    from keras_cbpnet.pretrain import main

    output = tmp_path / "weights.npz"
    assert main([*arguments, "--output", str(output), "--reparam", "orepa", "--qat-epochs", "1"]) == 0
    backbone = Backbone(STUDENT)
    backbone.build()
    load_weights(backbone, output)  # whose file holds one kernel a convolution
    features = np.asarray(backbone.features(read(images)["x_train"]))
    assert np.isfinite(features).all()
    records = json.loads(output.with_suffix(".json").read_text())["epochs"]
    assert records[-1]["agreement"] == pytest.approx(records[-2]["agreement"], abs=0.5)  # merged, it goes on from there


def test_the_teachers_outputs_are_averaged_patches(arguments, images, tmp_path):
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.pretraining.distillation import encoded, teacher_tokens

    teacher = Backbone(TEACHER)
    teacher.build()
    pixels = read(images)["x_train"][:5]
    found = teacher_tokens(teacher, pixels, 4, tmp_path / "t.npy", "a", lambda line: None)
    tokens = encoded(teacher, pixels.astype(np.float32)).numpy()
    np.testing.assert_allclose(found[:, 0], tokens[:, 0], atol=5e-3)
    # From 8 x 8 to 4 x 4 with antialiasing: the triangle filter's weights over four neighbours, fewer at the border.
    rows = np.zeros((4, 8))
    for i in range(4):
        weights = np.maximum(0, 1 - np.abs((np.arange(8) + 0.5) / 2 - (i + 0.5)))
        rows[i] = weights / weights.sum()
    grid = np.einsum("ij,bjkd,lk->bild", rows, tokens[:, 1:].reshape(5, 8, 8, 24), rows)
    np.testing.assert_allclose(found[:, 1:], grid.reshape(5, 16, 24), atol=5e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--batch", "65"], "--batch 65 is more than the 64 training images"),
        (["--accumulate", "0"], "--accumulate must be at least 1, got 0"),
        (["--accumulate", "3"], "--accumulate must divide --batch 16, got 3"),
        (
            ["--reparam", "orepa", "--inherit"],
            "--reparam orepa begins with random weights; leave --start and --inherit",
        ),
        (["--cutmix", "-1"], "--cutmix must be a number from 0 on, got -1.0"),
        (["--ema", "1"], "--ema must be in 0..1, got 1.0"),
        (["--output", "weights.h5"], "--output weights.h5 must end in .npz"),
        (["--start", "nothing.npz"], "no weights file 'nothing.npz'"),
        (["--teacher-weights", "nothing.npz"], "no weights file 'nothing.npz'"),
        (["--data", "npz:nothing.npz"], "nothing.npz"),
        (["--preset", "vit_giant"], "unknown preset 'vit_giant'"),
        (["--mosaics", "2"], "--mosaics must be in 0..1, got 2.0"),
        (["--inherit", "--start", __file__], "--inherit needs --teacher, whose weights it begins with, and no --start"),
        (["--inherit"], "--inherit needs a teacher with the student's stem"),
        (["--label-weight", "0", "--feature-weight", "0", "--patch-weight", "0"], "nothing to learn"),
        (["--detail", "64"], "--detail is of views that a teacher sees: give --teacher and --views or --mosaics"),
        (["--detail", "16", "--views", "32"], "--detail 16 is less than the 32 pixels that the student sees"),
    ],
)
def test_bad_input_is_one_line(arguments, change, message, tmp_path, monkeypatch, capsys):
    from keras_cbpnet.pretrain import main

    monkeypatch.chdir(tmp_path)
    assert cli.run(main, [*arguments, "--output", "w.npz", *change]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "w.npz").exists()


@pytest.mark.slow
def test_the_same_command_trains_on_jax(images, tmp_path):
    from keras_cbpnet import Backbone

    output = tmp_path / "weights.npz"
    arguments = ["--data", f"npz:{images}", "--output", str(output), "--epochs", "1", "--batch", "32"]
    teacher = ["--teacher", "vit_micro_32"]
    command = [sys.executable, "-m", "keras_cbpnet.pretrain", "--preset", "vit_micro_32", *arguments, *teacher]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--qat-epochs needs KERAS_BACKEND=tensorflow, not jax" in refused.stderr
    subprocess.run([*command, "--qat-epochs", "0"], env=environment, check=True, capture_output=True)
    log = json.loads(output.with_suffix(".json").read_text())
    assert log["backend"] == "jax"
    assert log["epochs"][0]["loss"] > 0
    features = Backbone.from_preset("vit_micro_32", output).features(read(images)["x_train"][:4])
    assert np.isfinite(features.numpy()).all()


def test_other_data_are_refused_where_a_pretraining_began(arguments, images, tmp_path, monkeypatch, capsys):
    from keras_cbpnet.pretrain import main
    from keras_cbpnet.pretraining import course

    monkeypatch.setattr(course, "follow", lambda *_: None)
    arrays = read(images)
    data = tmp_path / "data.npz"
    arguments = [*arguments, "--data", f"npz:{data}", "--output", str(tmp_path / "out.npz")]
    np.savez(data, **arrays)
    assert main(arguments) == 0
    assert main(arguments) == 0
    np.savez(data, **{**arrays, "x_train": 255 - arrays["x_train"]})
    capsys.readouterr()
    assert cli.run(main, arguments) == cli.BAD_INPUT
    assert "is not what" in (line := capsys.readouterr().err)
    assert "out.work was trained on: it has other images of 'plain' and of 1 more classes; put the data back" in line
