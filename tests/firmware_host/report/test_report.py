"""Reports: right numbers, one self-contained page, nothing of a name or an image taken for HTML."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from firmware_host import Device
from firmware_host.cli import main
from firmware_host.prediction import Prediction
from firmware_host.report import numbers, pages, write_report
from firmware_host.report.numbers import Judged


def judged(label, taken_for, probability=0.9, image=None):
    return Judged(image, label, Prediction(taken_for, probability, 1.0))


def test_confusion_counts_rows_by_label():
    seen = [judged("a", "a"), judged("a", "b"), judged("b", "b"), judged(None, "a")]
    np.testing.assert_array_equal(numbers.confusion(("a", "b", "c"), seen), [[1, 1, 0], [0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8, 10, 0.4902, 0.9433), (0, 0, 0.0, 1.0)],
)
def test_intervals_are_wilsons(right, images, low, high):
    assert numbers.interval(right, images) == pytest.approx((low, high), abs=1e-4)


def test_calibration_compares_probability_and_share_right():
    seen = [judged("a", "a", 0.95), judged("a", "b", 0.95), judged("a", "a", 0.25), judged(None, "a", 0.3)]
    found = numbers.bins(seen)
    assert [each.images for each in found] == [1, 2]
    assert found[1] == pytest.approx((0.95, 0.5, 2))
    assert numbers.calibration_error(found) == pytest.approx((0.75 + 2 * 0.45) / 3)
    assert numbers.bins([judged("a", "a", 1.0)])[0].images == 1


def test_the_most_confused_pair_comes_first():
    seen = [judged("a", "b", image=1), judged("b", "a", image=2), judged("b", "a", image=3), judged("a", "a", image=4)]
    assert [(pair.label, pair.taken_for, pair.images) for pair in numbers.confused(seen)] == [
        ("b", "a", [2, 3]),
        ("a", "b", [1]),
    ]


def test_area_under_the_curve_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    known, strangers = rng.integers(0, 8, 40) / 8, rng.integers(2, 10, 30) / 8  # with ties
    truth = roc_auc_score(np.repeat([0, 1], [40, 30]), np.concatenate([known, strangers]))
    assert numbers.area_under_roc(known, strangers) == pytest.approx(truth)


class Page(HTMLParser):
    """Texts and images of a page; tags must be closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.texts, self.sources = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.sources.append(dict(attributes)["src"])
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def bundle(make, tmp_path):
    return make.write_bundle(tmp_path / "b", bank=True)


def test_a_page_tells_of_classes_confusion_and_strangers(make, bundle, tmp_path):
    with Device.open(bundle, runtime="numpy") as device:
        device.learn(*make.images(["blue"], 5))
        images, labels = make.images(["red", "green", "blue"], 4, seed=9)
        labels[0] = "green"  # one that is wrong
        seen = [Judged(image, label, device.look(image)) for image, label in zip(images, labels)]
        seen += [Judged(image, None, device.look(image)) for image in make.images(["white"], 3)[0]]
        write_report(tmp_path / "page.html", "<colours>", device, seen)
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert not re.search(r"(src|href)=[\"'](?!data:)|url\(|<script", text)
    told = " ".join(page.texts)
    assert "91.7" in told  # 11 of 12
    assert "3 images of no known class" in told
    assert "<colours>" in page.texts
    assert "taken for red" in told
    [source] = page.sources
    width, height = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size
    assert (width, height) == (8, 8)


def test_thumbnails_hold_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (200, 150, 3), np.uint8)
    small = np.asarray(Image.open(io.BytesIO(base64.b64decode(pages._thumbnail(pixels)))))
    np.testing.assert_array_equal(small, pixels[::4, ::4])


def test_the_command_writes_it_and_refuses_what_it_cannot(make, bundle, tmp_path, capfd):
    data = make.folder_of_images(tmp_path / "data", names=("red", "green"), each=2)
    strangers = make.folder_of_images(tmp_path / "strangers", names=("white",), each=2)

    def call(*arguments):
        code = main(["evaluate", str(bundle), str(data), *map(str, arguments), "--runtime", "numpy", "--json"])
        return code, *capfd.readouterr()

    code, out, err = call("--report", tmp_path / "page.html", "--strangers", strangers / "white")
    assert code == 0, err
    assert json.loads(out)["report"] == str(tmp_path / "page.html")
    assert "2 images of no known class" in (tmp_path / "page.html").read_text()
    for arguments, named in (
        (("--report", tmp_path), "is a folder"),
        (("--report", tmp_path / "none" / "page.html"), "is not there"),
        (("--strangers", strangers), "without --report"),
        (("--report", tmp_path / "other.html", "--strangers", tmp_path / "nothing"), "nothing"),
    ):
        code, out, err = call(*arguments)
        assert (code, out, named in err) == (2, "", True), err
        assert err.rstrip("\n").rpartition("\n")[2].startswith("error: ")
    assert not (tmp_path / "other.html").exists()
