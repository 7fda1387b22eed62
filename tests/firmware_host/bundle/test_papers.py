"""What a bundle says of its origin: licence and source in the manifest, and papers for people."""

import hashlib

import pytest

from firmware_host.bundle import PAPERS, BundleError, read_bundle, write_manifest

SOURCE = {"weights": "own.npz", "data": "digits", "images": 3}


def test_licence_and_source_are_read_and_papers_may_be_edited(make, bundle):
    make.rewrite_manifest(bundle, lambda manifest: manifest.update(license="MIT", source=SOURCE))
    for name in PAPERS:
        (bundle / name).write_text("by the conversion")
    write_manifest(bundle, read_bundle(bundle).manifest)
    before = read_bundle(bundle)
    assert before.manifest["sha256"]["LICENSE"] == hashlib.sha256(b"by the conversion").hexdigest()
    assert (before.manifest["license"], before.manifest["source"]) == ("MIT", SOURCE)
    for name in PAPERS:
        (bundle / name).write_text("for people")
    after = read_bundle(bundle)
    assert (after.identity, after.files) == (before.identity, before.files)
    (bundle / "NOTICE").unlink()
    assert read_bundle(bundle).identity == before.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [({"license": ["MIT"]}, "license is list, not str"), ({"source": "photos"}, "source is str, not dict")],
)
def test_what_is_of_another_type_is_refused(make, bundle, change, message):
    make.rewrite_manifest(bundle, lambda manifest: manifest.update(change))
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)
