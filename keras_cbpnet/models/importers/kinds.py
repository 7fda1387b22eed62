"""Files that people give as weights and that are none: what each is, and what to give instead."""

from __future__ import annotations

import contextlib
import json
import zipfile
from pathlib import Path

from firmware_host.shared.kinds import START, ZIP, kind_of

TO_SAFETENSORS = (
    "a PyTorch checkpoint, which could run any program when it is opened; where PyTorch is installed, load it with "
    "torch.load(..., weights_only=True), write its state dict with safetensors.torch.save_file, and give that file"
)
FROM_KERAS = (
    "; load it where it was made, write the backbone with keras_cbpnet.models.weights.save_weights, and give that file"
)
STARTS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file of Keras" + FROM_KERAS),
    (b"\x80\x02", TO_SAFETENSORS),
    (b"\x80\x03", TO_SAFETENSORS),
    (b"\x80\x04", TO_SAFETENSORS),
    (b"\x80\x05", TO_SAFETENSORS),
    (b"GGUF", "a GGUF file, whose numbers are quantized; give the .safetensors file that it was made from"),
)


def other_kind(path: Path) -> str | None:
    """Return what the file `path` is and what helps, None where it may be .npz or .safetensors; a phrase after "is"."""
    with path.open("rb") as file:
        start = file.read(START)
    if zipfile.is_zipfile(path):
        return _archive(path)
    for known, kind in STARTS:
        if start.startswith(known):
            return kind
    if start[4:8] == b"TFL3":
        return "a .tflite file, whose weights are frozen; give the weights that it was made from"
    other = kind_of(start)
    if other is not None and other is not ZIP:  # a .npz that is cut short begins as one
        return f"{other.what}; {other.remedy}"
    return _text(path) if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else None


def _archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("data.pkl") for name in names):
        return TO_SAFETENSORS
    if "config.json" in names and not any(name.endswith(".npy") for name in names):
        return "a Keras model" + FROM_KERAS
    if names and not any(name.endswith(".npy") for name in names):
        return f"a zip archive of other files ({names[0]}, ...); unpack it and give the .npz or .safetensors file"
    return None


def _text(path: Path) -> str | None:
    """Return the phrase for JSON text, None where it is none: a .safetensors file may begin like it."""
    try:
        with contextlib.suppress(RecursionError):  # JSON, but too deep
            json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        return None
    return "JSON text, not weights; give the .npz or .safetensors file that came with it"
