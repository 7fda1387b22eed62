"""A folder with one folder of images per class, such as Frigate's: each image that comes there becomes one lesson.

Frigate keeps what its user assigned in clips/MODEL/dataset/CLASS/*.png. Which images were learned is saved with what
was learned from them, so neither a restart nor a kill has one learned twice.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

from firmware_host.bundle import DeviceError
from firmware_host.home.commands import taught
from firmware_host.home.said import REFUSALS, Say, line, refusal
from firmware_host.inbox import Lesson, Reading, lesson_key, lessons_in
from firmware_host.serve.refusals import RefusedError
from firmware_host.serve.service import Service

__all__ = ["Dataset"]

APART_S = 10.0  # between two looks
NO_CLASS = "none"  # Frigate's folder for objects of no class


class Look(NamedTuple):
    """How a file was at one look; a file that is still being written is another at the next."""

    time_ns: int
    size: int


class Dataset:
    """The images of a folder, looked at from time to time.

    Args:
        root: the folder; raises DeviceError where it cannot be listed.
        service: learns the images.
        say: is given one line for each.
    """

    def __init__(self, root: Path, service: Service, say: Say) -> None:
        list(lessons_in(root))
        self._root, self._service, self._say = root, service, say
        self._reading = Reading(service.device.state_folder)
        self._looks: dict[str, Look] = {}
        self._done: dict[str, Look | None] = {}  # what is learned or refused, as it was then
        self._lost = False
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look again and again until `close`."""
        while not self._stopped.is_set():
            self.look()
            self._stopped.wait(APART_S)

    def close(self) -> None:
        """Begin no lesson any more."""
        self._stopped.set()

    def look(self) -> None:
        """Learn what is new since the last look, and complete: it has not changed since then."""
        try:
            lessons = list(lessons_in(self._root))
        except DeviceError as error:
            if not self._lost:
                self._say(refusal("dataset", error))
            self._lost = True
            return
        self._lost = False
        looks = {lesson.name: _look(Path(lesson.name)) for lesson in lessons}
        for lesson in lessons:
            look = looks[lesson.name]
            if self._stopped.is_set():
                break
            if lesson.label == NO_CLASS or self._done.get(lesson.name, Look(-1, -1)) == look:
                continue
            if look is not None and self._looks.get(lesson.name) != look:
                continue
            self._done[lesson.name] = look
            self._learn(lesson)
        self._reading.end()
        self._looks = {name: look for name, look in looks.items() if look is not None}
        self._done = {name: look for name, look in self._done.items() if name in looks}

    def _learn(self, lesson: Lesson) -> None:
        try:
            if lesson.error is not None:
                raise lesson.error
            key = lesson_key(Path(lesson.name), self._root)
            if key is None:
                raise DeviceError(f"{lesson.name} is not a file: remove it")
            text = self._service.later(lambda: self._taught(lesson, key)).result()
        except REFUSALS as error:
            if isinstance(error, RefusedError) and error.retry_s is not None:  # too much waits: at the next look
                del self._done[lesson.name]
                return
            self._say(refusal("dataset", error))
        else:
            if text is not None:
                self._say(line("dataset", True, text))

    def _taught(self, lesson: Lesson, key: int) -> str | None:
        """Learn an image in the device's thread, and remember with what it teaches that it was learned."""
        device = self._service.device
        before = device.taught
        if key in before:
            return None
        self._reading.begin(lesson.name)
        pixels = device.load(lesson.image)
        device.check_class(lesson.label)
        device.taught = before | {key}
        try:
            record = self._service.teach(pixels, lesson.label)
        except DeviceError:
            device.taught = before
            raise
        return f"{lesson.name}: {taught(lesson.label, record)}"


def _look(file: Path) -> Look | None:
    try:
        status = file.stat()
    except OSError:  # it went, or leads nowhere: whoever opens it says so
        return None
    return Look(status.st_mtime_ns, status.st_size)
