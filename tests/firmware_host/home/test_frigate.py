"""Frigate: crops of its events are predicted, and become sub-labels where they agree; a fake speaks its interface."""

import threading
import time

import pytest
from helpers.fake_frigate import FakeFrigate, jpeg, message

from firmware_host import DeviceError
from firmware_host.home.events import Events
from firmware_host.home.frigate import Frigate, NotThereError
from firmware_host.shared.image_files import read_image_bytes

from .conftest import until


@pytest.fixture
def fake():
    fake = FakeFrigate()
    yield fake
    fake.shutdown()
    fake.server_close()


@pytest.fixture
def events(fake, service):
    """events(agree, ...): what deals with the events of the fake, and the lines it has said."""
    started = []

    def start(agree=1, cameras=(), labels=(), waits_s=(0.0, 0.0), service=service):
        lines = []
        events = Events(Frigate(fake.url), service, lines.append, agree, cameras, labels, waits_s)
        thread = threading.Thread(target=events.run)
        thread.start()
        started.append((events, thread))
        return events, lines

    yield start
    for events, thread in started:
        events.close()
        thread.join(60)
        assert not thread.is_alive()


def known(fake, name, pixels):
    fake.events[name] = {"id": name, "start_time": 1607123955.5, "end_time": 1607123965.0}
    fake.crops[name] = jpeg(pixels)


def said(lines, count):
    until(lambda: len(lines) == count)
    return [(line.ok, line.text) for line in lines]


def test_a_finished_event_gets_a_sub_label(fake, events, picture, service):
    known(fake, "1607123955.475377-mxklsc", picture("red"))
    taking, lines = events()
    taking.received(message("1607123955.475377-mxklsc"))
    [(ok, text)] = said(lines, 1)
    label, score = fake.sub_labels["1607123955.475377-mxklsc"]
    pixels = read_image_bytes("crop", fake.crops["1607123955.475377-mxklsc"], (8, 8))
    assert label == "red"
    assert score == pytest.approx(service.device.look(pixels).probability, abs=1e-6)
    assert (ok, text) == (True, f"event 1607123955.475377-mxklsc front_door person: red ({score:.0%})")
    taking.received(message("1607123955.475377-mxklsc"))  # once more, as brokers do
    known(fake, "2-b", picture("green"))
    taking.received(message("2-b"))
    assert "event 2-b" in said(lines, 2)[1][1]
    assert [method for method, _ in fake.asked].count("POST") == 2


def test_crops_must_agree(fake, events, picture):
    taking, lines = events(agree=3)

    def event(name, *seen):
        for frame, colour in enumerate(seen, 1):
            known(fake, name, picture(colour, frame))
            before = len(fake.asked)
            taking.received(message(name, "end" if frame == len(seen) else "update", float(frame)))
            until(lambda before=before: len(fake.asked) > before)
        return said(lines, len(lines) + 1 if not lines or name not in lines[-1].text else len(lines))[-1][1]

    assert "red (" in event("1-a", "red", "red", "red")
    assert event("1-b", "red", "green", "red").endswith("no sub-label, 3 crops must agree (red, green, red)")
    assert "green (" in event("1-c", "red", "green", "green", "green")  # the last ones count
    assert event("1-d", "red", "red").endswith("no sub-label, 3 crops must agree (red, red)")
    assert set(fake.sub_labels) == {"1-a", "1-c"}


def test_the_same_frame_does_not_count_twice(fake, events, picture):
    known(fake, "1-a", picture("red"))
    taking, lines = events(agree=2)
    for kind in ("new", "update", "update", "end"):
        taking.received(message("1-a", kind, 5.0))
    assert said(lines, 1)[0][1].endswith("no sub-label, 2 crops must agree (red)")
    assert not fake.sub_labels


def test_an_unknown_one_gets_none(fake, events, service_with_bank, picture):
    """The device knows red and green so well that white is told to be neither."""
    taking, lines = events(service=service_with_bank)
    for name, colour in (("1-a", "white"), ("1-b", "red")):
        known(fake, name, picture(colour))
        taking.received(message(name))
    assert said(lines, 2)[0] == (True, "event 1-a front_door person: no sub-label, unknown")
    assert list(fake.sub_labels) == ["1-b"]


@pytest.mark.parametrize(
    "changes",
    [
        {"camera": "garden"},
        {"label": "dog"},
        {"sub_label": ["Anna", 0.9]},
        {"sub_label": "Anna"},
        {"false_positive": True},
    ],
    ids=str,
)
def test_others_are_left_alone(fake, events, picture, changes):
    known(fake, "1-a", picture("red"))
    known(fake, "1-b", picture("red"))
    taking, lines = events(cameras=["front_door"], labels=["person", "car"])
    taking.received(message("1-a", **changes))
    taking.received(message("1-b", label="car"))
    assert "event 1-b front_door car: red" in said(lines, 1)[0][1]
    assert list(fake.sub_labels) == ["1-b"]
    assert not [path for _, path in fake.asked if "1-a" in path]


MALFORMED = [
    b"",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"7",
    b'{"type": "end"}',
    b'{"type": "gone", "after": {}}',
    b'{"type": ["end"], "after": {}}',
    b'{"type": "end", "after": null}',
    b'{"type": "end", "after": {"id": 7}}',
    b'{"type": "end", "after": {"id": "../../config"}}',
    b'{"type": "end", "after": {"id": ".."}}',
    b'{"type": "end", "after": {"id": "a/b"}}',
    b'{"type": "end", "after": {"id": "a?b"}}',
    b'{"type": "end", "after": {"id": "1-a", "snapshot": {"frame_time": "soon"}}}',
    b"[" * 100_000,
    b'{"type": "end", "after": {"id": "' + b"x" * 500_000 + b'"}}',
]


