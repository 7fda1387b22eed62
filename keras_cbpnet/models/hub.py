"""Weights from the Hugging Face hub, `hf:OWNER/NAME[@REVISION][/FILE]`: fetched once into the hub's own cache, checked.

A file must have the SHA-256 that its preset pins. Where none is pinned, it must have the one that the hub itself
states for it in its response to HEAD (X-Linked-Etag, or ETag), under which the cache keeps it: that finds a transfer or
a disk that went wrong, not a file that its owner replaced.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from firmware_host.shared.files import sha256_of_file
from firmware_host.shared.packages import missing_package
from keras_cbpnet.errors import UserError

__all__ = ["check_address", "fetch", "is_address"]

KIND = "hf:"
ADDRESS = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([^/@]+))?(?:/(.+))?")
WHOLE, LIST = "model.safetensors", "model.safetensors.index.json"
ENDINGS = (".safetensors", ".npz", ".safetensors.index.json")
GIT = 40  # hexadecimal digits of a small file's hash, which is git's
HASH = re.compile(rf"[0-9a-f]{{64}}|[0-9a-f]{{{GIT}}}")  # SHA-256 of a large file, or git's

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Address:
    repository: str
    revision: str
    file: str  # empty: the usual ones


def is_address(weights: str | os.PathLike[str]) -> bool:
    """Return whether `weights` is meant for the hub, and not the path of a file."""
    return os.fspath(weights).startswith(KIND)


def check_address(address: str) -> None:
    """Check what can be checked without a network.

    Raises:
        UserError: `address` is not hf:OWNER/NAME[@REVISION][/FILE], or huggingface_hub is not installed.
    """
    _parse(address)
    _client()


def fetch(address: str, sha256: str = "") -> Path:
    """Return the path in the hub's cache of the file at `address`, fetched if it is not there yet.

    A branch is asked for news each time, and the cache is used where the hub cannot be reached; a commit is not asked
    for. Without FILE it is model.safetensors or, where there is none, model.safetensors.index.json with all its parts.
    A transfer that breaks goes on where it stopped. The environment's HF_HOME, HF_ENDPOINT, HF_TOKEN and so on apply.

    Args:
        address: hf:OWNER/NAME[@REVISION][/FILE].
        sha256: that the file must have; empty for the one that the hub states.

    Raises:
        UserError: the address is wrong, huggingface_hub is not installed, there is no such file, the hub cannot be
            reached, or the file is not what it should be; then it is not kept.
    """
    at, hub = _parse(address), _client()
    if not at.file:
        try:
            return _fetch_file(hub, dataclasses.replace(at, file=WHOLE), sha256)
        except _MissingFileError:
            at = dataclasses.replace(at, file=LIST)
    path = _fetch_file(hub, at, sha256)
    if at.file.endswith(".json"):
        from keras_cbpnet.models.importers.shards import parts

        commit = path.relative_to(_snapshots(hub, at)).parts[0]  # parts of one commit, whatever is pushed meanwhile
        for part in parts(path):
            file = PurePosixPath(at.file).with_name(part).as_posix()
            _fetch_file(hub, dataclasses.replace(at, revision=commit, file=file))
    return path


class _MissingFileError(UserError):
    """The repository has no such file."""


def _parse(address: str) -> _Address:
    match = ADDRESS.fullmatch(address)
    if match is None or ".." in address.split("/"):
        raise UserError(f"{address!r} is not an address on the hub; give hf:OWNER/NAME[@REVISION][/FILE]")
    repository, revision, file = match.groups(default="")
    if file and not file.endswith(ENDINGS):
        raise UserError(f"{address}: {file} is not a .safetensors or .npz file; give another FILE, or none")
    return _Address(repository, revision or "main", file)


def _client() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise UserError(f"weights are fetched by their name: {missing_package(error)}") from error
    return huggingface_hub


def _snapshots(hub: ModuleType, at: _Address) -> Path:
    """Return the folder that the cache keeps a repository's revisions in."""
    return Path(hub.constants.HF_HUB_CACHE) / f"models--{at.repository.replace('/', '--')}" / "snapshots"


