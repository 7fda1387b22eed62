"""`serve`: a page to teach the device, and the interface for programs behind it."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from functools import partial

from firmware_host.bundle import DeviceError
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
from firmware_host.shared.arguments import path_argument

__all__ = ["COMMANDS"]

HOST, PORT = "127.0.0.1", 8000
RATE = 5.0  # predictions of the camera a second
PICTURES = 10.0  # of the camera a second: enough for a live picture, and for each lesson of a hold another one
AGREE = 3
LESSONS, BURST = 5.0, 20  # changes a second, and at once


def _serve(args: argparse.Namespace) -> Iterator[Output]:
    """Yield where the page is, then serve it until the process is told to end."""
    from firmware_host.serve.app import build_app
    from firmware_host.serve.live import Live
    from firmware_host.serve.secrets import device_certificate, device_token, given_certificate
    from firmware_host.serve.security import Allowance, Policy
    from firmware_host.serve.server import Server, bound, is_loopback, names_of
    from firmware_host.serve.service import Service

    _check(args)
    camera = None
    if args.source is not None:
        each = max(args.rate, PICTURES)
        camera = partial(frames, args.source, args.every, None, args.max_memory, args.region, each)
    watch, first = Watch(args.agree, args.motion), None if camera is None else camera()
    device = open_device(args)
    judge_as_asked(device, args)
    device.knowledge.reserve()
    listening = bound(args.host, args.port)
    port, open_to_all = listening.getsockname()[1], not is_loopback(args.host)
    names = names_of(args.host, tuple(args.allow_host))
    certificate = None
    if args.cert is not None:
        certificate = given_certificate(args.cert, args.key)
    elif open_to_all:
        certificate = device_certificate(device.state_folder, names)
    token = device_token(device.state_folder, args.new_token) if open_to_all else None
    service = Service(device)
    live = None if camera is None else Live(service, shown(args.source), camera, args.rate, watch)
    policy = Policy(names, token, certificate is not None, port)
    server = Server(build_app(service, policy, Allowance(args.lessons, BURST), live), service.hub, certificate)
    yield _where(args.host, port, token, None if certificate is None else certificate.fingerprint)
    if live is not None:
        live.start(first)
    server.serve_on(listening)


def _check(args: argparse.Namespace) -> None:
    if (args.cert is None) != (args.key is None):
        raise DeviceError("--cert and --key belong together: give both or neither")
    for name, value in (("rate", args.rate), ("lessons", args.lessons)):
        if not 0.0 < value < 1e6:
            raise DeviceError(f"{name} is {value}: use a number above 0")


def _where(host: str, port: int, token: str | None, fingerprint: str | None) -> Output:
    """Return what is printed: the address, with the token, and the certificate's fingerprint if there is TLS."""
    called = socket.gethostname() if host in ("0.0.0.0", "::") else host
    shown = f"[{called}]" if ":" in called else called
    url = f"http{'' if fingerprint is None else 's'}://{shown}:{port}/{'' if token is None else f'?token={token}'}"
    text = f"open {url}"
    if fingerprint is not None:
        text += f"\ncertificate SHA-256 {fingerprint}"
    return Output({"url": url, "fingerprint": fingerprint}, text)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default=HOST, help="address to listen on; any but this machine's own has TLS and a token"
    )
    parser.add_argument("--port", type=int, default=PORT, help="port to listen on; 0: any free one")
    add_camera(parser, "camera of the device itself")
    add_watch(
        parser,
        AGREE,
        True,
        "predictions of --source in a row that must agree before the events call one settled",
    )
    parser.add_argument("--rate", type=float, default=RATE, help="predictions of --source a second, at most")
    parser.add_argument("--lessons", type=float, default=LESSONS, help="lessons and other changes a second, at most")
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="another name by which browsers may call this server; may be given again",
    )
    parser.add_argument("--cert", metavar="FILE", type=path_argument, help="certificate for TLS, PEM")
    parser.add_argument("--key", metavar="FILE", type=path_argument, help="private key of --cert, PEM")
    parser.add_argument("--new-token", action="store_true", help="another token: who knows the old one is locked out")
    add_judging(parser)
    add_max_memory(parser)


COMMANDS = (Command("serve", "page to teach the device in a browser, and its API", _serve, _add_arguments),)
