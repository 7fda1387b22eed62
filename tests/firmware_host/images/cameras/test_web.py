"""Cameras that answer by HTTP: pictures, streams, and servers that are wrong, hostile or silent."""

import struct
import zlib
from itertools import islice

import numpy as np
import pytest
from helpers.web_camera import for_user, head, picture, snapshots, stream, web_camera

from firmware_host.bundle import DeviceError
from firmware_host.images.cameras import body, shown, web
from firmware_host.images.sources import frames
from firmware_host.process_memory import MIB

RED, GREEN, BLUE = (220, 30, 30), (30, 220, 30), (30, 30, 220)
SECRET = "s3cr%40t"  # s3cr@t


@pytest.fixture
def camera():
    with web_camera() as camera:
        yield camera


def colours(images):
    return [tuple(np.round(each.image.mean(axis=(0, 1)) / 10) * 10) for each in images]


def near(rgb):
    return tuple(np.round(np.array(rgb) / 10) * 10)


def test_a_picture_is_asked_for_again_and_again(camera):
    camera.routes["/now.jpg"] = snapshots(picture(RED), picture(RED), picture(GREEN), picture(BLUE, form="PNG"))
    found = list(islice(frames(camera.address("/now.jpg")), 3))  # the first answer says what kind of camera it is
    assert colours(found) == [near(RED), near(GREEN), near(BLUE)]
    assert [each.image.shape for each in found] == [(48, 64, 3)] * 3
    assert len(camera.asked) == 4


def test_a_frame_that_is_not_taken_is_not_asked_for(camera):
    camera.routes["/now.jpg"] = snapshots(picture(RED))
    assert [each.name[-2:] for each in islice(frames(camera.address("/now.jpg"), every=3), 2)] == ["#0", "#3"]
    assert len(camera.asked) == 3


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize(("boundary", "declared"), [("frame", None), ("frame", "--frame"), ("--frame", '"frame"')])
def test_a_stream(camera, length, boundary, declared):
    pictures = [picture(rgb) for rgb in (RED, GREEN, BLUE)]
    camera.routes["/live"] = stream(*pictures, pictures[0], boundary=boundary, declared=declared, length=length)
    given = frames(camera.address("/live"))
    found = list(islice(given, 3))
    assert colours(found) == [near(RED), near(GREEN), near(BLUE)]
    with pytest.raises(DeviceError, match=r"live gives no picture \(the stream has ended\): check that it is"):
        list(given)
    assert len(camera.asked) == 1


