"""The papers of a bundle: README.md with front matter, LICENSE and NOTICE."""

import pytest
from helpers.paths import ROOT

from keras_cbpnet import __version__, presets
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.export import card

REPORT = {
    "accuracy": {"float32": 0.9731, "ai_edge_litert": 0.9644},
    "held_out_images": 1234,
    "bytes": {"backbone.tflite": 2076688, "head.tflite": 339232},
    "multiply_adds": 47727552,
}
CONFIG = TrainConfig(preset="vit_nano_32", dataset="folder:/home/ada/secret/photos", tasks=5, device_tasks=2)


def manifest(config=CONFIG, **changes):
    return {
        "name": config.preset,
        "recipe": "int8",
        "classes": ["red_cup", "a|b", "<i>"],
        "shapes": {"image": [1, 32, 48, 3]},
        "versions": {"keras_cbpnet": __version__, "tensorflow": "2"},
        "head": {"block": "prototype", "units": 64, "slots": 16},
        "license": card.license_of(config),
        "source": card.source_entry(config, 600),
        **changes,
    }


def of(config=CONFIG, report=REPORT, **changes):
    return card.papers(manifest(config, **changes), report, config)


def section(readme, title):
    return readme.split(f"\n## {title}\n\n")[1].split("\n\n## ")[0]


def test_the_front_matter_is_that_of_the_hub():
    _, matter, body = of()["README.md"].split("---\n", 2)
    simple = dict(line.split(": ") for line in matter.splitlines() if ": " in line)
    assert simple == {
        "library_name": "keras-cbpnet",
        "pipeline_tag": "image-classification",
        "license": "apache-2.0",
    }
    assert "tags:\n- tflite\n" in matter
    assert "- int8\n" in matter
    assert body.startswith("\n# vit\\_nano\\_32, 3 classes\n")


def test_the_hubs_own_client_reads_it():
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    data = hub.ModelCard(of()["README.md"]).data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "keras-cbpnet",
        "image-classification",
        "apache-2.0",
    )
    assert {"tflite", "continual-learning", "int8"} <= set(data.tags)


def test_the_body_says_what_the_report_says():
    readme = of()["README.md"]
    assert section(readme, "Classes").startswith("red\\_cup, a\\|b, \\<i\\>\n\n13 more can be taught")
    accuracy = section(readme, "Accuracy")
    assert "| the trained model, float32 | 97.3% |" in accuracy
    assert "| this bundle, int8, under ai_edge_litert | 96.4% |" in accuracy
    assert "On 1234 images" in accuracy
    assert "| `backbone.tflite` | 2,028 KiB |" in section(readme, "Sizes")
    assert "47.7 million multiply-adds" in section(readme, "Sizes")
    assert "| Raspberry Pi 5, 2 GB |" in section(readme, "Boards")
    assert "32 x 48" not in section(readme, "Limits")
    assert "It sees 48 x 32 pixels" in section(readme, "Limits")
    assert "cbpnet learn BUNDLE photos/" in section(readme, "How to teach it")


def test_no_local_path_is_handed_on():
    config = TrainConfig(preset="vit_nano_32", weights="/home/ada/secret/own.npz", dataset="npz:/home/ada/secret/x.npz")
    texts = "".join(of(config).values()) + str(manifest(config))
    assert "secret" not in texts
    assert card.source_entry(config, 600) == {
        "weights": "own.npz", "data": "npz:x.npz", "images": 600, "tasks": 5, "method": "cbpnet"
    }  # fmt: skip
    assert card.source_entry(CONFIG, 600)["data"] == "folder:photos"
    assert card.source_entry(CONFIG, 600)["tasks"] == 3


def test_shipped_weights_have_their_licence_and_their_teacher():
    papers = of()
    assert manifest()["license"] == "Apache-2.0"
    assert papers["LICENSE"] == (ROOT / "LICENSE").read_text()
    assert "DeiT-tiny (Touvron et al." in papers["NOTICE"]
    assert "Tiny-ImageNet is a part of ImageNet" in papers["NOTICE"]
    for name, make in presets.PRESETS.items():
        if make().weights:
            assert card.license_of(TrainConfig(preset=name)) == "Apache-2.0", name


def test_other_weights_have_a_licence_that_is_not_known():
    config = TrainConfig(preset="deit_tiny_16_224")
    papers = of(config)
    assert manifest(config)["license"] == "other"
    assert "license: other\n" in papers["README.md"]
    assert "hf:timm/deit_tiny_patch16_224" in papers["LICENSE"]
    assert "before you hand this bundle on" in papers["LICENSE"]
    assert "hf:timm/deit_tiny_patch16_224" in papers["NOTICE"]


def test_boards_are_named_only_for_what_was_measured():
    for changes in ({"recipe": "mixed"}, {"recipe": "hybrid"}, {"name": "my_own"}):
        boards = section(of(**changes)["README.md"], "Boards")
        assert boards.startswith("Nothing is known")
        assert "Raspberry" not in boards
    both = of(backbones={"hybrid": "backbone_hybrid.tflite"})["README.md"]
    assert "| this bundle, hybrid, under ai_edge_litert | 96.4% |" in section(both, "Accuracy")
    assert "`backbone_hybrid.tflite`: the same by recipe `hybrid`" in both


def test_a_microcontrollers_memory_is_said():
    report = {**REPORT, "micro": {"arena_bytes": 400 * 1024, "bank_bytes": 80 * 1024, "flash_bytes": 3 << 20}}
    assert "arena of both files 400 KiB, bank 80 KiB, flash 3,072 KiB" in section(
        of(report=report)["README.md"], "Sizes"
    )
