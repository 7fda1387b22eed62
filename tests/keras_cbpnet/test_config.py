"""Configurations from files that people edited: read, or refused with one line."""

import json

import pytest

from keras_cbpnet.config import HeadConfig, TrainConfig, read_config
from keras_cbpnet.errors import UserError


def write(folder, text, encoding="utf-8"):
    (folder / "config.json").write_text(text, encoding=encoding)
    return folder


def test_a_byte_order_mark_and_names_beyond_ascii_are_read(tmp_path):
    config = TrainConfig(dataset="folder:/home/josé/写真", learning_rate=1)
    text = json.dumps({"version": "0.1.0", **config.to_dict()}, ensure_ascii=False)
    assert read_config(write(tmp_path, text, "utf-8-sig")) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tasks", "5"),
        ("tasks", 2.5),
        ("tasks", True),
        ("tasks", None),
        ("seed", [1]),
        ("qat", 1),
        ("qat", "yes"),
        ("dataset", 3),
        ("learning_rate", "fast"),
        ("learning_rate", float("nan")),
        ("decay_rate", float("inf")),
    ],
)
def test_a_value_of_another_type_is_one_line(name, value, tmp_path):
    text = json.dumps({**TrainConfig().to_dict(), name: value})
    with pytest.raises(UserError, match=rf"config.json is damaged \(TrainConfig: {name} is .*; give a value such as "):
        read_config(write(tmp_path, text))


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "{", "[" * 100_000, '{"version": "0.1.0", "tasks": 1e999}'])
def test_a_damaged_file_is_one_line(text, tmp_path):
    with pytest.raises(UserError, match=r"config.json is damaged \(.*\); put it back"):
        read_config(write(tmp_path, text))


def test_bytes_that_are_not_text_are_one_line(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        read_config(tmp_path)


def test_rates_that_are_not_numbers_are_refused():
    for name in ("decay_rate", "replacement_rate", "learning_rate", "block_rate", "logit_scale"):
        with pytest.raises(UserError, match=f"{name} is nan"):
            HeadConfig.from_dict({name: float("nan")})