def test_a_damaged_picture_stops_no_other(camera):
    whole = picture(GREEN)
    camera.routes["/live"] = stream(picture(RED), whole[: len(whole) // 2], b"<html>", whole)
    found = list(islice(frames(camera.address("/live")), 4))
    assert [isinstance(each.image, DeviceError) for each in found] == [False, True, True, False]
    assert str(found[1].image).endswith("/live#1 is damaged: leave it out")


def test_a_camera_with_nothing_but_damaged_pictures_is_lost(camera):
    camera.routes["/live"] = stream(*[b"no"] * 60)
    given = frames(camera.address("/live"))
    assert len(list(islice(given, 50))) == 50
    with pytest.raises(DeviceError, match="gave 50 damaged frames in a row: check it"):
        next(given)


def test_a_large_jpeg_is_decoded_small(camera):
    camera.routes["/now.jpg"] = snapshots(picture(RED, (1920, 1080)))
    [found] = islice(frames(camera.address("/now.jpg")), 1)
    assert found.image.shape == (540, 960, 3)


def test_the_camera_may_have_been_turned(camera):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    camera.routes["/now.jpg"] = snapshots(picture(RED, exif=exif))
    [found] = islice(frames(camera.address("/now.jpg")), 1)
    assert found.image.shape == (64, 48, 3)


def endless(request):
    head(request, Content_Type="multipart/x-mixed-replace; boundary=frame")
    request.wfile.write(b"--frame\r\n\r\n")
    while True:
        request.wfile.write(b"x" * MIB)


def announced(request):
    head(request, Content_Type="multipart/x-mixed-replace; boundary=frame")
    request.wfile.write(b"--frame\r\nContent-Length: 99999999\r\n\r\n")


def endless_picture(request):
    head(request, Content_Type="image/jpeg")
    while True:
        request.wfile.write(b"x" * MIB)


@pytest.mark.parametrize("route", [endless, announced, endless_picture])
def test_what_is_too_large_is_not_read(camera, route):
    camera.routes["/x"] = route
    with pytest.raises(DeviceError, match=r"/x gives no picture \(more than 8 MiB\)"):
        next(frames(camera.address("/x")))


def test_what_would_be_too_large_is_not_decoded(camera):
    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)  # a few bytes say so
    chunks = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    )
    camera.routes["/now.png"] = snapshots(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(DeviceError, match=r"now.png \(12000 x 12000 pixels\) needs \d+ MiB and .* use --max-memory"):
        next(frames(camera.address("/now.png"), max_memory_mb=1000.0))


def silent(camera):
    def route(request):
        head(request, Content_Type="multipart/x-mixed-replace; boundary=frame")
        request.wfile.write(b"--frame\r\n\r\n" + picture(RED)[:200])
        request.wfile.flush()
        camera.ended.wait()

    return route


def deaf(camera):
    return lambda request: camera.ended.wait()


def dripping(camera):
    def route(request):
        head(request, Content_Type="multipart/x-mixed-replace; boundary=frame")
        while not camera.ended.wait(0.02):
            request.wfile.write(b"x")
            request.wfile.flush()

    return route


@pytest.mark.parametrize(
    ("made", "words"), [(silent, "nothing for 0.2 s"), (deaf, "nothing for 0.2 s"), (dripping, "no whole picture in")]
)
def test_a_server_that_hangs_is_a_lost_camera(camera, monkeypatch, made, words):
    monkeypatch.setattr(web, "SILENT_S", 0.2)
    monkeypatch.setattr(body, "SILENT_S", 0.2)
    camera.routes["/x"] = made(camera)
    with pytest.raises(DeviceError, match=rf"/x gives no picture \({words}"):
        next(frames(camera.address("/x")))


@pytest.mark.parametrize("scheme", ["Basic", "Digest"])
def test_user_and_password(camera, scheme):
    camera.routes["/now.jpg"] = for_user("anna", "s3cr@t", snapshots(picture(RED)), scheme)
    [found] = islice(frames(camera.address("/now.jpg", f"anna:{SECRET}")), 1)
    assert colours([found]) == [near(RED)]
    assert found.name == f"http://***@127.0.0.1:{camera.port}/now.jpg#0"
    for user in ("", "anna:wrong"):
        with pytest.raises(DeviceError, match=r"\(HTTP 401 Unauthorized\): give http://USER:PASSWORD@HOST") as error:
            next(frames(camera.address("/now.jpg", user)))
        assert "wrong" not in str(error.value)


def test_a_password_is_for_its_server_only(camera):
    with web_camera() as other:
        other.routes["/now.jpg"] = for_user("anna", "s3cr@t", snapshots(picture(RED)))
        camera.routes["/moved"] = lambda request: head(request, 302, Location=other.address("/now.jpg"))
        camera.routes["/file"] = lambda request: head(request, 302, Location="file:///etc/hostname")
        with pytest.raises(DeviceError, match="HTTP 401"):
            next(frames(camera.address("/moved", f"anna:{SECRET}")))
        assert [headers.get("Authorization") for _, headers in other.asked] == [None]
        with pytest.raises(DeviceError, match="HTTP 302"):
            next(frames(camera.address("/file")))


def test_no_message_holds_user_password_or_query(camera):
    camera.routes["/page"] = lambda request: head(request, Content_Type="text/html; charset=utf-8")
    camera.routes["/none"] = lambda request: head(request, 404)
    camera.routes["/away"] = lambda request: None
    port = camera.port
    with web_camera() as gone:
        nobody = gone.port
    for source, words in {
        f"http://anna:s3cr@127.0.0.1:{port}/page?key=s3cr": r"/page\?\*\*\* is 'text/html': give the address of a JPEG",
        f"http://anna:s3cr@127.0.0.1:{port}/none?key=s3cr": "HTTP 404 Not Found",
        f"http://anna:s3cr@127.0.0.1:{port}/away": "RemoteDisconnected|end of file|Connection reset",
        f"http://anna:s3cr@127.0.0.1:{nobody}/": "Connection refused",
        f"http://anna:s3cr:s3cr@x@127.0.0.1:{port}/none": "HTTP 404",
        "http://anna:s3cr@127.0.0.1:port/": "InvalidURL|ValueError",
        "http://anna:s3cr@[::1/": "ValueError",
        "http://anna:s3cr@host.invalid/": "not known|resolution|No address",
        f"https://anna:s3cr@127.0.0.1:{port}/none": "SSL|EOF|[Tt]imeout|nothing for",
    }.items():
        with pytest.raises(DeviceError, match=words) as error:
            next(frames(source))
        said = str(error.value)
        assert "anna" not in said
        assert "s3cr" not in said
        assert "\n" not in said


def test_how_a_source_is_shown():
    assert shown("camera:0") == "camera:0"
    assert shown("video:/home/anna/a@b?.mp4") == "video:/home/anna/a@b?.mp4"
    assert shown("screen") == "screen"
    assert shown("rtsp://h:554/a") == "rtsp://h:554/a"
    assert shown("http:/anna:p@h/a") == "http:/***@h/a"
    assert shown("rtsp://anna:p/w?@1@h/a?key=1&b@c") == "rtsp://***@c"
    assert shown("rtsp://anna:p/w?@1@h/a?key=1") == "rtsp://***@h/a?***"
