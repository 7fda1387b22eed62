"""The workstation: refusals, conversion, prompts, the demo."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

from benchmarks.common.turns import ratio, spread
from benchmarks.speed.bench import Area, Bench, MissingError, cpu_seconds
from benchmarks.speed.rows import Found, Row, single

__all__ = ["CONVERSION", "DEMO", "PROMPTS", "REFUSAL"]

REFUSALS = 9
CONVERSIONS = 3
RECIPES = ("int8", "hybrid", "float32")
BATCH = 24  # images of a step, DualPrompt's
TURNS = 7  # of a step of prompts, which takes a second
NOT_AGAIN = """
import json, os, sys
from pathlib import Path
import keras_cbpnet
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
run = keras_cbpnet.train(output=folder / "run", **settings)
before = sum(os.times()[:4])
keras_cbpnet.convert(run, output=folder / "bundle")
print(sum(os.times()[:4]) - before)
"""  # what `train --bundle` does, timed between its two parts


def refusal(bench: Bench) -> dict[str, Found]:
    """Time the refusal of a data set that does not exist."""
    words = ("-m", "keras_cbpnet.train", "--dataset", "nope")
    cpu_seconds(bench.environment, *words)  # compiles
    spent = [cpu_seconds(bench.environment, *words) for _ in range(REFUSALS)]
    if codes := {code for _, code in spent} - {2}:
        raise MissingError(f"a data set that does not exist ends with exit code {codes.pop()}")
    return {"refusal": Found(spread([seconds for seconds, _ in spent]))}


def conversion(bench: Bench) -> dict[str, Found]:
    """Time a conversion at the end of a training, and by a command of its own; then three recipes at once."""
    work = bench.work / "conversion"
    settings = json.dumps({"dataset": "digits", "tasks": 2, "epochs": 0, "head_epochs": 1})
    within, alone = [], []
    for turn in range(CONVERSIONS):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        within.append(float(bench.run("-c", NOT_AGAIN, work, settings).split()[-1]))
        alone.append(_converted(bench, "--output", work / "alone"))
        bench.say(f"conversion {turn + 1} of {CONVERSIONS}: {within[-1]:.1f} s within, {alone[-1]:.1f} s alone")
    options = [word for recipe in RECIPES for word in ("--recipe", recipe)]
    together = _converted(bench, "--output", work / "together", *options)
    apart = sum(_converted(bench, "--output", work / recipe, "--recipe", recipe) for recipe in RECIPES)
    shutil.rmtree(work)
    return {"conversion": Found(ratio(within, alone)), "recipes": single(together / apart)}


def _converted(bench: Bench, *words: Any) -> float:
    """Return the processor seconds of a conversion of the run in the folder `conversion`."""
    run = bench.work / "conversion" / "run"
    spent, code = cpu_seconds(bench.environment, "-m", "keras_cbpnet.convert", run, *words)
    if code:
        raise MissingError(f"convert {' '.join(map(str, words))} ends with exit code {code}")
    return spent


def prompts(bench: Bench) -> dict[str, Found]:
    """Time a step of prompt training on DeiT-tiny beside PyTorch's, in float32 and in bfloat16."""
    python, config = bench.peer("torch"), bench.networks / "deit.json"
    commands = {
        "here": (sys.executable, "keras_prompts.py", config, str(BATCH)),
        "float32": (python, "torch_prompts.py", config, "float32", str(BATCH)),
        "bfloat16": (python, "torch_prompts.py", config, "bfloat16", str(BATCH)),
    }
    ratios = bench.compare(commands, dict.fromkeys(commands, 1), TURNS)
    return {f"prompts_{kind}": Found(ratios["here", kind]) for kind in ("float32", "bfloat16")}


def demo(bench: Bench) -> dict[str, Found]:
    """Time what `make demo` does once everything is installed."""
    seconds = bench.benchmark("digits", "--seeds", "0")["mean"]["seconds"]
    bench.say("demo: " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
    return {"demo": single(sum(seconds.values()))}


REFUSAL = Area(
    (Row("refusal", "host", "`train --dataset nope` until it is refused, processor time", 0.3, "seconds"),), refusal
)
CONVERSION = Area(
    (
        Row("conversion", "host", "conversion by `train --bundle`, over that of a separate process", 0.5),
        Row("recipes", "host", f"`convert` by {', '.join(RECIPES)} at once, over three conversions", 0.5),
    ),
    conversion,
)
PROMPTS = Area(
    (
        Row("prompts_float32", "host", "a step of prompt training, DeiT-tiny, over eager PyTorch", 0.6),
        Row("prompts_bfloat16", "host", "the same over PyTorch in bfloat16, which this processor may not have", 1.0),
    ),
    prompts,
)
DEMO = Area((Row("demo", "host", "`make demo`, installed, by the clock", 60, "seconds"),), demo)
