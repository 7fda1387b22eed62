"""Where else a bundle is checked: other Pythons of this machine, and an emulated aarch64. What is missing is said why.

Everything that is fetched is kept under build/ and made once. Nothing is installed into the system.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from firmware_host.shared.runtimes import RUNTIMES

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build"
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
LAST_WITH_TFLITE_RUNTIME = (3, 11)
SUITE = "bookworm"  # its Python is 3.11, the last one that tflite-runtime has wheels for
WHEELS = ("numpy==1.26.4", "tflite-runtime==2.14.0")
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_34_aarch64")


class UnavailableError(Exception):
    """What is needed is not here; the message says what and why."""


def pythons() -> dict[str, Path]:
    """Return the interpreters by version, from pyenv and the PATH."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in PYTHONS:
        installed = sorted(root.glob(f"{version}.*/bin/python"), key=lambda path: natural(path.parent.parent.name))
        candidates = [*reversed(installed), *filter(None, [shutil.which(f"python{version}")])]
        for candidate in candidates:
            done = subprocess.run([candidate, "--version"], capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.startswith(f"Python {version}."):
                found[version] = Path(candidate)
                break
    return found


def natural(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


@contextlib.contextmanager
def made_once(name: str) -> Iterator[tuple[Path, bool]]:
    """Yield the folder `name` of the cache, and whether it is complete; it counts as such when nothing was raised."""
    CACHE.mkdir(exist_ok=True)
    folder, done = CACHE / name, CACHE / f"{name}.done"
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            yield folder, True
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder, False
        done.touch()


def environment(python: Path, version: str, runtime: str, age: str = "newest") -> list[str]:
    """Return the command of a clean environment's Python with NumPy, Pillow and `runtime`.

    Args:
        python: that the environment is made with.
        version: of it.
        runtime: to install.
        age: `newest` or `oldest`: which versions within the ranges of pyproject.toml, among those with wheels.
    """
    if runtime == "tflite_runtime" and tuple(natural(version)) > LAST_WITH_TFLITE_RUNTIME:
        raise UnavailableError(f"tflite-runtime has no wheels for Python {version}")
    needed = requirements(runtime)
    digest = hashlib.sha256(" ".join(needed).encode()).hexdigest()[:8]
    with made_once(f"python-{version}-{runtime}-{age}-{digest}") as (folder, complete):
        if not complete:
            run([python, "-m", "venv", folder], "no environment")
            pip = [folder / "bin" / "python", "-m", "pip"]
            if age == "oldest":
                install_oldest(pip, version, needed)
            else:
                run([*pip, "install", "-q", *needed], "no packages")
    return [str(folder / "bin" / "python")]


def install_oldest(pip: list[object], version: str, needed: list[str]) -> None:
    """Install of each package the oldest minor release that is allowed, has a wheel and fits those before it.

    NumPy comes last: what an old runtime needs of it counts.
    """
    ranges: dict[str, SpecifierSet] = {}
    for text in needed:
        found = Requirement(text)
        if found.marker is None or found.marker.evaluate({"python_version": version}):
            ranges[found.name] = ranges.get(found.name, SpecifierSet()) & found.specifier
    pinned: list[str] = []
    for name in sorted(ranges, key="numpy".__eq__):
        for series in minor_releases(pip, name, ranges[name]):
            candidate = f"{name}{ranges[name]},=={series}.*"
            try:
                run([*pip, "install", "-q", "--only-binary", ",".join(ranges), *pinned, candidate], "")
            except UnavailableError:
                continue  # no wheel for this Python, or another NumPy than a package before it takes
            pinned.append(candidate)
            break
        else:
            raise UnavailableError(f"no wheel of {name}{ranges[name]} for Python {version}")


def minor_releases(pip: list[object], name: str, wanted: SpecifierSet) -> list[str]:
    """Return the minor releases of a package within a range, oldest first."""
    said = run([*pip, "index", "versions", name], f"no list of the versions of {name}")
    [listed] = re.findall(r"^Available versions: (.*)$", said, re.MULTILINE)
    allowed = [version for version in map(Version, listed.split(", ")) if wanted.contains(version)]
    return [f"{major}.{minor}" for major, minor in sorted({version.release[:2] for version in allowed})]


def requirements(runtime: str) -> list[str]:
    """Return what a device with `runtime` installs, by pyproject.toml; Pillow too."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"][RUNTIMES[runtime].extra]]


def aarch64(cpu: str) -> list[str]:
    """Return the command of a Python with NumPy and tflite-runtime on an emulated aarch64 processor."""
    root, emulator = aarch64_root()
    return [str(emulator), "-cpu", cpu, "-L", str(root), str(root / "usr" / "bin" / "python3.11")]


def aarch64_root() -> tuple[Path, Path]:
    """Return the folder of an aarch64 Debian with the wheels in wheels/, and the emulator."""
    if sys.platform != "linux":
        raise UnavailableError("emulation of aarch64 needs Linux")
    if " " in str(CACHE):
        raise UnavailableError(f"debootstrap leaves packages out where the path has a space: {CACHE}")
    with made_once(f"aarch64-{SUITE}") as (folder, complete):
        root, tools = folder / "root", folder / "tools"
        if not complete:
            emulator, debootstrap = (tool(name, tools) for name in ("qemu-aarch64-static", "debootstrap"))
            if os.geteuid() != 0:
                raise UnavailableError("debootstrap wants to be root")
            options = ["--arch=arm64", "--foreign", "--variant=minbase", "--include=python3"]
            scripts = debootstrap.parents[1] / "share" / "debootstrap"
            run([debootstrap, *options, SUITE, root], "no aarch64 Debian", DEBOOTSTRAP_DIR=str(scripts))
            for package in sorted((root / "var" / "cache" / "apt" / "archives").glob("*.deb")):
                run(["dpkg", "-x", package, root], "a package of the aarch64 Debian is damaged")
                package.unlink()
            wheels = folder / "download"
            platforms = [argument for name in PLATFORMS for argument in ("--platform", name)]
            fetch = ["download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", "3.11", *platforms]
            run([sys.executable, "-m", "pip", *fetch, "-d", wheels, *WHEELS], "no aarch64 wheels")
            for wheel in wheels.glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder / "wheels")
            (folder / "emulator").symlink_to(emulator)
    return root, folder / "emulator"


def tool(name: str, folder: Path) -> Path:
    """Return a program, from the PATH or unpacked from its Debian package into `folder`, which needs no root."""
    if found := shutil.which(name):
        return Path(found)
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise UnavailableError(f"{name} is not installed, and there is no apt-get to fetch it")
    package = {"qemu-aarch64-static": "qemu-user-static"}.get(name, name)
    with tempfile.TemporaryDirectory() as downloads:
        fetch: list[object] = ["apt-get", "download", "-q", package]
        try:
            run(fetch, f"{name} is not installed", cwd=downloads)
        except UnavailableError:  # perhaps for want of package lists
            run(["apt-get", "update", "-q"], f"{name} is not installed")
            run(fetch, f"{name} is not installed", cwd=downloads)
        run(["dpkg", "-x", next(Path(downloads).glob("*.deb")), folder], f"{package} is damaged")
    return next(path for path in (folder / "usr" / "bin" / name, folder / "usr" / "sbin" / name) if path.exists())


def run(command: list[object], reason: str, cwd: str | None = None, **variables: str) -> str:
    """Run a command, return what it printed; UnavailableError with `reason` and the last line when it fails."""
    arguments = [str(part) for part in command]
    settings = {**os.environ, **variables}
    done = subprocess.run(arguments, cwd=cwd, env=settings, capture_output=True, text=True, timeout=600)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise UnavailableError(f"{reason}: {arguments[0]}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout
