"""docs/family.md: that it is up to date, and that verdicts are computed from numbers."""

import json

import pytest

from benchmarks import family
from benchmarks.family_parts import PARTS, Gate, Part


def test_the_page_is_that_of_the_result_files():
    assert family.PAGE.read_text(encoding="utf-8") == family.page(family.FOLDER, PARTS)


def test_a_verdict_is_computed(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"gain": 1.25, "size": 53.0, "commit": "1234567890", "command": "c"}))
    gates = (
        Gate("gain", "a.json", lambda record: record["gain"], least=1.5),
        Gate("size", "a.json", lambda record: record["size"], most=53.0, unit=" %"),
        Gate("time", "a.json", lambda record: record["time"], most=1.0),
        Gate("other", "b.json", lambda record: record["gain"], most=1.0),
    )
    part = Part("Part", "Paper, arXiv 1", "a purpose", "python -m that", gates, "an option")
    text = family.page(tmp_path, [part, Part("Next", "Paper, arXiv 2", "another purpose")])
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    assert ["Paper, arXiv 1", "a purpose", "1 of 2 gates reached, 2 not measured; an option"] in cells
    assert ["Paper, arXiv 2", "another purpose", "not built"] in cells
    assert ["gain", "at least 1.5", "1.2", "missed"] in cells
    assert ["size", "at most 53.0 %", "53.0 %", "reached"] in cells
    assert ["time", "at most 1.0", "not measured", ""] in cells
    assert "- `a.json`, commit 1234567: `c`" in text


def test_a_gate_wants_something():
    with pytest.raises(ValueError, match="wants nothing"):
        Gate("gain", "a.json", lambda record: 0.0).holds(1.0)
