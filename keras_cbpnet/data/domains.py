"""Image folders of several domains (places, cameras, styles), each with the same classes."""

# N images

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data.dataset import Dataset, stratified_split
from keras_cbpnet.data.files import has_parts, require_folder, subfolders
from keras_cbpnet.data.folder import class_folders, labelled_files
from keras_cbpnet.data.images import ImageFiles
from keras_cbpnet.data.preprocessing import ImageSize
from keras_cbpnet.errors import UserError

__all__ = ["load_domains"]

CONTENTS = "one folder per domain, in each the same folders of images, one per class"


def load_domains(path: str, image_size: ImageSize) -> Dataset:
    """Loads images from DOMAIN/CLASS folders; domains and classes in the alphabetical order of their folders.

    Args:
        path: A folder with one folder per domain and in each one folder per class, the same ones everywhere (every
            class of every domain split 80/20, the same way in every run), or with the two folders train/ and test/
            of such folders. Images may lie in folders within a class folder.
        image_size: Side of the images in pixels, or (height, width).

    Returns:
        The data set, with domains.

    Raises:
        UserError: Path, domains or classes missing, a class that is not in every domain, an empty class, or a visible
            file that is not an image.
    """
    root = require_folder(path, CONTENTS)
    if has_parts(root):
        train, test = _scan(root / "train"), _scan(root / "test")
        for kind, mine, theirs in (("domain", train.names, test.names), ("class", train.classes, test.classes)):
            if mine != theirs:
                odd = sorted(set(mine) ^ set(theirs))[0]
                raise UserError(f"{kind} '{odd}' is in only one of {root}/train and {root}/test; both need all of them")
    else:
        whole = _scan(root)
        groups = tuple(f"{domain}/{name}" for domain in whole.names for name in whole.classes)
        rows = stratified_split(whole.domains * len(whole.classes) + whole.labels, groups)
        train, test = (whole.take(part) for part in rows)
    return Dataset(
        ImageFiles(train.files, image_size),
        train.labels,
        ImageFiles(test.files, image_size),
        test.labels,
        train.classes,
        domain_names=train.names,
        domain_train=train.domains,
        domain_test=test.domains,
    )


class _Domains(NamedTuple):
    names: tuple[str, ...]
    classes: tuple[str, ...]
    files: list[str]
    labels: NDArray[np.int64]  # (N,), index into classes
    domains: NDArray[np.int64]  # (N,), index into names

    def take(self, rows: NDArray[np.int64]) -> _Domains:
        return self._replace(
            files=[self.files[row] for row in rows], labels=self.labels[rows], domains=self.domains[rows]
        )


def _scan(root: Path) -> _Domains:
    if not root.is_dir():
        raise UserError(f"no folder {root}; add it, or give a folder with {CONTENTS}")
    names = subfolders(root)
    if not names:
        raise UserError(f"folder {root} has no domains; give a folder with {CONTENTS}")
    classes = class_folders(root / names[0])
    files, labels, domains = [], [], []
    for index, name in enumerate(names):
        odd = sorted(set(classes) ^ set(class_folders(root / name)))
        if odd:
            raise UserError(
                f"class '{odd[0]}' is in only one of {root / names[0]} and {root / name}; "
                "all domains need the same classes"
            )
        mine, my_labels = labelled_files(root / name, classes)
        files += mine
        labels.append(my_labels)
        domains.append(np.full(len(mine), index, np.int64))
    return _Domains(names, classes, files, np.concatenate(labels), np.concatenate(domains))
