"""The discovery messages: what Home Assistant demands of them, and what its templates make of a state."""

import json
import re
import shlex

import pytest
from helpers.paths import ROOT

from firmware_host.cli import build_parser
from firmware_host.home.commands import COMMANDS
from firmware_host.home.discovery import Described, announcements
from firmware_host.home.seen import FIELDS, Seen
from firmware_host.home.topics import Topics

TOPIC = re.compile(r"homeassistant/(\w+)/([a-zA-Z0-9_-]+)/([a-zA-Z0-9_-]+)/config")  # as Home Assistant matches it
LONGEST = 255  # characters of a state in Home Assistant
KEYS = {  # that Home Assistant knows, of each platform
    "sensor": {"state_topic", "value_template", "unit_of_measurement", "state_class", "suggested_display_precision"},
    "binary_sensor": {"state_topic", "value_template", "payload_on", "payload_off"},
    "text": {"command_topic", "min", "max"},
    "button": {"command_topic"},
}
EVERY = {"name", "unique_id", "availability_topic", "qos", "device", "origin", "icon", "entity_category"}


def configs(camera=True):
    made = announcements("homeassistant", Described("0a1b", "Küche 1", "tiny"), Topics("cbpnet/test"), camera)
    return {TOPIC.fullmatch(topic).groups(): json.loads(text) if text else None for topic, text in made.items()}


def test_home_assistant_knows_every_key():
    for (platform, node, _), config in configs().items():
        assert node == "cbpnet_0a1b"
        assert set(config) <= EVERY | KEYS[platform]
        assert config["availability_topic"] == "cbpnet/test/status"
        assert config["device"]["name"] == "Küche 1"
        assert config["origin"]["name"]
        assert config.get("max", 0) <= LONGEST


def test_what_needs_a_camera_is_taken_back_without_one():
    gone = {key for (_, _, key), config in configs(camera=False).items() if config is None}
    assert gone == {"class", "probability", "unknown", "teach"}


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (None, {"class": "None", "probability": "None", "unknown": "None"}),  # unknown to Home Assistant
        (("cup", 0.9734, True), {"class": "cup", "probability": "97.3", "unknown": "False"}),
        (("cup", 0.41, False), {"class": "None", "probability": "41.0", "unknown": "True"}),
        (('a "{{ 7 * 7 }}" ü', 1.0, True), {"class": 'a "{{ 7 * 7 }}" ü', "probability": "100.0", "unknown": "False"}),
    ],
)
def test_templates_of_a_state(found, shown):
    jinja2 = pytest.importorskip("jinja2", reason="jinja2, which Home Assistant's templates are of, is not installed")
    told = []
    seen = Seen(told.append)
    if found is not None:
        label, probability, known = found
        seen.prediction({"label": label, "probability": probability, "known": known, "group": None, "settled": True})
    state = json.loads(told[-1])
    for (_, _, key), config in configs().items():
        if key in shown:
            assert config["state_topic"] == "cbpnet/test/state"
            assert jinja2.Template(config["value_template"]).render(value_json=state) == shown[key]
    binary = configs()["binary_sensor", "cbpnet_0a1b", "unknown"]
    assert {binary["payload_on"], binary["payload_off"]} == {"True", "False"}


def test_a_result_fits_into_a_state():
    jinja2 = pytest.importorskip("jinja2", reason="jinja2, which Home Assistant's templates are of, is not installed")
    template = configs()["sensor", "cbpnet_0a1b", "result"]["value_template"]
    assert len(jinja2.Template(template).render(value_json={"text": "x" * 400})) == LONGEST


def test_the_state_is_told_on_change_and_no_more_often():
    told = []
    seen = Seen(told.append)
    assert len(told) == 1

    def look(label, probability, known=True, settled=True):
        seen.prediction({"label": label, "probability": probability, "known": known, "group": None, "settled": settled})
        return len(told)

    assert look("cup", 0.9, settled=False) == 1
    assert look("cup", 0.9) == 2
    assert look("cup", 0.86) == 2
    assert look("cup", 0.84) == 3
    assert look("bowl", 0.84) == 4
    assert look("bowl", 0.84, known=False) == 5
    assert look("cup", 0.84, known=False) == 5  # which of them it is not hardly matters
    seen.nothing()
    seen.nothing()
    assert len(told) == 6
    assert look("cup", 0.84, known=False) == 7


def test_the_page_says_what_is_so():
    page = (ROOT / "docs" / "home.md").read_text(encoding="utf-8")
    commands = re.findall(r"^ *(cbpnet mqtt (?:.*\\\n)*.*)$", page, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        build_parser("cbpnet").parse_args(shlex.split(command.replace("\\\n", " "))[1:])
    for name in ("state", "status", "result", *COMMANDS):
        assert f"`TOPIC/{name}`" in page
    assert all(f'"{field}"' in page for field in FIELDS)
    assert all(f"*{config['name']}*" in page for config in configs().values())
