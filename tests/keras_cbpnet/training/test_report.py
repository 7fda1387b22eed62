"""report.html of a run: complete, self-contained, escaped, reproducible, readable for short and long streams."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.paths import ROOT

from keras_cbpnet.metrics import summarize, summarize_drifting
from keras_cbpnet.training.report import write_report
from keras_cbpnet.training.report.figures import points, smooth, window

MATRIX = [[0.81, None], [0.62, 0.93]]
CONFIG = {"name": "run <1>", "seed": 0, "head": {"block": "prototype", "units": 64}, "data": "folder:a & b"}
HISTORY = [
    {"task": 0, "part": "prompts", "epoch": 0, "loss": 1.5},
    {"task": 0, "part": "head", "epoch": 0, "loss": "0.5"},
    {"task": 1, "part": "prompts", "epoch": 0, "loss": ""},
]
PLASTICITY = [
    {"task": 0, "dead_unit_share": 0.0, "effective_rank": 0.5, "units_replaced": 3.0},
    {"task": 1, "dead_unit_share": 0.125, "effective_rank": None, "units_replaced": 4.0},
]
CAPTIONS = [
    "Accuracy on task j after task i, in %",
    "Average accuracy over the classes seen so far",
    "Plasticity over the stream",
    "Training loss",
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


def captions(text):
    return re.findall("<figcaption>(.*?)</figcaption>", text)


def cards(text):
    return re.findall("<b>([^ ]*) <small>(.*?)</small></b><span>(.*?)</span>", text)


def markers(text):
    """How many places of the page's lines are marked with a symbol, not counting the ticks of the axes."""
    return len(re.findall(r"<use [^>]*style=\"fill: (?!currentColor)", text))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    metrics = {**summarize(MATRIX), "plasticity": PLASTICITY}
    return page(tmp_path_factory.mktemp("report") / "report.html", metrics)


def test_shows_the_numbers_and_the_configuration(text):
    assert cards(text) == [
        ("77.5", "%", "average accuracy"),
        ("79.2", "%", "average incremental accuracy"),  # (0.81 + 0.775) / 2
        ("19.0", "points", "forgetting"),
        ("-19.0", "points", "backward transfer"),
        ("87.0", "%", "learning accuracy"),
        ("7", "", "units replaced"),
    ]
    assert re.findall(r">(81|62|93)</text>", text) == ["81", "62", "93"]
    assert "<th>head.units</th><td>64</td>" in text


def test_every_figure_has_a_title_a_label_and_named_axes(text):
    assert captions(text) == CAPTIONS
    assert re.findall('<svg role="img" aria-label="(.*?)"', text) == CAPTIONS
    for label in ("task tested, j", "after task, i", "after task", "accuracy, %", "dead units, %", "% of units"):
        assert f">{label}</text>" in text or f">{label}</tspan>" in text, label
    assert ">loss, nats per image</text>" in text
    assert text.count(">prompts</text>") == text.count(">head</text>") == 1


