"""The documentation site: it builds without a warning, no link is broken, and the tutorials say what is so."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

import keras
import numpy as np
import pytest
from helpers import tiny_stream
from helpers.paths import ROOT

import firmware_host
import keras_cbpnet
from firmware_host import cli as device
from firmware_host.commands import all_commands
from keras_cbpnet import __main__ as host
from keras_cbpnet import cli
from keras_cbpnet.tables import RULES
from keras_cbpnet.train import main as train

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
HOW_TOS = sorted((ROOT / "docs" / "howto").glob("*.md"))
RULE_TUTORIAL = ROOT / "docs" / "tutorials" / "learning_rule.md"
PARSERS = {
    "keras-cbpnet": lambda command: importlib.import_module(host.COMMANDS[command].module).build_parser(cli.CONSOLE),
    "cbpnet": lambda command: device.build_parser("cbpnet"),
}
BASE = "https://site.invalid/"  # what the site's address stands for in this test


def blocks(path, language=""):
    fences = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for name, text in fences if name == language]


def commands(path):
    """The lines of a page that start one of the project's commands, as words, without the environment's folder."""
    lines = [line.strip().removeprefix(".venv/bin/") for block in blocks(path) for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line[:1] and line[0] in PARSERS and line[1] != "--version"]


@pytest.mark.parametrize("path", [*TUTORIALS, *HOW_TOS], ids=lambda path: path.stem)
def test_the_commands_of_a_page_are_understood(path):
    assert commands(path)
    for program, *words in commands(path):
        if words[:2] == ["fleet", "flower"]:
            words = words[:3]  # the others are for a program of Flower
        PARSERS[program](words[0]).parse_args(words[program == "keras-cbpnet" :])


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_uses_what_it_made(path):
    made = set()
    for program, command, *words in commands(path):
        if program == "cbpnet" or command == "convert":
            assert words[0] in made
        if "--output" in words:
            made.add(words[words.index("--output") + 1])
    assert made


@pytest.mark.slow
def test_the_rule_of_the_tutorial(tmp_path, monkeypatch, tiny_backbone):
    rule, line, by_hand, _ = blocks(RULE_TUTORIAL, "python")
    [name, place] = re.findall(r'"(.+?)"', line)
    module, attribute = place.split(":")
    (tmp_path / "tutorial_rule.py").write_text(rule, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(RULES.places, name, f"tutorial_rule:{attribute}")
    assert f"`{module.replace('.', '/')}.py`:" in RULE_TUTORIAL.read_text(encoding="utf-8")

    beside = importlib.util.spec_from_file_location("rules", ROOT / "tests/keras_cbpnet/plasticity/test_rules.py")
    test_rules = importlib.util.module_from_spec(beside)
    beside.loader.exec_module(test_rules)
    exec(by_hand, vars(test_rules))
    test_rules.test_clip_keeps_the_incoming_weights_in_their_range()

    with tiny_stream.opened(tmp_path, tiny_backbone) as stream:
        arguments = stream.arguments(plasticity=f"{name}:factor=0.25", block="mlp", bank=False)
        assert cli.run(train, [*arguments, "--output", str(tmp_path / "run")]) == 0
    weights = np.asarray(keras.models.load_model(tmp_path / "run" / "model.keras").head.state["w1"])
    assert np.abs(weights).max() == pytest.approx(0.25 * np.sqrt(6 / len(weights)), rel=1e-6)


@pytest.mark.slow
def test_the_python_of_an_explanation_runs():
    [code] = blocks(ROOT / "docs" / "explanations" / "continual_backpropagation.md", "python")
    rng = np.random.default_rng(0)
    names = {"features": rng.normal(size=(32, 128)).astype("float32"), "labels": rng.integers(0, 10, 32)}
    exec(code, {"keras": keras, "keras_cbpnet": keras_cbpnet, **names}, names)
    assert set(names["model"].history.history) >= {"loss", "units_reset", "dead_unit_share"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: folder, and each page's address with its HTML."""
    for tool in ("mkdocs", "material", "mkdocstrings_handlers"):
        if importlib.util.find_spec(tool) is None:
            pytest.skip(f"{tool} is not installed; `make docs` installs it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return {
        page.relative_to(folder).as_posix(): page.read_text(encoding="utf-8") for page in folder.rglob("*.html")
    }, folder


class Page(HTMLParser):
    """Ids of a page, what it links to, what it loads, and its text outside code."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.text, self.code = set(), [], [], "", 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        self.code += tag in ("code", "pre", "script", "style")
        (self.links if tag == "a" else self.loads).extend(
            attributes[key] for key in ("href", "src") if key in attributes
        )

    def handle_endtag(self, tag):
        self.code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data):
        self.text += "" if self.code else data


@pytest.mark.slow
def test_what_a_page_links_to_and_loads_is_there(site):
    pages, folder = site
    parsed = {name: Page(text) for name, text in pages.items() if name != "404.html"}  # that one's address is any
    assert len(parsed) > 20
    inside = set()
    for name, page in parsed.items():
        assert not [address for address in page.loads if urlsplit(address).netloc], name
        targets = {urlsplit(urljoin(BASE + name, address)) for address in (*page.links, *page.loads)}
        for target in (target for target in targets if BASE.startswith(f"{target.scheme}://{target.netloc}/")):
            path = re.sub("(^|/)$", r"\1index.html", unquote(target.path).lstrip("/"))
            assert (folder / path).is_file(), (name, target)
            assert not target.fragment or unquote(target.fragment) in parsed[path].ids, (name, target)
            inside.add(target)
    assert len(inside) > 300


@pytest.mark.slow
def test_no_markdown_is_left_in_a_page(site):
    for name, text in site[0].items():
        assert not re.search(r"```|^\||\*\*|\]\(|^\s*- |:::", Page(text).text, re.MULTILINE), name


@pytest.mark.slow
def test_the_reference_has_every_public_name_and_every_command(site):
    pages, _ = site
    for package in (keras_cbpnet, firmware_host):
        ids = Page(pages[f"reference/{package.__name__}/index.html"]).ids
        ends = {place.rpartition(".")[2] for place in ids if place and place.startswith(package.__name__)}
        assert set(package.__all__) - {"__version__"} <= ends
    names = {"keras-cbpnet": list(host.COMMANDS), "cbpnet": [command.name for command in all_commands()]}
    for program, commands in names.items():
        for name in commands:
            assert f"usage: {program} {name} " in pages[f"reference/{program}/index.html"]
