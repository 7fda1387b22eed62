"""The command line: what it prints, and one line and exit code 2 for bad input with nothing changed on disk."""

import json

import numpy as np
import pytest
from PIL import Image

from firmware_host.cli import main
from firmware_host.commands import all_commands
from firmware_host.device import DEFAULT_EPOCHS


@pytest.fixture
def call(capfd):
    """Run a command in this process: exit code, JSON records, stderr."""

    def call(command, bundle, *arguments, runtime="numpy"):
        code = main([command, str(bundle), *map(str, arguments), "--runtime", runtime, "--json"])
        out, err = capfd.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return call


@pytest.fixture
def refuse(call, make, bundle, tmp_path):
    """Run a command that must fail: exit code 2, one line, nothing on disk changed; return the line."""

    def refuse(command, *arguments, runtime="numpy"):
        before = make.tree(tmp_path)
        code, records, err = call(command, bundle, *arguments, runtime=runtime)
        assert (code, records) == (2, [])
        assert err.count("\n") == 1
        assert err.startswith("error: ")
        assert make.tree(tmp_path) == before
        return err

    return refuse


def test_the_whole_road(call, make, bundle, tmp_path):
    data = make.folder_of_images(tmp_path / "data" / "train", names=("blue",), each=5).parent
    make.folder_of_images(data / "test", names=("red", "green", "blue"), each=2, seed=8)
    code, [manifest], _ = call("info", bundle)
    assert (code, manifest["classes"], manifest["state"]) == (0, ["red", "green"], None)
    assert manifest["head"]["slots"] == 4

    before = make.tree(bundle)
    code, [result], err = call("learn", bundle, data, "--epochs", 3)
    assert code == 0
    assert (result["steps"], result["images"], result["replaced"]) == (9, 5, 0)
    assert result["loss"] < 1
    assert err.splitlines() == ["reading 5/5", "training 9/9"]
    assert make.tree(bundle) == before

    code, [result], _ = call("evaluate", bundle, data)
    assert (code, result["accuracy"], result["images"]) == (0, 1.0, 6)
    assert result["per_class"] == {"red": 1.0, "green": 1.0, "blue": 1.0}

    images = [data / "test" / "blue" / "4.png", data / "test" / "red" / "0.png"]
    code, records, err = call("predict", bundle, *images)
    assert (code, err) == (0, "")
    assert [(record["image"], record["label"]) for record in records] == [
        (str(images[0]), "blue"),
        (str(images[1]), "red"),
    ]
    assert all(0 < record["probability"] <= 1 and record["latency_ms"] > 0 for record in records)

    state = make.tree(tmp_path / "tiny.state")
    code, [result], _ = call("selftest", bundle)
    assert (code, result["ok"], result["runtime"]) == (0, True, "numpy")
    assert (result["backbone_max_quanta"], result["head_max_error"]) == (0, 0)
    code, [result], _ = call("bench", bundle, "--repeat", 2)
    assert code == 0
    assert {"predict_ms", "train_ms", "peak_memory_mb", "runtime"} <= result.keys()
    assert [each["recipe"] for each in call("bench", bundle, "--against", bundle)[1][0]["backbones"]] == ["int8"] * 2
    assert make.tree(tmp_path / "tiny.state") == state

    code, [manifest], _ = call("info", bundle)
    assert manifest["state"]["classes"] == ["red", "green", "blue"]
    assert (manifest["state"]["images"], manifest["state"]["steps"]) == (45, 9)


def test_a_bundle_of_another_program(call, refuse, make, bundle, tmp_path, capfd):
    make.foreign(bundle)
    data = make.folder_of_images(tmp_path / "data", names=("red", "green", "blue"), each=4)
    code, [manifest], _ = call("info", bundle)
    assert (code, manifest["versions"], "name" in manifest) == (0, {"another_program": "3.1"}, False)
    assert main(["info", str(bundle)]) == 0
    assert capfd.readouterr().out.startswith("tiny (int8), identity ")
    assert "golden.npz lacks 'image', which the self-test needs" in refuse("selftest")
    code, [result], _ = call("learn", bundle, data)
    assert (code, result["images"]) == (0, 12)
    code, [result], _ = call("evaluate", bundle, data)
    assert (code, result["accuracy"]) == (0, 1.0)
    assert call("predict", bundle, data / "red" / "0.png")[1][0]["label"] == "red"
    assert call("bench", bundle, "--repeat", 1)[0] == 0


def test_without_a_start_state_numpy_needs_the_head_itself(refuse, make, bundle):
    make.foreign(bundle, golden=("nothing",))
    assert "head.tflite does not open" in refuse("bench")