def test_names_nothing_outside_itself(text):
    tags = Tags()
    tags.feed(text)
    assert not {"script", "link", "iframe", "img"} & set(tags.tags)
    assert "http" not in text
    links = [value for name, value in tags.attributes if name in {"href", "src", "xlink:href"}]
    assert links
    assert all(value.startswith(("#", "data:")) for value in links)
    ids = [value for name, value in tags.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_text_is_escaped(text):
    assert "<h1>run &lt;1&gt;</h1>" in text
    assert "folder:a &amp; b" in text


def test_same_run_same_bytes_and_no_leftovers(tmp_path):
    first = page(tmp_path / "report.html", summarize(MATRIX))
    assert page(tmp_path / "report.html", summarize(MATRIX)) == first
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.slow
def test_plasticity_may_come_as_lists(tmp_path):
    columns = {name: [row[name] for row in PLASTICITY] for name in PLASTICITY[0]}
    one = page(tmp_path / "one.html", {**summarize(MATRIX), "plasticity": PLASTICITY})
    two = page(tmp_path / "two.html", {**summarize(MATRIX), "plasticity": columns})
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize("nothing", [None, [], [{"dead_unit_share": None}, {"dead_unit_share": float("nan")}]])
def test_no_plasticity_figure_without_a_number(tmp_path, nothing):
    text = page(tmp_path / "report.html", {**summarize(MATRIX), "plasticity": nothing})
    assert captions(text) == [CAPTIONS[0], CAPTIONS[1], CAPTIONS[3]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "numbers", "marked"), [(1, 1, 2), (15, 120, 30), (16, 0, 32), (40, 0, 80), (41, 0, 0), (200, 0, 0)]
)
def test_class_incremental_streams_of_any_length(tmp_path, tasks, numbers, marked):
    text = page(tmp_path / "report.html", summarize(np.full((tasks, tasks), 0.37)), history=[])
    assert captions(text) == CAPTIONS[:2]
    assert text.count(">37</text>") == numbers  # in the heat map, while they can be read
    assert markers(text) == marked + (2 if marked else 0)  # two lines, and two in the legend


@pytest.mark.slow
@pytest.mark.parametrize(("tasks", "first", "last"), [(1, 1, 1), (30, 20, 30), (1000, 20, 100)])
def test_drifting_streams(tmp_path, tasks, first, last):
    metrics = summarize_drifting(np.linspace(0.9, 0.7, tasks))
    metrics["plasticity"] = {"dead_unit_share": np.linspace(0, 0.3, tasks).tolist()}
    text = page(tmp_path / "report.html", metrics, [{"task": t, "loss": 1.0} for t in range(tasks)])
    assert captions(text) == CAPTIONS[2:]
    assert [label for _, _, label in cards(text)] == [
        "mean accuracy on the task just learned",
        f"same, first {first} tasks",
        f"same, last {last} tasks",
    ]
    assert cards(text)[0][0] == ("90.0" if tasks == 1 else "80.0")
    assert ("moving average over 51 tasks" in text) == (tasks == 1000)
    assert len(text) < 200_000


def test_any_number_of_parts(tmp_path):
    history = [{"task": 0, "part": f"part {k}", "loss": 1.0} for k in range(6)]
    text = page(tmp_path / "report.html", summarize(MATRIX), history)
    assert [text.count(f">part {k}</text>") for k in range(6)] == [1] * 6


def test_moving_average_by_hand():
    assert [window(tasks) for tasks in (1, 40, 41, 100, 1000)] == [1, 1, 5, 5, 51]
    short = np.array([0.0, np.nan, 1.0])
    np.testing.assert_array_equal(smooth(short), short)
    values = np.arange(50.0) ** 2
    values[10] = np.nan
    expected = {
        0: (0 + 1 + 4) / 3,
        1: (0 + 1 + 4 + 9) / 4,
        10: (64 + 81 + 121 + 144) / 4,
        49: (47**2 + 48**2 + 49**2) / 3,
    }
    for at, value in expected.items():
        assert smooth(values)[at] == pytest.approx(value)
    values[20:30] = np.nan
    assert np.flatnonzero(np.isnan(smooth(values))).tolist() == [22, 23, 24, 25, 26, 27]


def test_points_keep_the_ends_and_skip_what_was_not_measured():
    assert points(np.array([np.nan, 1.0, np.nan, 2.0])).tolist() == [1, 3]
    thinned = points(np.ones(1000))
    assert (thinned[0], thinned[-1]) == (0, 999)
    assert len(thinned) <= 251


def test_a_home_folder_that_cannot_be_written_is_no_news():
    code = "from keras_cbpnet.training.report.figures import draw_figure; draw_figure('a', lambda figure: None, 1.0)"
    environment = {key: value for key, value in os.environ.items() if key not in ("MPLCONFIGDIR", "XDG_CONFIG_HOME")}
    environment.pop("XDG_CACHE_HOME", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "HOME": "/proc/nowhere", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
