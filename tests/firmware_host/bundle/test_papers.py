"""What a bundle says of its origin: licence and source in the manifest, and papers for people."""

import hashlib
import json

import pytest

from firmware_host.bundle import PAPERS, BundleError, read_bundle, write_manifest
from firmware_host.cli import main

SOURCE = {"weights": "own.npz", "data": "digits", "images": 3}


def write_papers(bundle):
    for name in PAPERS:
        (bundle / name).write_text("by the conversion")
    write_manifest(bundle, read_bundle(bundle).manifest)


def test_licence_and_source_are_read_and_papers_may_be_edited(make, bundle):
    make.rewrite_manifest(bundle, lambda manifest: manifest.update(license="MIT", source=SOURCE))
    write_papers(bundle)
    before = read_bundle(bundle)
    assert before.manifest["sha256"]["LICENSE"] == hashlib.sha256(b"by the conversion").hexdigest()
    assert (before.manifest["license"], before.manifest["source"]) == ("MIT", SOURCE)
    for name in PAPERS:
        (bundle / name).write_text("for people")
    after = read_bundle(bundle)
    assert (after.identity, after.files) == (before.identity, before.files)
    (bundle / "NOTICE").unlink()
    assert read_bundle(bundle).identity == before.identity
    assert "MIT" not in repr(before)  # no screens of numbers where a notebook shows a bundle


@pytest.mark.parametrize("command", ["info", "selftest"])
def test_papers_that_were_changed_are_named(capsys, bundle, command):
    def lines():
        assert main([command, str(bundle), "--runtime", "numpy"]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith(PAPERS)]

    assert (read_bundle(bundle).changed_papers, lines()) == ({}, [])  # of a conversion that wrote none
    write_papers(bundle)
    assert (read_bundle(bundle).changed_papers, lines()) == ({}, [])
    (bundle / "README.md").write_text("for people")
    (bundle / "LICENSE").unlink()
    (bundle / "NOTICE").unlink()
    (bundle / "NOTICE").mkdir()
    assert lines() == [
        "README.md differs from the manifest; the device does not need it",
        "LICENSE is missing; the device does not need it",
        "NOTICE cannot be read (Is a directory); the device does not need it",
    ]
    assert main([command, str(bundle), "--runtime", "numpy", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["changed_papers"]["README.md"] == "differs from the manifest"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"license": ["MIT"]}, "license is list, not str"), ({"source": "photos"}, "source is str, not dict")],
)
def test_what_is_of_another_type_is_refused(make, bundle, change, message):
    make.rewrite_manifest(bundle, lambda manifest: manifest.update(change))
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)
