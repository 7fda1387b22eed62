"""Frigate's interface for programs: crops of the objects it has tracked, and sub-labels for them.

As Frigate 0.13 to 0.18 have it. Setting a sub-label takes the role `admin`, which its port 5000 gives to everybody.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import Any, Optional

from firmware_host.bundle import DeviceError

__all__ = ["SUB_LABEL_LENGTH", "Frigate", "NotThereError"]

TIMEOUT_S = 10.0
IMAGE_BYTES = 8 << 20
TEXT_BYTES = 4 << 20
SUB_LABEL_LENGTH = 100  # characters
CROPS_WHEN_ENDED = (0, 18)  # the first version that crops the snapshot of an event that has ended


class NotThereError(DeviceError):
    """Frigate does not have what was asked for, or not yet."""


class Frigate:
    """Asks one Frigate.

    Args:
        url: its address, such as http://frigate.local:5000; raises DeviceError for anything else.
        timeout_s: to wait for it.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        parts = urllib.parse.urlsplit(url)
        try:
            good = bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            good = False
        if parts.scheme not in ("http", "https") or not good or parts.username is not None or parts.query:
            raise DeviceError(f"frigate is {url!a}: use http://HOST:PORT, such as http://frigate.local:5000")
        self._url, self._timeout_s = url.rstrip("/"), timeout_s
        self._version: Optional[tuple[int, ...]] = None

    def crop(self, event: str, ended: bool) -> bytes:
        """Return the image file of what an event shows; raises NotThereError where there is none.

        Of an event that has ended, only newer versions crop the snapshot; the older ones give it as it is on disk, with
        its box drawn. The thumbnail is cropped and clean in all of them, but small.
        """
        if not ended or self._crops_ended():
            try:
                query = {"crop": 1, "bbox": 0, "timestamp": 0}
                return self._asked(f"/api/events/{event}/snapshot.jpg", query, limit=IMAGE_BYTES)
            except NotThereError:
                if not ended:
                    raise
        return self._asked(f"/api/events/{event}/thumbnail.jpg", limit=IMAGE_BYTES)

    def answer(self, event: str, label: str, score: float) -> None:
        """Give an event a sub-label; `score`: above 0, up to 1."""
        self._asked(f"/api/events/{event}/sub_label", body={"subLabel": label, "subLabelScore": score})

    def ended_after(self, when: float, cameras: Iterable[str], labels: Iterable[str]) -> list[dict[str, Any]]:
        """Return the events that began after a time (Unix, s) and have ended, the oldest first; 100 at most."""
        query = {"after": f"{when:.3f}", "in_progress": 0, "include_thumbnails": 0, "limit": 100}
        for name, values in (("cameras", list(cameras)), ("labels", list(labels))):
            if values:
                query[name] = ",".join(values)
        try:
            found = json.loads(self._asked("/api/events", query))
        except ValueError:
            found = None
        if not isinstance(found, list):
            raise DeviceError(f"{self._url}/api/events does not list events: is this Frigate?")
        return [event for event in reversed(found) if isinstance(event, dict)]

    def _crops_ended(self) -> bool:
        if self._version is None:
            said = self._asked("/api/version").decode("utf-8", "replace")
            found = re.match(r"\s*\"?v?(\d{1,4})\.(\d{1,4})", said)
            self._version = (int(found[1]), int(found[2])) if found else (0, 0)
        return self._version >= CROPS_WHEN_ENDED

    def _asked(
        self,
        path: str,
        query: Optional[dict[str, Any]] = None,
        body: Optional[dict[str, Any]] = None,
        limit: int = TEXT_BYTES,
    ) -> bytes:
        url = f"{self._url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, content, {"Content-Type": "application/json"} if body else {})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                found: bytes = answer.read(limit + 1)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                raise NotThereError(f"{url} is not there") from None
            remedy = ": use its port 5000, or let this machine in" if error.code in (401, 403) else ""
            raise DeviceError(f"{url} answers {error.code} {error.reason}{remedy}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise DeviceError(f"{url} cannot be reached ({reason})") from None
        if len(found) > limit:
            raise DeviceError(f"{url} answers with more than {limit} bytes")
        return found
