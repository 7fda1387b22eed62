"""Build sdist, wheel and release notes of the last commit into dist/ and check them; nothing is uploaded.

`make release` runs it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SECTION = re.compile(r"^## \[([^\]]+)\].*$", re.MULTILINE)


class RefusedError(Exception):
    """Why there is no release; one line."""


def notes_of(changelog: str, version: str) -> str:
    """Return the newest section of the changelog without its heading; `Unreleased` counts where it is not empty.

    Raises:
        RefusedError: it is not that of `version`.
    """
    starts = [*SECTION.finditer(changelog)]
    ends = [*(match.start() for match in starts[1:]), len(changelog)]
    sections = [(match[1], changelog[match.end() : end].strip()) for match, end in zip(starts, ends)]
    filled = [each for each in sections if each[1]]
    newest = filled[0][0] if filled else "none"
    if newest != version:
        raise RefusedError(
            f"CHANGELOG.md's newest section is [{newest}], the version is {version}: write a section [{version}] and "
            "leave nothing under Unreleased"
        )
    return filled[0][1]


def git(root: Path, *arguments: str) -> bytes:
    """Return what a git command prints."""
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True).stdout


def release(root: Path) -> list[Path]:
    """Write dist/ in the checkout `root` and return its new files.

    Raises:
        RefusedError: the tree differs from the last commit, or the changelog has no section for the version.
    """
    changed = git(root, "status", "--porcelain").decode().splitlines()
    if changed:
        raise RefusedError(f"{len(changed)} files differ from the last commit ({changed[0].strip()}, ...): commit them")
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "([^"]+)"$', text, re.MULTILINE)[1]
    notes = notes_of((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": git(root, "log", "-1", "--format=%ct").decode().strip()}
    dist = root / "dist"
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "source"), Path(folder, "dist")
        archive = Path(folder, "source.tar")
        archive.write_bytes(git(root, "archive", "HEAD"))
        with tarfile.open(archive) as file:
            file.extractall(source)
        build = [sys.executable, "-m", "build", "--outdir", str(made), str(source)]
        subprocess.run(build, check=True, env=environment)
        (made / f"release_notes-{version}.md").write_text(notes + "\n", encoding="utf-8")
        distributions = [str(path) for path in sorted(made.iterdir()) if path.suffix != ".md"]
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *distributions], check=True)
        dist.mkdir(exist_ok=True)
        return [Path(shutil.copy(path, dist)) for path in sorted(made.iterdir())]


def main() -> int:
    """Make a release of the checkout that this file is in; return the exit code."""
    try:
        made = release(Path(__file__).resolve().parent.parent)
    except RefusedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(map(str, error.cmd))} failed, see above", file=sys.stderr)
        return 1
    print("\n".join(map(str, made)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
