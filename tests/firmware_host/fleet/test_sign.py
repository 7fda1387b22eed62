"""The key of a group: a file that its owner alone may read, and what it signs."""

import os

import pytest

from firmware_host.bundle import DeviceError
from firmware_host.fleet.sign import Key


@pytest.fixture
def file(tmp_path):
    Key.make(tmp_path / "key")
    return tmp_path / "key"


def test_a_key_is_made_once_and_private(file):
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(DeviceError, match="is there already"):
        Key.make(file)
    assert (
        Key.read(file, "shop").opened("delta", "0" * 12, Key.read(file, "shop").signed("delta", "0" * 12, b"x")) == b"x"
    )


@pytest.mark.skipif(os.name != "posix", reason="rights of files as POSIX has them")
def test_a_key_that_others_may_read_is_refused(file):
    file.chmod(0o640)
    with pytest.raises(DeviceError, match=r"may be read by others \(640\): chmod 600"):
        Key.read(file, "shop")


@pytest.mark.parametrize("text", ["", "short\n", "x" * 31, "a b" * 20, "é" * 40])
def test_what_is_no_key_is_refused(tmp_path, text):
    file = tmp_path / "other"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(DeviceError, match="has no key of 32 letters"):
        Key.read(file, "shop")
    with pytest.raises(DeviceError, match="is not there: make one with --new-key"):
        Key.read(tmp_path / "none", "shop")


def test_a_message_is_of_one_group_kind_and_device(file, tmp_path):
    key, other = Key.read(file, "shop"), Key.read(file, "home")
    Key.make(tmp_path / "second")
    second = Key.read(tmp_path / "second", "shop")
    message = key.signed("delta", "0" * 12, b"content")
    wrong = [
        (other, "delta", "0" * 12, message),
        (second, "delta", "0" * 12, message),
        (key, "version", "0" * 12, message),
        (key, "delta", "1" * 12, message),
        (key, "delta", "0" * 12, message + b"x"),
        (key, "delta", "0" * 12, message[:-1]),
        (key, "delta", "0" * 12, b"content"),
        (key, "delta", "0" * 12, b""),
    ]
    for one, kind, device, payload in wrong:
        with pytest.raises(DeviceError, match="not signed"):
            one.opened(kind, device, payload)
