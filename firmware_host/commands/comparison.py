"""What differs between two learned states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from firmware_host.commands.common import Output
from firmware_host.state import Snapshot

__all__ = ["compared"]


def compared(here: Snapshot, there: Snapshot, file: Path) -> Output:
    """Return what differs between what was learned here and in `file`."""
    images = {}
    for name in dict.fromkeys([*here.classes, *there.classes]):
        counts = [int(s.statistics.count[s.classes.index(name)]) if name in s.classes else None for s in (here, there)]
        if counts[0] != counts[1]:
            images[name] = counts
    both = [name for name in here.head if name in there.head]
    tensors = {name: float(np.abs(here.head[name] - there.head[name]).max(initial=0)) for name in both}
    record: dict[str, Any] = {
        "file": str(file),
        "equal": not images and not any(tensors.values()) and here.generator == there.generator,
        "images": images,
        "steps": [here.steps, there.steps],
        "max_difference": {name: value for name, value in tensors.items() if value},
    }
    shown = [f"  {name}: {a if a is not None else '-'} images here, {b if b is not None else '-'} there"
             for name, (a, b) in images.items()]  # fmt: skip
    shown += [f"  {name}: differs by up to {value:.3g}" for name, value in record["max_difference"].items()]
    head = "equal" if record["equal"] else f"different: {record['steps'][0]} steps here, {record['steps'][1]} there"
    return Output(record, "\n".join([head, *shown]))
