"""`make release`: built and checked from the last commit, or refused in one line; nothing is uploaded."""

import re
import shutil
import subprocess
import sys
import tarfile

import pytest
from helpers.paths import ROOT
from helpers.wheel import OFFLINE

PYPROJECT = """
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "small"
version = "1.2.3"
description = "A project as small as can be."
readme = "README.md"

[tool.setuptools]
py-modules = ["small"]
"""
CHANGELOG = (
    "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-02\n\n### Added\n\n- All.\n\n## [1.2.2]\n\n- Less.\n"
)


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "small"
    (root / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "release.py", root / ".ci")
    for name, text in {
        "pyproject.toml": PYPROJECT,
        "CHANGELOG.md": CHANGELOG,
        "README.md": "# Small\n",
        "small.py": "x = 1\n",
        ".gitignore": "dist/\nignored.py\n",
    }.items():
        (root / name).write_text(text)
    git(root, "init", "-q")
    commit(root)
    return root


def git(root, *words):
    names = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *names, *words], cwd=root, check=True, capture_output=True)


def commit(root):
    git(root, "add", "-A")
    git(root, "commit", "-qm", "All")


def release(root):
    command = [sys.executable, root / ".ci" / "release.py"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)


def refused(root):
    done = release(root)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not (root / "dist").exists()
    return done.stderr


@pytest.mark.parametrize("name", ["small.py", "new.py"])
def test_what_is_not_committed_is_refused(project, name):
    (project / name).write_text("x = 2\n")
    assert re.match(rf"error: 1 files differ from the last commit \(.*{name}, ...\): commit them", refused(project))


@pytest.mark.parametrize(
    ("old", "new", "newest"),
    [
        ("## [1.2.3]", "## [1.2.4]", "1.2.4"),
        ("## [Unreleased]\n", "## [Unreleased]\n\n- More.\n", "Unreleased"),
        (CHANGELOG, "# Changelog\n", "none"),
    ],
    ids=["another", "more", "none"],
)
def test_a_changelog_without_the_version_first_is_refused(project, old, new, newest):
    (project / "CHANGELOG.md").write_text(CHANGELOG.replace(old, new))
    commit(project)
    assert refused(project).startswith(f"error: CHANGELOG.md's newest section is [{newest}], the version is 1.2.3: ")


@pytest.mark.slow
def test_a_release_is_that_of_the_last_commit(project):
    (project / "ignored.py").write_text("secret = 1\n")
    done = release(project)
    if OFFLINE.search(done.stdout + done.stderr):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    names = ["release_notes-1.2.3.md", "small-1.2.3-py3-none-any.whl", "small-1.2.3.tar.gz"]
    assert sorted(path.name for path in (project / "dist").iterdir()) == names
    assert done.stdout.count("PASSED") == 2
    assert (project / "dist" / names[0]).read_text() == "### Added\n\n- All.\n"
    with tarfile.open(project / "dist" / names[2]) as file:
        assert "small-1.2.3/small.py" in file.getnames()
        assert "small-1.2.3/ignored.py" not in file.getnames()


def test_the_script_cannot_upload():
    words = (ROOT / ".ci" / "release.py").read_text() + (ROOT / "Makefile").read_text()
    assert not re.search(r"twine[\"', ]+upload|git push", words)
