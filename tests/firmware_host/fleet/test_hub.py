"""A server in the middle of real devices: what it says to each, and what it refuses."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from firmware_host.fleet.delta import Delta
from firmware_host.fleet.node import answer
from firmware_host.fleet.peers import Peers
from firmware_host.shared.errors import DeviceError
from keras_cbpnet.errors import UserError
from keras_cbpnet.fleet.hub import Hub, size

TAUGHT = ({"blue": 8, "red": 6}, {"white": 7, "blue": 6}, {"blue": 5})


@pytest.fixture
def hub(banked):
    return Hub.of_bundle(banked)


@pytest.fixture
def three(device):
    return [device(f"device-{n}", taught, n + 5) for n, taught in enumerate(TAUGHT)]


def round_of(hub, parts, change=lambda node, reply: reply):
    """One round; what each part says of it, None where it was not told anything."""
    answers = {
        node: change(node, answer("tell", lambda node=node: parts[node], question))
        for node, question in hub.questions(range(len(parts)))
    }
    hub.hear(answers)
    texts = [None] * len(parts)
    for node, message in hub.sums():
        texts[node] = hub.taken(node, answer("take", lambda node=node: parts[node], message))
    return texts


def parts_of(devices):
    return [each.knowledge.sharing() for each in devices]


def knows(device):
    return {name: int(device._working.statistics.count[slot]) for slot, name in enumerate(device.classes)}


def arrays(device):
    return {**device._working.statistics.arrays(), **device._working.mixture.arrays()}


def test_devices_know_what_all_were_taught_and_what_cbpnet_fleet_makes_of_it(hub, three, device, make):
    parts = parts_of(three)
    texts = round_of(hub, parts)
    assert hub.refused == []
    assert all("32 images that 3 devices were taught, 4 classes" in text for text in texts)
    assert [knows(each) for each in three] == [{"red": 26, "green": 20, "blue": 19, "white": 7}] * 3
    whole = device("whole")
    whole.knowledge.sharing().take(hub.deltas)  # every delta by itself, as over MQTT
    for each in three:
        for name in ("mean", "count", "scatter"):
            np.testing.assert_allclose(
                each._working.statistics.arrays()[name], whole._working.statistics.arrays()[name], rtol=1e-9, atol=1e-9
            )
        images, labels = make.images(["red", "green", "blue", "white"], 15, 77)
        assert each.evaluate(images, labels)["accuracy"] > 0.9


def test_what_is_known_is_not_sent_again_and_a_merge_not_made_again(hub, three, make):
    parts = parts_of(three)
    round_of(hub, parts)
    first = hub.traffic
    known = [{name: value.copy() for name, value in arrays(each).items()} for each in three]
    saves = [each.written["saves"] for each in three]
    assert round_of(hub, parts) == ["", "", ""]
    assert hub.traffic.up - first.up < 0.5 * first.up
    assert [each.written["saves"] for each in three] == saves
    for each, before in zip(three, known):
        for name, value in before.items():
            np.testing.assert_array_equal(arrays(each)[name], value)
    three[0].teach(make.images(["white"], 1, 9)[0][0], "white")
    three[0].learn(*make.images(["white"], 5, 10), epochs=1)
    texts = round_of(hub, parts)
    assert all(texts)
    assert [knows(each)["white"] for each in three] == [13, 13, 13]


def test_a_device_that_was_killed_goes_on(hub, three, device):
    round_of(hub, parts_of(three))
    for each in three:
        each.close()
    again = [device(f"device-{n}") for n in range(3)]
    assert knows(again[1])["blue"] == 19
    assert round_of(hub, parts_of(again)) == ["", "", ""]
    assert hub.refused == []


def test_a_server_that_was_started_again_holds_what_it_held(banked, three, tmp_path):
    hub = Hub.of_bundle(banked, tmp_path / "server")
    round_of(hub, parts_of(three))
    later = Hub.of_bundle(banked, tmp_path / "server")
    assert later.deltas.keys() == hub.deltas.keys()
    assert round_of(later, parts_of(three)[:1]) == [""]  # the others are gone, what they taught is not


def test_a_revoked_device_counts_no_more(hub, three):
    parts = parts_of(three)
    round_of(hub, parts)
    assert hub.revoke(parts[1].device)
    round_of(hub, parts)
    assert knows(three[0]) == {"red": 26, "green": 20, "blue": 13}
    assert hub.revoke(parts[2].device)
    round_of(hub, parts[:1])
    assert knows(three[0]) == {"red": 26, "green": 20, "blue": 8}
    with pytest.raises(UserError, match="device 'kitchen' is not the number of one: give 12 hexadecimal digits"):
        hub.revoke("kitchen")


BROKEN = {
    "another backbone": (lambda delta: replace(delta, backbone="c" * 64).to_bytes(), "learned with another backbone"),
    "another width": (
        lambda delta: replace(
            delta, classes={}, scatter=np.zeros((3, 3))
        ).to_bytes(),
        "its features have 3 values, those of this bundle 6",
    ),
    "damaged": (lambda delta: delta.to_bytes()[:-7], "the delta is not whole"),
    "not a delta": (lambda delta: b"\x93NUMPY" + bytes(200), "it is not a delta"),
    "from the future": (
        lambda delta: delta.to_bytes().replace(b'"schema":1', b'"schema":9'),
        "a delta of schema version 9, this firmware_host reads 1: install the matching keras-cbpnet",
    ),
    "no images give it": (lambda delta: replace(delta, scatter=-delta.scatter).to_bytes(), "its scatter"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_bad_delta_is_one_line_and_changes_nothing(what, hub, three):
    parts, (change, line) = parts_of(three), BROKEN[what]

    def bad(node, reply):
        if node != 1:
            return reply
        return {**reply, "deltas": [change(Delta.from_bytes(each)) for each in reply["deltas"]]}

    before = knows(three[1])
    texts = round_of(hub, parts, bad)
    assert texts[1] is None
    assert [text is not None for text in texts] == [True, False, True]
    [refused] = hub.refused
    assert refused.startswith("node 1: ")
    assert line in refused
    assert "\n" not in refused
    assert knows(three[1]) == before
    assert parts[1].device not in hub.deltas
    assert knows(three[0]) == {"red": 26, "green": 20, "blue": 13}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"schema": 9}, "a message of schema version 9, this keras-cbpnet reads 1: install the matching keras-cbpnet"),
        ({"schema": "1"}, "the message has no schema: use one version of keras-cbpnet in a group"),
        ({"deltas": "none"}, "the message has no deltas"),
        ({"digests": [b"1"]}, "the message has no digests"),
        ({"device": "kitchen"}, "its number is 'kitchen': 12 hexadecimal digits are one"),
        ({"error": "the state is in use\n\x1b[31m"}, "the state is in use??[31m"),
    ],
)
def test_a_bad_answer_is_one_line(changes, line, hub, three):
    round_of(hub, parts_of(three[:2]), lambda node, reply: {**reply, **changes} if node else reply)
    [refused] = hub.refused
    assert line in refused
    assert refused.isprintable()
    assert len(hub.deltas) == 1


def test_two_nodes_with_one_number_are_both_refused(hub, three, device, tmp_path):
    three[0].save()
    three[0].knowledge.sharing().tell()
    three[0].close()
    shutil.copytree(tmp_path / "device-0", tmp_path / "copy")
    twins = [device("device-0"), device("copy"), three[1]]
    texts = round_of(hub, parts_of(twins))
    assert [text is None for text in texts] == [True, True, False]
    number = twins[0].knowledge.sharing().device
    assert all(f"2 nodes have the number {number}, as after a copy" in line for line in hub.refused)
    assert [line[:7] for line in hub.refused] == ["node 0:", "node 1:"]
    assert knows(twins[0]) == knows(twins[1]) == {"red": 26, "green": 20, "blue": 8}
    assert number not in hub.deltas


def test_a_copy_that_comes_alone_is_refused_by_its_version(hub, three, device, tmp_path, make):
    three[0].save()
    three[0].close()
    shutil.copytree(tmp_path / "device-0", tmp_path / "copy")
    one, copy = device("device-0"), device("copy", {"white": 9})
    round_of(hub, parts_of([one]))
    round_of(hub, parts_of([copy]))
    [line] = hub.refused
    assert "two devices tell lessons as" in line
    one.learn(*make.images(["blue"], 6, 30), epochs=1)
    round_of(hub, parts_of([one]))
    round_of(hub, parts_of([copy]))
    [line] = hub.refused
    assert "tells version 2 of device" in line
    assert knows(copy)["white"] == 9


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"schema": 2}, "a message of schema version 2"),
        ({"backbone": "c" * 64}, "the server has another backbone (cccccccccccc, this bundle has"),
        ({"features": 7}, "the server's features have 7 values, those of this bundle 6: use one bundle in a group"),
        ({"others": b"nothing"}, "it is not a delta"),
        ({"devices": 0}, "the message is of 0 devices: 1 to 1000000 are possible"),
        ({"device": "0" * 12}, "the message is for device '000000000000'"),
    ],
)
def test_a_bad_message_to_a_device_is_one_line_and_changes_nothing(changes, line, hub, three):
    parts = parts_of(three)
    hub.hear({node: answer("tell", lambda n=node: parts[n], each) for node, each in hub.questions(range(3))})
    messages = dict(hub.sums())
    before = {name: value.copy() for name, value in arrays(three[0]).items()}
    reply = answer("take", lambda: parts[0], {**messages[0], **changes})
    assert line in reply["error"]
    assert hub.taken(0, reply) is None
    for name, value in before.items():
        np.testing.assert_array_equal(arrays(three[0])[name], value)
    swapped = answer("take", lambda: parts[0], {**messages[1], "device": parts[0].device})
    assert "not of all devices but this one" in swapped["error"]


def test_what_an_imported_state_brought_is_told_too(hub, three, device, tmp_path):
    part = parts_of(three)[0]
    told = part.tell()
    three[2].knowledge.sharing()
    peers = Peers(tmp_path / "device-1", part.expected)
    peers.put(told)
    round_of(hub, parts_of([three[1]]))
    assert told.device in hub.deltas
    assert knows(three[1])["red"] == 26


def test_the_size_of_a_message_is_that_of_its_values():
    assert size({"schema": 1, "text": "abc", "deltas": [b"12", b"345"]}) == 8 + 3 + 5


def test_a_device_that_cannot_be_opened_is_one_line():
    def broken():
        raise DeviceError("state folder\nis in use")

    found = answer("tell", broken, SimpleNamespace())
    assert found == {"schema": 1, "error": "state folder is in use"}
