"""What is counted, in the text format of Prometheus."""

from __future__ import annotations

from typing import Any

from firmware_host.serve.service import Service

__all__ = ["metrics_text"]

COUNTERS = {
    "predictions": "Images predicted since the start.",
    "lessons": "Lessons learned since the start.",
    "resets": "Hidden units reset since the start.",
    "rollbacks": "Lessons rolled back since the start.",
    "saves": "Saves since the start.",
}
GAUGES = {
    "classes": "Classes known.",
    "slots": "Classes that there is room for.",
    "images_kept": "Images kept for replay, as features.",
    "state_bytes": "Size of the saved state.",
    "memory_mb": "Resident memory of the process, MiB.",
    "revision": "Changes to what is known since the start.",
}


def metrics_text(service: Service, status: dict[str, Any], classes: list[dict[str, Any]]) -> str:
    """Return the metrics; `status` and `classes` as the service gives them."""
    lines = []
    for name, what in COUNTERS.items():
        lines += _metric(f"cbpnet_{name}_total", what, "counter", [("", service.counts[name])])
    seconds = service.counts["prediction_us"] / 1e6
    lines += _metric("cbpnet_prediction_seconds_total", "Time spent on predictions.", "counter", [("", seconds)])
    for name, what in GAUGES.items():
        lines += _metric(f"cbpnet_{name}", what, "gauge", [("", status[name])])
    rows = [(f'{{class="{_escaped(each["name"])}"}}', each["images"]) for each in classes]
    lines += _metric("cbpnet_class_images", "Images learned of each class.", "gauge", rows)
    return "\n".join(lines) + "\n"


def _metric(name: str, what: str, kind: str, rows: list[tuple[str, Any]]) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}", *(f"{name}{labels} {value}" for labels, value in rows)]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
