"""A folder of images, such as Frigate's: each new one is a lesson, once; what is not an image stops nothing."""

import shutil

import pytest
from PIL import Image

from firmware_host import DeviceError
from firmware_host.home.commands import Commands
from firmware_host.home.dataset import Dataset

from .conftest import opened


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "clips" / "pets" / "dataset"
    root.mkdir(parents=True)
    return root


@pytest.fixture
def put(root, picture):
    """put(label, name, seed, kind): a file as Frigate writes it."""

    def put(label, name, seed=0, kind="png"):
        (root / label).mkdir(exist_ok=True)
        file = root / label / f"{name}.{kind}"
        Image.fromarray(picture(label if label in ("red", "green", "blue", "white") else "red", seed)).save(file)
        return file

    return put


def counts(service):
    return {known["name"]: known["images"] for known in service.device.knowledge.classes()}


def looks(dataset, times=2):
    for _ in range(times):
        dataset.look()


def test_new_files_become_lessons_once(root, put, service, bundle):
    lines = []
    dataset = Dataset(root, service, lines.append)
    put("blue", "blue-1700000000.1-abc123")
    put("red", "red-1700000000.2-abc124", kind="webp")
    put("none", "none-1700000000.3-abc125")
    dataset.look()
    assert counts(service) == {"red": 20, "green": 20}  # it may still be written
    looks(dataset, 4)
    assert counts(service) == {"red": 21, "green": 20, "blue": 1}
    assert [line.ok for line in lines] == [True, True]
    assert f"{root / 'blue' / 'blue-1700000000.1-abc123.png'}: class blue is taught" in lines[0].text
    put("blue", "blue-1700000009.1-abc999", seed=1, kind="jpg")
    looks(dataset)
    assert counts(service)["blue"] == 2

    service.close()
    again = opened(bundle)
    looks(Dataset(root, again, lines.append), 3)
    assert counts(again) == {"red": 21, "green": 20, "blue": 2}
    assert len(lines) == 3
    again.close()


def test_a_kill_between_two_lessons_has_none_learned_twice(root, put, service, bundle):
    for number in range(3):
        put("blue", f"b{number}", seed=number)
    dataset = Dataset(root, service, lambda line: dataset.close())  # it stops after the first
    looks(dataset)
    assert counts(service)["blue"] == 1
    service.device.close()  # nothing else is written
    again = opened(bundle)
    looks(Dataset(root, again, lambda line: None))
    assert counts(again)["blue"] == 3
    again.close()


def test_what_is_taken_back_is_not_learned_again(root, put, service, bundle):
    put("blue", "b")
    lines = []
    looks(Dataset(root, service, lines.append))
    assert "blue" in counts(service)
    commands = Commands(service, None, lines.append, lines.append)
    commands.take("undo", b"PRESS")
    service.close()
    assert lines[-1].ok
    again = opened(bundle)
    looks(Dataset(root, again, lines.append), 3)
    assert "blue" not in counts(again)
    again.close()


def test_a_file_that_is_still_written_is_waited_for(root, put, service):
    file = put("blue", "b")
    whole = file.read_bytes()
    lines = []
    dataset = Dataset(root, service, lines.append)
    for end in (20, 40, len(whole)):
        file.write_bytes(whole[:end])
        dataset.look()
        assert not lines
    dataset.look()
    assert counts(service)["blue"] == 1


def test_what_is_not_an_image_is_one_line_and_the_others_are_learned(root, put, service):
    put("blue", "b")
    (root / "blue" / "a.png").write_bytes(b"\x89PNG cut off")
    (root / "loose.png").write_bytes(b"")
    (root / "red").mkdir()
    (root / "red" / "c.png").symlink_to(root / "nowhere")
    lines = []
    dataset = Dataset(root, service, lines.append)
    looks(dataset, 4)
    assert counts(service)["blue"] == 1
    assert sorted(line.ok for line in lines) == [False, False, False, True]
    assert all(line.text.isprintable() for line in lines)
    (root / "blue" / "new\nline.png").write_bytes(b"no image")
    looks(dataset)
    assert lines[-1].text.isprintable()
    put("blue", "a", seed=3)  # put right
    looks(dataset)
    assert counts(service)["blue"] == 2


def test_without_a_free_slot_it_says_so(root, put, service):
    for label in ("blue", "white", "fifth"):
        put(label, "x")
    lines = []
    dataset = Dataset(root, service, lines.append)
    looks(dataset, 3)
    assert list(counts(service)) == ["red", "green", "blue", "fifth"]
    [refused] = [line for line in lines if not line.ok]
    assert "slots" in refused.text
    assert len(lines) == 3


def test_a_folder_that_goes_away_is_said_once(root, put, service):
    put("blue", "b")
    lines = []
    dataset = Dataset(root, service, lines.append)
    looks(dataset)
    shutil.move(root, root.with_name("unmounted"))
    looks(dataset, 3)
    assert [line.ok for line in lines] == [True, False]
    shutil.move(root.with_name("unmounted"), root)
    looks(dataset, 3)
    assert counts(service)["blue"] == 1
    assert len(lines) == 2


def test_a_folder_that_is_not_there_is_refused(root, service):
    with pytest.raises(DeviceError, match="cannot be read"):
        Dataset(root / "nowhere", service, print)
