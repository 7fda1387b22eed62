"""Image folders of several domains (places, cameras, styles), each with the same classes."""

# N images

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import Input
from firmware_host.shared.folders import class_files, listed
from firmware_host.shared.names import class_name, distinct_names
from firmware_host.shared.sensors.readers import IMAGE, suffixes_of
from keras_cbpnet.data.dataset import Dataset, stratified_split
from keras_cbpnet.data.files import split_layout, user_errors
from keras_cbpnet.data.images import ImageFiles
from keras_cbpnet.data.preprocessing import ImageSize
from keras_cbpnet.errors import UserError

__all__ = ["load_domains"]

CONTENTS = "one folder per domain, in each the same folders of images, one per class"


def load_domains(path: str, image_size: ImageSize, taken: Input = IMAGE) -> Dataset:
    """Load images from DOMAIN/CLASS folders; domains and classes in the alphabetical order of their folders.

    Args:
        path: a folder with one folder per domain and in each one folder per class, the same ones everywhere (every
            class of every domain split 80/20, the same way in every run), or with the two folders train/ and test/
            of such folders. Images may lie in folders within a class folder.
        image_size: side of the images in pixels, or (height, width).
        taken: what the files are, where they are not images.

    Returns:
        The data set, with domains.

    Raises:
        UserError: path, domains or classes missing, a class that is not in every domain, an empty class, or a visible
            file that is not an image.
    """
    layout = split_layout(path, CONTENTS, levels=2, suffixes=suffixes_of(taken.kind))
    if layout.parts:
        train, test = (_scan(layout.parts[part]) for part in ("train", "test"))
        for kind, mine, theirs in (("domain", train.names, test.names), ("class", train.classes, test.classes)):
            if mine != theirs:
                odd = sorted(set(mine) ^ set(theirs))[0]
                folders = f"{layout.parts['train']} and {layout.parts['test']}"
                raise UserError(f"{kind} '{odd}' is in only one of {folders}; both need all of them")
    else:
        whole = _scan(layout.root)
        groups = tuple(f"{domain}/{name}" for domain in whole.names for name in whole.classes)
        rows = stratified_split(whole.domains * len(whole.classes) + whole.labels, groups)
        train, test = (whole.take(part) for part in rows)
    return Dataset(
        ImageFiles(train.files, image_size, taken),
        train.labels,
        ImageFiles(test.files, image_size, taken),
        test.labels,
        train.classes,
        domain_names=train.names,
        domain_train=train.domains,
        domain_test=test.domains,
        notes=layout.notes,
        input=taken,
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
    domains: dict[str, dict[str, list[str]]] = {}  # the files of each class of each domain
    folder_of: dict[str, str] = {}
    with user_errors():
        folders = listed(root).folders
        distinct_names(folders, "domain")
        for folder in folders:
            name = class_name(folder, "domain")
            domains[name], folder_of[name] = class_files(root / folder), folder
    if not domains:
        raise UserError(f"folder {root} has no domains; give a folder with {CONTENTS}")
    names = tuple(sorted(domains))
    classes = tuple(domains[names[0]])
    files: list[str] = []
    counts = []  # of images, by domain and class
    for name in names:
        if odd := sorted(set(classes) ^ set(domains[name])):
            raise UserError(
                f"class '{odd[0]}' is in only one of {root / folder_of[names[0]]} and {root / folder_of[name]}; "
                "all domains need the same classes"
            )
        for members in domains[name].values():
            files += members
            counts.append(len(members))
    cells = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return _Domains(names, classes, files, cells % len(classes), cells // len(classes))
