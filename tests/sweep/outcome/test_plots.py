"""The plots of a sweep: files that hold a picture, and a page that needs nothing else."""

import re
from datetime import datetime
from operator import attrgetter

import matplotlib
import numpy as np
import optuna
import pytest
from made_studies import BASELINE, DROPOUT, RATE, made_study, made_trial, params, study_config
from matplotlib import pyplot
from pages import Page
from PIL import Image

from brainseg.sweep import outcome
from brainseg.sweep.engine.foreign import OwnStudy
from brainseg.sweep.outcome.page import sweep_html
from brainseg.sweep.outcome.plots import write_plots
from brainseg.sweep.outcome.summary import summarize

TWO_METRICS = {"val_dice_image": "maximize", "parameters": "minimize"}
PRUNED_COLOUR = np.array([0xFF, 0x7F, 0x0E])

pytestmark = pytest.mark.heavy


def complete(number, *, values=1):
    given = params(10 ** (-5 + number / 3), 0.05 * number, "batch" if number % 2 else "none", 8 + number)
    curve = (0.2, 0.3, 0.4 + 0.02 * number)
    return made_trial(
        number, "COMPLETE", given if number else BASELINE, values=[curve[2], 1000.0 * number][:values], curve=curve
    )


def single_study():
    """Six complete trials, the baseline among them; one pruned, one failed, one running, one to come."""
    config = study_config()
    trials = [
        *(complete(number) for number in range(6)),
        made_trial(6, "PRUNED", params(1e-5), values=[0.1], curve=(0.1, 0.1), pruned={"epoch": 2, "reason": "median"}),
        made_trial(7, "FAIL", params(1e-2), curve=(0.1,), failure="NaN"),
        made_trial(8, "RUNNING", params(2e-3), curve=(0.15, 0.2)),
        made_trial(9, "WAITING"),
    ]
    return made_study(config, trials), config


def plots_in(folder, study, config):
    """Every PNG file, and a line for each that failed."""
    folder.mkdir(exist_ok=True)
    written = []

    def write(name, save):
        save(folder / name)
        written.append(folder / name)

    failed = write_plots(study, summarize(study, config), write)
    return written, failed


def drawn(study, config, folder):
    """Every PNG file, and the page beside them."""
    summary = summarize(study, config)
    written, failed = plots_in(folder, study, config)
    assert failed == []
    (folder / "sweep.html").write_text(sweep_html(study, summary, made=datetime(2026, 1, 1)), encoding="utf-8")
    return written, Page(folder / "sweep.html")


def around(study):
    """What drawing must leave as it is."""
    settings = {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
    return study.get_trials(), settings, pyplot.get_backend(), pyplot.get_fignums(), optuna.logging.get_verbosity()


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """What is drawn of one metric; then what lay around it, before and after."""
    folder = tmp_path_factory.mktemp("single") / "plots"
    study, config = single_study()
    optuna.logging.set_verbosity(optuna.logging.INFO)  # Optuna's default
    before = around(study)
    return folder, *drawn(study, config, folder), before, around(study)


def test_every_plot_is_written(single):
    folder, written = single[:2]
    names = ["history.png", "importance.png", "slice.png", "parallel.png", "intermediate.png"]
    assert written == [folder / name for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "sweep.html"])


