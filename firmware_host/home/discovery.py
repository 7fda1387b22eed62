"""How Home Assistant finds a device: one retained message for each of its entities (MQTT discovery)."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from firmware_host.home.topics import Topics
from firmware_host.serve.service import LABEL_LENGTH
from firmware_host.shared.version import __version__

__all__ = ["Described", "announcements"]


class Entity(NamedTuple):
    """One entity of Home Assistant: its platform, its last name, and what is particular to it.

    `topic` is what it listens to or sends to; `camera` says whether it makes sense with a camera alone.
    """

    platform: str
    key: str
    name: str
    topic: str
    camera: bool
    more: dict[str, Any]


ENTITIES = (
    Entity("sensor", "class", "Class", "state", True, {"value_template": "{{ value_json.label }}"}),
    Entity(
        "sensor",
        "probability",
        "Probability",
        "state",
        True,
        {
            "value_template": "{{ value_json.percent }}",
            "unit_of_measurement": "%",
            "state_class": "measurement",
            "suggested_display_precision": 0,
        },
    ),
    Entity(
        "binary_sensor",
        "unknown",
        "Unknown",
        "state",
        True,
        {"value_template": "{{ value_json.unknown }}", "payload_on": "True", "payload_off": "False"},
    ),
    Entity("text", "teach", "Teach", "teach", True, {"min": 1, "max": LABEL_LENGTH, "icon": "mdi:school"}),
    Entity("text", "forget", "Forget", "forget", False, {"min": 1, "max": LABEL_LENGTH, "icon": "mdi:eraser"}),
    Entity("button", "undo", "Undo last lesson", "undo", False, {"icon": "mdi:undo"}),
    Entity("button", "save", "Save", "save", False, {"icon": "mdi:content-save"}),
    Entity(
        "sensor",
        "result",
        "Last result",
        "result",
        False,
        {"value_template": "{{ value_json.text[:255] }}", "entity_category": "diagnostic"},
    ),
)


class Described(NamedTuple):
    """What Home Assistant shows of a device: what tells it from others, its name, and what it is."""

    identity: str
    name: str
    model: str


def announcements(prefix: str, device: Described, topics: Topics, camera: bool) -> dict[str, str]:
    """Return the discovery messages by their topics; the empty ones take back what was there before.

    Args:
        prefix: Home Assistant's discovery prefix.
        device: the device.
        topics: its topics.
        camera: whether it has a camera of its own.
    """
    node = f"cbpnet_{device.identity}"
    about = {
        "identifiers": [node],
        "name": device.name,
        "manufacturer": "keras-cbpnet",
        "model": device.model,
        "sw_version": __version__,
    }
    found = {}
    for entity in ENTITIES:
        config = {
            "name": entity.name,
            "unique_id": f"{node}_{entity.key}",
            "availability_topic": topics.status,
            "qos": 1,
            f"{'command' if entity.platform in ('text', 'button') else 'state'}_topic": topics.command(entity.topic),
            **entity.more,
            "device": about,
            "origin": {"name": "cbpnet", "sw_version": __version__},
        }
        topic = f"{prefix}/{entity.platform}/{node}/{entity.key}/config"
        found[topic] = json.dumps(config) if camera or not entity.camera else ""
    return found
