"""What a .tflite file says of itself: TFLite metadata in the flatbuffer, and a zip archive after it.

The metadata are those of tensorflow/lite/support/metadata/metadata_schema.fbs, which MediaPipe's ImageClassifier reads;
few of its fields are written, so no package with the whole schema is needed. Interpreters read no further than the
flatbuffer's end, where the zip archive begins; unzip and Python's zipfile look for one from the file's end.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.export.tflite_file.sharing import SharingBuilder

IDENTIFIER = b"M001"
BUFFER = b"TFLITE_METADATA"
LABELS = "labels.txt"  # inside the archive
ABOUT = "metadata.json"
NEVER = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip archive: the same model gives the same bytes
# Numbers of fields and values in the schema.
MODEL = {"name": 0, "description": 1, "version": 2, "subgraphs": 3, "author": 4, "license": 5, "parser": 7}
SUBGRAPH = {"name": 0, "inputs": 2, "outputs": 3}
TENSOR = {"name": 0, "description": 1, "content": 3, "stats": 5, "files": 6}
CONTENT = {"kind": 0, "properties": 1}
FEATURE_PROPERTIES, IMAGE_PROPERTIES = 1, 2
IMAGE = {"color_space": 0}
RGB = 1
FILE = {"name": 0, "description": 1, "type": 2}
TENSOR_AXIS_LABELS = 2
STATS = {"max": 0, "min": 1}


def described(content: bytes, about: Mapping[str, Any], labels: Sequence[str]) -> bytes:
    """Return the classifier `content` with its metadata and the zip archive.

    Args:
        content: a .tflite file of one graph, `image` -> `scores`.
        about: contents of metadata.json; `name`, `description`, `version`, `author` and `license` go into the TFLite
            metadata as well.
        labels: names of the classes, each of one line.
    """
    model = Model(content)
    entry = schema.MetadataT()
    entry.name, entry.buffer = BUFFER, model.buffer(tflite_metadata(about))
    model.root.metadata = [*(model.root.metadata or []), entry]
    model.root.description = str(about["description"]).encode()
    archive = io.BytesIO(model.pack(SharingBuilder()))
    archive.seek(0, io.SEEK_END)
    with zipfile.ZipFile(archive, "a") as zipped:  # stored: MediaPipe reads no compressed files
        for name, text in ((ABOUT, json.dumps(about, indent=1) + "\n"), (LABELS, "".join(f"{n}\n" for n in labels))):
            zipped.writestr(zipfile.ZipInfo(name, NEVER), text.encode())
    return archive.getvalue()


def tflite_metadata(about: Mapping[str, Any]) -> bytes:
    """Return the TFLite metadata of an image classifier, uint8 RGB in, one score a class out; see `described`."""
    builder = flatbuffers.Builder(1024)

    def table(fields: Mapping[str, int], **values: Any) -> int:
        """Write a table; a value is an offset, or (type, number)."""
        builder.StartObject(max(fields.values()) + 1)
        for name, value in values.items():
            if isinstance(value, tuple):
                kind, number = value
                getattr(builder, f"Prepend{kind}Slot")(fields[name], number, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(fields[name], value, 0)
        return int(builder.EndObject())

    def vector(offsets: Sequence[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    def numbers(value: float) -> int:
        return int(builder.CreateNumpyVector(np.array([value], np.float32)))

    def text(value: object) -> int:
        return int(builder.CreateString(str(value)))

    picture = table(CONTENT, kind=("Uint8", IMAGE_PROPERTIES), properties=table(IMAGE, color_space=("Int8", RGB)))
    stats = table(STATS, max=numbers(255.0), min=numbers(0.0))
    image = table(TENSOR, name=text("image"), description=text("RGB, 0 to 255"), content=picture, stats=stats)
    file = table(FILE, name=text(LABELS), description=text("classes"), type=("Int8", TENSOR_AXIS_LABELS))
    plain = table(CONTENT, kind=("Uint8", FEATURE_PROPERTIES), properties=table({"none": 0}))
    stats = table(STATS, max=numbers(1.0), min=numbers(0.0))
    scores = table(
        TENSOR,
        name=text("scores"),
        description=text("probability of each class"),
        content=plain,
        stats=stats,
        files=vector([file]),
    )
    graph = table(SUBGRAPH, name=text("classifier"), inputs=vector([image]), outputs=vector([scores]))
    whole = {name: text(about[name]) for name in ("name", "description", "version", "author", "license")}
    root = table(MODEL, **whole, subgraphs=vector([graph]), parser=text("1.0.0"))
    builder.Finish(root, file_identifier=IDENTIFIER)
    return bytes(builder.Output())
