"""A device in a federation of Flower: the ClientApp, `firmware_host.fleet.flower:app` (extra `fleet`).

A SuperNode's configuration names the device: `bundle`, and as they are wanted `state`, `runtime`, `min-images` and
`noise`, as the options of `cbpnet fleet`. The device is open while a message is answered, and not in between: other
commands may teach it then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from firmware_host.device import Device
from firmware_host.fleet.node import VERBS, answer
from firmware_host.fleet.own import MIN_IMAGES
from firmware_host.fleet.sharing import Sharing
from firmware_host.shared.errors import DeviceError

__all__ = ["RECORD", "app"]

RECORD = "cbpnet"  # name of the one record of a message
OPTIONS = {"bundle": str, "state": str, "runtime": str, "min-images": int, "noise": float}


def _answer(verb: str, message: Message, context: Context) -> Message:
    """Return the reply to a message; every device of a SuperNode answers in a process or a thread of its own."""
    with contextlib.ExitStack() as stack:
        record = message.content.config_records.get(RECORD, {})
        found = answer(verb, lambda: stack.enter_context(_sharing(context.node_config)), record)
    return Message(RecordDict({RECORD: ConfigRecord(found)}), reply_to=message)


@contextlib.contextmanager
def _sharing(config: Mapping[str, Any]) -> Iterator[Sharing]:
    """Give a device's part, by the SuperNode's configuration; raises DeviceError for one that is wrong."""
    given: dict[str, Any] = {}
    for name, kind in OPTIONS.items():
        value = config.get(name)
        if value is not None and type(value) is not kind and not (kind is float and type(value) is int):
            raise DeviceError(f"{name} is {value!r} in the node's configuration: give a {kind.__name__}")
        given[name] = value
    if given["bundle"] is None:
        raise DeviceError("the node's configuration has no bundle: start the SuperNode with --node-config bundle=...")
    with Device.open(given["bundle"], given["state"], given["runtime"] or "auto") as device:
        least = MIN_IMAGES if given["min-images"] is None else given["min-images"]
        yield device.knowledge.sharing(least, given["noise"] or 0.0)


app = ClientApp()
for _verb in VERBS:
    app.query(_verb)(partial(_answer, _verb))
