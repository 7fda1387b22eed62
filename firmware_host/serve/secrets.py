"""What only this device has: its certificate with its key, and the token of its clients; kept beside its state."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from firmware_host.bundle import DeviceError

__all__ = ["Certificate", "device_certificate", "device_token", "given_certificate"]

FOLDER = "serve"
TOKEN = re.compile("[A-Za-z0-9_-]{32,128}")
DAYS = 3650
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


class Certificate(NamedTuple):
    """A certificate and its private key, both in PEM files."""

    cert: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as browsers show it."""
        text = self.cert.read_text(encoding="ascii", errors="replace")
        try:
            first = text[text.index("-----BEGIN CERTIFICATE") : text.index("-----END CERTIFICATE-----") + 25]
            digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest().upper()
        except ValueError:
            raise DeviceError(f"{self.cert} is not a certificate in PEM form: give another --cert") from None
        return ":".join(digest[place : place + 2] for place in range(0, len(digest), 2))


def given_certificate(cert: Path, key: Path) -> Certificate:
    """Return a certificate that the user gave; raises DeviceError where TLS cannot use it."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password="")
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        raise DeviceError(
            f"certificate {cert} with key {key} cannot be used ({reason}): give PEM files that belong together, the "
            "key without a password"
        ) from None
    return Certificate(cert, key)


def device_certificate(state: Path, names: frozenset[str]) -> Certificate:
    """Return the self-signed certificate of this device; at the first call it is made.

    Args:
        state: folder of the learned state.
        names: names and addresses of this device.

    Raises:
        DeviceError: it cannot be made.
    """
    folder = _folder(state)
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    if not (made.cert.exists() and made.key.exists()):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            new = Certificate(Path(place) / "cert.pem", Path(place) / "key.pem")
            _make(new, names)
            new.key.chmod(PRIVATE_FILE)
            os.replace(new.key, made.key)
            os.replace(new.cert, made.cert)
    return given_certificate(*made)


def device_token(state: Path, renew: bool = False) -> str:
    """Return the token of this device's clients; it is made at the first call and where it is to be another one."""
    file = _folder(state) / "token"
    if file.exists() and not renew:
        token = file.read_text(encoding="ascii", errors="replace").strip()
        if TOKEN.fullmatch(token):
            return token
    token = secrets.token_urlsafe(32)
    handle, name = tempfile.mkstemp(dir=file.parent)  # only this user reads it
    with os.fdopen(handle, "w") as new:
        new.write(token + "\n")
    os.replace(name, file)
    return token


def _folder(state: Path) -> Path:
    folder = state / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    except OSError as error:
        raise DeviceError(f"{folder} cannot be made ({error.strerror}): give another --state") from error
    return folder


def _make(certificate: Certificate, names: frozenset[str]) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", str(DAYS), "-subj", f"/CN=cbpnet {socket.gethostname()[:40]}", "-sha256"]
    command += ["-addext", f"subjectAltName={','.join(_alternative(name) for name in sorted(names))}"]
    command += ["-keyout", str(certificate.key), "-out", str(certificate.cert)]
    remedy = "install it with sudo apt install openssl, or give --cert and --key"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError:
        raise DeviceError(f"the device's certificate is made by openssl, which is not installed: {remedy}") from None
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise DeviceError(f"openssl cannot make the device's certificate ({reason}): {remedy}")


def _alternative(name: str) -> str:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
        except OSError:
            continue
        return f"IP:{name}"
    return f"DNS:{name}"
