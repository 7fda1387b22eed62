"""What selects the prompt, in a converted backbone: the graph is the model, and what each choice costs."""

import keras
import numpy as np
import pytest
from helpers import tiny_stream
from helpers.prompt_kinds import DEPTH, KINDS, D, make

from keras_cbpnet.export import prompt_selection
from keras_cbpnet.export.backbone import convert_backbone
from keras_cbpnet.export.runtimes import run_backbone
from keras_cbpnet.export.tflite_file.macs import multiply_adds
from keras_cbpnet.export.tflite_file.ops import float_ops, op_table
from keras_cbpnet.layers.no_prompts import NoPrompts
from keras_cbpnet.methods.build import build_model
from keras_cbpnet.models.calibration import calibrate
from keras_cbpnet.training.trainer import train


@pytest.fixture(scope="module")
def images(coloured_images):
    return coloured_images(24, [0, 1, 2, 3])[0]


@pytest.fixture(scope="module")
def converted(images, randomised, tiny_backbone):
    """converted(kind, recipe): the model and its file, converted when they are first asked for."""
    known = {}

    def converted(kind, recipe):
        if (kind, recipe) not in known:
            model = make(kind, images, randomised, tiny_backbone, quantized=True)
            if recipe == "int8":
                calibrate(model, model.features, images)
            known[kind, recipe] = model, convert_backbone(model, recipe, images)
        return known[kind, recipe]

    return converted


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_the_graph_is_the_model_and_costs_less(kind, recipe, images, converted):
    model, file = converted(kind, recipe)
    assert multiply_adds(file) < multiply_adds(converted("two", recipe)[1])
    feature, prompt = (np.asarray(part) for part in model.features(images))
    found = run_backbone(file, images, "ai_edge_litert")
    # Squares of a norm: sums where activations are float32, products in 32 bits where they are int8.
    assert ("SUM" in {row["op"] for row in op_table(file)}) == (recipe == "float32")
    if recipe == "float32":
        np.testing.assert_array_equal(found.prompt, prompt)
        np.testing.assert_allclose(found.feature, feature, rtol=0, atol=2e-4)
    else:
        assert float_ops(op_table(file)) == []
        same = found.prompt == prompt
        assert np.mean(same) >= 0.9
        assert np.corrcoef(found.feature[same].ravel(), feature[same].ravel())[0, 1] > 0.98


@pytest.mark.slow
def test_a_fixed_prompt_costs_its_rows_more_than_none(images, converted):
    model, file = converted("fixed", "float32")
    plain = convert_backbone(model, "float32", images, NoPrompts())
    tokens, length = 5, 2
    asking = (DEPTH - 1) * tokens + 1  # in the last block the class token alone
    assert multiply_adds(file) - multiply_adds(plain) == 2 * length * D * asking  # scores and context


@pytest.mark.slow
def test_the_only_prompt_in_use_needs_no_query(images, converted):
    """After one task, or with --prompt-tasks 1, the nearest key is the only one: the device saves the query pass."""
    model, file = converted("two", "float32")
    model.prompts.begun.assign(1)
    try:
        single = convert_backbone(model, "float32", images)
        feature, prompt = (np.asarray(part) for part in model.features(images))
    finally:
        model.prompts.begun.assign(2)
    found = run_backbone(single, images, "ai_edge_litert")
    np.testing.assert_array_equal(found.prompt, prompt)
    np.testing.assert_allclose(found.feature, feature, rtol=0, atol=2e-4)
    assert multiply_adds(single) == multiply_adds(converted("fixed", "float32")[1]) < multiply_adds(file)


@pytest.fixture(scope="module")
def run(stream, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_cbpnet.training.trainer.write_report", lambda *_: None)
        train(stream.config(prompts=True, query_depth=2, epochs=2), output)
    return output


@pytest.mark.slow
def test_every_choice_is_compared_on_one_run(run, stream):
    from keras_cbpnet.data import make_stream, open_dataset
    from keras_cbpnet.export.report import selection_lines
    from keras_cbpnet.export.samples import sample

    model = keras.models.load_model(run / "model.keras")
    tasks = make_stream(
        "class",
        open_dataset(
            stream.config().dataset,
            16,
        ),
        2,
        3,
    )
    before = [np.array(v) for v in model.weights]
    said = []
    held_out = sample(tasks, "test", 10, 0)
    rows = prompt_selection.compare(
        model, "float32", tasks[0].x_train, tasks, held_out, ["ai_edge_litert"], said.append
    )
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    names = ["two passes", "query depth 1", "query depth 2", "query depth 3", "fixed"]
    assert [row["name"] for row in rows] == names
    assert said == [f"prompt selection: {name}" for name in names]
    assert [row["name"] for row in rows if row["shipped"]] == ["query depth 2"]
    for row in rows:
        assert set(row) == {"name", "shipped", "accuracy", "multiply_adds", "milliseconds"}
        assert 0 <= row["accuracy"] <= 1
        assert row["milliseconds"]["ai_edge_litert"] > 0
    adds = [row["multiply_adds"] for row in rows]
    assert adds[4] < adds[1] < adds[2] < adds[3] < adds[0]
    first, *lines = selection_lines(rows)
    assert "keys and class means taken again" in first
    assert lines[0].startswith(f"  two passes: accuracy {rows[0]['accuracy']:.3f}, ")
    assert "(100%)" in lines[0]
    assert lines[2].endswith(", shipped")


@pytest.mark.slow
def test_the_choices_have_the_prompts_of_the_run(run):
    model = keras.models.load_model(run / "model.keras")
    x, label = tiny_stream.images(tiny_stream.TRAIN, 1)
    found = dict(prompt_selection.choices(model, [x[np.isin(label, pair)] for pair in ((0, 1), (2, 3))]))
    prompts = found["query depth 2"]
    assert (prompts.tasks, prompts.query_depth) == (2, 2)
    np.testing.assert_array_equal(prompts.expert, model.prompts.expert[:2])
    np.testing.assert_array_equal(found["fixed"].expert, model.prompts.expert[:1])
    np.testing.assert_array_equal(found["fixed"].general, model.prompts.general)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"prompts": False}, {"method": "ncm"}, {"prompt_selection": "fixed"}])
def test_what_does_not_select_is_not_compared(changes, stream):
    model = build_model(stream.config(**{"prompts": True, **changes}), 4)
    images = np.zeros((1, 16, 16, 3), np.uint8)
    assert prompt_selection.compare(model, "float32", images, [], (images, np.zeros(1, np.int32)), []) == []
