"""The bundle: manifest, files, operators, signatures; and that a wrong conversion is refused."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT

from firmware_host.bundle import PAPERS, SCHEMA_VERSION, state_shapes
from firmware_host.bundle.contract import file_shape
from firmware_host.shared.runtimes import interpreters
from keras_cbpnet.errors import UserError

# Dimensions: d features, h hidden units, C class slots, B training rows, H x W pixels.
D, UNITS, C, B, SIDE, EACH_TRAIN = 192, 64, 16, 16, 32, 24  # the last: training images of a class
FILES = ["backbone.tflite", "golden.npz", "head.tflite", "labels.txt", "manifest.json", "report.json", "statistics.npz"]
FEATURE = {"mixed": "int8", "int8": "int8", "hybrid": "float32", "float32": "float32"}

DESCRIBE = """
import importlib, json, sys
import numpy as np
interpreter = importlib.import_module(sys.argv[1] + ".interpreter").Interpreter(model_path=sys.argv[2])
signatures = {}
for name in interpreter.get_signature_list():
    runner = interpreter.get_signature_runner(name)
    signatures[name] = [
        {key: [[int(n) for n in t["shape_signature"]], np.dtype(t["dtype"]).name] for key, t in part.items()}
        for part in (runner.get_input_details(), runner.get_output_details())
    ]
