"""The backbone needs Keras alone: none of its files imports TensorFlow."""

import ast

from helpers.paths import ROOT


def module_level_imports(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_no_file_of_the_backbone_imports_tensorflow():
    package = ROOT / "keras_cbpnet"
    files = [package / "models" / name for name in ("backbone.py", "weights.py")]
    files += [file for folder in ("models/importers", "layers", "data") for file in (package / folder).glob("*.py")]
    for file in files:
        if file.name.startswith("cbp_"):  # the head
            continue
        heavy = {name.split(".")[0] for name in module_level_imports(file)} & {"tensorflow", "tf_keras"}
        assert not heavy, file
