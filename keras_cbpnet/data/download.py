"""Data sets that are downloaded: with progress, going on with a broken transfer, checked, and unpacked as a whole.

`keras.utils.get_file` cannot go on with a broken transfer (it uses urlretrieve, and removes what has arrived); the
largest of these archives have gigabytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import logging
import os
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_cbpnet.data.files import datasets_folder
from keras_cbpnet.errors import UserError
from keras_cbpnet.locks import locked

__all__ = ["Archive", "fetch", "require_data"]

TIMEOUT = 30  # seconds without a byte
TRIES = 5  # in a row that bring nothing
PAUSE = 2.0  # seconds before the second of them, twice that before the third, and so on
BLOCK = 1 << 20
MD5 = 32  # hexadecimal digits; a SHA-256 has twice as many
PART = ".part"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Archive:
    """A data set as its authors publish it.

    Attributes:
        title: for people.
        url: of a .zip or .tar file, compressed or not.
        digest: its SHA-256, or its MD5 where only that is public.
        licence: in a few words.
    """

    title: str
    url: str
    digest: str
    licence: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


def require_data(root: Path, archive: Archive) -> None:
    """Make sure that the folder `root`, which `archive` holds, is there: download and unpack it if it is not.

    The archive may also have been put beside `root` by hand; then it stays there.

    Raises:
        UserError: the archive cannot be downloaded, is not what it should be, or does not hold the folder.
    """
    if root.is_dir():
        return
    file = root.parent / archive.name
    by_hand = file.is_file()
    fetch(archive, file, f"{archive.title} is not in {root}", f"unpack it in {root.parent}")
    temporary = root.with_name(root.name + PART)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _unpack(file, temporary)
        if not (temporary / root.name).is_dir():
            raise UserError(f"{file} holds no folder {root.name}; download {archive.url} again and unpack it there")
        (temporary / root.name).rename(root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if not by_hand:
        file.unlink()


def fetch(archive: Archive, file: Path, lacking: str, remedy: str) -> None:
    """Make sure that `file` is the archive: download it if it is not there.

    What has arrived of a transfer that breaks is kept beside it as `.part`, and the next one goes on there.

    Args:
        archive: what to download.
        file: where to.
        lacking: what is missing without it, for the message.
        remedy: what to do with a file that was downloaded by hand, for the message.

    Raises:
        UserError: it cannot be downloaded, or is not what it should be.
    """
    if file.is_file():
        if _digest(file, archive) != archive.digest:
            raise UserError(
                f"{file} is damaged or incomplete; remove it to download it again, or download {archive.url} yourself"
            )
        return
    datasets_folder().mkdir(parents=True, exist_ok=True)
    with locked(datasets_folder(), f"another process downloads into {datasets_folder()}; wait for it"):
        part = file.with_name(file.name + PART)
        try:
            _download(archive, part)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise UserError(
                f"{lacking} and cannot be downloaded ({_reason(error)}); try again with a connection, or download "
                f"{archive.url} elsewhere and {remedy}"
            ) from error
        found = _digest(part, archive)
        if found != archive.digest:
            part.unlink()
            raise UserError(
                f"{archive.url} is not the file that it was: its hash is {found}, expected {archive.digest}; it was "
                f"removed, try again, or download it elsewhere and {remedy}"
            )
        os.replace(part, file)


def _download(archive: Archive, part: Path) -> None:
    """Write what is at the archive's address to `part`, from where that ends; try again as long as something comes."""
    failures, total = 0, None
    with contextlib.ExitStack() as stack:
        show: Any = None
        while True:
            before = _size(part)
            try:
                with _open(archive.url, before) as answer:
                    start = before if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0
                    length = answer.headers.get("Content-Length")
                    total = start + int(length) if length else None
                    if show is None:
                        show = stack.enter_context(_progress(archive, part.parent, start, total))
                    part.parent.mkdir(parents=True, exist_ok=True)
                    with part.open("ab" if start else "wb") as file:
                        while block := answer.read(BLOCK):
                            file.write(block)
                            show(file.tell())
                        end = file.tell()
                if total is None or end >= total:
                    return
            except urllib.error.HTTPError as error:
                if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                    return  # it was whole: its hash tells
                raise
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError):
                if show is None:  # no connection at all
                    raise
            failures = 0 if _size(part) > before else failures + 1
            if failures == TRIES:
                raise ConnectionError(f"it broke off after {_size(part)} bytes {TRIES} times")
            time.sleep(failures * PAUSE)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _open(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "keras-cbpnet", **({"Range": f"bytes={start}-"} if start else {})}
    answer: http.client.HTTPResponse = urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=TIMEOUT
    )
    return answer


@contextlib.contextmanager
def _progress(archive: Archive, folder: Path, start: int, total: int | None) -> Iterator[Any]:
    """Say what is downloaded, and yield what is told how many bytes there are: a bar on a terminal, lines elsewhere."""
    size = f" ({total / 1e6:,.1f} MB)" if total else ""
    logger.warning("downloading %s%s, %s, into %s; %s", archive.title, size, archive.url, folder, archive.licence)
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, initial=start, unit="B", unit_scale=True, leave=False) as bar:
            yield lambda done: bar.update(done - bar.n)
        return
    tenths = start * 10 // total if total else 0

    def show(done: int) -> None:
        nonlocal tenths
        if total and done * 10 // total > tenths:
            tenths = done * 10 // total
            logger.warning("%s: %d %% of %.1f MB", archive.name, 10 * tenths, total / 1e6)

    yield show


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(cause).split()) or type(cause).__name__


def _digest(file: Path, archive: Archive) -> str:
    digest = hashlib.md5() if len(archive.digest) == MD5 else hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _unpack(file: Path, folder: Path) -> None:
    """Unpack a .zip or .tar file; nothing in it can be written elsewhere.

    Raises:
        UserError: it is neither, or damaged.
    """
    opened: Any
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as opened:
                opened.extractall(folder)
        else:
            with tarfile.open(file) as opened:
                opened.extractall(folder, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} cannot be unpacked ({reason}); remove it to download it again") from error
