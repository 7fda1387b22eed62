"""Whatever is sent to the API, it answers as it is described, never with a defect, and its state stays whole."""

import subprocess
import sys

import pytest

from firmware_host import Device

LIMIT_S = 600


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_schemathesis_finds_no_defect_and_the_state_is_whole(serve, bundle, tmp_path, picture, seed):
    serving = serve()
    url = f"http://127.0.0.1:{serving.client.port}"
    options = {
        "--url": url,
        "--exclude-path": "/api/events",  # it does not end
        "--exclude-checks": "positive_data_acceptance,unsupported_method,ignored_auth",  # PNG, say, is more than bytes
        "--max-examples": "30",
        "--phases": "coverage,fuzzing",
        "--seed": str(seed),
    }
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    words = [word for option in options.items() for word in option]
    done = subprocess.run(
        [sys.executable, "-c", program, "run", f"{url}/api/openapi.json", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "19 passed" in done.stdout or "Tested: 19" in done.stdout, done.stdout
    assert serving.client.teach(picture("blue"), "blue").status == 200
    known = serving.client.get("/api/classes").json["classes"]
    serving.stop()
    with Device.open(bundle, runtime="numpy") as device:
        assert device.knowledge.classes() == known
