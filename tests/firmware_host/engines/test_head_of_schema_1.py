"""A head that an older release wrote, whose scalars have no axis, under each interpreter."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys

import pytest
from helpers.paths import ROOT, TESTS

from firmware_host.shared.runtimes import RUNTIMES

OLD_HEAD = TESTS / "firmware_host" / "golden" / "head_1.tflite"
STEP = """
import sys
import numpy as np
from firmware_host.bundle import read_bundle
from firmware_host.engines.find import find_runtime, open_head, recipe_of
head = open_head(read_bundle(sys.argv[1]), find_runtime(sys.argv[2]))
head.set_state({**head.get_state(), "step": np.float32(2)})
head.train(np.zeros((4, 6)), np.array([0, 1, -1, 1]), np.ones(4), 1e-3, np.zeros(6))
state = head.get_state()
print(state["step"], state["step"].shape, state["replacement_debt"].shape)
"""


@pytest.mark.parametrize("runtime", ["ai_edge_litert", "tflite_runtime", "litert_compiled"])
def test_a_head_of_schema_1(make, bundle, runtime):
    """In a process of its own, with a real head.tflite that an older release wrote: scalars without an axis."""
    if not importlib.util.find_spec(RUNTIMES[runtime].module.partition(".")[0]):
        pytest.skip(f"{runtime} is not installed")
    shutil.copy(OLD_HEAD, bundle / "head.tflite")
    digest = hashlib.sha256(OLD_HEAD.read_bytes()).hexdigest()

    def older(manifest):
        manifest.update(schema_version=1)
        manifest["sha256"]["head.tflite"] = digest

    make.rewrite_manifest(bundle, older)
    done = subprocess.run([sys.executable, "-c", STEP, bundle, runtime], capture_output=True, text=True, cwd=ROOT)
    if runtime == "litert_compiled":
        assert "head.tflite does not open (a head of bundle schema 1, whose scalars CompiledModel" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3.0", "()", "()"]
