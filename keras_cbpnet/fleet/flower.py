"""The folder that `flwr run` takes, and Flower's programs with telemetry and update checks off."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from firmware_host.bundle import read_bundle
from firmware_host.fleet.base import check_sharing
from firmware_host.shared.files import write_atomically
from keras_cbpnet import __version__
from keras_cbpnet.errors import UserError

__all__ = ["PROGRAMS", "QUIET", "start", "write_app"]

QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
PROGRAMS = {"superlink": "flower-superlink", "supernode": "flower-supernode", "flwr": "flwr"}
FILE = "pyproject.toml"
PROJECT = """\
# Flower's App over keras-cbpnet, for `flwr run`. A SuperNode names its bundle itself: --node-config 'bundle="..."'.
[project]
name = "cbpnet-fleet"
version = "{version}"
description = "Devices share what they were taught: sums over images, never weights."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "keras-cbpnet"
flwr-version-target = "1.42.0"

[tool.flwr.app.components]
serverapp = "keras_cbpnet.fleet.server:app"
clientapp = "firmware_host.fleet.flower:app"

[tool.flwr.app.config]
bundle = {bundle}  # as the ServerApp finds it
folder = {folder}  # where the newest delta of each device is kept; empty: for the run alone
rounds = 3
every-s = 60.0  # between two rounds
nodes = 1  # to wait for before each round
timeout-s = 600.0  # for answers
revoke = ""  # numbers of devices whose lessons count no more
"""


def write_app(folder: Path, bundle: Path) -> Path:
    """Write Flower's App for a bundle into a new or empty folder; return the path of its file.

    Raises:
        UserError: the folder holds something already.
        DeviceError: the bundle is damaged, or its devices cannot share.
    """
    check_sharing(read_bundle(bundle))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already: give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    deltas = folder.resolve().with_name(f"{folder.resolve().name}.deltas")
    text = PROJECT.format(version=__version__, bundle=_toml(bundle.resolve()), folder=_toml(deltas))
    write_atomically(folder / FILE, text.encode())
    return folder / FILE


def start(program: str, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> NoReturn:
    """Become one of PROGRAMS of this environment; what `environment` sets of QUIET stays.

    Raises:
        UserError: it is not installed.
    """
    path = Path(sys.executable).with_name(PROGRAMS[program])
    if not path.is_file():
        raise UserError(f'{PROGRAMS[program]} is not installed: install it with pip install "keras-cbpnet[fleet]"')
    # It starts others by their names alone.
    search = os.pathsep.join([str(path.parent), *filter(None, [environment.get("PATH")])])
    settings = {**QUIET, **environment, "PATH": search}
    with contextlib.suppress(OSError):
        os.dup2(sys.stderr.fileno(), 2)  # `cli.hide_native_output` hides what is written there
    os.execve(path, [str(path), *arguments], settings)


def _toml(path: Path) -> str:
    """Return a path as a TOML string; JSON's escapes are among TOML's."""
    return json.dumps(str(path), ensure_ascii=False)
