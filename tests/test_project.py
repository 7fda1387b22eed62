"""The project itself: import contracts, version, packaging, what continuous integration runs."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
from helpers.paths import ROOT

import keras_cbpnet

LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"

# One file per contract of pyproject.toml, each breaking it.
VIOLATIONS = {
    "layers": ("keras_cbpnet/layers/violation.py", "import keras_cbpnet.models"),
    "device-alone": ("firmware_host/violation.py", "import tensorflow"),
    "host-uses-bundle-only": ("keras_cbpnet/data/violation.py", "import firmware_host.violation"),
    "bundle-light": ("firmware_host/bundle/violation.py", "import tflite_runtime"),
    "numpy-only": ("keras_cbpnet/metrics.py", "import keras"),
}

needs_import_linter = pytest.mark.skipif(not importlib.util.find_spec("importlinter"), reason="import-linter missing")


def read_pyproject():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib needs Python 3.11")
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lint_imports(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS, "--no-cache", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@needs_import_linter
def test_import_contracts_hold():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(VIOLATIONS)} kept, 0 broken" in result.stdout


@pytest.fixture(scope="module")
def broken_copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    for package in ("keras_cbpnet", "firmware_host"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name, line in VIOLATIONS.values():
        with open(folder / name, "a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    return folder


@needs_import_linter
def test_every_import_contract_catches_its_violation(broken_copy):
    result = lint_imports(broken_copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"0 kept, {len(VIOLATIONS)} broken" in result.stdout
    contracts = read_pyproject()["tool"]["importlinter"]["contracts"]
    assert {contract["id"] for contract in contracts} == set(VIOLATIONS)


def test_versions_agree():
    assert read_pyproject()["project"]["version"] == keras_cbpnet.__version__
    assert f"## [{keras_cbpnet.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_importing_the_library_imports_neither_keras_nor_tensorflow():
    code = (
        "import sys, keras_cbpnet; assert not {'keras', 'tensorflow', 'PIL'} & set(sys.modules); "
        "assert 'Backbone' in dir(keras_cbpnet); assert 'Backbone' in keras_cbpnet.__all__; "
        "assert not hasattr(keras_cbpnet, 'Forebone')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_installing_for_the_device_brings_no_tensorflow():
    project = read_pyproject()["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["device"], *extras["device-legacy"]]
    assert not [name for name in needed if name.startswith(("tensorflow", "keras", "tf-keras", "tf_keras"))]
    assert [name.split(">")[0] for name in project["dependencies"]] == ["numpy"]


def test_device_package_never_names_the_host_side():
    forbidden = {"tensorflow", "keras", "keras_cbpnet", "tf_keras", "tensorflow_model_optimization"}
    for file in (ROOT / "firmware_host").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not forbidden & {name.split(".")[0] for name in names}, file


def test_device_package_parses_as_python_3_9():
    for file in (ROOT / "firmware_host").rglob("*.py"):
        ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_continuous_integration_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = script.read_text(encoding="utf-8").splitlines()
    assert [line for line in commands if line.startswith("make")] == ["make test", "make test-all"]


def test_the_folder_of_convert_py_is_no_package():
    assert not (ROOT / "tflite" / "__init__.py").exists()  # a PyPI package is called tflite
