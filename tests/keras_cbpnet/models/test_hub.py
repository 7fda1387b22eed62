"""Weights by name: the real client of the Hugging Face hub against a server on the loopback that has its layout."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import plain_vit
from helpers.hub_server import COMMIT, LARGE, sha256
from helpers.paths import ROOT
from helpers.tiny_hub import ADDRESS, CHECKPOINT, CONFIG, CONTENT, REPOSITORY, refused
from safetensors.numpy import save

from keras_cbpnet.errors import UserError
from keras_cbpnet.models.hub import check_address, fetch, is_address
from keras_cbpnet.presets import PRESETS, Preset, check_weights, get_preset

pytest.importorskip("huggingface_hub")


@pytest.fixture
def preset(monkeypatch):
    """What makes the preset `tiny`, whose weights are on the hub."""

    def make(**changes):
        made = Preset("tiny", CONFIG, hub=f"{ADDRESS}@{COMMIT}/model.safetensors", sha256=sha256(CONTENT))
        monkeypatch.setitem(PRESETS, "tiny", lambda: dataclasses.replace(made, **changes))

    return make


def features(**arguments):
    from keras_cbpnet import Backbone

    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    model = Backbone.from_preset("tiny", **arguments)
    return np.asarray(model(model.preprocess(images))), plain_vit.forward(CHECKPOINT, images / 255, CONFIG.heads)


def kept(cache):
    """The files in the cache that hold weights, whole or in part."""
    return [file for file in cache.rglob("*") if file.is_file() and file.stat().st_size >= LARGE]


# What is fetched ------------------------------------------------------------------------------------------------------


def test_a_preset_fetches_its_weights_once(hub, preset, cache, caplog):
    preset()
    found, expected = features()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    path = f"/{REPOSITORY}/resolve/{COMMIT}/model.safetensors"
    assert {asked for asked, _ in hub.of("HEAD")} == {path}
    assert hub.of("GET") == [(f"/store/{sha256(CONTENT)}", "")]
    assert f"fetching {hub.url}{path} ({len(CONTENT) / 1e6:.1f} MB) into {cache}" in caplog.text

    hub.requests.clear()
    caplog.clear()
    np.testing.assert_array_equal(features()[0], found)
    assert hub.requests == []
    assert caplog.text == ""


def test_a_branch_is_asked_for_news_and_fetched_once(hub):
    first = fetch(ADDRESS)
    assert first.read_bytes() == CONTENT
    again = fetch(ADDRESS + "@main/model.safetensors")
    assert first == again
    assert [method for method, *_ in hub.requests].count("GET") == 1
    assert hub.requests[-1][:2] == ("HEAD", f"/{REPOSITORY}/resolve/main/model.safetensors")


def test_weights_of_another_repository_instead_of_the_presets(hub, preset):
    preset(hub="hf:nobody/nothing")
    found, expected = features(weights=ADDRESS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("folder", ["", "half/"])
def test_a_model_in_parts_is_fetched_and_read(folder, hub, preset):
    names = sorted(CHECKPOINT)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    listed = {"weight_map": {name: part for part, members in parts.items() for name in members}}
    hub.files = {(REPOSITORY, f"{folder}model.safetensors.index.json"): json.dumps(listed).encode()}
    for part, members in parts.items():
        hub.files[REPOSITORY, folder + part] = save({name: CHECKPOINT[name] for name in members})
    preset(hub=f"{ADDRESS}/{folder}model.safetensors.index.json" if folder else ADDRESS, sha256="")
    found, expected = features()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    asked = [path for path, _ in hub.of("HEAD") if "-of-" in path]
    assert {path.split("/")[4] for path in asked} == {COMMIT}  # not the branch, which may move meanwhile


def test_other_presets_do_not_pay():
    """Keras imports the client too, so this looks at what is checked before Keras."""
    code = """
import sys
from keras_cbpnet.presets import find_weights, get_preset
assert find_weights(get_preset("vit_nano_32")) is None
assert find_weights(get_preset("vit_base_16_224"), sys.executable)
assert "huggingface_hub" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# What goes wrong on the way -------------------------------------------------------------------------------------------


