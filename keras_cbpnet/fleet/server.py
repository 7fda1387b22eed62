"""The ServerApp, `keras_cbpnet.fleet.server:app` (extra `fleet`): a hub's rounds over Flower's messages.

The run's configuration is that of the folder that `keras-cbpnet fleet app` writes: `bundle`, `folder`, `rounds`,
`every-s` seconds between two, `nodes` to wait for, `timeout-s` for answers, `revoke`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from firmware_host.fleet.flower import RECORD
from firmware_host.shared.errors import DeviceError
from keras_cbpnet.errors import UserError
from keras_cbpnet.fleet.hub import Hub

__all__ = ["app"]

POLL_S = 1.0
logger = logging.getLogger("flwr")


def main(grid: Grid, context: Context) -> None:
    """Run the rounds; what is wrong with the configuration is one line, and ends the run before the first."""
    try:
        _run(grid, context.run_config)
    except (DeviceError, UserError) as error:
        logger.error("error: %s", error)
        raise SystemExit(2) from None


def _run(grid: Grid, config: Mapping[str, Any]) -> None:
    rounds, least = int(config["rounds"]), int(config["nodes"])
    every_s, timeout_s = float(config["every-s"]), float(config["timeout-s"])
    if rounds < 1 or least < 1 or every_s < 0.0 or timeout_s <= 0.0:
        raise UserError("rounds and nodes must be 1 or more, every-s 0 or more, timeout-s more than 0")
    folder = str(config["folder"])
    hub = Hub.of_bundle(Path(str(config["bundle"])), Path(folder) if folder else None)
    for device in str(config["revoke"]).split():
        if hub.revoke(device):
            logger.info("device %s is revoked", device)
    for number in range(1, rounds + 1):
        if number > 1:
            time.sleep(every_s)
        begun = time.monotonic()
        nodes = _nodes(grid, least, timeout_s)
        hub.hear(dict(_exchanged(grid, hub, "tell", hub.questions(nodes), timeout_s)))
        texts = [hub.taken(*each) for each in _exchanged(grid, hub, "take", hub.sums(), timeout_s)]
        for line in hub.refused:
            logger.warning("round %d: %s", number, line)
        logger.info(
            "round %d: %d of %d nodes took over what %d devices were taught, %d of them something new; %d bytes up and "
            "%d down so far, %.1f s",
            number,
            sum(text is not None for text in texts),
            len(nodes),
            len(hub.deltas),
            sum(map(bool, texts)),
            *hub.traffic,
            time.monotonic() - begun,
        )


def _nodes(grid: Grid, least: int, timeout_s: float) -> list[int]:
    """Return the nodes that are there, as soon as there are enough; UserError where there never are."""
    end = time.monotonic() + timeout_s
    while len(nodes := sorted(grid.get_node_ids())) < least:
        if time.monotonic() > end:
            raise UserError(f"{len(nodes)} of {least} nodes are there after {timeout_s:g} s: start them, or give fewer")
        time.sleep(POLL_S)
    return nodes


def _exchanged(
    grid: Grid, hub: Hub, verb: str, messages: Iterable[tuple[int, Mapping[str, Any]]], timeout_s: float
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Send each node its message, and yield the answers."""
    sent = [
        Message(
            RecordDict({RECORD: ConfigRecord(dict(fields))}),
            dst_node_id=node,
            message_type=f"query.{verb}",
            ttl=timeout_s,
        )
        for node, fields in messages
    ]
    silent = {message.metadata.dst_node_id for message in sent}
    for reply in grid.send_and_receive(sent, timeout=timeout_s) if sent else ():
        node = reply.metadata.src_node_id
        silent.discard(node)
        if reply.has_error():
            hub.lost(
                node, f"its app failed ({str(reply.error.reason).splitlines()[-1][:200]}): see the SuperNode's log"
            )
        else:
            yield node, reply.content.config_records.get(RECORD, {})
    for node in sorted(silent):
        hub.lost(node, f"no answer within {timeout_s:g} s")


app = ServerApp()
app.main()(main)
