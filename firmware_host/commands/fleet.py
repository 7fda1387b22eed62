"""`fleet`: what devices were taught, shared over an MQTT broker."""

from __future__ import annotations

import argparse
import re
import signal
from collections.abc import Iterator

from firmware_host.bundle import DeviceError
from firmware_host.commands.broker import add_broker, broker_of
from firmware_host.commands.common import Command, Output, add_max_memory, open_device
from firmware_host.fleet.own import APART, MIN_IMAGES
from firmware_host.shared.arguments import folder_argument, name_argument, path_argument

__all__ = ["COMMANDS"]

EVERY_S = 60.0
NAME = re.compile("[A-Za-z0-9_.-]{1,64}")


def _fleet(args: argparse.Namespace) -> Iterator[Output]:
    """Yield the device's number, then what happens, until the process is told to end."""
    from firmware_host.fleet.sign import Key

    if args.new_key:
        Key.make(args.key)
        yield Output({"key": str(args.key)}, f"a new key is in {args.key}: copy it to every device of the group")
        return
    if args.broker is None:
        raise DeviceError("the following arguments are required: --broker (see python -m firmware_host fleet --help)")
    if not NAME.fullmatch(args.group):
        raise DeviceError(f"group is {args.group!a}: use up to 64 letters, digits, - . and _")
    if not 1.0 <= args.every_s < 1e6:
        raise DeviceError(f"every-s is {args.every_s}: use a number of seconds, 1 or more")
    from firmware_host.fleet.group import Group, Place
    from firmware_host.home.dataset import Dataset
    from firmware_host.serve.service import Service

    address, login = broker_of(args)
    key = Key.read(args.key, args.group)
    device = open_device(args)
    sharing = device.knowledge.sharing(args.min_images, args.noise, args.new_id)
    service = Service(device)
    place = Place(address, login, f"cbpnet/fleet/{args.group}")
    folder = args.dataset
    dataset = None if folder is None else lambda say: Dataset(folder, service, say)
    group = Group(service, sharing, key, place, args.every_s, dataset)
    try:
        for revoked in args.revoke:
            group.exchange.revoke(revoked)
        yield Output(
            {"device": sharing.device, "group": args.group, "broker": str(address), "topic": place.topic},
            f"device {sharing.device} of group {args.group}: topics {place.topic}/..., broker {address}",
        )
        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, lambda *_: group.end())
        group.start()
        for line in group.lines():
            yield Output(line.record(), f"{line.what}: {line.text}", error=not line.ok)
        status = group.status()
        yield Output(status.record(), f"{status.what}: {status.text}")
    finally:
        group.close()


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_broker(parser, required=False)
    parser.add_argument(
        "--group", metavar="NAME", type=name_argument, required=True, help="name of the group, the same on all devices"
    )
    parser.add_argument(
        "--key",
        metavar="FILE",
        type=path_argument,
        required=True,
        help="file with the group's key, which its owner alone may read",
    )
    parser.add_argument("--new-key", action="store_true", help="write a new key into --key, and exit")
    parser.add_argument(
        "--dataset",
        metavar="DIR",
        type=folder_argument,
        help="folder with one folder of images per class; new files become lessons, each once",
    )
    parser.add_argument(
        "--every-s", metavar="S", type=float, default=EVERY_S, help="seconds between two merges of lessons, at least"
    )
    parser.add_argument(
        "--min-images",
        metavar="N",
        type=int,
        default=MIN_IMAGES,
        help=f"images of a class from which the others are told of it, 1 to {APART}",
    )
    parser.add_argument(
        "--noise",
        metavar="X",
        type=float,
        default=0.0,
        help="deviation of Gaussian noise on what is told, in deviations of the features within a class; 0: none, and "
        "sums are exact",
    )
    parser.add_argument(
        "--revoke",
        metavar="ID",
        action="append",
        default=[],
        help="number of a device whose lessons count no more in the whole group; may be given again",
    )
    parser.add_argument(
        "--new-id",
        action="store_true",
        help="new number for this device, as for a copy of another one; what it was taught so far stays the other's",
    )
    add_max_memory(parser)


COMMANDS = (Command("fleet", "lessons shared with other devices over an MQTT broker", _fleet, _add_arguments),)