def test_a_malformed_message_is_one_line(fake, events, picture):
    taking, lines = events()
    for number, payload in enumerate(MALFORMED):
        known(fake, f"1-{number}", picture("red"))
        taking.received(payload)
        taking.received(message(f"1-{number}"))
        (ok, text), (good, _) = said(lines, 2 * number + 2)[-2:]
        assert (ok, good) == (False, True), payload[:60]
        assert text.isprintable()
        assert len(text) < 500
    assert set(fake.sub_labels) == {f"1-{number}" for number in range(len(MALFORMED))}


def test_what_frigate_says_of_an_event_cannot_spoil_a_line(fake, events, picture):
    known(fake, "1-a", picture("red"))
    taking, lines = events()
    taking.received(message("1-a", camera="a\nerror: b\x1b[2J", label="x" * 1000))
    [(_, text)] = said(lines, 1)
    assert text.startswith(f"event 1-a a error: b?[2J {'x' * 64}: red (")


def test_a_crop_that_is_not_an_image_is_one_line(fake, events):
    fake.crops["1-a"] = b"<html>sorry</html>"
    taking, lines = events()
    taking.received(message("1-a"))
    [(ok, text)] = said(lines, 1)
    assert not ok
    assert text.startswith("event 1-a front_door person: of event 1-a is not an image")


def test_older_versions_do_not_crop_what_has_ended(events, service, picture):
    """Before 0.18 a finished event's snapshot is what is on disk, so its thumbnail is taken."""
    older = FakeFrigate("0.16.2-4d58206")
    known(older, "1-a", picture("green"))
    older.thumbnails["1-a"] = jpeg(picture("red"))
    assert Frigate(older.url).crop("1-a", True) == older.thumbnails["1-a"]
    assert Frigate(older.url).crop("1-a", False) == older.crops["1-a"]
    older.version = "0.18.0"
    assert Frigate(older.url).crop("1-a", True) == older.crops["1-a"]
    del older.crops["1-a"]  # snapshots are off
    assert Frigate(older.url).crop("1-a", True) == older.thumbnails["1-a"]
    with pytest.raises(NotThereError):
        Frigate(older.url).crop("1-a", False)
    older.shutdown()
    older.server_close()


def test_frigate_is_asked_again_a_few_times(fake, events, picture):
    known(fake, "1-a", picture("red"))
    taking, lines = events(waits_s=(0.0, 0.0))
    fake.down = 2
    taking.received(message("1-a"))
    assert said(lines, 1)[0][0]
    assert fake.sub_labels["1-a"][0] == "red"
    fake.down = 1000
    known(fake, "1-b", picture("red"))
    taking.received(message("1-b"))
    ok, text = said(lines, 2)[1]
    assert not ok
    assert "answers 502 Bad Gateway" in text
    assert fake.down == 1000 - 3
    fake.down = 0
    known(fake, "1-c", picture("red"))
    taking.received(message("1-c"))
    assert said(lines, 3)[2][0]


def test_a_frigate_that_is_not_there_is_one_line(service):
    with pytest.raises(DeviceError, match=r"http://127.0.0.1:9/api/events/1-a/snapshot.jpg.* cannot be reached \("):
        Frigate("http://127.0.0.1:9").crop("1-a", False)


@pytest.mark.parametrize(
    "url", ["frigate", "ftp://a", "http://", "http://u:p@a", "http://a:x", "http://a/?q=1", "file:///etc"]
)
def test_what_is_not_an_address_is_refused(url):
    with pytest.raises(DeviceError, match=r"frigate is .*: use http://HOST:PORT"):
        Frigate(url)


def test_in_a_house_the_events_of_an_outage_are_asked_for(fake, house, broker, watch, picture):
    from firmware_host.home.home import Tracking

    tracking = Tracking(Frigate(fake.url), "frigate/events", 1, ("front_door",), ())
    inside = house(broker, camera=False, tracking=tracking)
    inside.said("broker", lambda line: line.ok)
    watcher = watch(broker)
    known(fake, "1-a", picture("red"))
    watcher.send("frigate/events", message("1-a"))
    assert watcher.result("frigate")["text"].startswith("event 1-a front_door person: red (")
    broker.kill()
    inside.said("broker", lambda line: not line.ok)
    for number, (camera, ended) in enumerate([("front_door", True), ("garden", True), ("front_door", False)]):
        name = f"2-{number}"
        known(fake, name, picture("green"))
        fake.events[name].update(
            camera=camera,
            label="person",
            sub_label=None,
            start_time=time.time(),
            end_time=time.time() if ended else None,
        )
    broker.start()
    assert inside.said("frigate").text.startswith("event 2-0 front_door person: green (")
    assert {name: label for name, (label, _) in fake.sub_labels.items()} == {"1-a": "red", "2-0": "green"}
    late = watch(broker)
    until(lambda: late.last.get("cbpnet/test/status") == "online")
    until(lambda: "homeassistant/text/cbpnet_0123/forget/config" in late.last)
    assert "homeassistant/sensor/cbpnet_0123/class/config" not in late.last  # it has no camera of its own
