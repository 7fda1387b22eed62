"""Where a device is found on a broker: the broker's address, the device's topics, and what tells it from others."""

from __future__ import annotations

import hashlib
import re
import socket
from pathlib import Path
from typing import NamedTuple

from firmware_host.bundle import DeviceError

__all__ = ["Address", "Topics", "broker_address", "checked_topic", "identity", "password_in"]

PORT, TLS_PORT = 1883, 8883
TOPIC_BYTES = 200
MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Topics(NamedTuple):
    """The topics of one device, all of them below `base`."""

    base: str

    @property
    def status(self) -> str:
        """`online` or `offline`."""
        return f"{self.base}/status"

    @property
    def state(self) -> str:
        """What the camera sees."""
        return f"{self.base}/state"

    @property
    def result(self) -> str:
        """What came of a command."""
        return f"{self.base}/result"

    def command(self, name: str) -> str:
        """Where a command is sent to."""
        return f"{self.base}/{name}"


def broker_address(text: str, tls: bool) -> Address:
    """Return the address in HOST, HOST:PORT or [IPV6]:PORT; raises DeviceError for anything else."""
    found = re.fullmatch(
        r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:/@\[\]]+)|([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*))(?::(\d{1,5}))?", text
    )
    host = next((group for group in found.groups()[:3] if group), "") if found else ""
    port = int(found[4]) if found and found[4] else TLS_PORT if tls else PORT
    try:
        host.encode("idna")
    except UnicodeError:
        host = ""
    if not host or not 0 < port < 1 << 16:
        raise DeviceError(f"broker is {text!r}: use HOST or HOST:PORT, such as homeassistant.local:1883")
    return Address(host, port)


def checked_topic(text: str, what: str) -> str:
    """Return a topic, or the beginning of some, that the user gave; raises DeviceError where no topic is like that."""
    if (
        not text
        or len(text.encode("utf-8", "surrogateescape")) > TOPIC_BYTES
        or not text.isprintable()
        or text[0] in "/$"
        or text[-1] == "/"
        or set(text) & set("+#")
    ):
        raise DeviceError(
            f"{what} is {text!a}: use up to {TOPIC_BYTES} characters such as cbpnet/door, without + and #, and without "
            "/ at either end"
        )
    return text


def identity(state: Path) -> str:
    """Return what tells this device from every other in a house; the same at each start on the same machine.

    Args:
        state: the folder of its learned state.
    """
    machine = socket.gethostname()
    for file in MACHINE_IDS:
        if file.is_file():
            machine = file.read_text(encoding="ascii", errors="replace").strip() or machine
            break
    return hashlib.sha256(f"cbpnet\n{machine}\n{state.resolve()}".encode("utf-8", "surrogateescape")).hexdigest()[:12]


def password_in(file: Path) -> str:
    """Return the first line of a file; raises DeviceError where there is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        lines = []
    if not lines or not lines[0]:
        raise DeviceError(f"password file {file} has no password: write it into its first line, as UTF-8")
    return lines[0]
