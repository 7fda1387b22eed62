"""Weights files as people have them: other kinds are named with what to give instead, and numbers must be finite."""

import gzip
import io
import json
import struct
import zipfile

import numpy as np
import pytest

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.importers import FOREIGN, google, hugging_face, timm
from keras_cbpnet.models.importers.files import read_arrays
from keras_cbpnet.models.importers.scheme import convert, misfits, recognise

CONFIG = BackboneConfig(image_size=16, stem=(), patch_size=8, width=4, depth=2, heads=2, mlp_width=6)


def zipped(**members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def changed(whole, local, central, value):
    """A zip archive of one member, with a byte of its two headers replaced."""
    data = bytearray(whole)
    data[whole.index(b"PK\3\4") + local] = data[whole.index(b"PK\1\2") + central] = value
    return bytes(data)


def saved(**arrays):
    data = io.BytesIO()
    np.savez(data, **arrays)
    return data.getvalue()


def tensors(dtype, size):
    header = json.dumps({"cls_token": {"dtype": dtype, "shape": [4], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


NPZ = saved(a=np.zeros(2))
FILES = {
    "m.pth": (zipped(**{"archive/data.pkl": b"", "archive/version": "3"}), "is a PyTorch checkpoint"),
    "pytorch_model.bin": (b"\x80\x02\x8a\nl\xfc\x9cF", "is a PyTorch checkpoint"),
    "m.keras": (zipped(**{"config.json": "{}"}), "is a Keras model; load it"),
    "m.h5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "is an HDF5 file of Keras; load it"),
    "m.tflite": (b"\x1c\0\0\0TFL3", "is a .tflite file"),
    "parts.index.json": (
        b'\xef\xbb\xbf{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}',
        "names 1.safetensors, which is not beside it; fetch all of its 2 file(s)",
    ),
    "pytorch.index.json": (b'{"weight_map": {"a": "1.bin"}}', "'1.bin', which is not a .safetensors file beside it"),
    "far.index.json": (b'{"weight_map": {"a": "../1.safetensors"}}', "'../1.safetensors', which is not a .safetensors"),
    "config.json": (b"{}", "is JSON text, not weights"),
    "list.json": (b'{"weight_map": [[]]}', "is JSON text, not weights"),
    "a.npy": (b"\x93NUMPY\1\0", "is a single array"),
    "empty.npz": (b"", "is an empty file; fetch or copy it again"),
    "page.npz": (b"\n<!DOCTYPE html>", "is a web page in place of the file"),
    "pointer.npz": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "m.npz.gz": (gzip.compress(b"1"), "is compressed by gzip; unpack it"),
    "m.zip": (zipped(**{"model.safetensors": b""}), "is a zip archive of other files (model.safetensors, ...)"),
    "objects.npz": (saved(cls_token=np.array([{}], object)), "holds Python objects (cls_token)"),
    "text.npz": (zipped(**{"a.npy": NPZ, "read.me": b""}), "which is not an array"),
    "encrypted.npz": (changed(NPZ, 6, 8, 1), "is encrypted"),
    "zstd.npz": (changed(NPZ, 8, 10, 93), "by a method that Python does not read (number 93)"),
    "float8.safetensors": (tensors("F8_E4M3", 4), "cls_token has type F8_E4M3; save the weights as float16"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_kinds_are_named_with_what_to_give(name, tmp_path):
    content, expected = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_arrays(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert expected in str(error.value)


def test_two_arrays_of_one_name_are_refused(tmp_path):
    data = io.BytesIO()
    np.save(data, np.array(1))
    with zipfile.ZipFile(tmp_path / "two.npz", "w") as archive:
        archive.writestr("a.npy", data.getvalue())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", data.getvalue())
    with pytest.raises(UserError, match="two arrays of one name"):
        read_arrays(tmp_path / "two.npz")


@pytest.mark.parametrize("seed", range(40))
def test_one_wrong_byte_gives_arrays_or_one_line(seed, tmp_path):
    data = io.BytesIO()
    np.savez_compressed(data, a=np.arange(300.0), b=np.zeros(3))
    rng = np.random.default_rng(seed)
    for ending, whole in (("npz", data.getvalue()), ("safetensors", tensors("F32", 16))):
        wrong = bytearray(whole)
        wrong[rng.integers(len(wrong))] ^= int(rng.integers(1, 256))
        (tmp_path / f"w.{ending}").write_bytes(wrong)
        try:
            assert all(isinstance(array, np.ndarray) for array in read_arrays(tmp_path / f"w.{ending}").values())
        except UserError as error:
            assert f"w.{ending}" in str(error)  # noqa: PT017 (either outcome is right)


# What is in the file --------------------------------------------------------------------------------------------------


def arrays_of(scheme, prefix=""):
    """Ones of every array that the scheme has for CONFIG."""
    return {prefix + name: np.ones(entry.shape, np.float32) for name, entry in scheme.table(CONFIG).items()}


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, np.float32), (-np.inf, np.float16), (1e60, np.float64)])
def test_numbers_that_are_not_finite_are_refused_by_name(value, dtype):
    arrays = arrays_of(timm.SCHEME)
    arrays["blocks.1.mlp.fc1.bias"] = np.array([0, value, 0, value, 0, 0], dtype)
    [wrong] = misfits(timm.SCHEME, CONFIG, arrays)
    assert wrong.startswith("blocks.1.mlp.fc1.bias is not finite in 2 of 6 numbers")


OTHERS = {
    "Google, optimizer": (google, "opt/target/", {"opt/state/step": 7, "opt/state/param_states/cls/grad_ema": 0.0}),
    "Google, params": (google, "params/", {"opt/0/count": 7}),
    "timm in a program": (timm, "model.", {"epoch": 3, "model.head.weight": 1.0}),
    "timm, several GPUs": (timm, "module.", {}),
    "Hugging Face": (hugging_face, "vit.", {"classifier.weight": 1.0, "vit.pooler.dense.bias": 1.0}),
    "Hugging Face, decoder": (hugging_face, "vit.", {"decoder.mask_token": 1.0}),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_lies_beside_the_model_is_left_out(case):
    module, prefix, more = OTHERS[case]
    arrays = {**{name: np.array(value) for name, value in more.items()}, **arrays_of(module.SCHEME, prefix)}
    assert recognise(FOREIGN, CONFIG, arrays) is module.SCHEME
    assert misfits(module.SCHEME, CONFIG, arrays) == []
    assert len(convert(module.SCHEME, CONFIG, arrays)) > 30
    arrays[prefix + "norm_of_another_model"] = np.zeros(3)
    assert misfits(module.SCHEME, CONFIG, arrays) == [f"unexpected {prefix}norm_of_another_model"]


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "model.backbone.", "teacher.backbone."])
def test_any_prefix_is_found(prefix):
    arrays = {**arrays_of(timm.SCHEME, prefix), "projector.0.weight": np.zeros((2, 2))}
    assert recognise([google.SCHEME, timm.SCHEME], CONFIG, arrays) is timm.SCHEME
    assert misfits(timm.SCHEME, CONFIG, arrays) == []


def test_a_model_that_is_there_more_than_once():
    two = {**arrays_of(timm.SCHEME, "student.module."), **arrays_of(timm.SCHEME, "teacher.module.")}
    with pytest.raises(UserError, match=r"the model more than once \(student.module., teacher.module.\); write one of"):
        recognise([timm.SCHEME], CONFIG, two)
    moments = {**arrays_of(google.SCHEME, "params/"), **arrays_of(google.SCHEME, "opt_state/0/mu/")}
    assert google.SCHEME.prefix(CONFIG, moments) == "params/"


def test_a_file_of_another_kind_is_not_to_be_fetched_again(tmp_path):
    for name, start in {"flax_model.msgpack": b"\x81\xa6params", "model.onnx": b"\x08\x07\x12\x07pytorch"}.items():
        (tmp_path / name).write_bytes(start + bytes(600))
        with pytest.raises(UserError, match=r"is neither a .npz nor a .safetensors file \(.*\); give the weights in"):
            read_arrays(tmp_path / name)
