"""Packages of a microcontroller bundle: what is in them, by the rules of each system and by its own tools."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from helpers.paths import TESTS

from keras_cbpnet import __version__
from keras_cbpnet.export.micro import packages
from keras_cbpnet.export.micro.bank import constants
from keras_cbpnet.export.micro.packages import PACKAGES, package_version, safe_name, write_package
from keras_cbpnet.export.micro.project import SOURCES

TITLE, NAME = "Küche & Co.bundle", "cbpnet_kuche_co_bundle"
TOOLS = os.environ.get("MCU_TOOLS")  # folder of an environment with platformio and idf-component-manager
needs_tools = pytest.mark.skipif(not TOOLS, reason="MCU_TOOLS names no environment with platformio and compote")
WARNINGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-DTF_LITE_STATIC_MEMORY")
INTERFACES = f"-I{TESTS / 'micro' / 'tflm_interfaces'}"
CONFIG = """#include <cstddef>
#include <cstdint>
namespace cbpnet {
constexpr size_t kImageBytes = 12, kStateBytes = 16;
constexpr int kSlots = 4, kClasses = 2;
constexpr float kLearningRate = 0.01f;
constexpr const char* const kLabels[] = {"one", "two"};
}
"""
# By the specification of Arduino libraries, revision 2.2.
ARDUINO_FIELDS = ("name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url")
ARDUINO_OPTIONAL = ("architectures", "depends", "dot_a_linkage", "includes", "precompiled", "ldflags")
ARDUINO_CATEGORIES = (
    "Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage",
    "Data Processing", "Other",
)  # fmt: skip
SEMVER = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?"
TEXT = {"type": "string"}
MODULE = {  # of Zephyr's zephyr/module.yml, the part that is used here
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "name": TEXT,
        "build": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"cmake": TEXT, "kconfig": TEXT, "depends": {"type": "array", "items": TEXT}},
        },
    },
}
# PlatformIO asks the net which licences there are.
PACK = """
import sys
from platformio.package.commands.pack import package_pack_cmd
from platformio.package.manifest.schema import ManifestSchema
ManifestSchema.load_spdx_licenses = staticmethod(lambda: {"licenses": [{"licenseId": "Apache-2.0"}]})
package_pack_cmd([sys.argv[1], "-o", sys.argv[2]])
"""
DEPENDENCIES = """
import sys
from idf_component_tools.manager import ManifestManager
print(*ManifestManager(sys.argv[1], name="main").load().dependencies)
"""


@pytest.fixture
def bundle(tmp_path):
    """Return a folder with what a package is made of; its models and sizes are of no bundle."""
    folder = tmp_path / "bundle"
    (folder / "micro").mkdir(parents=True)
    for source in SOURCES.iterdir():
        shutil.copyfile(source, folder / "micro" / source.name)
    (folder / "micro" / "cbpnet_config.h").write_text(CONFIG)
    (folder / "micro" / "bank_constants.h").write_text(constants())
    for name in ("cbpnet_models.cc", "cbpnet_models.h", "cbpnet_ops.h"):
        (folder / "micro" / name).write_text(f"// {name}\n")
    (folder / "manifest.json").write_text(json.dumps({"classes": ["one", "two"], "license": "Apache-2.0"}))
    for name in ("LICENSE", "NOTICE"):
        (folder / name).write_text(f"terms: {name}\n")
    return folder


@pytest.fixture(params=list(PACKAGES))
def package(request, bundle):
    return write_package(bundle, request.param, TITLE)


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("title", "name"),
    [
        (TITLE, NAME),
        ("run.bundle", "cbpnet_run_bundle"),
        ("猫", "cbpnet"),
        ("..", "cbpnet"),
        ('x"; rm -rf /', "cbpnet_x_rm_rf"),
        ("a" * 300, "cbpnet_" + "a" * 43),
        ("a" * 42 + "-b", "cbpnet_" + "a" * 42),
    ],
)
def test_names_are_safe(title, name):
    assert safe_name(title) == name


@pytest.mark.parametrize(
    ("version", "semantic"),
    [
        ("0.1.0", "0.1.0"),
        ("1.2", "1.2.0"),
        ("0.2.0rc1", "0.2.0-rc1"),
        ("0.2.0.dev3", "0.2.0-dev3"),
        ("0.2.0+local.1", "0.2.0-local.1"),
    ],
)
def test_versions_are_semantic(version, semantic):
    assert package_version(version) == semantic
    assert re.fullmatch(SEMVER, semantic)


def test_every_package_has_templates_and_no_template_is_left_out():
    assert {path.name for path in packages.TEMPLATES.iterdir()} == set(PACKAGES)
    assert all(path.suffix == ".in" for path in packages.TEMPLATES.rglob("*") if path.is_file())


def test_a_package_lies_in_a_folder_of_its_name_with_sources_terms_and_one_example(package, bundle):
    assert package == bundle / package.parent.name / NAME
    for paper in ("LICENSE", "NOTICE"):
        assert (package / paper).read_text() == f"terms: {paper}\n"
    sources = {path.stem + path.suffix.replace(".cc", ".cpp"): path for path in (bundle / "micro").iterdir()}
    example = sources.pop("main.cpp").read_text()
    assert {path.name for path in (package / "src" / "cbpnet").iterdir()} == set(sources)
    for name, source in sources.items():
        assert (package / "src" / "cbpnet" / name).read_bytes() == source.read_bytes()
    (learn,) = [path for part in ("examples", "samples") for path in (package / part).glob("*")]
    (code,) = [path for path in learn.rglob("*") if path.suffix in (".ino", ".cpp")]
    assert f"#include <{NAME}.h>\n" in code.read_text()
    if code.suffix == ".cpp":
        assert code.read_text() == example.replace('"cbpnet.h"', f"<{NAME}.h>")


def test_every_word_is_filled_in(package):
    for file in files(package):
        text = (package / file).read_text()
        assert not re.search(r"@[A-Z]+@", text), file
        assert "_name_" not in str(file)
    assert "it knows 2 classes" in (package / "README.md").read_text()


def test_a_licence_that_no_system_knows_is_left_to_the_file_license(bundle):
    (bundle / "manifest.json").write_text(json.dumps({"classes": ["one"], "license": "other"}))
    library = json.loads((write_package(bundle, "platformio", TITLE) / "library.json").read_text())
    assert "license" not in library
    assert "it knows 1 class." in library["description"]
    component = (write_package(bundle, "espidf", TITLE) / "idf_component.yml").read_text()
    assert "license" not in component
    assert "version" in component


def test_library_properties_follow_the_specification(bundle):
    folder = write_package(bundle, "arduino", TITLE)
    lines = (folder / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    assert len(fields) == len(lines)
    assert set(ARDUINO_FIELDS) <= set(fields) <= {*ARDUINO_FIELDS, *ARDUINO_OPTIONAL}
    assert all(value.strip() == value != "" for value in fields.values())
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]*", fields["name"])
    assert not fields["name"].lower().startswith("arduino")
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", folder.name)
    assert folder.name == fields["name"] == NAME
    assert re.fullmatch(SEMVER, fields["version"])
    assert fields["version"] == package_version(__version__)
    assert fields["category"] in ARDUINO_CATEGORIES
    assert re.fullmatch(r"https?://\S+", fields["url"])
    assert re.fullmatch(r"[a-z0-9_]+(,[a-z0-9_]+)*", fields["architectures"])
    assert [path.name for path in (folder / "src").glob("*.h")] == fields["includes"].split(",")
    # Sketches are named as their folders, and sources have endings that every version of the tools compiles.
    assert [path.parent.name for path in folder.glob("examples/*/*.ino")] == ["Learn"]
    assert (folder / "examples" / "Learn" / "Learn.ino").exists()
    assert {path.suffix for path in (folder / "src").rglob("*.*")} == {".h", ".cpp"}


def test_library_json_names_files_that_exist(bundle):
    folder = write_package(bundle, "platformio", TITLE)
    library = json.loads((folder / "library.json").read_text())
    assert (library["name"], library["version"], library["license"]) == (
        NAME,
        package_version(__version__),
        "Apache-2.0",
    )
    assert all((folder / "src" / name).exists() for name in library["headers"])
    (example,) = library["examples"]
    base = folder / example["base"]
    assert sorted(example["files"]) == [str(file) for file in files(base)]
    assert f"lib_deps = {NAME}=symlink://../..\n" in (base / "platformio.ini").read_text()
    assert (base / "../..").resolve() == folder


def test_the_component_is_built_of_files_that_exist_on_espressifs_tflm(bundle):
    folder = write_package(bundle, "espidf", TITLE)
    lists = (folder / "CMakeLists.txt").read_text()
    compiled = re.findall(r'"(\S+\.cpp)"', lists)
    assert sorted(compiled) == [str(path.relative_to(folder)) for path in sorted((folder / "src").rglob("*.cpp"))]
    assert re.search(r'INCLUDE_DIRS "src"\)', lists)
    component = (folder / "idf_component.yml").read_text()
    assert f'version: "{package_version(__version__)}"\n' in component
    assert "  espressif/esp-tflite-micro: " in component
    main = folder / "examples" / "learn" / "main"
    (place,) = re.findall(rf'  {NAME}:\n    path: "(\S+)"', (main / "idf_component.yml").read_text())
    assert (main / place).resolve() == folder


def test_module_yml_follows_zephyrs_schema_and_names_files_that_exist(bundle):
    yaml = pytest.importorskip("yaml", reason="PyYAML is missing")
    folder = write_package(bundle, "zephyr", TITLE)
    module = yaml.safe_load((folder / "zephyr" / "module.yml").read_text())
    jsonschema.validate(module, MODULE)
    assert module["name"] == NAME
    assert module["build"]["depends"] == ["tflite-micro"]
    lists = folder / module["build"]["cmake"] / "CMakeLists.txt"
    compiled = re.findall(r"[\w./]+\.cpp\b", lists.read_text())
    assert len(compiled) == 2
    assert all((lists.parent / name).exists() for name in compiled)
    (switch,) = re.findall(r"^config (\w+)$", (folder / module["build"]["kconfig"]).read_text(), re.MULTILINE)
    assert f"if(CONFIG_{switch})" in lists.read_text()
    sample = folder / "samples" / "learn"
    assert f"CONFIG_{switch}=y\n" in (sample / "prj.conf").read_text()
    (place,) = re.findall(
        r"EXTRA_ZEPHYR_MODULES \$\{CMAKE_CURRENT_SOURCE_DIR\}/(\S+)\)", (sample / "CMakeLists.txt").read_text()
    )
    assert (sample / place).resolve() == folder


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_sketch_compiles_and_says_when_tflm_is_too_old(bundle, tmp_path):
    folder = write_package(bundle, "arduino", TITLE)
    sketch = folder / "examples" / "Learn" / "Learn.ino"
    core = TESTS / "micro" / "arduino"
    command = [
        "g++",
        *WARNINGS,
        f"-I{core}",
        f"-I{folder / 'src'}",
        *("-include", "Arduino.h", "-x", "c++", "-fsyntax-only"),
    ]
    run(*command, INTERFACES, sketch)
    old = subprocess.run([*command, str(sketch)], capture_output=True, text=True)  # no kernels/batch_matmul.h
    assert old.returncode != 0
    assert f"README.md of {NAME} says how to make a newer one" in old.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize(
    ("package_name", "switches", "entry"), [("espidf", ["-DESP_PLATFORM"], "app_main"), ("zephyr", [], "main")]
)
def test_the_example_has_the_entry_of_its_system(bundle, tmp_path, package_name, switches, entry):
    folder = write_package(bundle, package_name, TITLE)
    (code,) = folder.rglob("main.cpp")
    run("g++", *WARNINGS, *switches, f"-I{folder / 'src'}", "-c", code, "-o", tmp_path / "main.o")
    assert re.search(rf" T {entry}$", run("nm", tmp_path / "main.o"), re.MULTILINE)


@pytest.mark.slow
@needs_tools
def test_platformio_packs_the_library(bundle, tmp_path):
    folder = write_package(bundle, "platformio", TITLE)
    environment = {**os.environ, "PLATFORMIO_CORE_DIR": str(tmp_path / "core")}
    command = [Path(TOOLS, "bin", "python"), "-c", PACK, folder, tmp_path / "library.tar.gz"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert "Wrote a tarball" in done.stdout, done.stdout + done.stderr
    library = json.loads((folder / "library.json").read_text())
    (folder / "library.json").write_text(json.dumps({**library, "version": "new"}))
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert "Invalid semantic versioning" in done.stdout + done.stderr


@pytest.mark.slow
@needs_tools
def test_the_component_manager_packs_the_component_and_reads_the_examples(bundle, tmp_path):
    folder = write_package(bundle, "espidf", TITLE)
    compote = Path(TOOLS, "bin", "compote")
    run(compote, "component", "pack", "--project-dir", folder, "--name", NAME, "--dest-dir", tmp_path / "dist")
    assert [path.name for path in (tmp_path / "dist").glob("*.tgz")] == [f"{NAME}_{package_version(__version__)}.tgz"]
    python = Path(TOOLS, "bin", "python")
    assert run(python, "-c", DEPENDENCIES, folder / "examples" / "learn" / "main").split() == [NAME]
    example = write_package(bundle, "platformio", TITLE) / "examples" / "learn" / "src"
    assert run(python, "-c", DEPENDENCIES, example).split() == ["espressif/esp-tflite-micro"]
