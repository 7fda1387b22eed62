"""The same bundle under other Pythons, runtimes and processors: self-test, and fifty steps to the same state."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import TESTS
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from runtimes.check_bundle import digest
from runtimes.environments import PYTHONS, UnavailableError, aarch64, environment, pythons

from firmware_host.shared.runtimes import RUNTIMES as TABLE
from firmware_host.shared.runtimes import interpreters

CHECK = TESTS / "runtimes" / "check_bundle.py"
RUNTIMES = interpreters()
CASES = [("newest", "int8"), ("newest", "hybrid"), ("oldest", "int8")]  # packages, recipe
TOLERANCE = 1e-4


def check(command, bundle, runtime, folder, images=(), **variables):
    """Result of the self-test and the state after fifty steps, in a process of its own."""
    output = folder / "state.npz"
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*command, str(CHECK), str(bundle), runtime, str(output), *map(str, images)],
        env={**settings, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr or done.returncode
    with np.load(output) as state:
        return json.loads(done.stdout.splitlines()[-1]), dict(state)


@pytest.fixture(scope="module")
def here(bundles, tmp_path_factory):
    """here(recipe, runtime): the state that this environment reaches."""
    states = {}

    def state(recipe, runtime):
        if (recipe, runtime) not in states:
            folder = tmp_path_factory.mktemp("here")
            states[recipe, runtime] = check([sys.executable], bundles(recipe), runtime, folder)[1]
        return states[recipe, runtime]

    return state


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    assert state["step"] == expected["step"] > 0
    np.testing.assert_array_equal(state["replaced"], expected["replaced"])
    for name, value in expected.items():
        np.testing.assert_allclose(state[name], value, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Lossless images of 6 x 10 pixels whose metadata Pillow's versions read differently: orientations, bad XMP."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (6, 10, 3), np.uint8))
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned.save(folder / "turned.tif", exif=exif)
    turned.save(folder / "turned.png", exif=exif)
    xmp = PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", b"<x tiff:Orientation='1' \xe9/>".decode("latin-1"))
    picture.save(folder / "xmp.png", pnginfo=xmp)
    picture.save(folder / "xmp.tif", tiffinfo={700: b"<x \xe9\xff/>"})
    picture.convert("P").save(folder / "palette.gif")
    return sorted(folder.iterdir())


def available(make, *arguments):
    """The command that `make` gives; skips the test, with the reason, where it cannot be had."""
    try:
        return make(*arguments)
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", [*RUNTIMES, "litert_compiled", "numpy"])
def test_this_environment(int8, here, tmp_path, runtime):
    package = (TABLE[runtime].module or "numpy").partition(".")[0]
    if not importlib.util.find_spec(package):
        pytest.skip(f"{package} is not installed")
    result, state = check([sys.executable], int8, runtime, tmp_path)
    assert result["ok"]
    assert_same(state, here("int8", "ai_edge_litert"))
    assert np.abs(state["w1"]).max() > 0


@pytest.mark.skipif(not os.environ.get("TEST_RUNTIMES"), reason="other Pythons: make test-runtimes")
@pytest.mark.parametrize(
    ("runtime", "age", "recipe"),
    [
        *((runtime, *each) for runtime in RUNTIMES for each in CASES),
        ("litert_compiled", "newest", "int8"),
        ("litert_compiled", "newest", "hybrid"),
    ],
)
@pytest.mark.parametrize("version", PYTHONS)
def test_other_pythons(bundles, here, images, tmp_path, version, runtime, age, recipe):
    found = pythons()
    if version not in found:
        pytest.skip(f"no Python {version} under pyenv or on the PATH")
    if (runtime, version) == ("litert_compiled", "3.9"):
        pytest.skip("LiteRT 1.4, the last for Python 3.9, has no options for a compiled model")
    packages = "ai_edge_litert" if runtime == "litert_compiled" else runtime
    command = available(environment, found[version], version, packages, age)
    result, state = check(command, bundles(recipe), runtime, tmp_path, images)
    assert result["pixels"] == [digest(image) for image in images]
    assert result["ok"], result
    assert result["python"].startswith(f"{version}.")
    assert_same(state, here(recipe, "ai_edge_litert"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["int8", "hybrid"])
@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72"])
def test_aarch64(bundles, here, tmp_path, cpu, recipe):
    command = available(aarch64, cpu)
    wheels = Path(command[0]).parent / "wheels"
    result, state = check(command, bundles(recipe), "tflite_runtime", tmp_path, PYTHONPATH=str(wheels))
    assert result["machine"] == "aarch64"
    assert result["ok"], result
    assert 0.8 < result["feature_error_ratio"] < 1.2  # rounds otherwise than x86-64, and no worse
    assert_same(state, here(recipe, "ai_edge_litert"))