print(json.dumps(signatures))
"""


@pytest.fixture
def manifest(bundle):
    return json.loads((bundle / "manifest.json").read_text())


def graph(path):
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0), schema


def operators(path):
    """(name, types of all inputs and outputs) of each operator, read from the flatbuffer."""
    model, schema = graph(path)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    types = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    for part in model.subgraphs:
        for operator in part.operators or []:
            code = model.operatorCodes[operator.opcodeIndex]
            tensors = [i for ends in (operator.inputs, operator.outputs) if ends is not None for i in ends if i >= 0]
            yield (
                names[max(code.builtinCode, code.deprecatedBuiltinCode)],
                {types[part.tensors[i].type] for i in tensors},
            )


def test_manifest(bundle, manifest, recipe, road):
    files = [*FILES, *PAPERS, *manifest.get("backbones", {}).values()]
    assert sorted(path.name for path in bundle.iterdir()) == sorted(files)
    assert manifest["schema_version"] == SCHEMA_VERSION
    assert manifest["recipe"] == recipe
    assert manifest["quantization"]["weights"] == ("float32" if recipe == "float32" else "int8")
    assert manifest["quantization"]["activations"] == ("int8" if FEATURE[recipe] == "int8" else "float32")
    assert tuple(manifest["classes"]) == road.known
    assert (bundle / "labels.txt").read_text().splitlines() == list(road.known)
    assert manifest["shapes"] == {"image": [1, SIDE, SIDE, 3], "feature": [1, D], "prompt": [1]}
    assert manifest["dtypes"] == {"image": "uint8", "feature": FEATURE[recipe], "prompt": "int32"}
    assert {"keras_cbpnet", "keras", "tensorflow"} <= set(manifest["versions"])
    digests = {name: hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in files}
    assert manifest["sha256"] == {name: digest for name, digest in digests.items() if name != "manifest.json"}


def test_people_can_read_where_the_bundle_comes_from_and_its_graphs(bundle, manifest, recipe, road):
    assert manifest["license"] == "Apache-2.0"
    assert manifest["source"]["data"] == f"npz:{road.npz.name}"
    assert manifest["source"]["images"] == EACH_TRAIN * len(road.known)
    readme, report = (bundle / "README.md").read_text(), json.loads((bundle / "report.json").read_text())
    assert all(name in readme for name in road.known)
    for name, value in report["accuracy"].items():
        taken = "hybrid" if name == "ai_edge_litert" and "hybrid" in manifest.get("backbones", {}) else recipe
        assert f"{name if name == 'float32' else f'{taken}, under {name}'} | {value:.1%} |" in readme
    assert str(road.npz.parent) not in readme
    graphs = graph(bundle / "head.tflite")[0].subgraphs
    assert {b"infer", b"train"} <= {each.name for each in graphs}
    assert all(tensor.name for each in graphs for tensor in each.tensors)


def test_manifest_describes_the_head(manifest, road):
    import keras

    config = json.loads((road.run / "config.json").read_text())
    head = keras.models.load_model(road.run / "model.keras").head
    names = ("block", "units", "batch", "decay_rate", "replacement_rate", "maturity_threshold", "learning_rate")
    expected = {name: config[name] for name in names}
    expected.update(optimizer="adam", slots=C, block_rate=1.0, logit_scale=20.0)
    assert {name: manifest["head"][name] for name in expected} == expected
    assert (config["units"], config["batch"]) == (UNITS, B)
    for name in ("feature_mean", "feature_scale"):
        np.testing.assert_array_equal(np.float32(manifest["head"][name]), getattr(head, name).numpy())


def test_report(bundle, recipe, road):
    report = json.loads((bundle / "report.json").read_text())
    assert report["recipe"] == recipe
    assert list(report["bytes"]) == [*report["backbones"], "head.tflite"]
    assert report["bytes"] == {name: (bundle / name).stat().st_size for name in report["bytes"]}
    for row in report["backbones"].values():
        assert row["mean_cosine"] >= 0.99
        assert set(row["accuracy"]) == set(interpreters())
        assert all(abs(value - report["accuracy"]["float32"]) <= 0.03 for value in row["accuracy"].values())
    for name, table in report["operators"].items():
        found = [operator for operator, _ in operators(bundle / name)]
        counts = {op: sum(row["count"] for row in table if row["op"] == op) for op in set(found)}
        assert counts == {op: found.count(op) for op in counts}
        assert {row["op"] for row in table} == set(found)
    with np.load(road.npz) as file:
        held_out = sum(str(file["class_names"][label]) in road.known for label in file["y_test"])
    assert report["held_out_images"] == held_out
    assert report["accuracy"]["float32"] == pytest.approx(np.mean(road.metrics["final"]["float32"]), abs=0.005)
    for runtime in interpreters():
        assert abs(report["accuracy"][runtime] - report["accuracy"]["float32"]) <= 0.03
    assert report["backbone_mean_cosine"] >= {"mixed": 0.99, "int8": 0.99, "hybrid": 0.998, "float32": 0.999999}[recipe]
    assert report["head_max_error_200_steps"] <= 1e-4


def test_operators_are_builtins(bundle, recipe):
    for name in ("backbone.tflite", "head.tflite"):
        found = list(operators(bundle / name))
        assert len(found) > 50
        assert not {operator for operator, _ in found} & {"CUSTOM", "DELEGATE", "STABLEHLO_CUSTOM_CALL"}
    if recipe == "int8":
        types = set.union(*(types for _, types in operators(bundle / "backbone.tflite")))
        # The uint8 image becomes int8 in the first operator; biases, indices and shapes are int32.
        assert types == {"UINT8", "INT8", "INT32"}
        assert sum("UINT8" in types for _, types in operators(bundle / "backbone.tflite")) == 1
    if recipe == "mixed":
        floating = {operator for operator, types in operators(bundle / "backbone.tflite") if "FLOAT32" in types}
        assert {"BATCH_MATMUL", "SOFTMAX", "RSQRT"} <= floating
        assert not floating & {"FULLY_CONNECTED", "CONV_2D", "LOGISTIC", "ARG_MAX"}
    if recipe != "float32":
        assert (bundle / "backbone.tflite").stat().st_size < 2.4e6  # weights once, at a byte each


def test_the_head_holds_little_but_its_numbers(bundle):
    with np.load(bundle / "golden.npz") as golden:
        numbers = sum(golden[name].size for name in golden.files if name.startswith("state."))
    constants = 2 * D  # mean and scale of the features
    assert 4 * (numbers + constants) < (bundle / "head.tflite").stat().st_size < 1.2 * 4 * (numbers + constants)


def test_every_shape_is_static(bundle):
    for name in ("backbone.tflite", "head.tflite"):
        for part in graph(bundle / name)[0].subgraphs:
            for tensor in part.tensors:
                assert tensor.shapeSignature is None or -1 not in list(tensor.shapeSignature), tensor.name


@pytest.mark.parametrize("runtime", interpreters())
def test_signatures(bundle, manifest, recipe, runtime):
    def describe(name):
        command = [sys.executable, "-c", DESCRIBE, runtime, bundle / name]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    backbone = [
        {"image": [[1, SIDE, SIDE, 3], "uint8"]},
        {"feature": [[1, D], FEATURE[recipe]], "prompt": [[1], "int32"]},
    ]
    for file in ("backbone.tflite", *manifest.get("backbones", {}).values()):
        assert describe(file) == {"serving_default": backbone}
    shapes = state_shapes("prototype", D, UNITS, C)
    state = {name: [list(file_shape(shape)), "float32"] for name, shape in shapes.items()}
    rows = {"feature": [[B, D], "float32"], "label": [[B], "int32"]}
    step = {"class_mask": [[C], "float32"], "learning_rate": [[], "float32"], "fresh": [[D], "float32"]}
    scores = {"logits": [[1, C], "float32"], "probabilities": [[1, C], "float32"]}
    result = {"loss": [[], "float32"], "accuracy": [[], "float32"], "replaced": [[], "int32"]}
    ok = {"ok": [[], "float32"]}
    assert describe("head.tflite") == {
        "infer": [{"feature": [[1, D], "float32"]}, scores],
        "observe": [rows, ok],
        "train": [{**rows, **step}, result],
        "get_state": [{}, state],
        "set_state": [state, ok],
    }


def test_the_backbone_is_the_model(bundle, recipe, road):
    """One invocation does the query pass, the choice of the prompt and the prompted pass as the model does."""
    import keras

    from keras_cbpnet.export.order import Order
    from keras_cbpnet.export.runtimes import run_backbone

    with np.load(road.npz) as file:
        images = file["x_test"][::5]
    model = keras.models.load_model(road.run / "model.keras")
    with Order((recipe,)).rounding(model):
        feature, prompt = (np.asarray(value) for value in model.features(images))
    found = run_backbone((bundle / "backbone.tflite").read_bytes(), images, "ai_edge_litert")
    assert set(prompt) == {0, 1}
    if recipe == "float32":
        np.testing.assert_array_equal(found.prompt, prompt)
        np.testing.assert_allclose(found.feature, feature, rtol=0, atol=2e-4)
    else:
        assert np.mean(found.prompt == prompt) >= 0.9
        assert (
            np.corrcoef(found.feature.ravel(), feature.ravel())[0, 1]
            > {"mixed": 0.99, "int8": 0.99, "hybrid": 0.998}[recipe]
        )


def test_start_state_is_the_trained_head(bundle, road, device):
    import keras

    head = keras.models.load_model(road.run / "model.keras").head
    with np.load(bundle / "golden.npz") as golden, np.load(road.run / "statistics.npz") as statistics:
        for name, value in head.state.items():
            np.testing.assert_array_equal(golden[f"state.{name}"], value.numpy(), err_msg=name)
        with np.load(bundle / "statistics.npz") as shipped:
            np.testing.assert_array_equal(shipped["scatter"], statistics["scatter"])


@pytest.mark.slow
def test_the_script_from_another_folder_writes_the_same_bytes(shipped, road, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tflite" / "convert.py", os.path.relpath(road.run, tmp_path), "--output", "again"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"next: python -m firmware_host selftest {Path('again')}" in done.stdout
    files = (*FILES, *PAPERS, "backbone_hybrid.tflite")
    different = [name for name in files if (tmp_path / "again" / name).read_bytes() != (shipped / name).read_bytes()]
    assert different == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again"]


# Verification: each conversion below goes wrong in one place.


@pytest.fixture
def refused(convert, road, shipped, tmp_path, monkeypatch):
    """refused(convert_head=bytes, ...): what a conversion says whose steps give these; it has written nothing."""
    from keras_cbpnet.export import steps

    def refused(**wrong):
        right = {f"convert_{part}": (shipped / f"{part}.tflite").read_bytes() for part in ("backbone", "head")}
        for name, content in {**right, **wrong}.items():
            monkeypatch.setattr(steps, name, lambda *_, content=content: content)
        with pytest.raises(UserError) as error:
            convert.main([str(road.run), "--output", str(tmp_path / "bundle"), "--recipe", "int8"])
        assert list(tmp_path.iterdir()) == []
        return str(error.value)

    return refused


@pytest.mark.slow
def test_a_head_in_another_state_is_refused(refused, road, monkeypatch):
    import keras

    from keras_cbpnet.export.head import convert_head

    head = keras.models.load_model(road.run / "model.keras").head
    w2 = head.state["w2"].numpy()
    w2[3, 5] += 0.01
    head.assign({"w2": w2})
    monkeypatch.setattr("keras_cbpnet.export.verify.HEAD_STEPS", 5)  # are enough
    message = refused(convert_head=convert_head(head))
    assert "head.tflite differs from Keras by 1.0e-02" in message
    assert "; worst first: w2 1.0e-02, " in message


@pytest.mark.slow
def test_a_backbone_with_other_weights_is_refused(refused, shipped, monkeypatch):
    import flatbuffers

    monkeypatch.setattr("keras_cbpnet.export.verify.check_head", lambda *_: 0.0)
    model, _ = graph(shipped / "backbone.tflite")
    largest = max((buffer for buffer in model.buffers if buffer.data is not None), key=lambda buffer: len(buffer.data))
    largest.data = np.roll(largest.data, 1)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    message = refused(convert_backbone=bytes(builder.Output()))
    assert "backbone.tflite: the features have a mean cosine of" in message
    assert "; signal to noise, worst first: " in message


def test_operators_that_are_no_builtins_are_refused(refused, monkeypatch):
    erf = {"op": "CUSTOM:FlexErf", "type": "FLOAT32", "count": 1}
    monkeypatch.setattr("keras_cbpnet.export.steps.op_table", lambda model: [erf])
    assert "FlexErf" in refused()
