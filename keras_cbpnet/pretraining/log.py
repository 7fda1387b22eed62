"""The record of a pretraining: one JSON file beside the weights, and what the work folder belongs to."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from keras_cbpnet.errors import UserError
from keras_cbpnet.training.run import write_json

__all__ = ["Log", "check_arguments"]

HOUSEKEEPING = ("output", "work", "overwrite", "json")  # arguments that do not change what is trained
OWNER = "arguments.json"  # in the work folder


def check_arguments(work: Path, args: argparse.Namespace) -> None:
    """Refuse a work folder that belongs to a training with other arguments; without Keras.

    Raises:
        UserError: it does.
    """
    owner, same = work / OWNER, _that_count(args)
    if not owner.exists():
        return
    found = _read(owner)
    other = [f"--{key.replace('_', '-')} {found.get(key)}" for key in same if found.get(key) != same[key]]
    if other:
        raise UserError(
            f"{work} holds the checkpoint of a training with {', '.join(other)}; "
            "repeat its arguments, choose another --work or remove the folder"
        )


class Log:
    """One JSON file beside the weights: arguments, and one record per epoch; rewritten whole.

    Args:
        file: to write.
        work: folder of the checkpoint, made here; it remembers the arguments that it belongs to.
        args: of the command.

    Raises:
        UserError: the work folder belongs to a training with other arguments.
    """

    def __init__(self, file: Path, work: Path, args: argparse.Namespace) -> None:
        import keras

        check_arguments(work, args)
        work.mkdir(parents=True, exist_ok=True)
        write_json(work / OWNER, _that_count(args))
        self.file = file
        self.contents: dict[str, Any] = {
            "preset": args.preset,
            "backend": keras.backend.backend(),
            "arguments": _values(args),
            "epochs": [],
        }
        if file.exists() and (work / "backup").exists():
            self.contents["epochs"] = [dict(epoch) for epoch in _read(file).get("epochs", [])]

    def add(self, **record: Any) -> None:
        """Add the record of an epoch, in place of an earlier record of the same one."""
        records = {old["epoch"]: old for old in self.contents["epochs"]}
        self.contents["epochs"] = list({**records, record["epoch"]: record}.values())
        self.write()

    def write(self, **values: Any) -> None:
        """Write the file, with `values` added."""
        self.contents.update(values)
        write_json(self.file, self.contents)


def _values(args: argparse.Namespace) -> dict[str, Any]:
    return {key: v if isinstance(v, (int, float)) else str(v or "") for key, v in vars(args).items()}


def _that_count(args: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in _values(args).items() if key not in HOUSEKEEPING}


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}); remove it and the work folder to begin again") from None
