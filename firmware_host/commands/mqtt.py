"""`mqtt`: what the camera sees, told to a broker; commands from there; sub-labels for Frigate."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from firmware_host.bundle import DeviceError
from firmware_host.commands.broker import add_broker, broker_of
from firmware_host.commands.common import (
    Command,
    Output,
    add_camera,
    add_judging,
    add_max_memory,
    add_watch,
    judge_as_asked,
    open_device,
)
from firmware_host.images.cameras import shown
from firmware_host.images.sources import frames
from firmware_host.images.watch import Watch
from firmware_host.shared.arguments import folder_argument, name_argument
from firmware_host.shared.names import class_name

if TYPE_CHECKING:
    from firmware_host.home.home import Place, Tracking

__all__ = ["COMMANDS"]

RATE = 2.0  # predictions of the camera a second
PICTURES = 5.0  # of the camera a second: so old may be at most what a lesson is about
AGREE = 3
DISCOVERY, FRIGATE = "homeassistant", "frigate"


def _mqtt(args: argparse.Namespace) -> Iterator[Output]:
    """Yield where the device is found, then what happens, until the process is told to end."""
    from firmware_host.home.home import Home
    from firmware_host.serve.live import Live
    from firmware_host.serve.service import Service

    _check(args)
    tracking = _tracking(args)
    watch = Watch(args.agree, args.motion)
    opened = partial(frames, args.source, args.every, None, args.max_memory, args.region, max(args.rate, PICTURES))
    first = None if args.source is None else opened()
    device = open_device(args)
    judge_as_asked(device, args)
    device.knowledge.reserve()
    place = _place(args, device)
    service = Service(device)
    live = None if args.source is None else Live(service, shown(args.source), opened, args.rate, watch)
    home = Home(service, place, live, tracking, args.dataset)
    yield Output(
        {"broker": str(place.address), "topic": place.topics.base, "device": place.device.name},
        f"{place.device.name}: topics {place.topics.base}/..., broker {place.address}",
    )
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: home.end())
    try:
        home.start(first)
        for line in home.lines():
            yield Output(line.record(), f"{line.what}: {line.text}", error=not line.ok)
    finally:
        home.close()


def _check(args: argparse.Namespace) -> None:
    if args.source is None and args.frigate is None and args.dataset is None:
        raise DeviceError("there is nothing to see: give --source, --frigate or --dataset")
    if args.frigate is None and (args.camera or args.label):
        raise DeviceError("--camera and --label choose among the events of --frigate: give it")
    if not 0.0 < args.rate < 1e6:
        raise DeviceError(f"rate is {args.rate}: use a number above 0")


def _place(args: argparse.Namespace, device: Any) -> Place:
    from firmware_host.home.discovery import Described
    from firmware_host.home.home import Place
    from firmware_host.home.topics import Topics, checked_topic, identity

    address, login = broker_of(args)
    own = identity(device.state_folder)
    base = f"cbpnet/{own}" if args.topic is None else checked_topic(args.topic, "topic")
    name = class_name(device.bundle.name if args.name is None else args.name, "device")
    return Place(
        address,
        login,
        Topics(base),
        checked_topic(args.discovery_prefix, "discovery-prefix"),
        Described(own, name, f"{device.bundle.name} ({device.runtime})"),
    )


def _tracking(args: argparse.Namespace) -> Tracking | None:
    from firmware_host.home.frigate import Frigate
    from firmware_host.home.home import Tracking
    from firmware_host.home.topics import checked_topic

    topic = f"{checked_topic(args.frigate_topic, 'frigate-topic')}/events"
    if args.frigate is None:
        return None
    return Tracking(Frigate(args.frigate), topic, args.agree, tuple(args.camera), tuple(args.label))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_broker(parser)
    parser.add_argument(
        "--topic",
        metavar="TOPIC",
        type=name_argument,
        help="what the device's topics begin with (default: cbpnet/ and a number of its own)",
    )
    parser.add_argument(
        "--discovery-prefix",
        metavar="TOPIC",
        type=name_argument,
        default=DISCOVERY,
        help="where Home Assistant looks for devices",
    )
    parser.add_argument(
        "--name", type=name_argument, help="the device's name in Home Assistant (default: the bundle's)"
    )
    add_camera(parser, "the device's own camera")
    parser.add_argument("--rate", type=float, default=RATE, help="predictions of --source a second, at most")
    add_watch(
        parser,
        AGREE,
        True,
        "frames of --source in a row, and crops of an event of --frigate, that must agree before anything is said",
    )
    parser.add_argument(
        "--frigate",
        metavar="URL",
        help="Frigate whose finished events get sub-labels, such as http://frigate.local:5000",
    )
    parser.add_argument(
        "--frigate-topic", metavar="TOPIC", type=name_argument, default=FRIGATE, help="topic_prefix of --frigate"
    )
    parser.add_argument(
        "--camera",
        metavar="NAME",
        type=name_argument,
        action="append",
        default=[],
        help="camera of --frigate whose events count; may be given again (default: all)",
    )
    parser.add_argument(
        "--label",
        metavar="NAME",
        type=name_argument,
        action="append",
        default=[],
        help="object of --frigate that counts, such as person; may be given again (default: all)",
    )
    parser.add_argument(
        "--dataset",
        metavar="DIR",
        type=folder_argument,
        help="folder with one folder of images per class, such as Frigate's clips/MODEL/dataset; new files become "
        "lessons, each once",
    )
    add_judging(parser)
    add_max_memory(parser)


COMMANDS = (Command("mqtt", "Home Assistant and Frigate: what is seen, told to a broker", _mqtt, _add_arguments),)