def test_the_state_beside_the_bundle_is_used_however_the_bundle_is_named(call, make, bundle, tmp_path, monkeypatch):
    data = make.folder_of_images(tmp_path / "data", names=("blue",), each=4)
    monkeypatch.chdir(bundle)
    assert call("evaluate", bundle, data)[0] == 2  # blue is unknown before
    assert call("learn", ".", data)[1][0]["state"] == str(tmp_path / "tiny.state")
    for name in (bundle, f"{bundle}/", "../tiny"):
        assert call("evaluate", name, data)[1][0]["accuracy"] == 1
        assert call("predict", name, data / "blue" / "0.png")[1][0]["label"] == "blue"
    assert call("evaluate", bundle, data, "--state", tmp_path / "other")[0] == 2  # nothing was learned there
    assert not (tmp_path / "other").exists()


def test_npz_data_and_a_state_elsewhere(call, make, bundle, tmp_path):
    images, labels = make.images(["red", "white"], 4)
    names = np.array(["white", "red"])
    y = np.array([list(names).index(label) for label in labels])
    np.savez(tmp_path / "d.npz", x_train=images, y_train=y, x_test=images[:6], y_test=y[:6], class_names=names)
    data = (f"npz:{tmp_path / 'd.npz'}", "--state", tmp_path / "s")
    code, [result], _ = call("learn", bundle, *data, "--replay", "none", "--learning-rate", 1e-4, "--seed", 3)
    assert (code, result["images"], result["steps"]) == (0, 8, 2 * DEFAULT_EPOCHS)
    assert result["state"] == str(tmp_path / "s")
    code, [result], _ = call("evaluate", bundle, *data)
    assert (code, result["images"], sorted(result["per_class"])) == (0, 6, ["red", "white"])


def test_one_by_one_and_saves_on_the_way(call, make, bundle, tmp_path):
    data = make.folder_of_images(tmp_path / "data", names=("blue", "white"), each=4)
    options = ("--one-by-one", "--save-every", 32, "--replay", "buffer:6")
    code, [result], err = call("learn", bundle, data, *options)
    assert (code, err.splitlines()) == (0, ["learning 8/8"])
    assert (result["images"], result["steps"], result["rolled_back"]) == (8, 8 * 16, 0)
    assert result["saves"] == 5  # after every second label, and at the end
    assert result["bytes_written"] == result["bytes_written_per_hour"] > 5 * 9000
    assert call("evaluate", bundle, data)[1][0]["accuracy"] == 1
    code, [result], _ = call("learn", bundle, data, "--save-every", 10)
    assert (result["steps"], result["saves"]) == (80, 9)


def test_text_for_people(capsys, make, bundle, tmp_path):
    data = make.folder_of_images(tmp_path / "data", names=("blue",), each=2)
    runtime = ("--runtime", "numpy")
    assert main(["info", str(bundle)]) == 0
    assert "nothing learned yet" in capsys.readouterr().out
    assert main(["learn", str(bundle), str(data), *runtime]) == 0
    assert f"learned 2 images in {DEFAULT_EPOCHS} steps" in capsys.readouterr().out
    assert main(["evaluate", str(bundle), str(data), *runtime]) == 0
    assert "accuracy 100.0% on 2 images\n  blue: 100.0%" in capsys.readouterr().out
    assert main(["predict", str(bundle), str(data / "blue" / "0.png"), *runtime]) == 0
    assert "0.png: blue (" in capsys.readouterr().out
    assert main(["selftest", str(bundle), *runtime]) == 0
    assert capsys.readouterr().out.startswith("ok (numpy): backbone within 0.0 quanta of ai_edge_litert over 4")
    assert main(["bench", str(bundle), "--repeat", "1", *runtime]) == 0
    assert "predict" in capsys.readouterr().out
    assert main(["info", str(bundle)]) == 0
    assert "new classes: blue" in capsys.readouterr().out


def test_a_failed_selftest_has_exit_code_1(call, bundle):
    from firmware_host.bundle import read_bundle, write_manifest

    opened = read_bundle(bundle)
    arrays = opened.arrays("golden.npz")
    arrays["final.w1"] = arrays["final.w1"] + np.float32(0.5)
    np.savez(bundle / "golden.npz", **arrays)
    write_manifest(bundle, opened.manifest)
    code, [result], _ = call("selftest", bundle)
    assert (code, result["ok"]) == (1, False)
    assert result["head_max_error"] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("command", ["info", "selftest", "predict", "learn", "evaluate", "bench"])
