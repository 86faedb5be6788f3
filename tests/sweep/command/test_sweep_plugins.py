"""A study of a plugin's network, loss and metric: its workers are told what to import, and nobody else needs it."""

import pytest

from examples import write_example
from sweeps import RATE, Sweep

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

DEPTH = "model.options.depth"
KEPT = ("data.phantom", "data.image_size", "data.batch", "train.precision", "tracking.")


def test_a_study_searches_a_plugins_options_by_its_metric(sweep: Sweep) -> None:
    for name in ("attention", "objects"):
        write_example(name, sweep.folder)
    sweep.write(
        metric="object_f1",
        workers=1,
        overrides=[
            *(item for item in sweep.overrides if item.startswith(KEPT)),
            *("plugins=[attention,objects]", "model.name=attention_unet", "model.options.filters=2"),
            *("metrics=[object_f1]", "train.epochs=1"),
        ],
        baseline={RATE: 1e-2, DEPTH: 1},
        space={RATE: {"type": "float", "low": 1e-3, "high": 1e-1}, DEPTH: {"type": "int", "low": 1, "high": 2}},
        trials=1,
    )
    sweep.run("run", "tiny")
    text = sweep.run("run", "tiny", "--trials", "2")  # a second start knows the plugins as well
    assert "tiny: 2 of 2 trials finished: 2 complete" in text
    runs = sweep.children()
    assert {number: run.params["model.options.filters"] for number, run in runs.items()} == {0: "2", 1: "2"}
    assert [run.params[DEPTH] for run in runs.values()] == [str(trial.params[DEPTH]) for trial in sweep.trials()]
    assert [run.metrics["object_f1"][1] for run in runs.values()] == [trial.value for trial in sweep.trials()]

    for path in sweep.folder.glob("*.py"):
        path.unlink()
    assert "2 of 2 trials finished" in sweep.run("status", "tiny")
    told = (
        "error: the study 'tiny' has parts of attention, objects, which this process wasn't told to import; "
        "if you trust what is there, add plugins=[attention,objects]\n"
    )
    assert sweep.run("worker", "tiny", expected=2) == told
    assert sweep.run("add", "tiny", f"{DEPTH}=2", expected=2) == told
