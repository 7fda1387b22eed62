"""Labelled images in an .npz: however a file is damaged or written, host and device say one and the same line."""

import io
import zipfile

import numpy as np
import pytest

from firmware_host.bundle import DeviceError
from firmware_host.images.labelled import read_data
from firmware_host.shared.npz import read_npz
from keras_cbpnet.data import load_dataset
from keras_cbpnet.errors import UserError

NFC, NFD = "caf\u00e9", "cafe\u0301"


def arrays(**changes):
    noise = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3), np.uint8)
    labels = np.arange(8) % 2
    whole = {"x_train": noise, "y_train": labels, "x_test": noise, "y_test": labels, "class_names": ["red", "green"]}
    return {**whole, **changes}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **arrays())
    return path


def refused(path):
    """The line that both sides say."""
    with pytest.raises(DeviceError) as device:
        read_data(f"npz:{path}", "train")
    with pytest.raises(UserError) as host:
        load_dataset(f"npz:{path}", 6)
    assert "\n" not in str(device.value)
    return str(device.value), str(host.value)


def one_byte_wrong(path):
    content = bytearray(path.read_bytes())
    content[90] ^= 0xFF
    content[200] ^= 0xFF
    path.write_bytes(content)


def encrypted(path):
    """As a zip program with a password marks it: bit 0 of the flags of every member."""
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + flags] |= 1
            start = content.find(signature, start + 4)
    path.write_bytes(content)


def of_unknown_compression(path):
    content = bytearray(path.read_bytes())
    for signature, method in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = content.find(signature)
        while start >= 0:
            content[start + method] = 97
            start = content.find(signature, start + 4)
    path.write_bytes(content)


def of_no_arrays(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name in arrays():
            archive.writestr(f"{name}.npy", b"text")


def too_large_to_hold(path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 1 << 10, 1 << 8, 3)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name in arrays():
            archive.writestr(f"{name}.npy", header.getvalue())


DAMAGE = [one_byte_wrong, encrypted, of_unknown_compression, of_no_arrays, too_large_to_hold]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_one_line(damage, file):
    damage(file)
    device, host = refused(file)
    assert device.startswith(f"data {file} is not a readable .npz (")
    assert device.endswith("): write it again with numpy.savez")
    assert host == device


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["mug", "mug"], "class name 'mug' appears more than once: names must be different, rename one"),
        ([NFC, NFD], "class name 'café' appears more than once"),
        (["Mug", "mug"], "class names 'Mug' and 'mug' can hardly be told apart"),
        (["mug", " "], "class name ' ' must be one line of text"),
        (["mug", "a\u2028b"], r"class name 'a\u2028b' must be one line of text"),
    ],
)
def test_names_are_those_of_folders(names, message, file):
    np.savez(file, **arrays(class_names=names))
    device, host = refused(file)
    assert device.startswith(f"data {file}: {message}")
    assert host == device


def test_names_come_in_their_normal_form(file):
    np.savez(file, **arrays(class_names=[NFD, "b"]))
    assert read_npz(file, ("test",)).names == (NFC, "b")
    assert load_dataset(f"npz:{file}", 6).class_names == (NFC, "b")
    assert read_data(f"npz:{file}", "train").labels == [NFC, "b"] * 4
