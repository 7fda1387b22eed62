"""What the camera sees, as the broker is told: when it changes, and no more often."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["FIELDS", "Seen"]

FIELDS = ("label", "probability", "percent", "unknown", "nearest", "group")
MOVED = 0.05  # of a probability: less is not worth a message


class Seen:
    """Tells what the camera sees.

    Args:
        publish: is given each new state, as JSON.
    """

    def __init__(self, publish: Callable[[str], None]) -> None:
        self._publish = publish
        self._told: dict[str, Any] = {}
        self.nothing()

    def prediction(self, found: dict[str, Any]) -> None:
        """Take in a prediction, as `Service.predict` tells it; one that is not settled tells nothing."""
        if not found["settled"]:
            return
        known, probability = bool(found["known"]), float(found["probability"])
        now, last = found["label"] if known else None, self._told
        if (
            last["probability"] is None
            or (now, not known) != (last["label"], last["unknown"])
            or abs(probability - last["probability"]) >= MOVED
        ):
            self._tell(now, probability, round(100 * probability, 1), not known, found["label"], found["group"])

    def nothing(self) -> None:
        """Tell that nothing is seen: the camera gives no picture, or did not give one yet."""
        if not self._told or self._told["probability"] is not None:
            self._tell(*[None] * len(FIELDS))

    def _tell(self, *values: Any) -> None:
        self._told = dict(zip(FIELDS, values))
        self._publish(json.dumps(self._told))
