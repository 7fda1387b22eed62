"""Hook of mkdocs: the pages of the site.

The site's sources are named as in the tree (docs/edge.md, firmware_host/README.md), so that the links between them lead
the same way here and on a code host. Beside them there are pages made while it is built: a reference of each package's
public names from docstrings, the help of every command, and a list of the benchmarks' files.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import firmware_host
import keras_cbpnet
from firmware_host import cli as device
from keras_cbpnet import __main__ as host
from keras_cbpnet import api, cli

ROOT = Path(__file__).parents[2]
BESIDE = (  # what the site has of the tree outside docs/
    "README.md", "CHANGELOG.md", "benchmarks/NOTES.md", "firmware_host/README.md", "firmware_host/micro.md",
    "tflite/README.md", "notebooks/README.md", "notebooks/*.ipynb", "benchmarks/results/*.json",
)  # fmt: skip
EXTENDING = ("keras_cbpnet.plasticity.rule.Rule", "keras_cbpnet.methods.method.Method")
HELP_COLUMNS = "80"
LINK = re.compile(r"\]\(([^)\s#]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Name every page by its path in the tree, and add those that lie elsewhere or are made here."""
    for file in [file for file in files if file.src_dir == config.docs_dir and not file.inclusion.is_excluded()]:
        files.remove(file)
        files.append(_file(f"docs/{file.src_uri}", config))
    for path in sorted(path for pattern in BESIDE for path in ROOT.glob(pattern)):
        files.append(_file(path.relative_to(ROOT).as_posix(), config))
    for name, text in made().items():
        files.append(made_file := File.generated(config, name, content=text))
        made_file.dest_uri = _address(name, config)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let a link to a folder lead to the folder's page."""
    here = (ROOT / page.file.src_uri).parent

    def to_page(link: re.Match[str]) -> str:
        return f"]({link[1].rstrip('/')}/README.md)" if (here / link[1]).is_dir() else link[0]

    return LINK.sub(to_page, markdown)


def made() -> dict[str, str]:
    """Return the pages that are in no file, Markdown by name."""
    return {
        "docs/reference/keras_cbpnet.md": _reference("keras_cbpnet", _places()),
        "docs/reference/firmware_host.md": _reference(
            "firmware_host", [f"firmware_host.{name}" for name in firmware_host.__all__]
        ),
        "docs/reference/extending.md": _reference("Rules and methods", EXTENDING),
        "docs/reference/keras-cbpnet.md": _commands("keras-cbpnet", host_parsers()),
        "docs/reference/cbpnet.md": _commands("cbpnet", device_parsers()),
        "benchmarks/results/README.md": _results(),
    }


def host_parsers() -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of `keras-cbpnet` and that of each of its commands."""
    yield host.build_parser()
    for command in host.COMMANDS.values():
        yield importlib.import_module(command.module).build_parser(cli.CONSOLE)


def device_parsers() -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of `cbpnet`, and those of its commands and of theirs."""
    yield from _with_commands(device.build_parser("cbpnet"))


def _with_commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _with_commands(command)


def _file(name: str, config: MkDocsConfig) -> File:
    address = _address(name, config)
    return File(name, str(ROOT), config.site_dir, config.use_directory_urls, dest_uri=address)


def _address(name: str, config: MkDocsConfig) -> str:
    """Return where a page is in the site: what lies in docs/ needs no folder of that name there."""
    return File(name.removeprefix("docs/"), None, config.site_dir, config.use_directory_urls).dest_uri


def _places() -> list[str]:
    """Return where each public name of keras_cbpnet is, in their order.

    `train` and `convert` are modules there, functions in `api`; where a module has the name too, the function is in it.
    """
    places = {name: module for module, names in keras_cbpnet.PLACES.items() for name in names}
    found = []
    for name in keras_cbpnet.__all__:
        if name != "__version__":
            module = places.get(name, api.__name__)
            own = (ROOT / module.replace(".", "/") / f"{name}.py").exists()
            found.append(f"{module}.{name}.{name}" if own else f"{module}.{name}")
    return found


def _reference(title: str, names: list[str] | tuple[str, ...]) -> str:
    return f"# {title}\n\n" + "\n\n".join(f"::: {name}" for name in names)


def _commands(title: str, parsers: Iterator[argparse.ArgumentParser]) -> str:
    with mock.patch.dict(os.environ, COLUMNS=HELP_COLUMNS):
        helps = [f"## {parser.prog}\n\n````text\n{parser.format_help()}````" for parser in parsers]
    return f"# {title}\n\nWhat `--help` of each command prints.\n\n" + "\n\n".join(helps)


def _results() -> str:
    rows = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        command = record.get("command", "") if isinstance(record, dict) else ""
        rows.append(f"| [{path.name}]({path.name}) | {f'`{command}`' if command else ''} |")
    return "# Files of results\n\nEach holds what one command measured.\n\n| file | from |\n|:--|:--|\n" + "\n".join(
        rows
    )
