"""What a device in a house can be told to do: teach, forget, undo, save; whatever is not understood is refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from firmware_host.bundle import DeviceError
from firmware_host.home.said import REFUSALS, Say, line, refusal
from firmware_host.images import load_image
from firmware_host.serve.live import Live
from firmware_host.serve.service import Service, checked_label

__all__ = ["COMMANDS", "Commands", "taught"]

COMMANDS = ("teach", "forget", "undo", "save")
PAYLOAD_BYTES = 1024
PRESSED = ("", "PRESS")  # what Home Assistant's button sends


class Commands:
    """Does what it is told, in the device's thread, one command after the other; each is answered by one line.

    Args:
        service: the device.
        live: its camera, if it has one.
        say: is given the answers.
        failed: is given an error that is a defect.
    """

    def __init__(self, service: Service, live: Live | None, say: Say, failed: Callable[[BaseException], None]) -> None:
        self._service, self._live, self._say, self._failed = service, live, say, failed

    def take(self, name: str, payload: bytes, retained: bool = False) -> None:
        """Take one of the COMMANDS; returns at once."""
        try:
            work = self._understood(name, payload, retained)
            self._service.later(lambda: self._do(name, work)).add_done_callback(self._check)
        except REFUSALS as error:
            self._say(refusal(name, error))

    def _understood(self, name: str, payload: bytes, retained: bool) -> Callable[[], str]:
        if retained:
            raise DeviceError(f"command {name} is retained on the broker: send it without, and remove it there")
        if len(payload) > PAYLOAD_BYTES:
            raise DeviceError(f"command {name} has {len(payload)} bytes: send {PAYLOAD_BYTES} at most")
        try:
            text = payload.decode("utf-8")
        except UnicodeDecodeError:
            raise DeviceError(f"command {name} is not text: send UTF-8") from None
        if name in ("undo", "save"):
            if text not in PRESSED:
                raise DeviceError(f"command {name} says {text!a}: send PRESS, or nothing")
            return self._undo if name == "undo" else self._save
        label = checked_label(text)
        if name == "forget":
            return lambda: self._forget(label)
        return self._teaching(label)

    def _teaching(self, label: str) -> Callable[[], str]:
        """Return the lesson on what the camera sees now."""
        if "/" in label:
            raise DeviceError(f"class name {label!a} has a slash, and folders are named after classes: use another one")
        device = self._service.device
        frame = None if self._live is None else self._live.frame
        if frame is None:
            raise DeviceError("the device has no camera in use, or it gives no picture now: see --source")

        def teach() -> str:
            pixels = load_image(frame.image, device.bundle.image_size, device.max_memory_mb)
            return taught(label, self._service.teach(pixels, label))

        return teach

    def _forget(self, label: str) -> str:
        self._service.change("forget", lambda: self._service.device.forget_class(label))
        return f"class {label} is forgotten; saved"

    def _undo(self) -> str:
        device = self._service.device

        def undo() -> None:
            learned = device.taught
            device.undo()
            device.taught = learned  # a file whose lesson is taken back is not to be learned again

        self._service.change("undo", undo)
        return "the last lesson or change is taken back; saved"

    def _save(self) -> str:
        self._service.change("save", lambda: None)
        return "saved"

    def _do(self, name: str, work: Callable[[], str]) -> None:
        try:
            self._say(line(name, True, work()))
        except REFUSALS as error:
            self._say(refusal(name, error))

    def _check(self, done: Future[None]) -> None:
        error = done.exception()
        if error is not None:
            self._failed(error)


def taught(label: str, lesson: dict[str, Any]) -> str:
    """Return the line about a lesson that is saved; raises DeviceError where it was taken back."""
    if lesson["rolled_back"]:
        raise DeviceError(
            f"an image of class {label} broke what is known: its {lesson['rolled_back']} steps are undone"
        )
    return f"class {label} is taught, {lesson['steps']} steps; saved"
