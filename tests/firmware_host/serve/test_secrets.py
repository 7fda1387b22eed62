"""The device's own certificate and token: TLS by them, and nobody else reads them."""

import hashlib
import http.client
import stat

import pytest

from firmware_host import DeviceError
from firmware_host.serve.secrets import device_certificate, device_token, given_certificate

from .conftest import JSON

TOKEN = "t" * 43


def test_tls_by_the_devices_own_certificate(serve, tmp_path):
    certificate = device_certificate(tmp_path / "state", frozenset({"localhost", "127.0.0.1", "::1", "board.local"}))
    assert device_certificate(tmp_path / "state", frozenset()) == certificate  # it stays the same
    client = serve(token=TOKEN, certificate=certificate).client
    connection = client.connect()
    connection.connect()
    shown = hashlib.sha256(connection.sock.getpeercert(binary_form=True)).hexdigest().upper()
    connection.close()
    assert certificate.fingerprint.replace(":", "") == shown
    cookie = client.get(f"/?token={TOKEN}").headers["set-cookie"]
    assert "secure" in cookie.lower()
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        type(client)(client.port).get("/")  # without TLS
    assert (
        client(
            "POST",
            "/api/undo",
            "{}",
            {**JSON, "cookie": cookie.partition(";")[0], "origin": f"http://127.0.0.1:{client.port}"},
        ).status
        == 403
    )


def test_secrets_are_for_this_user_alone(tmp_path):
    token = device_token(tmp_path)
    device_certificate(tmp_path, frozenset({"localhost"}))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "serve").iterdir()}
    assert (modes["token"], modes["key.pem"], set(modes)) == (0o600, 0o600, {"token", "key.pem", "cert.pem"})
    assert stat.S_IMODE((tmp_path / "serve").stat().st_mode) == 0o700
    assert device_token(tmp_path) == token
    assert device_token(tmp_path, renew=True) != token
    (tmp_path / "serve" / "token").write_text("short\n")
    assert len(device_token(tmp_path)) == 43


def test_a_certificate_that_cannot_be_used_is_one_line(tmp_path):
    good = device_certificate(tmp_path, frozenset({"localhost"}))
    other = device_certificate(tmp_path / "other", frozenset({"localhost"}))
    (tmp_path / "no.pem").write_text("no")
    for cert, key in ((good.cert, other.key), (tmp_path / "no.pem", good.key), (tmp_path / "none", good.key)):
        with pytest.raises(DeviceError, match=r"cannot be used .*: give PEM files"):
            given_certificate(cert, key)
