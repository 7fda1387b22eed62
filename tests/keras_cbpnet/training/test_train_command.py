"""The training command with its methods, rules and streams: bad input is one line, and nothing is overwritten."""

import hashlib
import json

import numpy as np
import pytest
from helpers import tiny_stream

from keras_cbpnet import cli
from keras_cbpnet.config import PAPER
from keras_cbpnet.train import main


@pytest.fixture(scope="module")
def stream(tmp_path_factory, tiny_backbone):
    with tiny_stream.opened(tmp_path_factory.mktemp("stream"), tiny_backbone) as stream:
        tiny_stream.write(stream.folder / "single.npz", train=1)
        yield stream


@pytest.fixture(scope="module")
def run(stream, tmp_path_factory):
    """A finished run of nearest class means."""
    output = tmp_path_factory.mktemp("finished") / "run"
    assert main([*stream.arguments(method="ncm"), "--output", str(output)]) == 0
    return output


def tree(*roots):
    files = [path for root in roots for path in root.rglob("*")]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "-" for p in files}


@pytest.fixture
def refused(stream, run, tmp_path, capsys):
    """Run a command that must fail; return its one line."""

    def refused(output=None, **changes):
        before = tree(run.parent, tmp_path, stream.folder)
        try:
            code = cli.run(main, [*stream.arguments(**changes), "--output", str(output or tmp_path / "new")])
        except SystemExit as stop:  # of the argument parser
            code = stop.code
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert tree(run.parent, tmp_path, stream.folder) == before
        return err

    return refused


