"""Images that are in a data set more than once: such tests are no tests, and such labels contradict each other."""

# N images

from __future__ import annotations

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.images import ImageFiles

__all__ = ["duplicates"]


def duplicates(data: Dataset) -> list[str]:
    """Return a line of warning about test images that are training images too, and one about images of two classes.

    Images are the same when their files are (or, of arrays, their pixels), whatever their names.

    Raises:
        UserError: a file cannot be read.
    """
    first: dict[bytes, int] = {}  # the first training image of each content
    classes = []
    for row, content in enumerate(map(bytes, data.hashes("train"))):
        same = first.setdefault(content, row)
        if data.y_train[same] != data.y_train[row]:
            classes.append((row, same))
    tested = [(row, first[each]) for row, each in enumerate(map(bytes, data.hashes("test"))) if each in first]
    lines = []
    if tested:
        row, same = tested[0]
        lines.append(
            f"warning: {len(tested)} of {len(data.y_test)} test images are training images too "
            f"({_name(data, 'test', row)} is {_name(data, 'train', same)}), which makes the accuracy look too high; "
            "remove the copies"
        )
    if classes:
        row, same = classes[0]
        lines.append(
            f"warning: {len(classes)} of {len(data.y_train)} training images are copies of an image of another class "
            f"({_name(data, 'train', row)} is {_name(data, 'train', same)}); remove those in the wrong class"
        )
    return lines


def _name(data: Dataset, part: str, row: int) -> str:
    stored = data.stored(part)
    return stored.files[row] if isinstance(stored, ImageFiles) else f"image {row} of x_{part}"
