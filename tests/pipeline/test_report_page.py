"""`keras-cbpnet report`: a run is tested on its own test images, a bundle on those that are named."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

pytestmark = pytest.mark.slow


def report(*arguments, folder):
    command = [sys.executable, "-m", "keras_cbpnet", "report", *map(str, arguments)]
    ended = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_run_and_a_bundle_become_pages_of_the_same_numbers(road, int8, tmp_path):
    with np.load(road.npz) as arrays:
        known = np.isin(arrays["y_test"], [list(arrays["class_names"]).index(name) for name in road.known])
        few = {name: value[known] if name.endswith("_test") else value for name, value in arrays.items()}
    np.savez(tmp_path / "known.npz", **few)
    by_run = report(road.run, folder=tmp_path)
    by_bundle = report(int8, "--data", f"npz:{tmp_path / 'known.npz'}", "--output", "bundle.html", folder=tmp_path)
    [run], [bundle] = (re.findall(r"^accuracy ([\d.]+)% on (\d+) images$", text, re.M) for text in (by_run, by_bundle))
    assert run[1] == bundle[1] == str(known.sum())
    assert abs(float(run[0]) - float(bundle[0])) <= 200 / known.sum()  # two images, which int8 may round otherwise
    for page in (tmp_path / f"{road.run.name}.html", tmp_path / "bundle.html"):
        assert "What images are (rows)" in page.read_text()