def _fetch_file(hub: ModuleType, at: _Address, sha256: str = "") -> Path:
    """Return the path in the cache of the one file at `at`, checked."""
    placed = _snapshots(hub, at) / at.revision / at.file  # a commit's, or put there by hand
    if placed.is_file():
        return _checked(placed, sha256 or _stated(placed), ours=placed.is_symlink())
    arguments: dict[str, Any] = {"repo_id": at.repository, "filename": at.file, "revision": at.revision}
    url = hub.hf_hub_url(**arguments)
    try:
        found = hub.get_hf_file_metadata(url)  # fails at once where hf_hub_download would try again and again
        stated = _hash(found.etag or "")
        if not (sha256 or stated):
            raise UserError(f"the server states no SHA-256 of {url}; download it yourself and give its path")
        cached = hub.try_to_load_from_cache(at.repository, at.file, revision=found.commit_hash)
        if not isinstance(cached, str):
            size = f" ({found.size / 1e6:.1f} MB)" if found.size else ""
            logger.warning("fetching %s%s into %s", url, size, hub.constants.HF_HUB_CACHE)
        path = Path(hub.hf_hub_download(**arguments))
        return _checked(path, sha256 or _stated(path) or stated, ours=True)
    except UserError:
        raise
    except Exception as error:  # of several HTTP libraries, by version
        if isinstance(error, OSError) and error.errno:  # a full disk, no permission
            raise
        if refusal := _refusal(hub, error, at, url):
            raise refusal from error
        cached = hub.try_to_load_from_cache(at.repository, at.file, revision=at.revision)
        if not isinstance(cached, str):
            raise UserError(
                f"cannot fetch {url} ({_reason(hub, error)}): try again with a connection, or download it elsewhere "
                f"and put {placed.name} into {placed.parent}"
            ) from error
    return _checked(Path(cached), sha256 or _stated(Path(cached)), ours=True)


def _refusal(hub: ModuleType, error: Exception, at: _Address, url: str) -> UserError | None:
    """Return what the hub's answer means; None where there was none."""
    errors = hub.errors
    page = f"{hub.constants.ENDPOINT}/{at.repository}"
    if isinstance(error, errors.GatedRepoError):
        return UserError(f"{page} asks for consent first: give it there, then log in with `hf auth login` (HF_TOKEN)")
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError(f"there is no {page}; if it is private, log in with `hf auth login` (HF_TOKEN)")
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(f"{page} has no revision {at.revision!r}; give a branch, a tag or a commit after @")
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return _MissingFileError(f"there is no {url}; give the name of a .safetensors or .npz file after /")
    return None


def _reason(hub: ModuleType, error: Exception) -> str:
    if isinstance(error, hub.errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"HTTP {status}" if status else type(error).__name__


def _stated(path: Path) -> str:
    """Return the hash under which the cache keeps `path`; empty where it is not a link into the cache."""
    return _hash(Path(os.readlink(path)).name) if path.is_symlink() else ""


def _hash(text: str) -> str:
    """Return `text` if it is a hash, otherwise nothing."""
    return text if HASH.fullmatch(text) else ""


def _checked(path: Path, expected: str, ours: bool) -> Path:
    """Return `path`, whose hash is `expected` (empty: unknown); otherwise remove it if it is `ours`, and raise."""
    if not expected:
        return path
    found = _git_hash(path) if len(expected) == GIT else sha256_of_file(path)
    if found == expected:
        return path
    if ours:
        if path.is_symlink():
            (path.parent / os.readlink(path)).unlink(missing_ok=True)
        path.unlink()
    done = "it was removed; fetch it again" if ours else "remove it"
    raise UserError(f"{path} is not the file that it should be: its hash is {found}, expected {expected}; {done}")


def _git_hash(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