def test_a_damaged_bundle(refuse, make, bundle, command, tmp_path):
    data = {"predict": [tmp_path / "a.png"], "learn": [tmp_path / "d"], "evaluate": [tmp_path / "d"]}.get(command, [])
    make.folder_of_images(tmp_path / "d")
    content = (bundle / "head.tflite").read_bytes()
    (bundle / "head.tflite").write_bytes(content[:-1] + b"!")
    assert "head.tflite was changed" in refuse(command, *data)
    (bundle / "head.tflite").unlink()
    assert "head.tflite is missing" in refuse(command, *data)
    (bundle / "head.tflite").write_bytes(content)
    make.rewrite_manifest(bundle, lambda manifest: manifest.update(schema_version=3))
    assert "schema version 3" in refuse(command, *data)


def test_bad_images(refuse, make, bundle, tmp_path):
    (tmp_path / "no.png").write_text("no image")
    assert "no.png is not an image" in refuse("predict", tmp_path / "no.png")
    assert "none.png does not exist" in refuse("predict", tmp_path / "none.png")
    for command in ("learn", "evaluate"):
        data = make.folder_of_images(tmp_path / command)
        Image.new("RGB", (300, 300)).save(data / "red" / "z.jpg")
        (data / "red" / "z.jpg").write_bytes((data / "red" / "z.jpg").read_bytes()[:700])
        assert "z.jpg cannot be read" in refuse(command, data)


def test_bad_data(refuse, make, bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    many = make.folder_of_images(tmp_path / "many", names=("red",))
    for name in ("a", "b", "c"):
        make.folder_of_images(tmp_path / "one", names=("red",), each=1)
        (tmp_path / "one" / "red").rename(many / name)
    for command in ("learn", "evaluate"):
        assert "has no classes" in refuse(command, tmp_path / "empty")
        assert "is not a folder" in refuse(command, tmp_path / "none")
        assert "does not exist" in refuse(command, f"npz:{tmp_path / 'none.npz'}")
    line = refuse("learn", many)
    assert "3 new classes (a, b, c) for 2 spare of 4 slots: convert the run again with --slots 5" in line
    assert "unknown label 'a', 'b', 'c': the device knows red, green" in refuse("evaluate", many)


@pytest.mark.parametrize("command", ["info", "predict", "learn", "evaluate"])
def test_a_bad_state_folder(refuse, call, make, bundle, command, tmp_path):
    data = make.folder_of_images(tmp_path / "data")
    other = make.write_bundle(tmp_path / "other", block="residual")
    assert call("learn", other, data, "--state", tmp_path / "s")[0] == 0
    extra = {"info": [], "predict": [data / "red" / "0.png"]}.get(command, [data])
    assert "belongs to another bundle" in refuse(command, *extra, "--state", tmp_path / "s")
    state = tmp_path / "s" / "state.a.npz"
    state.write_bytes(state.read_bytes()[:-100])
    assert "is damaged" in refuse(command, *extra, "--state", tmp_path / "s")
    assert "is not a folder" in refuse(command, *extra, "--state", state)


def test_bad_options(refuse, make, bundle, tmp_path):
    data = make.folder_of_images(tmp_path / "data")
    assert "epochs is 0" in refuse("learn", data, "--epochs", 0)
    assert "invalid int value: 'many' (see python -m firmware_host learn --help)" in refuse(
        "learn", data, "--epochs", "many"
    )
    assert "replay is 'all': use one of" in refuse("learn", data, "--replay", "all")
    assert "replay is 'buffer:0'" in refuse("learn", data, "--replay", "buffer:0")
    assert "save-every is -1" in refuse("learn", data, "--save-every", -1)
    assert "learning rate is -1.0" in refuse("learn", data, "--learning-rate", -1)
    assert "threads is 0" in refuse("learn", data, "--threads", 0)
    assert "seed is -1" in refuse("learn", data, "--seed", -1)
    assert "repeat is 0" in refuse("bench", "--repeat", 0)
    assert "invalid choice: 'torch'" in refuse("bench", runtime="torch")
    assert "required: IMAGE" in refuse("predict")
    assert "unrecognized arguments: --epoch" in refuse("learn", data, "--epoch", 3)


def test_an_interrupt_saves_nothing(call, make, bundle, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    data = make.folder_of_images(tmp_path / "data")
    monkeypatch.setattr("firmware_host.learning.learner.train", interrupt)
    code, records, err = call("learn", bundle, data)
    assert (code, records) == (130, [])
    assert err.splitlines()[-1] == "error: interrupted, nothing was saved"
    assert [path.name for path in (tmp_path / "tiny.state").iterdir()] == ["lock"]


def test_every_command_that_is_promised_is_there():
    promised = {"info", "selftest", "predict", "learn", "evaluate", "state", "bench", "calibrate"}
    assert promised <= {command.name for command in all_commands()}


@pytest.mark.parametrize("command", ["info", "state", "selftest", "bench"])
def test_a_recipe_that_the_bundle_lacks(refuse, bundle, command):
    assert "has no backbone by recipe 'wrong', it has int8: use one of these" in refuse(command, "--recipe", "wrong")
