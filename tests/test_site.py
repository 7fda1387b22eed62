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
from keras_cbpnet import __main__ as host
from keras_cbpnet import cli
from keras_cbpnet.tables import RULES
from keras_cbpnet.train import main as train

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
RULE_TUTORIAL = ROOT / "docs" / "tutorials" / "learning_rule.md"
PARSERS = {
    "keras-cbpnet": lambda command: importlib.import_module(host.COMMANDS[command].module).build_parser(cli.CONSOLE),
    "cbpnet": lambda command: device.build_parser("cbpnet"),
}
BASE = "https://site.invalid/"  # what the site's address stands for in this test


def blocks(path, language=""):
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for name, text in fences if name == language]


def commands(path):
    """The lines of a tutorial that start one of the project's commands, as words, without the environment's folder."""
    lines = [line.removeprefix(".venv/bin/") for block in blocks(path) for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line[:1] and line[0] in PARSERS and line[1] != "--version"]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_the_commands_of_a_tutorial_are_understood(path):
    assert commands(path)
    for program, *words in commands(path):
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


class Anchors(HTMLParser):
    """Ids and links of a page, and its text outside code."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded, self.text, self.code = set(), [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        self.loaded += [attributes[name] for name in ("src", "href") if name in attributes and tag != "a"]
        self.code += tag in ("code", "pre", "script", "style")

    def handle_endtag(self, tag):
        self.code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data):
        if not self.code:
            self.text.append(data)


@pytest.mark.slow
def test_every_link_of_the_site_leads_to_a_place(site):
    pages, folder = site
    parsed = {name: Anchors(text) for name, text in pages.items()}
    assert len(parsed) > 20
    checked = 0
    for name, page in parsed.items():
        for link in page.links:
            target = urlsplit(urljoin(BASE + name, link))
            if f"{target.scheme}://{target.netloc}/" != BASE or name == "404.html":
                continue
            path = unquote(target.path).lstrip("/")
            path += "index.html" if not path or path.endswith("/") else ""
            assert (folder / path).is_file(), (name, link)
            assert not target.fragment or path not in parsed or unquote(target.fragment) in parsed[path].ids, (
                name,
                link,
            )
            checked += 1
    assert checked > 1000


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere_and_show_no_markdown(site):
    for name, text in site[0].items():
        page = Anchors(text)
        assert not [source for source in page.loaded if urlsplit(source).netloc], name
        assert not re.search(r"```|^\||\*\*|\]\(|^\s*- |:::", "".join(page.text), re.MULTILINE), name


@pytest.mark.slow
def test_the_reference_has_every_public_name_and_every_command(site):
    pages, _ = site
    for package in (keras_cbpnet, firmware_host):
        ids = Anchors(pages[f"reference/{package.__name__}/index.html"]).ids
        ends = {place.rpartition(".")[2] for place in ids if place and place.startswith(package.__name__)}
        assert set(package.__all__) - {"__version__"} <= ends
    for program, names in (("keras-cbpnet", host.COMMANDS), ("cbpnet", ("predict", "learn", "state", "serve"))):
        for name in names:
            assert f"usage: {program} {name} " in pages[f"reference/{program}/index.html"]
