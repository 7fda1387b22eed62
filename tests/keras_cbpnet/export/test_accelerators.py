"""Which operator runs where: lists, the Edge TPU's compiler and Vela, played by small programs."""

import os
import sys

import pytest

from keras_cbpnet.errors import UserError
from keras_cbpnet.export import accelerators
from keras_cbpnet.export.tflite_file.ops import Operator

PYTHON = sys.executable
LOG = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 577 ms.

Number of operations that will run on Edge TPU: 2
Number of operations that will run on CPU: 34

Operator                       Count      Status

QUANTIZE                       1          Mapped to Edge TPU
CONV_2D                        1          Mapped to Edge TPU
CONV_2D                        12         More than one subgraph is not supported
BATCH_MATMUL                   22         Operation not supported
"""
CSV = """experiment,network,system_config,memory_mode,inferences_per_second,sram_memory_used,cycles_total
default,backbone,Ethos_U55_High_End_Embedded,Shared_Sram,95.67,57.796875,5226054
"""
EDGE_TPU = """
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--out_dir") + 1])
model = pathlib.Path(sys.argv[-1])
(folder / (model.stem + "_edgetpu.tflite")).write_bytes(b"compiled:" + model.read_bytes())
print({log!r})
"""


def ops(*names, kind="INT8"):
    return [Operator(name, kind, None) for name in names]


def program(folder, name, text):
    script, path = folder / f"{name}.py", folder / name
    script.write_text(text)
    path.write_text(f'#!/bin/sh\nexec "{PYTHON}" "{script}" "$@"\n')  # a first line takes no path with a space
    path.chmod(0o755)
    return path


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """The only folder on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(accelerators.sys, "executable", str(tmp_path / "python"))
    return tmp_path


def test_an_edge_tpu_takes_what_comes_before_the_first_operator_it_lacks():
    row = accelerators.edge_tpu_row(ops("QUANTIZE", "CONV_2D", "LOGISTIC", "BATCH_MATMUL", "CONV_2D", "CONV_2D"))
    assert (row["accelerated"], row["cpu"], row["first_on_cpu"]) == (3, 3, "BATCH_MATMUL")
    assert row["on_cpu"] == {"BATCH_MATMUL": 1, "CONV_2D": 2}
    assert accelerators.describe(row).startswith(
        "3 of 6 operators accelerated (50.0%) at most, then BATCH_MATMUL and all"
    )
    assert accelerators.edge_tpu_row(ops("CONV_2D", "ADD")) == {
        "source": "Coral's published list of operators; edgetpu_compiler is not installed",
        "accelerated": 2,
        "cpu": 0,
        "on_cpu": {},
    }
    assert accelerators.edge_tpu_row(ops("CONV_2D", kind="FLOAT32"))["accelerated"] == 0
    joined = [*ops("CONV_2D"), Operator("CONCATENATION", "INT8", None, constant=True), *ops("CONV_2D")]
    row = accelerators.edge_tpu_row(joined)
    assert (row["accelerated"], row["first_on_cpu"]) == (1, "CONCATENATION")
    assert accelerators.edge_tpu_row([*ops("CONV_2D"), *ops("CONCATENATION")])["accelerated"] == 2
    assert len(accelerators.EDGE_TPU) == 40


def test_what_tflm_lacks_is_named():
    assert accelerators.tflm_row(ops("ADD", "ONE_HOT", "CUSTOM:FlexErf"))["missing"] == ["CUSTOM:FlexErf", "ONE_HOT"]
    assert "lacks ONE_HOT" in accelerators.describe(accelerators.tflm_row(ops("ADD", "ONE_HOT")))
    assert "none of the 1 operators" in accelerators.describe(accelerators.tflm_row(ops("ADD")))


