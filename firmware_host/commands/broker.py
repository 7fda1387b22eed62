"""The options of every command that connects to an MQTT broker."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from firmware_host.bundle import DeviceError
from firmware_host.shared.arguments import name_argument, path_argument

if TYPE_CHECKING:
    from firmware_host.home.broker import Login
    from firmware_host.home.topics import Address

__all__ = ["add_broker", "broker_of"]


def add_broker(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add --broker and how to log in there, which `broker_of` takes."""
    parser.add_argument(
        "--broker",
        metavar="HOST[:PORT]",
        type=name_argument,
        required=required,
        help="MQTT broker; port 1883, with TLS 8883",
    )
    parser.add_argument("--username", metavar="NAME", type=name_argument, help="user on the broker")
    parser.add_argument(
        "--password-file", metavar="FILE", type=path_argument, help="file whose first line is the user's password"
    )
    parser.add_argument("--tls", action="store_true", help="TLS, checked by the system's certificates")
    parser.add_argument("--ca", metavar="FILE", type=path_argument, help="TLS, checked by these certificates, PEM")


def broker_of(args: argparse.Namespace) -> tuple[Address, Login]:
    """Return the broker's address and how to log in; raises DeviceError where they cannot be."""
    from firmware_host.home.broker import Login
    from firmware_host.home.topics import broker_address, password_in

    if args.password_file is not None and args.username is None:
        raise DeviceError(f"--password-file {args.password_file} is given without --username: give both")
    tls = args.tls or args.ca is not None
    address = broker_address(args.broker, tls)
    password = None if args.password_file is None else password_in(args.password_file)
    return address, Login(args.username, password, tls, args.ca)
