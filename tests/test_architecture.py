"""docs/architecture.md is true: what its table names is there."""

import re

from helpers.paths import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")]
CHANGES = [
    "plasticity rule",
    "method",
    "data source",
    "block form",
    "runtime",
    "recipe",
    "device command",
    "state tensor",
    "preset",
    "bundle schema",
]


def test_the_likeliest_changes_have_a_row_each():
    assert len(ROWS) == 1 + len(CHANGES)
    for row, change in zip(ROWS[1:], CHANGES):
        assert row[0].startswith(change)


def test_every_path_is_there():
    paths = [found for found in re.findall(r"`([\w./]+)`", TEXT) if "/" in found]
    assert len(paths) > 25
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_table_is_in_the_file_that_the_row_names():
    named = 0
    for _, _, place, *_ in ROWS[1:]:
        tables, _, rest = place.partition(" in ")
        file = rest.partition(":")[0]
        for table in re.findall(r"`([A-Z_]+)`", tables):
            text = (ROOT / file.strip("`")).read_text(encoding="utf-8")
            assert re.search(rf"^{table}\b.* = ", text, re.MULTILINE), (table, file)
            named += 1
    assert named >= 9


def test_one_module_knows_the_converter():
    knows = re.compile(r"\btf\.lite\b|tensorflow\.(lite|python)\b(?!/)")
    files = [*(ROOT / "keras_cbpnet").rglob("*.py"), *(ROOT / "tflite").rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in files if knows.search(_code(path))}
    assert found == {"keras_cbpnet/export/converter.py"}


def _code(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if "filterwarnings" not in line)
