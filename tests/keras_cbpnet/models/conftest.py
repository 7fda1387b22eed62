"""The client of the Hugging Face hub with a cache of its own, and a hub on the loopback or none."""

import pytest
from helpers.hub_server import Hub, serving
from helpers.tiny_hub import CONTENT, REPOSITORY


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The client's cache; its settings are read from the environment once, when it is imported."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def hub(cache, monkeypatch):
    from huggingface_hub import constants

    with serving(Hub({(REPOSITORY, "model.safetensors"): CONTENT})) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield hub


@pytest.fixture
def nowhere(cache, monkeypatch):
    """The address of a hub that nothing answers at."""
    from huggingface_hub import constants

    with serving(Hub()) as gone:
        url = gone.url
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    return url
