"""What the commands share: what one prints, and how one opens the device."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from firmware_host.device import Device
from firmware_host.terminal import without_runtime_chatter

__all__ = ["BAD_IMAGE", "REQUIRED", "Output", "open_device"]

BAD_IMAGE = 2  # exit code: bad input
REQUIRED = "the following arguments are required: {what} or --source (see python -m firmware_host {command} --help)"


class Output(NamedTuple):
    """One thing to print: a record (`--json`) or its text; `exit_code` says whether the command succeeded.

    The text of an `error` goes to stderr.
    """

    record: dict[str, Any]
    text: str
    exit_code: int = 0
    error: bool = False


def open_device(args: argparse.Namespace) -> Device:
    """Open the bundle and the state that the command line names."""
    with without_runtime_chatter():
        device = Device.open(args.bundle, args.state, args.runtime, args.threads, args.seed)
    device.max_memory_mb = args.max_memory
    return device
