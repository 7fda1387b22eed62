"""Standard streams as supervisors, pipes and old terminals give them: the work is done all the same."""

import json
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

COMMAND = [sys.executable, "-m", "firmware_host"]


def shell(line, *arguments, **environment):
    """Run a line of a shell in which "$@" is the command; its output as bytes."""
    return subprocess.run(
        ["bash", "-c", line, "shell", *COMMAND, *map(str, arguments), "--runtime", "numpy"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=120,
    )


@pytest.fixture
def photos(make, tmp_path):
    return make.folder_of_images(tmp_path / "photos", names=("red", "blue"), each=3)


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-", "1>&-", "<&- 1>&- 2>&-", "2>/dev/full"])
def test_a_closed_stream_stops_no_work(bundle, photos, tmp_path, closed):
    state = tmp_path / "state"
    done = shell(f'"$@" {closed}', "learn", bundle, photos, "--state", state, "--json")
    assert done.returncode == 0, done.stderr
    if "1>" not in closed:
        assert json.loads(done.stdout)["images"] == 6
    assert sorted(path.name for path in state.iterdir()) == ["lock", "state.a.npz"]
    done = shell(f'"$@" {closed}', "predict", bundle, photos / "blue" / "3.png", "--state", state)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (b": blue (" in done.stdout) == ("1>" not in closed)


def test_what_goes_wrong_keeps_its_exit_code_without_a_stderr(bundle, tmp_path):
    assert shell('"$@" 2>&-', "predict", bundle, tmp_path / "none.png").returncode == 2


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    """Else what a library prints would end up in it."""
    code = (
        "import os, sys; from firmware_host.shared.streams import open_streams; open_streams(); "
        "file = open(sys.argv[1], 'w'); os.write(1, b'noise'); os.write(2, b'noise'); print('x'); "
        "print('y', file=sys.stderr); file.write(str(file.fileno() > 2)); file.close()"
    )
    line = '"$0" -c "$1" "$2" <&- 1>&- 2>&-'
    done = subprocess.run(["bash", "-c", line, sys.executable, code, tmp_path / "f"], cwd=ROOT, timeout=60)
    assert (done.returncode, (tmp_path / "f").read_text()) == (0, "True")


@pytest.mark.slow
def test_a_pipe_that_nobody_reads(bundle, photos, tmp_path):
    state = tmp_path / "state"
    done = shell('"$@" | true; echo ${PIPESTATUS[0]}', "learn", bundle, photos, "--state", state)
    assert done.stdout == b"0\n"  # learned and saved; that nobody wants to know is no failure
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
    done = shell('"$@" 2>&1 >/dev/null | true; echo ${PIPESTATUS[0]}', "learn", bundle, photos, "--state", state)
    assert done.stdout == b"0\n"
    done = shell('"$@" | true; echo ${PIPESTATUS[0]}', "predict", bundle, photos, photos, photos, "--state", state)
    assert (done.stdout, done.stderr) == (b"141\n", b"")


def test_a_full_disk_behind_stdout(bundle, photos):
    done = shell('"$@" >/dev/full', "predict", bundle, photos / "red" / "0.png")
    assert done.returncode == 2
    assert done.stderr == b"error: standard output cannot be written (No space left on device): give it another place\n"


def test_characters_that_an_encoding_lacks():
    code = "from firmware_host.shared.streams import open_streams; open_streams(); print('0.5 ± 0.1 é \\udce9')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0.5 +/- 0.1 \\xe9 \\udce9\n", b"")


def test_no_temporary_file_is_needed(bundle, photos, monkeypatch, capfd):
    """On a full card or a read-only one there is room for none."""
    from firmware_host.cli import main

    def none(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryFile", none)
    for has_memory_files in (True, False):
        if not has_memory_files:
            monkeypatch.delattr("os.memfd_create", raising=False)
        assert main(["predict", str(bundle), str(photos / "red" / "0.png"), "--runtime", "numpy"]) == 0
        assert main(["selftest", str(bundle), "--runtime", "numpy"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_standard_input_that_is_open_for_writing_alone(bundle):
    done = shell('"$@" 0>/dev/null', "predict", bundle, "-")
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: standard input cannot be read (")
    assert done.stderr.count(b"\n") == 1
    assert b"standard input is closed" in shell('"$@" <&-', "predict", bundle, "-").stderr


def test_a_stream_that_another_program_made_non_blocking():
    """As node or ssh do to a terminal that they share."""
    code = "from firmware_host.shared.streams import open_streams; open_streams(); print('x' * 300000)"
    there, here = os.pipe()
    os.set_blocking(here, False)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=here)
    os.close(here)
    with os.fdopen(there, "rb") as file:
        assert file.read() == b"x" * 300000 + b"\n"
    assert process.wait(timeout=60) == 0


def test_a_message_is_one_line_and_keeps_the_blanks_of_a_name():
    from firmware_host.shared.streams import one_line

    assert one_line("a  b.png\n   is not\n\nan image") == "a  b.png is not an image"
