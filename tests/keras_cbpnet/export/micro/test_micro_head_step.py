"""head_step.tflite under the real TFLM interpreter, against the NumPy engine of the device package."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from helpers.head_case import Case, step_case
from helpers.head_steps import head_layer
from helpers.paths import ROOT, TESTS

from keras_cbpnet.export.micro.arena import measure_arena
from keras_cbpnet.export.micro.head_step import convert_head_step
from keras_cbpnet.export.micro.memory import PLAN
from keras_cbpnet.export.micro.step_graph import INPUTS, OUTPUTS
from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.export.tflite_file.ops import custom_ops, op_table

KINDS = [
    ("prototype", "sgd", 1),
    ("prototype", "adam", 8),
    ("mlp", "sgd", 8),
    ("mlp", "adam", 1),
    ("residual", "adam", 8),
]
ABSENT_IN_TFLM = {"SELECT", "GELU", "ONE_HOT", "BATCH_MATMUL"}  # the last is there, but keeps copies for good
needs_tflm = pytest.mark.skipif(importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro is missing")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("head_step")
    for kind in KINDS:
        case = step_case(*kind)
        start = case.start()
        name = "_".join(map(str, kind))
        (folder / f"{name}.tflite").write_bytes(convert_head_step(head_layer(case, start), case.B))
        np.savez(folder / f"{name}.npz", **start)
    return folder


@pytest.fixture(scope="module")
def reports(files):
    helper = TESTS / "helpers" / "run_head_step.py"
    path = [str(ROOT), str(TESTS)]
    code = f"import sys; sys.path[:0] = {path}; import runpy; runpy.run_path({str(helper)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, str(files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {line["file"]: line for line in map(json.loads, done.stdout.splitlines())}


@needs_tflm
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "_".join(map(str, kind)))
def test_500_steps_in_tflm_equal_the_numpy_engine(reports, kind):
    report = reports["_".join(map(str, kind))]
    assert report["loss_error"] < 1e-4
    assert report["logits_error"] < 1e-4
    assert report["idle_error"] < 1e-4
    assert report["mismatches"] == 0
    assert report["rebirths"] > 20
    assert report["moved"] > 1e-3  # it did learn


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "_".join(map(str, kind)))
def test_one_signature_of_builtins_that_tflm_has(files, kind):
    content = (files / f"{'_'.join(map(str, kind))}.tflite").read_bytes()
    table, model = op_table(content), Model(content)
    assert custom_ops(table) == []
    assert not ABSENT_IN_TFLM & {row["op"] for row in table}
    (signature,) = model.root.signatureDefs
    assert tuple(entry.name.decode() for entry in signature.inputs) == INPUTS
    outputs = tuple(entry.name.decode() for entry in signature.outputs)
    assert outputs[:3] == OUTPUTS
    assert set(outputs[3:]) == set(step_case(*kind).start()) - {"class_mask"}
    assert not {"VAR_HANDLE", "READ_VARIABLE", "IF"} & {row["op"] for row in table}  # each costs a copy
    assert [entry.name for entry in model.root.metadata].count(PLAN) == 1


@pytest.mark.slow
def test_sgd_keeps_no_moments(files):
    def names(kind):
        model = Model((files / f"{kind}.tflite").read_bytes())
        return {tensor.name.decode() for tensor in model.root.subgraphs[0].tensors if tensor.isVariable}

    assert not {name for name in names("prototype_sgd_1") if name.startswith(("m_", "v_"))}
    assert {"m_w1", "v_w1", "w1", "class_mean"} <= names("prototype_adam_8")


@needs_tflm
@pytest.mark.slow
def test_the_arena_of_one_image_a_step_fits_in_64_kib():
    case = Case("prototype", 64, 32, 16, 1, {"optimizer": "sgd"})
    content = convert_head_step(head_layer(case, case.start()), 1)
    arena = measure_arena(content)
    assert arena["variables"] >= 4 * (2 * 64 * 32 + 16 * 64)  # w1, w2 and the class means
    assert arena["bytes"] <= 64 * 1024
