"""Which data a run was trained on: its classes and a fingerprint of the images of each, kept in the run folder.

Where another data set whitens the features, the record of that one is part of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.sources import open_dataset
from keras_cbpnet.errors import UserError
from keras_cbpnet.tables import PATH_SOURCES

__all__ = ["RECORD", "WHITENING", "check_data", "data_of_run", "open_data_of_run", "record_of"]

RECORD = "data.json"  # in the run folder
WHITENING = "whitening"  # the key of the record of the data that whiten the features
SHOWN = 3  # names in a message


def record_of(spec: str, data: Dataset) -> dict[str, Any]:
    """Return what tells the data set `spec` from any other; every image file is read, none is decoded.

    Returns:
        `source` (the spec with an absolute path), `domains`, and `classes`: of each its number of `train` and `test`
        images and the `sha256` of all of them in their order, with their domains.
    """
    digests = [hashlib.sha256() for _ in data.class_names]
    for part, labels, domains in (
        ("train", data.y_train, data.domain_train),
        ("test", data.y_test, data.domain_test),
    ):
        hashes = data.hashes(part)  # (N, 32)
        for label, digest in enumerate(digests):
            rows = np.flatnonzero(labels == label)
            digest.update(f"{part} {len(rows)}\n".encode() + hashes[rows].tobytes())
            if domains is not None:
                digest.update(domains[rows].astype("<i8").tobytes())
    counts = [np.bincount(labels, minlength=len(digests)).tolist() for labels in (data.y_train, data.y_test)]
    classes = {
        name: {"train": train, "test": test, "sha256": digest.hexdigest()}
        for name, train, test, digest in zip(data.class_names, *counts, digests, strict=True)
    }
    return {"source": _absolute(spec), "domains": list(data.domain_names), "classes": classes}


def check_data(run: Path, spec: str, data: Dataset, whitening: bool = False) -> bool:
    """Refuse data that are not those that the run in the folder `run` was trained on; return whether it says which.

    Args:
        run: its folder.
        spec: of the data set `data`.
        data: those of the run; or, if `whitening`, those that whiten its features.
        whitening: see `data`.

    Raises:
        UserError: other classes, other images, or a damaged record.
    """
    record = _read(run)
    if record is not None and whitening:
        record = record.get(WHITENING)
    if record is None:
        return False
    if difference := _difference(record, record_of(spec, data)):
        what = "whitened its features by" if whitening else "was trained on"
        raise UserError(
            f"{spec} is not what {run} {what}: {difference}; put the data back as they were, or train again "
            "into another folder"
        )
    return True


def open_data_of_run(
    run: Path, spec: str, image_size: int, seed: int, say: Callable[[str], None] = lambda line: None
) -> Dataset:
    """Open the data that the run in the folder `run` was trained on, wherever the program runs now.

    Args:
        run: its folder.
        spec: of its configuration, where a path may be relative.
        image_size: as for `open_dataset`.
        seed: as for `open_dataset`.
        say: takes a line of warning about a run that does not say which data it was trained on.

    Raises:
        UserError: as `open_dataset` and `check_data`.
    """
    place = data_of_run(run, spec)
    if _read(run) is None:
        say(f"warning: {run} is of an older version and does not say which images it was trained on; are {spec} those?")
    data = open_dataset(place, image_size, seed)
    check_data(run, place, data)
    return data


def data_of_run(run: Path, spec: str, whitening: bool = False) -> str:
    """Return where the data `spec` of the run in the folder `run` are now.

    Args:
        run: its folder.
        spec: of its configuration, where a path may be relative.
        whitening: whether they are those that whiten its features.

    Raises:
        UserError: they are not there, or the record is damaged.
    """
    record = _read(run)
    if record is not None and whitening:
        record = record.get(WHITENING)
    if record is None:
        return spec
    recorded = str(record["source"])
    places = [place for place in (recorded, spec) if _is_there(place)]
    if not places and not os.path.isabs(recorded.partition(":")[2]):  # it was not a path when it was recorded
        places = [recorded]
    if not places:
        raise UserError(f"the data that {run} was trained on, {recorded}, are not there; put them back")
    return places[0]


def _read(run: Path) -> dict[str, Any] | None:
    file = run / RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if all(_is_whole(part) for part in (record, record.get(WHITENING, record))):
            return dict(record)
        reason = "keys are missing"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    raise UserError(f"{file} is damaged ({reason[:120]}); train again into another folder")


def _is_whole(record: dict[str, Any]) -> bool:
    names = [name for name, each in record["classes"].items() if {"train", "test", "sha256"} <= set(each)]
    return names == list(record["classes"]) and isinstance(record["source"], str) and "domains" in record


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return what is different, in a few words; empty for nothing."""
    then, now = old["classes"], new["classes"]
    gone, added = [name for name in then if name not in now], [name for name in now if name not in then]
    if gone or added:
        parts = [f"{what} {_some(names)}" for what, names in (("without", gone), ("with", added)) if names]
        return f"it is {' and '.join(parts)}"
    if list(then) != list(now) or old["domains"] != new["domains"]:
        return f"its {'classes' if list(then) != list(now) else 'domains'} are others, or in another order"
    changed = [name for name in then if then[name] != now[name]]
    if not changed:
        return ""
    counts = [f"{each['train']} + {each['test']}" for each in (then[changed[0]], now[changed[0]])]
    numbers = f" ({counts[0]} images then, {counts[1]} now)" if counts[0] != counts[1] else ""
    return f"it has other images of {_some(changed[:1])}{numbers}" + (
        f" and of {len(changed) - 1} more classes" if len(changed) > 1 else ""
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def _absolute(spec: str) -> str:
    """Return `spec` with an absolute path; as it is where what follows the colon is not a path."""
    kind, _, path = spec.partition(":")
    return f"{kind}:{os.path.abspath(os.path.expanduser(path))}" if _is_path(spec) and _is_there(spec) else spec


def _is_path(spec: str) -> bool:
    kind, colon, _ = spec.partition(":")
    return bool(colon) and kind in PATH_SOURCES


def _is_there(spec: str) -> bool:
    return not _is_path(spec) or os.path.exists(os.path.expanduser(spec.partition(":")[2]))
