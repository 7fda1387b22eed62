"""The story in a real browser: teach two classes, kill the server, start it again, and it still knows them.

Pictures of the page, a phone's and a desktop's, lie in build/screenshots afterwards.
"""

import pytest
from helpers.browser import Browser
from helpers.paths import ROOT

from .test_many_clients import started

pytestmark = pytest.mark.slow
SHOTS = ROOT / "build" / "screenshots"
SIZES = {"phone": ((390, 844), False), "desktop": ((1280, 800), True)}
NAMES = "[...document.querySelectorAll('#classes li')].map((item) => item.dataset.name)"
COUNTS = "[...document.querySelectorAll('#classes small')].map((each) => parseInt(each.textContent))"
BARS = "[...document.querySelectorAll('#bars .share')].map((each) => parseInt(each.textContent))"
LABELLED = "[...document.querySelectorAll('button, input:not([type=file]), select, img[src], meter')]"


@pytest.fixture
def told(make, tmp_path):
    """A bundle that tells unknown images, with room for more classes."""
    return make.write_bundle(tmp_path / "told", bank=True, slots=8)


@pytest.mark.parametrize("size", list(SIZES))
def test_taught_killed_and_started_again(told, tmp_path, size):
    server, client = started(told)
    browser = Browser(tmp_path / "profile", *SIZES[size])
    try:
        browser.open(f"http://127.0.0.1:{client.port}/")
        browser.until(f"{BARS}.some((share) => share > 0)")  # it predicts what the browser's camera sees
        assert browser.script(NAMES) == ["red", "green"]
        for place, name in enumerate(("hat", "shoe"), 3):
            browser.script(f"document.getElementById('new-name').value = {name!r}")
            release = browser.press("#new-hold")
            browser.until(f"{NAMES}.length === {place} && document.querySelectorAll('#taught img').length >= {place}")
            release()
            browser.until("!document.querySelector('.hold.active')")
        browser.until("document.querySelectorAll('#recent .choices button').length > 3")
        browser.until(f"{COUNTS}.length === 4 && {COUNTS}[3] > 0 && document.querySelectorAll('#units i').length === 5")
        assert browser.script(f"{COUNTS}.slice(0, 2)") == [20, 20]
        browser.script("document.activeElement.blur()")
        before = client.get("/api/classes").json["classes"][3]["images"]
        browser.until(f"{COUNTS}[3] === {before}")
        browser.key("keyDown", "4")  # the keyboard teaches as well
        browser.until(f"{COUNTS}[3] > {before + 1}")
        browser.key("keyUp", "4")
        browser.until("!document.querySelector('.hold.active')")
        assert browser.script("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
        unnamed = "(each) => !(each.ariaLabel || each.textContent.trim() || each.alt || each.labels?.length)"
        assert browser.script(f"{LABELLED}.filter((each) => each.offsetParent).filter({unnamed}).length") == 0
        SHOTS.mkdir(parents=True, exist_ok=True)
        browser.picture(SHOTS / f"{size}.png")
        assert browser.complaints == []
        known = client.get("/api/classes").json
        server.kill()
        server.wait()
        browser.until("!document.getElementById('message').hidden")  # it says so
        server, client = started(told, "--port", str(client.port))
        browser.until("document.getElementById('message').hidden")
        browser.until(f"{BARS}.some((share) => share > 0)")
        assert client.get("/api/classes").json == known
        assert browser.script(NAMES) == ["red", "green", "hat", "shoe"]
        browser.click("#undo")
        browser.until(f"{COUNTS}[3] === {before}")  # all of one hold is taken back, also over the restart
    finally:
        browser.close()
        server.kill()
        server.wait()