def test_a_file_with_another_hash_than_the_pinned_one_is_not_kept(hub, preset, cache):
    wrong = "0" * 64
    message = refused(f"{ADDRESS}@{COMMIT}", wrong)
    assert f"its hash is {sha256(CONTENT)}, expected {wrong}; it was removed" in message
    assert kept(cache) == []
    preset()
    np.testing.assert_allclose(*features(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("pinned", [False, True])
def test_a_file_that_is_not_what_the_hub_states_is_not_kept(pinned, hub, cache):
    right = sha256(CONTENT)
    hub.files[REPOSITORY, "model.safetensors"] = CONTENT[:-1] + b"\7"
    hub.states["model.safetensors"] = right
    message = refused(ADDRESS, *([right] if pinned else []))
    assert f"expected {right}; it was removed; fetch it again" in message
    assert kept(cache) == []
    hub.files[REPOSITORY, "model.safetensors"] = CONTENT
    assert fetch(ADDRESS).read_bytes() == CONTENT


def test_a_file_that_changed_on_the_disk_is_found(hub, cache):
    path = fetch(f"{ADDRESS}@{COMMIT}")
    path.write_bytes(CONTENT[:-1] + b"\7")
    assert "it was removed; fetch it again" in refused(f"{ADDRESS}@{COMMIT}")
    assert kept(cache) == []
    assert fetch(f"{ADDRESS}@{COMMIT}").read_bytes() == CONTENT


def test_a_file_without_a_known_hash_is_not_used(hub, cache):
    hub.states["model.safetensors"] = "of-a-mirror"
    assert f"states no SHA-256 of {hub.url}/{REPOSITORY}/resolve/main/model.safetensors" in refused()
    assert hub.of("GET") == []
    assert fetch(ADDRESS, sha256(CONTENT)).read_bytes() == CONTENT


def test_a_cache_without_links_is_checked_too(hub, cache, monkeypatch):
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download, "are_symlinks_supported", lambda folder=None: False)
    assert not fetch(ADDRESS).is_symlink()
    hub.states["model.safetensors"] = "1" * 64
    assert "expected " + "1" * 64 in refused()
    assert kept(cache) == []


def test_a_small_file_has_the_hash_of_git(hub, cache):
    small = save({"a": np.zeros(3, np.float32)})
    assert len(small) < LARGE
    hub.files[REPOSITORY, "small.safetensors"] = small
    assert fetch(f"{ADDRESS}/small.safetensors").read_bytes() == small
    hub.files[REPOSITORY, "other.safetensors"] = small
    hub.states["other.safetensors"] = "2" * 40
    assert "expected " + "2" * 40 in refused(f"{ADDRESS}/other.safetensors")


def test_a_broken_transfer_goes_on_where_it_stopped(hub, monkeypatch):
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)  # bytes that are written at once: 10 MB
    hub.breaks = [5000, 700]
    assert fetch(ADDRESS).read_bytes() == CONTENT
    assert hub.of("GET") == [(f"/store/{sha256(CONTENT)}", part) for part in ("", "bytes=5000-", "bytes=5700-")]


def test_a_transfer_that_never_ends_is_one_line_and_leaves_nothing(hub, cache, monkeypatch):
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    hub.breaks = [0] * 20
    assert f"cannot fetch {hub.url}/{REPOSITORY}/resolve/main/model.safetensors (" in refused()
    hub.breaks = []
    assert fetch(ADDRESS).read_bytes() == CONTENT


# What the hub does not have -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("hf:someone/else", "there is no {url}/someone/else; if it is private, log in"),
        (f"{ADDRESS}@v2", "has no revision 'v2'; give a branch, a tag or a commit after @"),
        (f"{ADDRESS}/other.npz", "there is no {url}/someone/tiny_patch8_32/resolve/main/other.npz; give the name of"),
        ("hf:someone/gated", "{url}/someone/gated asks for consent first"),
    ],
)
def test_what_is_not_there(address, line, hub):
    hub.files["someone/gated", "model.safetensors"] = CONTENT
    hub.gated.add("someone/gated")
    assert line.format(url=hub.url) in refused(address)


@pytest.mark.parametrize(
    "address",
    ["hf:", "hf:tiny", "hf://someone/tiny", "hf:a/b@", "hf:a/b/", "hf:a/b@c@d", "hf:a/b/../c.npz", "hf:a b/c"],
)
def test_what_is_not_an_address(address):
    with pytest.raises(UserError, match=r"is not an address on the hub; give hf:OWNER/NAME\[@REVISION\]\[/FILE\]"):
        check_weights(get_preset("vit_nano_32"), address)


def test_files_of_other_kinds_are_refused_before_they_are_fetched():
    with pytest.raises(UserError, match=r"pytorch_model.bin is not a .safetensors or .npz file; give another FILE"):
        check_address("hf:a/b/pytorch_model.bin")


def test_a_missing_client_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r'install it with pip install "keras-cbpnet\[train\]"') as error:
        check_weights(get_preset("deit_tiny_16_224"))
    assert str(error.value).startswith("weights are fetched by their name: huggingface_hub cannot be imported")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in PRESETS if get_preset(name).hub])
def test_presets_name_their_file(name):
    preset = get_preset(name)
    assert is_address(preset.hub)
    check_weights(preset)
    pinned = re.fullmatch(r"hf:timm/[\w.]+@[0-9a-f]{40}/model\.safetensors", preset.hub)
    newest = re.fullmatch(r"hf:timm/[\w.]+/model\.safetensors", preset.hub)
    assert bool(pinned) == bool(re.fullmatch("[0-9a-f]{64}", preset.sha256))
    assert pinned or (newest and preset.sha256 == "")
