"""Many devices with a server in their middle: simulate how they share, and run it on Flower (extra `fleet`).

`simulate BUNDLE --data DATA` lets N devices learn and share in one process; `app FOLDER BUNDLE` writes the folder that
`flwr run` takes; `flower superlink|supernode|flwr ...` runs Flower's programs with telemetry and update checks off.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from firmware_host.shared.arguments import data_argument, folder_argument, path_argument, seed_argument
from firmware_host.shared.runtimes import AUTO, runtime_names
from keras_cbpnet import cli
from keras_cbpnet.fleet import flower

__all__ = ["build_parser", "main"]

MOST_TEST = 500


class _Command(cli.ArgumentParser):
    """A parser of one command; `as_given`: whether arguments keep their order, being another program's."""

    as_given = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does."""
        if self.as_given:
            return argparse.ArgumentParser.parse_known_args(self, args, namespace)
        return super().parse_known_args(args, namespace)


def build_parser(names: Mapping[str, str] = cli.MODULES) -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog=names["fleet"], description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command", parser_class=_Command)
    _add_simulate(commands.add_parser("simulate", help="many devices in one process, a line of JSON a round"))
    app = commands.add_parser("app", help="write the folder that `flwr run` takes")
    app.add_argument("folder", type=folder_argument, metavar="FOLDER", help="folder to write, new or empty")
    app.add_argument(
        "bundle", type=path_argument, metavar="BUNDLE", help="bundle of the devices, as the server finds it"
    )
    program = commands.add_parser("flower", help="run a program of Flower with telemetry and update checks off")
    program.as_given = True
    program.add_argument("program", choices=tuple(flower.PROGRAMS), metavar="PROGRAM", help=", ".join(flower.PROGRAMS))
    program.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="what is given to it, --help too")
    return parser


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", type=path_argument, metavar="BUNDLE", help="bundle of the devices")
    add("--data", type=data_argument, required=True, help="labelled images with a part to train on and one to test on")
    add("--devices", type=int, default=100, metavar="N", help="devices")
    add("--rounds", type=int, default=3, metavar="N", help="rounds of lessons and a merge each")
    add("--images", type=int, default=10, metavar="N", help="images that a device is taught a round")
    add("--classes", type=int, default=2, metavar="N", help="classes that these are of")
    add("--whole", type=int, default=3, metavar="N", help="devices with head and bank, which are tested")
    add("--min-images", type=int, default=5, metavar="N", help="images of a class from which others are told of it")
    add("--test-images", type=int, default=MOST_TEST, metavar="N", help="test images, at most")
    add("--seed", type=seed_argument, default=0, help="seed of what is drawn")
    add("--runtime", choices=runtime_names(), default=AUTO, help="interpreter that computes")


def main(argv: Sequence[str] | None = None, names: Mapping[str, str] = cli.MODULES) -> int:
    """Run a command and return its exit code; `names`: how commands are started."""
    args = build_parser(names).parse_args(argv)
    if args.command == "flower":
        return flower.start(args.program, args.arguments)
    if args.command == "simulate":
        return _simulate(args)
    path = flower.write_app(args.folder, args.bundle)
    print(f"written: {path}; next: {names['fleet']} flower flwr run {args.folder} CONNECTION --stream")
    return 0


def _simulate(args: argparse.Namespace) -> int:
    from keras_cbpnet.fleet.inputs import Settings, read_features
    from keras_cbpnet.fleet.simulation import simulated

    settings = Settings(
        args.devices, args.rounds, args.images, args.classes, args.whole, args.min_images, args.seed, args.runtime
    )
    settings.check()
    with cli.progress_lines(total=0) as say, tempfile.TemporaryDirectory() as folder:
        features = read_features(args.bundle, args.data, args.runtime, Path(folder), args.test_images, args.seed, say)
        for record in simulated(args.bundle, features, settings, Path(folder), say):
            print(json.dumps(record), flush=True)
    return 0
