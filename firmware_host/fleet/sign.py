"""The key of a group: who has it may take part. Every message carries an HMAC of it (SHA-256, RFC 2104).

What is signed names the group, the kind of message and the device, so that none passes for another. A message that is
sent again is the same message: versions make that harmless.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

from firmware_host.shared.errors import DeviceError

__all__ = ["Key"]

MAGIC = b"cbpnet fleet 1\n"
MAC = hashlib.sha256().digest_size
FORM = re.compile("[A-Za-z0-9_=+/-]{32,512}")
PRIVATE = 0o600


class Key:
    """A group's key.

    Args:
        secret: the key.
        group: the group's name.
    """

    def __init__(self, secret: bytes, group: str) -> None:
        self._secret = hashlib.sha256(MAGIC + group.encode() + b"\n" + secret).digest()

    @classmethod
    def read(cls, file: Path, group: str) -> Key:
        """Return the key in the first line of a file that its owner alone may read; raises DeviceError otherwise."""
        if not file.is_file():
            raise DeviceError(f"key file {file} is not there: make one with --new-key, and copy it to every device")
        mode = stat.S_IMODE(file.stat().st_mode)
        if os.name == "posix" and mode & 0o077:
            raise DeviceError(f"key file {file} may be read by others ({mode:o}): chmod 600 {file}")
        line = next(iter(file.read_text(encoding="ascii", errors="replace").splitlines()), "").strip()
        if not FORM.fullmatch(line):
            raise DeviceError(
                f"key file {file} has no key of 32 letters or more in its first line: make one with --new-key"
            )
        return cls(line.encode(), group)

    @staticmethod
    def make(file: Path) -> None:
        """Write a new key into a new file that its owner alone may read; raises DeviceError where one is there."""
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
        except FileExistsError:
            raise DeviceError(f"key file {file} is there already: give another, or use it without --new-key") from None
        except OSError as error:
            raise DeviceError(f"key file {file} cannot be written ({error.strerror}): give another") from None
        with os.fdopen(handle, "w") as new:
            new.write(secrets.token_hex(32) + "\n")

    def signed(self, kind: str, device: str, content: bytes) -> bytes:
        """Return a message: the magic line, the HMAC, the content."""
        return MAGIC + self._mac(kind, device, content) + content

    def opened(self, kind: str, device: str, message: bytes) -> bytes:
        """Return the content of a message; raises DeviceError where it was not signed as such by this key."""
        start = len(MAGIC) + MAC
        content = message[start:]
        if message[: len(MAGIC)] != MAGIC or len(message) < start:
            raise DeviceError("it is not signed")
        if not hmac.compare_digest(message[len(MAGIC) : start], self._mac(kind, device, content)):
            raise DeviceError("it is not signed by this group's key")
        return content

    def _mac(self, kind: str, device: str, content: bytes) -> bytes:
        return hmac.new(self._secret, f"{kind}\n{device}\n".encode() + content, hashlib.sha256).digest()
