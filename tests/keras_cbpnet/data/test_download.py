"""Downloads of data sets, from a server on the loopback: whole, broken off, changed, and none at all."""

import dataclasses
import hashlib
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
from helpers.hub_server import LARGE, Hub, serving
from PIL import Image

from keras_cbpnet.data import core50, cub200, download, imagenet_r
from keras_cbpnet.data.download import Archive, fetch, require_data
from keras_cbpnet.errors import UserError

RNG = np.random.default_rng(0)
FILES = {"birds/images/one.bin": RNG.bytes(40_000), "birds/list.txt": b"one", "more.txt": b"beside it"}


def packed(kind, files=FILES):
    data = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(data, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=data, mode="w:gz" if kind == "tgz" else "w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(download, "PAUSE", 0)
    return tmp_path / "datasets"


@pytest.fixture
def hub(datasets):
    with serving(Hub()) as hub:
        yield hub


@pytest.fixture
def served(hub):
    """What puts an archive on the server and says what is known of it."""

    def serve(kind="tgz", content=None, name=None, md5=False):
        content = packed(kind) if content is None else content
        assert len(content) >= LARGE
        name = name or f"birds.{kind}"
        hub.files["some/data", name] = content
        digest = (hashlib.md5 if md5 else hashlib.sha256)(content).hexdigest()
        return Archive("Birds", f"{hub.url}/some/data/resolve/main/{name}", digest, "for everybody")

    return serve


def ranges(hub):
    """The beginnings of the transfers of the archive itself."""
    return [part for path, part in hub.of("GET") if path.startswith("/store/")]


def refused(root, archive):
    with pytest.raises(UserError) as error:
        require_data(root, archive)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("md5", [False, True])
@pytest.mark.parametrize("kind", ["tgz", "tar", "zip"])
def test_an_archive_is_downloaded_checked_and_unpacked_once(kind, md5, served, hub, datasets, caplog):
    archive = served(kind, md5=md5)
    require_data(datasets / "birds", archive)
    assert (datasets / "birds/images/one.bin").read_bytes() == FILES["birds/images/one.bin"]
    assert sorted(os.listdir(datasets)) == ["birds"]
    size = len(hub.files["some/data", archive.name]) / 1e6
    assert f"downloading Birds ({size:.1f} MB), {archive.url}, into {datasets}; for everybody" in caplog.text
    assert f"birds.{kind}: 100 % of " in caplog.text
    hub.requests.clear()
    require_data(datasets / "birds", archive)
    assert hub.requests == []


def test_a_folder_that_is_not_there_yet(served, datasets):
    require_data(datasets / "deep" / "birds", served())
    assert (datasets / "deep/birds/list.txt").read_bytes() == b"one"


def test_a_transfer_that_breaks_goes_on_where_it_stopped(served, hub, datasets):
    archive = served()
    hub.breaks = [3000, 5000, 0, 0]
    require_data(datasets / "birds", archive)
    assert ranges(hub) == ["", "bytes=3000-", "bytes=8000-", "bytes=8000-", "bytes=8000-"]
    assert (datasets / "birds/list.txt").is_file()


def test_what_has_arrived_is_kept_for_the_next_time(served, hub, datasets):
    archive = served()
    hub.breaks = [3000] + [0] * download.TRIES
    message = refused(datasets / "birds", archive)
    assert "cannot be downloaded (it broke off after 3000 bytes 5 times)" in message
    assert sorted(os.listdir(datasets)) == ["birds.tgz.part"]
    hub.requests.clear()
    require_data(datasets / "birds", archive)
    assert ranges(hub) == ["bytes=3000-"]
    assert sorted(os.listdir(datasets)) == ["birds"]


def test_a_server_that_cannot_go_on_begins_again(served, hub, datasets):
    hub.breaks, hub.ranges = [3000], False
    require_data(datasets / "birds", served())
    assert (datasets / "birds/images/one.bin").read_bytes() == FILES["birds/images/one.bin"]


def test_a_transfer_that_was_whole_but_for_its_name(served, hub, datasets):
    archive = served()
    datasets.mkdir()
    (datasets / "birds.tgz.part").write_bytes(hub.files["some/data", "birds.tgz"])
    require_data(datasets / "birds", archive)
    assert (datasets / "birds/list.txt").is_file()


@pytest.mark.parametrize("part", [b"", b"of something else" * 100, b"longer" * 100_000])
def test_another_file_than_the_known_one_is_not_kept(part, served, hub, datasets):
    archive = served()
    datasets.mkdir()
    if part:  # of another file
        (datasets / "birds.tgz.part").write_bytes(part)
    else:
        archive = dataclasses.replace(archive, digest="0" * 64)
    assert f"{archive.url} is not the file that it was: its hash is " in refused(datasets / "birds", archive)
    assert os.listdir(datasets) == []
    require_data(datasets / "birds", served())


def test_an_archive_that_was_put_there_by_hand(served, hub, datasets):
    archive = served()
    datasets.mkdir()
    (datasets / "birds.tgz").write_bytes(packed("tgz")[:-10])
    before = (datasets / "birds.tgz").read_bytes()
    assert f"{datasets / 'birds.tgz'} is damaged or incomplete; remove it" in refused(datasets / "birds", archive)
    assert (datasets / "birds.tgz").read_bytes() == before
    (datasets / "birds.tgz").write_bytes(hub.files["some/data", "birds.tgz"])
    require_data(datasets / "birds", archive)
    assert sorted(os.listdir(datasets)) == ["birds", "birds.tgz"]
    assert hub.requests == []


def test_an_archive_without_the_folder(served, datasets):
    assert "holds no folder fishes; download" in refused(datasets / "fishes", served())
    assert sorted(os.listdir(datasets)) == ["birds.tgz"]


def test_an_archive_that_is_none(served, datasets):
    message = refused(datasets / "birds", served(content=RNG.bytes(3000)))
    assert f"{datasets / 'birds.tgz'} cannot be unpacked (" in message


def test_an_archive_that_writes_elsewhere_is_refused(served, datasets, tmp_path):
    content = packed("tar", {**FILES, "../../outside.txt": b"no"})
    assert "cannot be unpacked" in refused(datasets / "birds", served("tar", content))
    assert not (tmp_path / "outside.txt").exists()
    assert not (datasets / "birds").exists()


def test_no_connection_is_one_line_with_address_file_and_folder(datasets):
    with serving(Hub()) as gone:
        archive = Archive("Birds", f"{gone.url}/some/birds.tgz", "0" * 64, "for everybody")
    message = refused(datasets / "birds", archive)
    assert f"Birds is not in {datasets / 'birds'} and cannot be downloaded (" in message
    assert (
        f"Connection refused); try again with a connection, or download {archive.url} elsewhere and unpack" in message
    )
    assert message.endswith(f"unpack it in {datasets}")
    assert os.listdir(datasets) == []


def test_what_is_not_on_the_server(served, datasets):
    archive = dataclasses.replace(served(), url=served().url + "x")
    assert "cannot be downloaded (HTTP 404)" in refused(datasets / "birds", archive)


def test_two_processes_do_not_download_at_once(served, datasets):
    from keras_cbpnet.locks import locked

    datasets.mkdir()
    with locked(datasets, "taken"):
        line = f"another process downloads into {datasets}; wait for it"
        with pytest.raises(UserError, match=line):
            fetch(served(), datasets / "birds.tgz", "nothing", "nothing")


# The data sets themselves ---------------------------------------------------------------------------------------------


def png(*colour):
    data = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(data, "PNG")
    return data.getvalue()


def test_core50_is_downloaded(served, datasets, monkeypatch):
    files = {
        f"core50_128x128/s{s}/o{o}/C_{s:02d}_{o:02d}_000.png": png(s, o, 0) for s in range(1, 12) for o in range(1, 51)
    }
    archive = served("zip", packed("zip", files), "core50_128x128.zip", md5=True)
    monkeypatch.setattr(core50, "ARCHIVE", archive)
    data = core50.load_core50(8)
    assert (len(data.y_train), len(data.y_test)) == (400, 150)
    assert sorted(os.listdir(datasets / "core50")) == ["core50_128x128"]


def test_imagenet_r_is_downloaded(served, datasets, monkeypatch):
    files = {f"imagenet-r/n{i:08d}/{j}.jpg": png(i, j, 0) for i in range(200) for j in range(2)}
    monkeypatch.setattr(imagenet_r, "ARCHIVE", served("tar", packed("tar", files), "imagenet-r.tar", md5=True))
    assert len(imagenet_r.load_imagenet_r(8).class_names) == 200


def test_cub200_is_downloaded(served, datasets, monkeypatch):
    files = {
        "classes.txt": b"1 001.Tit\n2 002.Wren\n",
        "images.txt": b"1 a.png\n2 b.png\n3 c.png\n4 d.png\n",
        "image_class_labels.txt": b"1 1\n2 1\n3 2\n4 2\n",
        "train_test_split.txt": b"1 1\n2 0\n3 1\n4 0\n",
        **{f"images/{name}.png": png(*RNG.integers(0, 256, 3).tolist()) + RNG.bytes(400) for name in "abcd"},
    }
    content = packed("tgz", {"attributes.txt": b"", **{f"CUB_200_2011/{name}": data for name, data in files.items()}})
    monkeypatch.setattr(cub200, "ARCHIVE", served("tgz", content, "CUB_200_2011.tgz"))
    assert cub200.load_cub200(8).class_names == ("Tit", "Wren")


@pytest.mark.parametrize("module", [core50, cub200, imagenet_r])
def test_every_archive_has_a_hash_and_a_licence(module):
    archive = module.ARCHIVE
    assert len(archive.digest) in (32, 64)
    assert set(archive.digest) <= set("0123456789abcdef")
    assert archive.licence
    assert archive.name in ("core50_128x128.zip", "CUB_200_2011.tgz", "imagenet-r.tar")
