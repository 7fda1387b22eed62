"""The page that compares methods: numbers worked out by hand, order, marks, lines, escaping, what it refuses."""

import html
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_cbpnet.metrics import summarize, summarize_drifting
from keras_cbpnet.training.report import comparison, write_comparison
from keras_cbpnet.training.report.figures import COLOURS
from keras_cbpnet.training.report.numbers import average_so_far

# average accuracy 60 and 70; average incremental 70 and 75; forgetting 30 and 10; learning 75 and 75
GOOD = [[[0.8, None], [0.5, 0.7]], [[0.8, None], [0.7, 0.7]]]
BAD = [[[0.9, None], [0.1, 0.9]]]  # 50; 80; 90; 70
RUNS = {"bad": [summarize(m) for m in BAD], "good": [summarize(m) for m in GOOD]}


def page(path, runs, title="Split digits"):
    write_comparison(path, title, runs)
    return path.read_text(encoding="utf-8")


def rows(text):
    """The table's rows: cells as text, a star for the best of a column."""
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    cells = [re.findall(r"<t[hd]( class=\"best\")?[^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>")[:-1]]
    return [[html.unescape(value) + ("*" if best else "") for best, value in row] for row in cells]


def captions(text):
    return re.findall("<figcaption>(.*?)</figcaption>", text)


def lines(text):
    """Colour and dash pattern of the lines in the first figure and its legend."""
    figure = text[: text.index("</figure>")]
    entries = re.findall(r'<path d="M [^"]*" style="fill: none; (stroke-dasharray[^;]*; )?[^"]*?stroke: (#\w+)', figure)
    return [entry for entry in entries if entry[1] in COLOURS]


def test_table_by_hand(tmp_path):
    text = page(tmp_path / "page.html", RUNS)
    assert rows(text) == [
        ["good", "65.0 ± 7.1*", "72.5 ± 3.5*", "20.0 ± 14.1*", "75.0 ± 0.0", "2"],
        ["bad", "50.0", "70.0", "80.0", "90.0*", "1"],
    ]


def test_figures_of_class_incremental_runs(tmp_path):
    text = page(tmp_path / "page.html", RUNS)
    assert captions(text) == ["Average accuracy over the classes seen so far, by method"]
    assert text.count('role="img"') == 1
    assert ">average accuracy, %</text>" in text
    assert ">after task</text>" in text
    assert text.index(">good</text>") < text.index(">bad</text>")  # the legend, in the order of the table


