"""report.html: complete, self-contained, escaped, reproducible."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from keras_cbpnet.metrics import summarize
from keras_cbpnet.training.report import write_report

MATRIX = [[0.81, None], [0.62, 0.93]]
CONFIG = {"name": "run <1>", "seed": 0, "head": {"block": "prototype", "units": 64}, "data": "folder:a & b"}
HISTORY = [
    {"task": 0, "epoch": 0, "loss": 1.5},
    {"task": 0, "epoch": 1, "loss": "0.5"},
    {"task": 1, "epoch": 0, "loss": ""},
]


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def page(path, metrics, history=HISTORY):
    write_report(path, CONFIG, metrics, history)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    metrics = summarize(MATRIX)
    metrics["plasticity"] = [
        {"task": 0, "dead_unit_share": 0.0, "effective_rank": 30.5},
        {"task": 1, "dead_unit_share": 0.125, "effective_rank": 28.0},
    ]
    return page(tmp_path_factory.mktemp("report") / "report.html", metrics)


def test_shows_the_numbers_and_the_configuration(text):
    assert "<b>0.775</b><span>average accuracy</span>" in text
    assert "<b>0.190</b><span>forgetting</span>" in text
    assert re.findall(r">(81|62|93)</text>", text) == ["81", "62", "93"]
    assert "<th>head.units</th><td>64</td>" in text
    assert text.count("<figure>") == 5


def test_names_nothing_outside_itself(text):
    tags = Tags()
    tags.feed(text)
    assert not {"script", "link", "iframe", "img"} & set(tags.tags)
    assert "http" not in text
    links = [value for name, value in tags.attributes if name in {"href", "src", "xlink:href"}]
    assert all(value.startswith(("#", "data:")) for value in links)


def test_text_is_escaped(text):
    assert "<h1>run &lt;1&gt;</h1>" in text
    assert "folder:a &amp; b" in text


def test_same_run_same_bytes_and_no_leftovers(tmp_path):
    first = page(tmp_path / "report.html", summarize(MATRIX))
    assert page(tmp_path / "report.html", summarize(MATRIX)) == first
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_plasticity_may_come_as_lists(tmp_path):
    rows = [{"dead_unit_share": 0.5}, {"dead_unit_share": 0.25}]
    columns = {"dead_unit_share": [0.5, 0.25]}
    one = page(tmp_path / "one.html", {**summarize(MATRIX), "plasticity": rows})
    two = page(tmp_path / "two.html", {**summarize(MATRIX), "plasticity": columns})
    assert one == two


@pytest.mark.parametrize("tasks", [1, 25])
def test_any_number_of_tasks_and_no_history(tmp_path, tasks):
    text = page(tmp_path / "report.html", summarize(np.full((tasks, tasks), 0.5)), history=[])
    assert text.count("<figure>") == 2