BAD = {  # changes of a good command, what the line says
    "tasks that do not divide": ({"tasks": 3}, "4 classes cannot be split into 3 equal tasks"),
    "method": ({"method": "cbp"}, "argument --method: invalid choice: 'cbp'"),
    "stream": ({"stream": "tasks"}, "argument --stream: invalid choice: 'tasks'"),
    "rule": ({"plasticity": "l3"}, "unknown plasticity rule 'l3'; choose one of cbp, cbp_random"),
    "hyper-parameter": ({"plasticity": "l2:rate=1"}, "rule l2 has no 'rate'; it has decay"),
    "value": ({"plasticity": "redo:interval=0"}, "interval of rule redo is 0; give a whole number from 1 on"),
    "negative value": ({"plasticity": "l2:decay=-1"}, "decay must be from 0 on, got -1"),
    "rule of another method": (
        {"plasticity": "l2", "method": "ncm"},
        "--plasticity l2 is for --method cbpnet and foster, not ncm",
    ),
    "prompts of another method": ({"prompts": True, "method": "l2p"}, "--prompts is for --method cbpnet, not l2p"),
    "query depth": (
        {"query_depth": 6, "prompts": True},
        "--query-depth must be from 0 to 5, the blocks of tiny; got 6",
    ),
    "negative query depth": (
        {"query_depth": -1, "prompts": True},
        "--query-depth must be from 0 to 5, the blocks of tiny; got -1",
    ),
    "selection": ({"prompt_selection": "x"}, "argument --prompt-selection: invalid choice: 'x'"),
    "query of a fixed prompt": (
        {"query_depth": 2, "prompt_selection": "fixed", "prompts": True},
        "--query-depth 2 is for --prompt-selection key; fixed has no query",
    ),
    "query depth of a pool": (
        {"query_depth": 2, "method": "l2p"},
        "--query-depth 2 is for --method cbpnet and dualprompt, not l2p",
    ),
    "selection without prompts": (
        {"prompt_selection": "fixed"},
        "--prompt-selection fixed is for prompts; give --prompts too",
    ),
    "selection of another method": (
        {"prompt_selection": "fixed", "method": "ncm"},
        "--prompt-selection fixed is for --method cbpnet and dualprompt, not ncm",
    ),
    "ways": ({"stream": "drifting", "ways": 5, "shots": 2}, "5 ways are more than the 4 classes"),
    "no ways": ({"stream": "drifting", "ways": 0, "shots": 2}, "ways 0 is not positive"),
    "shots": ({"stream": "drifting", "ways": 2, "shots": 9}, "9 shots are more than the 8 training images"),
    "no shots": ({"stream": "drifting", "ways": 2, "shots": 0}, "shots 0 is not positive"),
    "no domains": ({"stream": "domain", "tasks": 0}, "the data set has no domains; for a domain stream give"),
    "nothing to do": ({"epochs": 0, "head_epochs": 0}, "--epochs and --head-epochs are both 0"),
    "seeds": ({"seeds": "0,0"}, "'0,0' is not a list of different numbers from 0 on, such as 0,1,2"),
    "device tasks": ({"method": "ncm", "device_tasks": 2}, "--device-tasks must be from 0 to 1, got 2"),
    "slots": ({"method": "ncm", "slots": 3}, "--slots 3 is too few for the 4 classes"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case, refused):
    changes, line = BAD[case]
    assert line in refused(**changes)


@pytest.mark.parametrize("method", ["ncm", "slda", "ranpac"])
def test_a_finished_run_stays(method, refused, run):
    line = "holds a finished run" if method == "ncm" else "holds a run of another configuration"
    assert f"run {line}; choose another --output or remove it" in refused(run, method=method)


@pytest.mark.slow
def test_a_killed_run_of_another_configuration_stays(refused, stream, tmp_path):
    from keras_cbpnet.training.trainer import train

    with pytest.raises(tiny_stream.KilledError):
        train(stream.config(method="ncm"), tmp_path / "killed", tiny_stream.killed_at("task 1/2:"))
    assert (tmp_path / "killed" / "checkpoint-0001").is_dir()
    line = refused(tmp_path / "killed", method="finetune")
    assert "killed holds a run of another configuration; choose another --output or remove it" in line
    assert "killed exists and is not an unfinished run of several seeds" in refused(
        tmp_path / "killed", method="ncm", seeds="0,1"
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_data_alone(refused, stream, tmp_path):
    from keras_cbpnet.training.trainer import train

    config = stream.config(method="ncm", dataset=f"npz:{tmp_path / 'data.npz'}")
    with np.load(stream.folder / "data.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(tiny_stream.KilledError):
        train(config, tmp_path / "killed", tiny_stream.killed_at("task 1/2:"))
    names = arrays["class_names"].tolist()
    others = {
        f"it is without {names[0]!r} and with 'teal'": {"class_names": ["teal", *names[1:]]},
        f"it has other images of {names[0]!r} and of 3 more classes": {"x_train": 255 - arrays["x_train"]},
    }
    for line, changes in others.items():
        np.savez(tmp_path / "data.npz", **{**arrays, **changes})
        assert line in refused(tmp_path / "killed", method="ncm", dataset=config.dataset)
    np.savez_compressed(tmp_path / "data.npz", **arrays)  # another file of the same images
    assert train(config, tmp_path / "killed")["classes"]


@pytest.mark.parametrize("folder", ["finished", "of another run", "of something else"])
def test_a_folder_that_cannot_be_used_is_refused_before_any_image_is_decoded(
    folder, refused, run, tmp_path, monkeypatch
):
    def opened(*_):
        raise AssertionError("the data were opened")

    monkeypatch.setattr("keras_cbpnet.training.data.open_dataset", opened)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_text("")
    with pytest.raises(AssertionError, match="the data were opened"):  # a folder that can be used
        refused(method="ncm")
    output = tmp_path / "photos" if folder == "of something else" else run
    line = refused(output, method="slda" if folder == "of another run" else "ncm")
    said = {
        "finished": "run holds a finished run",
        "of another run": "run holds a run of another configuration",
        "of something else": "photos exists and is not a run folder",
    }
    assert f"{said[folder]}; choose another --output" in line


def test_a_damaged_configuration_is_named(refused, tmp_path):
    (tmp_path / "run").mkdir()
    for text in ("{", "[]", '{"tasks": 3, "taks": 2}'):
        (tmp_path / "run" / "config.json").write_text(text)
        assert "config.json is damaged" in refused(tmp_path / "run", method="ncm")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["finetune", "ncm", "slda", "ranpac", "klda"])
def test_one_image_a_class_is_enough(method, stream, tmp_path, capsys, monkeypatch):
    from keras_cbpnet.layers.klda_head import KLDAHead
    from keras_cbpnet.layers.ranpac_head import RanPACHead
    from keras_cbpnet.tables import METHODS

    for name, kind in (("ranpac", RanPACHead), ("klda", KLDAHead)):
        small = lambda config, slots, kind=kind: kind(slots, projected=30, name="head")  # noqa: E731
        monkeypatch.setattr(METHODS[name], "head", staticmethod(small))
    arguments = stream.arguments(method=method, dataset=f"npz:{stream.folder / 'single.npz'}")
    assert cli.run(main, [*arguments, "--output", str(tmp_path / "new"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["output"] == str(tmp_path / "new")
    assert np.all(np.isfinite(printed["accuracy_matrix"][-1]))
    assert printed["average_accuracy"] > 0.25 or method == "finetune"


def test_one_image_a_class_cannot_be_split(refused, tmp_path):
    from PIL import Image

    for name in ("one", "two"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "images" / name / "1.png")
    assert "class 'one' has 1 image(s)" in refused(dataset=f"folder:{tmp_path / 'images'}")


@pytest.mark.slow
def test_several_seeds_print_their_mean(stream, tmp_path, capsys):
    output = tmp_path / "both"
    assert cli.run(main, [*stream.arguments(method="ncm"), "--seeds", "0,1", "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    summary = json.loads((output / "summary.json").read_text())
    mean, std = summary["average_accuracy"]["mean"], summary["average_accuracy"]["std"]
    assert out.startswith(f"{output}: average accuracy {mean:.3f} ± {std:.3f}, forgetting ")
    assert out.count("\n") == 1
    assert [line for line in err.splitlines() if line.startswith("seed")] == ["seed 0", "seed 1"]


@pytest.mark.slow
def test_the_papers_configuration_is_one_option(stream, tmp_path, capsys):
    """`--paper`: prompts and block alone; what else is given still counts."""
    output = tmp_path / "paper"
    words = ["--paper", "--plasticity", "none", "--output", str(output), "--json"]
    assert cli.run(main, [*stream.arguments(), *words]) == 0
    config = json.loads((output / "config.json").read_text())
    assert {name: config[name] for name in PAPER} == {**PAPER, "plasticity": "none"}
    assert json.loads(capsys.readouterr().out)["output"] == str(output)
    by_hand = tmp_path / "by hand"
    words = [*"--prompts --no-bank --views 0 --plasticity none".split(), "--output", str(by_hand), "--json"]
    assert cli.run(main, [*stream.arguments(), *words]) == 0
    assert (by_hand / "metrics.json").read_bytes() == (output / "metrics.json").read_bytes()