def test_line_and_band_by_hand():
    assert [average_so_far(summarize(m)).tolist() for m in GOOD] == [
        [0.8, pytest.approx(0.6)],
        [0.8, pytest.approx(0.7)],
    ]
    axes = Figure().add_subplot()
    line = comparison._draw_row(axes, np.array([[80.0, 60.0], [80.0, 70.0]]), 5)
    np.testing.assert_allclose(line.get_xydata(), [[1, 80], [2, 65]])
    assert (line.get_color(), line.is_dashed()) == (COLOURS[1], True)
    (band,) = axes.collections
    half = 5 * 2**0.5  # of the sample: sqrt((5^2 + 5^2) / 1)
    corners = {(x, round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert corners == {(1, 80), (2, round(65 - half, 6)), (2, round(65 + half, 6))}


def test_a_single_seed_has_no_band():
    axes = Figure().add_subplot()
    line = comparison._draw_row(axes, np.array([[80.0, np.nan, 60.0]]), 0)
    np.testing.assert_allclose(line.get_xydata(), [[1, 80], [3, 60]])
    assert not axes.collections


def test_drifting_streams(tmp_path):
    falling = [summarize_drifting(np.linspace(0.9, 0.5, 200) + shift) for shift in (0.0, 0.1)]
    steady = [summarize_drifting(np.full(200, 0.8))]
    text = page(tmp_path / "page.html", {"falling": falling, "steady": steady})
    # linspace falls by 0.4/199 a task: 0.9 - 9.5 * 0.4/199 = 0.8809 and 0.5 + 49.5 * 0.4/199 = 0.5995, plus 0.05
    assert rows(text) == [["steady", "80.0", "80.0*", "1"], ["falling", "93.1 ± 7.1*", "64.9 ± 7.1", "2"]]
    assert "first 20 tasks, %" in text
    assert "last 100 tasks, %" in text
    assert captions(text) == ["Accuracy on the task just learned, by method (moving average over 11 tasks)"]


def test_plasticity_where_it_was_measured(tmp_path):
    measured = {"dead_unit_share": [0.0, 0.5], "effective_rank": [None, float("nan")]}
    runs = {"good": [{**seed, "plasticity": measured} for seed in RUNS["good"]], "bad": RUNS["bad"]}
    text = page(tmp_path / "page.html", runs)
    assert captions(text)[1:] == ["Plasticity over the stream, by method"]
    plasticity = text[text.index("Plasticity over") :]
    assert ">dead units, %</text>" in plasticity
    assert "effective rank" not in plasticity
    assert ">good</text>" in plasticity
    assert ">bad</text>" not in plasticity


def test_best_marks_ties_as_printed_and_nothing_in_a_single_row(tmp_path):
    tie = {"a": [summarize([[0.5004]])], "b": [summarize([[0.4996]])], "c": [summarize([[0.4]])]}
    assert [row[1] for row in rows(page(tmp_path / "page.html", tie))] == ["50.0*", "50.0*", "40.0"]
    assert rows(page(tmp_path / "page.html", {"a": tie["a"]})) == [["a", "50.0", "50.0", "0.0", "50.0", "1"]]


def test_a_missing_metric_is_a_dash_and_comes_last(tmp_path):
    partial = {**summarize([[0.9]]), "average_accuracy": None, "forgetting": float("nan")}
    runs = {"partial": [partial], "a": [summarize([[0.3]])], "b": [summarize([[0.4]])]}
    table = rows(page(tmp_path / "page.html", runs))
    assert [row[0] for row in table] == ["b", "a", "partial"]
    assert table[2] == ["partial", "-", "90.0*", "-", "90.0*", "1"]


def test_twelve_rows_have_twelve_kinds_of_line(tmp_path):
    runs = {f"method {k}": [summarize([[0.9, None], [0.1, k / 20]])] for k in range(12)}
    text = page(tmp_path / "page.html", runs)
    assert len(set(lines(text))) == 12


def test_names_are_escaped_and_taken_literally(tmp_path):
    runs = {"<b>&": RUNS["bad"], "$x^2$": RUNS["good"], "_hidden": RUNS["bad"]}
    text = page(tmp_path / "page.html", runs, title="<script>a & b</script>")
    assert "<h1>&lt;script&gt;a &amp; b&lt;/script&gt;</h1>" in text
    assert "<script" not in text
    assert "<b>" not in text
    for name in runs:  # in the table and in the legend
        assert len(re.findall(f">{re.escape(html.escape(name))}</t(?:h|ext)>", text)) == 2


def test_names_nothing_outside_itself_same_bytes_no_leftovers(tmp_path):
    text = page(tmp_path / "page.html", RUNS)
    assert "http" not in text
    assert re.findall(r"(?:href|src)=\"(?!#|data:)", text) == []
    assert re.findall(r"url\((?!#)", text) == []
    assert page(tmp_path / "page.html", RUNS) == text
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "no runs"),
        ({"a": []}, "row 'a' has no runs"),
        ({"a": [summarize([[1.0]]), summarize(GOOD[0])]}, r"row 'a' has seeds with \[1, 2\] tasks"),
        ({"a": [summarize([[1.0]])], "b": [summarize_drifting([1.0])]}, "class-incremental and others drifting"),
    ],
)
def test_refuses_what_cannot_be_compared(tmp_path, runs, message):
    with pytest.raises(ValueError, match=message):
        write_comparison(tmp_path / "page.html", "title", runs)
    assert list(tmp_path.iterdir()) == []
