"""Boards: what suits one by given numbers, and what --preset auto trains with."""

import json

import pytest

from keras_cbpnet import boards, cli, train
from keras_cbpnet.boards import BOARDS, Board, obstacle, pick
from keras_cbpnet.config import read_config
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import get_preset

LINUX = Board("Test board", "Linux", "cortex-a72", 1000, 2.0, 64, 0, 100)
MICRO = Board("Test controller", "TFLM", "cortex-m7", 500, 0.5, 0.5, 2, 1000)
NPU = Board("Test accelerator", "TFLM", "ethos-u55", 250, 0, 0.5, 2, 50)


def row(**changes):
    numbers = {
        "accuracy": 0.8,
        "bytes": 5 << 20,
        "memory": 60.0,
        "instructions": {"cortex-a53": 100_000_000, "cortex-a72": 100_000_000, "cortex-a76": 100_000_000},
        "multiply_adds": 100_000_000,
        "arena": 0.25,
        "flash": 1.5,
        "ethos_u55_per_second": 50.0,
    }
    return {**numbers, **changes}


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    """numbers(preset=row, ...): what is picked by."""

    def write(**rows):
        file = tmp_path / "boards.json"
        file.write_text(json.dumps(rows))
        monkeypatch.setattr(boards, "FILE", file)

    return write


def test_the_estimate_is_work_over_speed():
    assert LINUX.milliseconds(row()) == pytest.approx(100 / 2000 * 1000)  # 100 M instructions, 2,000 M a second
    assert MICRO.milliseconds(row()) == pytest.approx(100 / 250 * 1000)  # 100 M multiply-adds, 250 M a second
    assert NPU.milliseconds(row()) == pytest.approx(1000 / 50 * 2)  # 50 a second at Vela's 500 MHz, half of it here
    assert LINUX.milliseconds(row(instructions={"cortex-a72": None})) is None
    assert NPU.milliseconds(row(ethos_u55_per_second=None)) is None


@pytest.mark.parametrize(
    ("board", "change", "reason"),
    [
        (LINUX, {}, ""),
        (LINUX, {"memory": 65.0}, "needs 65.0 MiB of RAM, 64 are there"),
        (LINUX, {"instructions": {"cortex-a72": 300_000_000}}, "would take an estimated 150 ms of 100"),
        (LINUX, {"instructions": {"cortex-a72": None}}, "was not measured"),
        (LINUX, {"arena": None, "flash": None}, ""),
        (MICRO, {}, ""),
        (MICRO, {"arena": 0.75}, "needs 0.8 MiB of RAM, 0.5 are there"),
        (MICRO, {"flash": 2.5}, "needs 2.5 MiB of flash, 2 are there"),
        (MICRO, {"multiply_adds": 500_000_000}, "would take an estimated 2,000 ms of 1000"),
        (MICRO, {"arena": None, "flash": None}, "does not run under TFLM"),
        (NPU, {}, ""),
        (NPU, {"ethos_u55_per_second": None}, "was not measured"),
    ],
)
def test_what_does_not_suit_a_board_is_said(board, change, reason):
    assert obstacle(board, row(**change)) == reason


def test_the_most_accurate_that_suits_is_picked_and_the_others_are_explained(numbers):
    fast = {"cortex-a72": 18_000_000}
    numbers(
        vit_micro_32=row(accuracy=0.5, instructions=fast),
        vit_tiny_96=row(accuracy=0.85, instructions={"cortex-a72": 68_400_000}),
        deit_tiny_16_224=row(accuracy=0.93, instructions=fast),
        vit_nano_32=row(accuracy=0.6, instructions=fast),
    )
    preset, why = pick("pi4")
    assert preset == "vit_tiny_96"
    assert why == (
        "vit_tiny_96 for Raspberry Pi 4, 1 GB: 5.0 MiB, 60.0 MiB of RAM of 256, an estimated 38 ms of 100 an image; "
        "deit_tiny_16_224 needs --weights"
    )
    assert pick("pi4", weights=True)[0] == "deit_tiny_16_224"


def test_no_backbone_that_suits_is_one_line(numbers):
    numbers(vit_micro_32=row(accuracy=0.5, arena=5.0), vit_nano_32=row(accuracy=0.6, flash=7.0))
    with pytest.raises(UserError) as refused:
        pick("esp32s3")
    assert str(refused.value) == (
        "no backbone suits esp32s3 (vit_nano_32 needs 7.0 MiB of flash, 6 are there; vit_micro_32 needs 5.0 MiB of "
        "RAM, 4 are there); give --preset NAME to take one all the same"
    )


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_has_a_shipped_backbone_that_suits_it(name):
    preset, why = pick(name)
    assert get_preset(preset).weights
    assert why.startswith(f"{preset} for {BOARDS[name].title}: ")
    assert obstacle(BOARDS[name], boards.measured()[preset]) == ""


@pytest.fixture
def trained(monkeypatch):
    """The configurations that the command trains with; nothing is trained."""
    from keras_cbpnet.training import trainer

    configs = []

    def fake(config, output, *rest):
        configs.append(config)
        output.mkdir(parents=True, exist_ok=True)
        (output / "config.json").write_text(json.dumps(config.to_dict()))
        return {"average_accuracy": 0.5}

    monkeypatch.setattr("keras_cbpnet.api.read_inputs", lambda config, *_: config)
    monkeypatch.setattr(trainer, "train_on", fake)
    return configs


def test_a_run_records_the_backbone_that_was_picked(numbers, trained, tmp_path, capsys):
    numbers(vit_micro_32=row(accuracy=0.5))
    command = ["--preset", "auto", "--board", "pi5", "--output", str(tmp_path / "run")]
    assert cli.run(train.main, command) == 0
    assert "vit_micro_32 for Raspberry Pi 5" in capsys.readouterr().err
    assert cli.run(train.main, command) == 0  # the same configuration: a run would go on
    assert trained[0] == trained[1] == read_config(tmp_path / "run")
    assert trained[0].preset == "vit_micro_32"


def test_weights_go_to_the_backbone_that_is_shipped_without(numbers, trained, tmp_path, capsys):
    file = tmp_path / "deit.npz"
    file.write_bytes(b"")
    command = ["--preset", "auto", "--weights", str(file), "--output", str(tmp_path / "run")]
    small = row(accuracy=0.5, arena=0.1, flash=0.1)
    numbers(vit_micro_32=small, deit_tiny_16_224=row(accuracy=0.93, arena=None, flash=None))
    assert cli.run(train.main, [*command, "--board", "pi5"]) == 0
    assert cli.run(train.main, [*command, "--board", "stm32h7"]) == 0
    assert "; --weights is not used\n" in capsys.readouterr().err
    assert [(config.preset, config.weights) for config in trained] == [
        ("deit_tiny_16_224", str(file)),
        ("vit_micro_32", ""),
    ]
    assert trained[0].prompt_tasks == 1  # a default of that preset


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "auto"], f"--preset auto needs --board, one of {', '.join(BOARDS)}"),
        (["--board", "pi4"], "--board pi4 needs --preset auto"),
        (["--preset", "vit_nano_32", "--board", "pi4"], "--board pi4 needs --preset auto"),
        (["--preset", "auto", "--board", "pi9"], "invalid choice: 'pi9'"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    try:
        code = cli.run(train.main, [*arguments, "--output", str(tmp_path / "run")])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
