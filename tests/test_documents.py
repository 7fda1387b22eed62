"""The documents: links, the length of the README, numbers that are measured, Python that runs, figures up to date."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image

from firmware_host import Device

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    "README.md",
    "CHANGELOG.md",
    "benchmarks/NOTES.md",
    "firmware_host/README.md",
    "firmware_host/micro.md",
    "notebooks/README.md",
    "tflite/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]


EXPLANATIONS = sorted((ROOT / "docs" / "explanations").glob("*.md"))
MEASURED = set(re.findall(r"\d+\.\d+", (ROOT / "docs" / "results.md").read_text(encoding="utf-8")))


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
    [section] = re.findall(r"\n## Results\n(.*?)\n## ", README, re.DOTALL)
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    numbers = re.findall(r"\d+\.\d+", table)
    assert len(numbers) > 20
    assert set(numbers) <= MEASURED


@pytest.mark.parametrize("path", [*EXPLANATIONS, ROOT / "docs/howto/choose_backbone.md"], ids=lambda path: path.stem)
def test_the_numbers_of_an_explanation_are_those_of_the_results(path):
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`]*`|\(https?://\S+\)|arXiv \S+", "", text)
    numbers = re.findall(r"\d+\.\d+", prose)
    assert len(numbers) >= 8
    assert set(numbers) <= MEASURED
    commands = re.findall(r"benchmarks\.\w+", text)
    assert commands
    for command in commands:
        assert importlib.util.find_spec(command), command


def test_the_figures_are_those_of_the_results():
    script = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "explanations" / "figures.py")
    figures = importlib.util.module_from_spec(script)
    script.loader.exec_module(figures)
    shown = set().union(*(links(str(path.relative_to(ROOT))) for path in EXPLANATIONS))
    for name, content in figures.figures().items():
        assert f"docs/explanations/{name}" in shown
        kept = (ROOT / "docs" / "explanations" / name).read_text(encoding="utf-8")
        assert kept == content, "write them again: python docs/explanations/figures.py"


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


@pytest.mark.parametrize("name", ["calibrate_camera", "take_back"])
def test_the_python_of_a_how_to_runs(name, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "howto" / f"{name}.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    shutil.copytree(ROOT / "tests" / "firmware_host" / "golden" / "banked" / "bundle_1", tmp_path / "kitchen")
    monkeypatch.chdir(tmp_path)
    images = list(np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8))
    labels = ["red", "green"] * 2
    with Device.open("kitchen", runtime="numpy") as device:
        device.learn(images, ["fork"] * 4, epochs=1)
        device.save()
    opened = functools.partial(Device.open, runtime="numpy")
    exec(code, {"Device": types.SimpleNamespace(open=opened), "images": images, "labels": labels})
    assert len(list((tmp_path / "kitchen.state").glob("state.*.npz"))) == 2
