"""The plots of a sweep: files that hold a picture, and a page that needs nothing else."""

import re

import matplotlib
import numpy as np
import optuna
import pytest
from made_studies import BASELINE, RATE, made_study, made_trial, params, study_config
from matplotlib import pyplot
from PIL import Image

from brainseg.sweep.outcome.plots import write_plots

TWO_METRICS = {"val_dice_image": "maximize", "parameters": "minimize"}
PRUNED_COLOUR = np.array([0xFF, 0x7F, 0x0E])


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


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """What is drawn of one metric."""
    folder = tmp_path_factory.mktemp("single") / "plots"
    study, config = single_study()
    written = write_plots(study, config, folder)
    return folder, written


def headings(page):
    return re.findall("<h2>(.*?)</h2>", page)


def page_of(folder):
    return (folder / "sweep.html").read_text(encoding="utf-8")


def without_library(page):
    """The page without plotly.js, which is full of text of its own."""
    scripts = re.findall("<script>.*?</script>", page, flags=re.DOTALL)
    return page.replace(max(scripts, key=len), "")


def test_every_plot_is_written(single):
    folder, written = single
    names = ["history.png", "importance.png", "parallel.png", "slice.png", "intermediate.png", "sweep.html"]
    assert written == [folder / name for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("name", ["history", "importance", "parallel", "slice", "intermediate"])
def test_a_png_holds_a_picture(single, name):
    folder, _ = single
    with Image.open(folder / f"{name}.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    height, width, _ = pixels.shape
    assert width >= 600
    assert height >= 250
    # Data are in colour; frame, axes and text are grey.
    coloured = np.ptp(pixels, axis=2) > 20
    assert coloured.sum() > 500
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_pruned_trials_are_seen_among_the_curves(single):
    folder, _ = single
    with Image.open(folder / "intermediate.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    # 0.7 of the colour over the grey 229 of the axes.
    seen = 0.7 * PRUNED_COLOUR + 0.3 * 229
    assert (np.abs(pixels - seen).max(axis=2) < 6).sum() > 20


def test_the_page_has_every_plot_under_its_heading(single):
    page = page_of(single[0])
    assert headings(page) == [
        "History of val_dice_image",
        "Importance for val_dice_image",
        "Parallel coordinates: val_dice_image of each complete trial",
        "Slices: val_dice_image by parameter",
        "Intermediate values: val_dice_image by epoch",
    ]
    body = without_library(page)
    assert body.count("Plotly.newPlot(") == 5
    for name in ("history", "importance", "parallel", "slice", "intermediate"):
        assert body.count(f'<div id="{name}"') == 1
    assert "trial 6, pruned" in body
    assert "quick: 7 of 12 trials finished" in body
    assert "Best val_dice_image: 0.5000, trial 5: 0.1000 better than the baseline (0.4000)." in body


def test_the_page_needs_no_network(single):
    page = page_of(single[0])
    body = without_library(page)
    assert page.count("plotly.js v") == 1
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)", body)
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?https?:""", body)
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\';' in body


def test_parameters_have_their_short_names(single):
    body = without_library(page_of(single[0]))
    assert "learning_rate" in body
    assert RATE not in body


def test_drawing_changes_nothing_else(tmp_path):
    study, config = single_study()
    before = study.get_trials()
    optuna.logging.set_verbosity(optuna.logging.INFO)  # Optuna's default
    settings = {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
    backend, figures = pyplot.get_backend(), pyplot.get_fignums()
    write_plots(study, config, tmp_path)
    assert study.get_trials() == before
    assert {key: matplotlib.rcParams[key] for key in settings} == settings
    assert (pyplot.get_backend(), pyplot.get_fignums()) == (backend, figures)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def test_with_several_metrics_each_has_its_plots_and_the_front_is_drawn(tmp_path):
    config = study_config(metrics=TWO_METRICS)
    study = made_study(config, [complete(number, values=2) for number in range(6)])
    written = write_plots(study, config, tmp_path)
    expected = [f"{kind}_{m}.png" for m in TWO_METRICS for kind in ("history", "importance", "parallel", "slice")]
    assert [path.name for path in written] == [*expected, "intermediate.png", "pareto.png", "sweep.html"]
    assert headings(page_of(tmp_path))[-1] == "Pareto front of val_dice_image and parameters"
    assert all(path.stat().st_size > 5000 for path in written)


def test_what_cant_be_drawn_yet_is_named_with_the_reason(tmp_path):
    config = study_config(metrics=TWO_METRICS)
    running = made_trial(0, "RUNNING", BASELINE, curve=(0.1, 0.2))
    written = write_plots(made_study(config, [running]), config, tmp_path)
    assert [path.name for path in written] == ["intermediate.png", "sweep.html"]
    page = page_of(tmp_path)
    assert len(headings(page)) == 10
    assert re.findall("<p>Not drawn: (.*?)</p>", page) == [
        "no trial is complete.",
        "0 of the 5 complete trials it takes.",
        "no parameter differs between complete trials.",
        "no parameter differs between complete trials.",
    ] * 2 + ["no trial is complete."]


def test_a_study_without_trials_has_a_page(tmp_path):
    config = study_config()
    assert write_plots(made_study(config, []), config, tmp_path) == [tmp_path / "sweep.html"]
    assert "Not drawn: no trial has finished an epoch." in page_of(tmp_path)


def test_a_parameter_that_never_changed_is_no_axis(tmp_path):
    # dropout and norm are the same in all, which matplotlib would warn of.
    trials = [
        made_trial(n, "COMPLETE", params(10 ** (-5 + n / 3)), values=[0.5], curve=(0.5,), epochs=1) for n in range(2)
    ]
    config = study_config()
    written = write_plots(made_study(config, trials), config, tmp_path)
    assert [path.name for path in written] == [
        "history.png",
        "parallel.png",
        "slice.png",
        "intermediate.png",
        "sweep.html",
    ]
    assert "dropout" not in without_library(page_of(tmp_path))
