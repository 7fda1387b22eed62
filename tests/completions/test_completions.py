"""The completion files: those of today's parsers, and shells complete with them."""

import re
import shutil
import subprocess

import pytest
import shtab

from completions.__main__ import FOLDER, NAMES, actions, files, parsers

PROGRAMS = ("keras-cbpnet", "cbpnet")


@pytest.fixture(scope="module")
def made():
    return files()


def test_there_is_one_for_every_command_and_shell(made):
    names = {name.format(program) for program in PROGRAMS for name in NAMES.values()}
    assert set(made) == names == {path.name for path in FOLDER.iterdir() if not path.name.startswith("__")}


def test_they_are_those_of_the_parsers(made):
    for name, text in made.items():
        written = (FOLDER / name).read_text(encoding="utf-8")
        if not written.endswith(f"with shtab {shtab.__version__}\n"):
            pytest.skip(f"{name} was made with another shtab than the {shtab.__version__} here")
        assert written == text, f"run `make completions`: {name} is of other parsers"


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_option_of_every_command_is_in_each(program):
    options = {option for action in actions(parsers()[program]) for option in action.option_strings}
    assert len(options) > 20
    for name in NAMES.values():
        text = (FOLDER / name.format(program)).read_text(encoding="utf-8")
        for option in options:
            plain = option.lstrip("-")
            assert re.search(rf"(--?|-[lso] '?){re.escape(plain)}\b", text), f"run `make completions`: {name}, {option}"


BASH = """
source "$1"
COMP_WORDS=("${@:2}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMP_LINE="${COMP_WORDS[*]}"
COMP_POINT=${#COMP_LINE}
complete -p "$2" >/dev/null || exit 3
words=($(complete -p "$2"))
for index in "${!words[@]}"; do [[ ${words[index]} == -F ]] && function=${words[index + 1]}; done
"$function" "$2" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
CASES = [
    (["cbpnet", "le"], ["learn"]),
    (["cbpnet", "learn", "--one"], ["--one-by-one"]),
    (["cbpnet", "learn", "--runtime", "nu"], ["numpy"]),
    (["cbpnet", "predict", "bun"], ["bundle"]),
    (["keras-cbpnet", "con"], ["convert"]),
    (["keras-cbpnet", "train", "--meth"], ["--method"]),
    (["keras-cbpnet", "train", "--block", "pro"], ["prototype"]),
    (["keras-cbpnet", "convert", "bun"], ["bundle"]),
]


@pytest.mark.parametrize(("words", "found"), CASES)
def test_bash_completes(words, found, tmp_path):
    (tmp_path / "bundle").mkdir()
    command = ["bash", "--norc", "-c", BASH, "bash", str(FOLDER / words[0]), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == found


@pytest.mark.parametrize(("words", "found"), CASES)
@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes(words, found, tmp_path):
    (tmp_path / "bundle").mkdir()
    line = f"source {FOLDER / words[0]}.fish; complete -C '{' '.join(words)}'"
    done = subprocess.run(["fish", "--no-config", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert [each.split("\t")[0].rstrip("/") for each in done.stdout.splitlines()] == found


ZSH = """
autoload -Uz compinit && compinit -u -D
fpath=($1 $fpath)
autoload -Uz $2 && autoload +X $2
print -r -- ${#functions[$2]}
"""


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_loads_it(program):
    done = subprocess.run(
        ["zsh", "-f", "-c", ZSH, "zsh", str(FOLDER), f"_{program}"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 1000
    checked = subprocess.run(["zsh", "-n", str(FOLDER / f"_{program}")], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")