def test_only_int8_goes_to_accelerators(monkeypatch):
    monkeypatch.setattr(accelerators, "operators", lambda model: ops("ADD", kind="FLOAT32"))
    rows = {recipe: accelerators.target_rows(b"a model", recipe) for recipe in ("mixed", "hybrid", "float32")}
    for recipe, found in rows.items():
        assert set(found) == {"edge_tpu", "tflm", *accelerators.ETHOS_U}
        assert accelerators.describe(found["edge_tpu"]) == f"takes recipe int8, not {recipe}"
    assert accelerators.describe(rows["hybrid"]["tflm"]) == "takes recipe int8, not hybrid"
    assert rows["float32"]["tflm"]["cpu"] == rows["mixed"]["tflm"]["cpu"] == 1


def test_the_compilers_log_is_counted():
    row = accelerators.edge_tpu_log(LOG)
    assert (row["source"], row["accelerated"], row["cpu"]) == ("edgetpu_compiler 16.0.384591198", 2, 34)
    assert row["on_cpu"] == {"BATCH_MATMUL": 22, "CONV_2D": 12}
    assert row["reasons"] == ["More than one subgraph is not supported", "Operation not supported"]
    with pytest.raises(UserError, match=r"listed no operators .*Invalid model: b.tflite"):
        accelerators.edge_tpu_log("Edge TPU Compiler version 16\nInvalid model: b.tflite\n")


def test_edgetpu_compiler_is_run_when_it_is_there(alone):
    assert accelerators.edge_tpu_compiler() is None
    path = program(alone, "edgetpu_compiler", EDGE_TPU.format(log=LOG))
    assert accelerators.edge_tpu_compiler() == str(path)
    compiled = accelerators.compile_edge_tpu(b"a model", str(path))
    assert compiled.model == b"compiled:a model"
    assert compiled.row == accelerators.edge_tpu_log(LOG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; sys.exit('Internal compiler error. Aborting!')", "failed .*Internal compiler error. Aborting!"),
        ("print('nothing to do')", "wrote no backbone_edgetpu.tflite .*nothing to do"),
    ],
)
def test_a_compiler_that_fails_is_named(alone, text, message):
    path = program(alone, "edgetpu_compiler", text)
    with pytest.raises(UserError, match=rf"edgetpu_compiler {message}.*; take it off the PATH"):
        accelerators.compile_edge_tpu(b"a model", str(path))


def test_vela_counts_and_its_summary():
    log = "Warning: x\nCPU operators = 1 (0.2%)\nNPU operators = 640 (99.8%)\n"
    row = accelerators.vela_row(log, CSV, ["CUSTOM:ethos-u", "GATHER", "CUSTOM:ethos-u"], "ethos-u55-128")
    assert (row["accelerated"], row["cpu"], row["on_cpu"]) == (640, 1, {"GATHER": 1})
    assert (row["sram_kib"], row["cycles"], row["per_second"]) == (57.796875, 5226054, 95.67)
    text = accelerators.describe(row)
    assert "640 of 641 operators accelerated (99.8%), on the CPU 1 GATHER; 58 KiB SRAM, 5,226,054 cycles, 96/s" in text
    assert "[Vela for ethos-u55-128, Ethos_U55_High_End_Embedded, Shared_Sram]" in text
    with pytest.raises(UserError, match="printed no count of operators"):
        accelerators.vela_row("", CSV, [], "ethos-u55-128")


def test_without_vela_the_row_says_so(alone, monkeypatch):
    row = accelerators.ethos_u_row(b"a model", "ethos-u55-128")
    assert row == {"source": "Vela is not installed (pip install ethos-u-vela, into a separate environment)"}
    assert accelerators.describe(row) == row["source"]
    program(alone, "vela", "import sys; sys.exit('no such accelerator')")
    with pytest.raises(UserError, match=r"vela failed .*no such accelerator.*; take it off the PATH"):
        accelerators.ethos_u_row(b"a model", "ethos-u55-128")
    monkeypatch.setattr(accelerators, "operators", lambda model: ops("ADD"))
    rows = accelerators.target_rows(b"a model", "int8")
    assert "vela failed (no such accelerator)" in rows["ethos-u85"]["source"]
    assert rows["edge_tpu"]["accelerated"] == 1
    assert os.environ["PATH"] == str(alone)
