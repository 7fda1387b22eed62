"""The documents: links lead somewhere, the README is short and its numbers are measured, its Python runs."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    "README.md",
    "CHANGELOG.md",
    "benchmarks/NOTES.md",
    "firmware_host/README.md",
    "firmware_host/micro.md",
    "tflite/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]


def links(name):
    """What a document links to in the tree, as paths from the root."""
    prose = re.sub(r"^ *```.*?^ *```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", prose)
    inside = [target.split("#")[0] for target in found if not target.startswith(("http", "#"))]
    return {os.path.normpath(os.path.join(os.path.dirname(name), target)) for target in inside}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name):
    for target in links(name):
        assert (ROOT / target).exists(), target


def test_the_readme_is_short_and_begins_with_the_two_commands():
    assert len(README.splitlines()) <= 200
    commands = [line.split("#")[0].strip() for line in re.findall(r"```\n(.*?)```", README, re.DOTALL)[0].splitlines()]
    assert commands == ["make demo", "make test"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


def test_the_readme_links_to_every_page():
    linked = links("README.md")
    assert {name for name in DOCUMENTS if re.fullmatch(r"docs/[^/]+", name)} <= linked
    assert {name for name in DOCUMENTS if name.startswith("docs/tutorials/")} <= set().union(*map(links, DOCUMENTS))


def test_the_numbers_of_the_readme_are_those_of_the_results():
    results = set(re.findall(r"\d+\.\d+", (ROOT / "docs" / "results.md").read_text(encoding="utf-8")))
    [section] = re.findall(r"\n## Results\n(.*?)\n## ", README, re.DOTALL)
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    numbers = re.findall(r"\d+\.\d+", table)
    assert len(numbers) > 20
    assert set(numbers) <= results


def test_entries_of_the_index_are_those_of_the_notes():
    text = (ROOT / "benchmarks" / "NOTES.md").read_text(encoding="utf-8")
    entries = {int(number) for number in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)}
    [index] = re.findall(r"\n## Index by question\n(.*?)\n## ", text, re.DOTALL)
    rows = [line.strip("|").split("|")[-1] for line in index.splitlines() if line.startswith("| ")][1:]
    indexed = {int(number) for row in rows for number in re.findall(r"\d+", row)}
    assert indexed == entries, "add each entry to the index at the top"


@pytest.mark.parametrize("name", ["README.md", "firmware_host/README.md"])
def test_the_python_of_the_documents_runs(name, tmp_path):
    text = (ROOT / name).read_text(encoding="utf-8")
    [code] = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Device.open" in block]
    [bundle] = re.findall(r'Device\.open\("(\w+)"\)', code)
    # The kept bundle has a head.tflite that stands in for one, so the head is computed by NumPy.
    code = code.replace(f'Device.open("{bundle}"', f'Device.open("{bundle}", runtime="numpy"')
    shutil.copytree(ROOT / "tests" / "firmware_host" / "golden" / "plain" / "bundle_1", tmp_path / bundle)
    rng = np.random.default_rng(0)
    for image in set(re.findall(r"\w+\.jpg", code)):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(tmp_path / image)
    # A package that is installed from elsewhere would not be found before this one.
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Prediction(label='")
    assert (tmp_path / f"{bundle}.state" / "state.a.npz").exists()