@pytest.mark.parametrize("name", ["history", "importance", "parallel", "slice", "intermediate"])
def test_a_png_holds_a_picture(single, name):
    folder = single[0]
    with Image.open(folder / f"{name}.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    height, width, _ = pixels.shape
    assert width >= 600
    assert height >= 250
    # Data are in colour; frame, axes and text are grey.
    coloured = np.ptp(pixels, axis=2) > 20
    assert coloured.sum() > 500
    assert len(np.unique(pixels @ [1 << 16, 1 << 8, 1])) > 50


def test_pruned_trials_are_seen_among_the_curves(single):
    folder = single[0]
    with Image.open(folder / "intermediate.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    # 0.7 of the colour over the grey 229 of the axes.
    seen = 0.7 * PRUNED_COLOUR + 0.3 * 229
    assert (np.abs(pixels - seen).max(axis=2) < 6).sum() > 20


def test_the_page_has_every_plot_under_its_heading(single):
    page = single[2]
    assert page.headings == [
        "History of val_dice_image",
        "Importance for val_dice_image",
        "Slices: val_dice_image by parameter",
        "Parallel coordinates: val_dice_image of each complete trial",
        "Intermediate values: val_dice_image by epoch",
    ]
    # Base filters are searched with batch normalisation alone. Eight trials have epochs and haven't failed.
    assert {name: len(content["data"]) for name, content in page.data.items()} == {
        "data-history": 3,
        "data-importance": 1,
        "data-slice-0": 1,
        "data-slice-1": 1,
        "data-slice-2": 1,
        "data-slice-3": 1,
        "data-parallel": 6,
        "data-intermediate": 8,
    }
    assert [plot["id"] for plot in page.named("div") if plot.get("class") == "plot"] == [
        name.replace("data", "plot") for name in page.data
    ]
    assert "quick: 7 of 12 trials finished" in page.text
    assert "Best val_dice_image: 0.5000, trial 5: 0.1000 better than the baseline (0.4000)." in page.text


def test_the_best_the_baseline_and_pruned_trials_are_told_apart_among_the_curves(single):
    lines = {line["name"]: line["line"] for line in single[2].data["data-intermediate"]["data"]}
    told = {name: (line["color"], line["dash"]) for name, line in lines.items()}
    assert told["trial 5, complete"] == ("#d55e00", "solid")
    assert told["trial 0, complete"] == ("#2b7cd3", "dash")
    assert told["trial 6, pruned"] == ("#868e96", "dot")
    assert told["trial 8, interrupted"] == told["trial 1, complete"] == ("#868e96", "solid")


def test_the_page_needs_no_network(single):
    page = single[2]
    assert page.source.count("plotly.js v") == 1
    assert not any("src" in attributes for _, attributes in page.elements)
    assert [link["href"] for link in page.named("link")] == ["data:,"]
    assert 'http-equiv="Content-Security-Policy" content="default-src' in page.source


def test_parameters_have_their_short_names(single):
    assert "learning_rate" in page_data(single[2])
    assert RATE not in page_data(single[2])


def page_data(page):
    """All figures of the page, as text."""
    return str(page.data)


def test_drawing_changes_nothing_else(single):
    assert single[3] == single[4]


def test_with_several_metrics_each_has_its_plots_and_the_front_is_drawn(tmp_path):
    config = study_config(metrics=TWO_METRICS)
    study = made_study(config, [complete(number, values=2) for number in range(6)])
    written, page = drawn(study, config, tmp_path)
    expected = [f"{kind}_{m}.png" for m in TWO_METRICS for kind in ("history", "importance", "slice", "parallel")]
    assert [path.name for path in written] == [*expected, "intermediate.png", "pareto.png"]
    assert page.headings[-1] == "Pareto front of val_dice_image and parameters"
    assert len(page.data["data-pareto"]["data"]) == 2  # the front, and the other trials
    assert all(path.stat().st_size > 5000 for path in written)


def test_what_cant_be_drawn_yet_is_named_with_the_reason(tmp_path):
    config = study_config(metrics=TWO_METRICS)
    running = made_trial(0, "RUNNING", BASELINE, curve=(0.1, 0.2))
    written, page = drawn(made_study(config, [running]), config, tmp_path)
    assert [path.name for path in written] == ["intermediate.png"]
    assert len(page.headings) == 10
    assert re.findall("<p>Not drawn: (.*?)</p>", page.source) == [
        "no trial is complete.",
        "0 of the 5 complete trials it takes.",
        "no parameter differs between complete trials.",
        "no parameter differs between complete trials.",
    ] * 2 + ["no trial is complete."]


def test_a_study_without_trials_has_a_page(tmp_path):
    config = study_config()
    written, page = drawn(made_study(config, []), config, tmp_path)
    assert written == []
    assert "Not drawn: no trial has finished an epoch." in page.text


def test_a_parameter_that_never_changed_is_no_axis(tmp_path):
    # dropout and norm are the same in all, which matplotlib would warn of.
    trials = [
        made_trial(n, "COMPLETE", params(10 ** (-5 + n / 3)), values=[0.5], curve=(0.5,), epochs=1) for n in range(2)
    ]
    config = study_config()
    written, page = drawn(made_study(config, trials), config, tmp_path)
    assert [path.name for path in written] == ["history.png", "slice.png", "parallel.png", "intermediate.png"]
    assert "dropout" not in page_data(page)


def test_a_plot_that_fails_is_a_line_and_the_others_are_drawn(tmp_path, monkeypatch):
    def fail(_):
        raise ValueError("no axis for 0.33")

    for plots in ("plots.AXES", "figures.FIGURES"):
        monkeypatch.setitem(attrgetter(plots)(outcome), "slice", fail)
    study, config = single_study()
    written, failed = plots_in(tmp_path, study, config)
    assert [path.name for path in written] == ["history.png", "importance.png", "parallel.png", "intermediate.png"]
    assert failed == ["the plot slice couldn't be drawn: no axis for 0.33"]
    page = sweep_html(study, summarize(study, config), made=datetime(2026, 1, 1))
    assert re.findall("<p>Not drawn: (.*?)</p>", page) == ["it failed (no axis for 0.33)."]


def test_a_value_outside_of_the_space_is_drawn_and_trials_keep_their_numbers(tmp_path):
    """As a study of an earlier brainseg may have one; trial 2 is none of the study's own."""
    study, config = made_study(study_config(), [complete(number) for number in range(6)]), study_config()
    outside = complete(6)
    outside.params[DROPOUT] = 0.95
    study._storage.create_new_trial(study._study_id, template_trial=outside)
    del study._storage.get_trial(2).user_attrs["run_id"]
    own = OwnStudy(study_name=study.study_name, storage=study._storage)
    _, page = drawn(own, config, tmp_path)
    assert page.data["data-history"]["data"][0]["x"] == [0, 1, 3, 4, 5, 6]
    assert "trial 6" in str(page.data)
