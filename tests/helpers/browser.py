"""Debian's Chromium without a window, with a camera that is made up, told what to do over a pipe."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time

import pytest

WAIT_S = 60.0


class Browser:
    """One page of a browser; `script` runs JavaScript there, past the page's own policy."""

    def __init__(self, profile, size=(390, 844), dark=False):
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            pytest.skip("Chromium is not installed: apt install chromium")
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        command = [program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"]
        command += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--no-first-run"]
        command += [f"--user-data-dir={profile}", "--ignore-certificate-errors", "about:blank"]

        def pipes():
            high = [os.dup2(to_browser, 100), os.dup2(from_browser, 101)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            command, preexec_fn=pipes, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(from_browser)
        self._numbers, self._rest, self._session = itertools.count(1), b"", None
        self.complaints = []  # what the page's console says is wrong
        targets = self._ask("Target.getTargets")["targetInfos"]
        [page] = [each["targetId"] for each in targets if each["type"] == "page"]
        self._session = self._ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def open(self, url):
        self._ask("Page.navigate", url=url)

    def script(self, code):
        """Return what an expression of JavaScript gives; a promise is waited for."""
        found = self._ask("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, code):
        """Wait until an expression is true."""
        end = time.monotonic() + WAIT_S
        while not self.script(code):
            assert time.monotonic() < end, f"never: {code}; {self.complaints}; {self.script('document.body.innerText')}"
            time.sleep(0.05)

    def press(self, selector):
        """Hold the mouse down on an element; returns what lets go of it."""
        self.script(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        x, y = self.script(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self._ask("Input.dispatchMouseEvent", type="mousePressed", **mouse)
        return lambda: self._ask("Input.dispatchMouseEvent", type="mouseReleased", **mouse)

    def click(self, selector):
        self.press(selector)()

    def key(self, kind, key):
        """Press (`keyDown`) or let go of (`keyUp`) a key."""
        self._ask("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")

    def picture(self, path):
        """Keep the whole page as a PNG file."""
        height = self.script("document.documentElement.scrollHeight")
        width = self.script("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        found = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))

    def _ask(self, method, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(answer["params"]["exceptionDetails"])
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.complaints.append(answer["params"]["entry"]["text"])

    def _next(self):
        while b"\0" not in self._rest:
            assert select.select([self._from], [], [], WAIT_S)[0], "the browser does not answer"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
