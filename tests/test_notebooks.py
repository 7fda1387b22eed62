"""The notebooks: how they begin, and what they may use. `make test-all` runs them."""

import importlib.util
import json
import os
import re

import pytest
from helpers.paths import ROOT
from IPython.core.inputtransformer2 import TransformerManager

import firmware_host
import keras_cbpnet

FOLDER = ROOT / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
README = (FOLDER / "README.md").read_text(encoding="utf-8")
PUBLIC = {package.__name__: package for package in (keras_cbpnet, firmware_host)}


def cells(name, kind=None):
    found = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in found if kind in (None, cell["cell_type"])]


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_it_is_kept_without_outputs(name):
    assert {(cell["execution_count"], *cell["outputs"]) for cell in cells(name, "code")} == {(None,)}


def test_the_badge_opens_it_from_the_repository_that_is_named_once(name):
    [repository] = re.findall(r"here it is\n`(\w+/[\w-]+)`", README)
    [badge] = re.findall(r"\(https://colab\.research\.google\.com/github/(.+?)\)", cells(name)[0]["source"])
    assert badge == f"{repository}/blob/main/notebooks/{name}.ipynb"


def test_the_next_cell_installs_the_package_where_it_is_not(name, monkeypatch):
    asked = []

    class Shell:
        def run_line_magic(self, magic, line):
            asked.append((magic, line))

    source = TransformerManager().transform_cell(cells(name, "code")[0]["source"])
    exec(source, {"get_ipython": Shell})
    assert asked == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    exec(source, {"get_ipython": Shell})
    assert asked == [("pip", 'install --quiet "keras-cbpnet[train]"')]


def test_it_uses_public_names_alone(name):
    code = "\n".join(cell["source"] for cell in cells(name, "code"))
    used = re.findall(r"^from (\w+)(\S*) import (.+)$", code, re.MULTILINE)
    used = [(package, inner, each) for package, inner, names in used for each in names.split(", ") if package in PUBLIC]
    used += [("keras_cbpnet", "", each) for each in re.findall(r"\bkeras_cbpnet\.(\w+)", code) if each != "freeze"]
    assert used
    for package, inner, each in used:
        assert not inner, (package, inner)
        assert each in PUBLIC[package].__all__, each


def test_its_links_lead_to_files(name):
    text = "\n".join(cell["source"] for cell in cells(name, "markdown"))
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not target.startswith("http")]
    assert targets
    for target in targets:
        assert (FOLDER / target).exists(), target


def test_the_list_has_every_notebook():
    assert len(NAMES) == 4
    assert [os.path.splitext(target)[0] for target in re.findall(r"\]\((\S+\.ipynb)\)", README)] == NAMES
