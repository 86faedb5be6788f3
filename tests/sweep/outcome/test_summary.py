"""What a sweep has found, computed and told."""

import csv
import io

import pytest
from made_studies import BASELINE, DROPOUT, FILTERS, NORM, RATE, held, made_study, made_trial, params, study_config
from rich.console import Console

from brainseg.config import short_names
from brainseg.sweep.engine.trial_row import shown_metric, shown_value
from brainseg.sweep.outcome.summary import print_status, summarize, summary_markdown, trials_csv, verdict

TWO_METRICS = {"val_dice_image": "maximize", "parameters": "minimize"}
TOO_LARGE, KEPT = {"parameters <= 2e6": 41200.0}, {"parameters <= 2e6": 0.0}


def complete(number, value, given=None, **attrs):
    values = list(value) if isinstance(value, tuple) else [value]
    return made_trial(number, "COMPLETE", given or params(10 ** -(2 + number / 10)), values=values, **attrs)


def summary_of(trials, **changes):
    config = study_config(**changes)
    return summarize(made_study(config, trials), config)


def numbers(rows):
    return [row.number for row in rows]


def every_state():
    return [
        complete(0, 0.5, BASELINE, curve=(0.3, 0.5, 0.4, 0.4)),
        made_trial(1, "PRUNED", params(1e-5), curve=(0.9,), values=[0.9], pruned={"epoch": 1, "reason": "median 0.3"}),
        complete(2, 0.75, params(1e-3, 0.25, "batch", 16), curve=(0.5, 0.6, 0.7, 0.75)),
        made_trial(3, "FAIL", params(1e-2), curve=(0.1, 0.1), failure="train_loss became NaN in epoch 3"),
        made_trial(4, "RUNNING", params(2e-3), curve=(0.4,), lease=held()),
        made_trial(5, "RUNNING", params(3e-3), curve=(0.4, 0.5, 0.6)),
        made_trial(6, "WAITING"),
    ]


def test_trials_are_counted_by_state_and_pruned_ones_count_as_finished():
    summary = summary_of(every_state())
    assert summary.counts == {"complete": 2, "pruned": 1, "failed": 1, "running": 1, "interrupted": 1, "waiting": 1}
    assert (summary.finished, summary.asked) == (3, 12)


def test_what_was_asked_for_is_the_studys_own_number():
    study = made_study(study_config(trials=20), every_state())
    assert summarize(study, study_config(trials=12)).asked == 20


def test_only_complete_trials_can_be_the_best():
    # The pruned trial 1 has reported 0.9, which Optuna keeps as its value.
    summary = summary_of(every_state())
    assert numbers(summary.best) == [2, 0]
    assert summary.metrics[0].best_value == 0.75


def test_a_trial_that_breaks_a_constraint_is_never_the_best():
    trials = [complete(0, 0.5, BASELINE), complete(1, 0.75, excesses=TOO_LARGE), complete(2, 0.6, excesses=KEPT)]
    summary = summary_of(trials)
    assert (numbers(summary.best), numbers(summary.infeasible)) == ([2, 0], [1])
    assert summary.metrics[0].best_value == 0.6
    assert (summary.counts, summary.finished) == ({"complete": 2, "infeasible": 1}, 3)
    front = summary_of(
        [complete(0, (0.7, 3000), excesses=TOO_LARGE), complete(1, (0.6, 2000), excesses=KEPT)], metrics=TWO_METRICS
    )
    assert numbers(front.best) == [1]


def test_a_study_whose_trials_all_break_a_constraint_has_no_best():
    summary = summary_of([complete(0, 0.5, BASELINE, excesses=TOO_LARGE)])
    assert verdict(summary, summary.metrics[0]) == "No trial keeps the constraints yet: no best val_dice_image."


def test_after_ten_trials_the_forecasts_error_is_told():
    trials = [complete(number, 0.5, params(1e-3), seconds=60.0) for number in range(9)]
    assert summary_of(trials).forecast is None
    config, told = study_config(), io.StringIO()
    summary = summary_of([*trials, complete(9, 0.25, seconds=120.0)])
    print_status(summary, config, Console(file=told, width=200))
    line = "Forecast: 9 trials were to take 9:00, each by the mean of those before it, and took 10:00: 10% too short."
    assert line in told.getvalue().splitlines()
    assert line in summary_markdown(summary, config)


def test_of_equal_trials_the_earlier_is_better():
    assert numbers(summary_of([complete(0, 0.1), complete(1, 0.6), complete(2, 0.6)]).best) == [1, 2, 0]


def test_the_gain_is_positive_if_the_best_is_better_in_either_direction():
    trials = [complete(0, 0.5, BASELINE), complete(1, 0.75), complete(2, 0.25)]
    assert summary_of(trials).metrics[0].gain == 0.25
    minimized = summary_of(trials, metrics={"seconds_per_image": "minimize"}).metrics[0]
    assert (minimized.best.number, minimized.gain) == (2, 0.25)


@pytest.mark.parametrize(
    ("trials", "changes", "expected"),
    [
        ([], {}, "No trial is complete yet: no best val_dice_image."),
        (
            [complete(0, 0.5, BASELINE), complete(1, 0.75)],
            {},
            "Best val_dice_image: 0.7500, trial 1: 0.2500 better than the baseline (0.5000).",
        ),
        (
            [complete(0, 0.5, BASELINE), complete(1, 0.25)],
            {},
            "Best val_dice_image: 0.5000, the baseline (trial 0): no trial is better.",
        ),
        (
            [made_trial(0, "PRUNED", BASELINE, pruned={"epoch": 1, "reason": "median"}), complete(1, 0.25)],
            {},
            "Best val_dice_image: 0.2500, trial 1; the baseline (trial 0) is pruned, without a value.",
        ),
        (
            [complete(0, 0.5, BASELINE, excesses=TOO_LARGE), complete(1, 0.25)],
            {},
            "Best val_dice_image: 0.2500, trial 1; the baseline (trial 0) is infeasible.",
        ),
        ([complete(0, 0.5)], {"baseline": {}}, "Best val_dice_image: 0.5000, trial 0."),
    ],
)
def test_the_verdict_compares_the_best_with_the_baseline(trials, changes, expected):
    summary = summary_of(trials, **changes)
    assert verdict(summary, summary.metrics[0]) == expected


def test_with_several_metrics_the_best_are_the_pareto_front():
    # Trial 2 has a lower Dice than trial 1 and more weights; trial 4 equals trial 3 with more weights.
    scores = [(0.5, 1000), (0.7, 3000), (0.6, 4000), (0.6, 2000), (0.6, 2001)]
    trials = [complete(number, score) for number, score in enumerate(scores)]
    summary = summary_of(trials, metrics=TWO_METRICS)
    assert numbers(summary.best) == [1, 3, 0]
    assert [(metric.best.number, metric.best_value) for metric in summary.metrics] == [(1, 0.7), (0, 1000.0)]


def test_epochs_are_saved_by_pruned_trials_alone():
    # Run: 4 + 1 + 4 + 2 + 1 + 3. Saved: trial 1 was pruned after epoch 1 of 4; trial 3 failed, which saves nothing.
    summary = summary_of(every_state())
    assert (summary.epochs_run, summary.epochs_saved) == (15, 3)


def test_importance_goes_to_the_parameter_that_decides():
    trials = [complete(n, 0.1 * n, params(10 ** (-5 + n / 3), 0.05 * ((n * 3) % 10))) for n in range(10)]
    importance = summary_of(trials).metrics[0].importance
    assert next(iter(importance.shares)) == RATE
    assert importance.shares[RATE] > 0.7
    assert importance.shares[NORM] == 0.0
    assert sum(importance.shares.values()) == pytest.approx(1.0)
    assert importance.note == ""
    assert summary_of(trials).metrics[0].importance == importance


def test_importance_is_of_each_metric():
    trials = [
        complete(n, (0.1 * n, 1000.0 * ((n * 3) % 10)), params(10 ** (-5 + n / 3), 0.05 * ((n * 3) % 10)))
        for n in range(10)
    ]
    summary = summary_of(trials, metrics=TWO_METRICS)
    assert [next(iter(metric.importance.shares)) for metric in summary.metrics] == [RATE, DROPOUT]


def test_importance_leaves_out_what_not_every_complete_trial_has():
    trials = [complete(n, 0.1 * n, params(10 ** (-5 + n / 3), 0.1, "batch", 8 + n)) for n in range(6)]
    importance = summary_of([*trials, complete(6, 0.6, params(1e-3))]).metrics[0].importance
    assert importance.note == "left out, since not every complete trial has them: model.base_filters"
    assert set(importance.shares) == {RATE, DROPOUT, NORM}


@pytest.mark.parametrize(
    ("trials", "note"),
    [
        ([complete(n, 0.1 * n) for n in range(4)], "4 of the 5 complete trials it takes"),
        ([complete(n, 0.5) for n in range(6)], "every complete trial has the same value"),
        (
            [complete(n, 0.1 * n, params(1e-3)) for n in range(6)],
            "no parameter that every complete trial has explains the differences",
        ),
    ],
)
def test_importance_says_why_there_is_none(trials, note):
    importance = summary_of(trials).metrics[0].importance
    assert (dict(importance.shares), importance.note) == ({}, note)


def test_the_csv_file_has_every_trial_with_what_is_known_of_it():
    trials = every_state()
    trials[3].user_attrs["deaths"] = [1, 2]
    trials[0].user_attrs["seconds"] = 61.5
    trials[3].user_attrs["failure"] = 'loss, "NaN"'
    rows = list(csv.DictReader(io.StringIO(trials_csv(trials, study_config()))))
    assert rows[0] == {
        "trial": "0",
        "state": "complete",
        "val_dice_image": "0.5",
        RATE: "0.0001",
        DROPOUT: "0.1",
        NORM: "none",
        FILTERS: "",
        "best_val_dice_image": "0.5",
        "epochs": "4",
        "epochs_asked": "4",
        "seconds": "61.5",
        "deaths": "0",
        "run_id": "0" * 32,
        "reason": "",
        "line": "seed=0",
    }
    assert [row["state"] for row in rows] == [
        "complete",
        "pruned",
        "complete",
        "failed",
        "running",
        "interrupted",
        "waiting",
    ]
    assert [rows[1][key] for key in ("val_dice_image", "best_val_dice_image", "reason")] == ["", "0.9", "median 0.3"]
    assert [rows[3][key] for key in ("deaths", "reason")] == ["2", 'loss, "NaN"']
    assert set(rows[6].values()) == {"6", "waiting", "", "0"}


def test_the_markdown_gives_the_answer_first():
    config = study_config()
    trials = every_state()
    trials[2].user_attrs["line"] = "model.norm=batch 'run_name=a|b'"
    assert summary_markdown(summarize(made_study(config, trials), config), config) == (
        "**Best val_dice_image: 0.7500, trial 2: 0.2500 better than the baseline (0.5000).**\n"
        "\n"
        "```\n"
        "python -m brainseg.train model.norm=batch 'run_name=a|b'\n"
        "```\n"
        "\n"
        "quick: 3 of 12 trials finished: 2 complete, 1 pruned; 1 failed, 1 running, 1 interrupted, 1 waiting."
        " Pruning saved 3 of 18 epochs.\n"
        "\n"
        "### Best trials\n"
        "\n"
        "| trial | val_dice_image | epochs | learning_rate | dropout | norm | base_filters | run |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        f"| 2 | 0.7500 | 4/4 | 0.001 | 0.25 | batch | 16 | {'0' * 31}2 |\n"
        f"| baseline 0 | 0.5000 | 4/4 | 0.0001 | 0.1 | none |  | {'0' * 32} |\n"
        "\n"
        "### Importance for val_dice_image\n"
        "\n"
        "2 of the 5 complete trials it takes.\n"
    )


def status(trials, *, width, encoding="utf-8", **changes):
    config = study_config(**changes)
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=output, width=width, markup=False, highlight=False, soft_wrap=True)
    print_status(summarize(made_study(config, trials), config), config, console)
    output.seek(0)
    return [line.rstrip() for line in output.read().splitlines()]


def test_the_status_shows_the_best_trials_in_a_table_and_the_failures():
    trials = every_state()
    trials[3].user_attrs["failure"] = "no [loss] left"
    assert status(trials, width=130) == [
        "quick: 3 of 12 trials finished: 2 complete, 1 pruned; 1 failed, 1 running, 1 interrupted, 1 waiting",
        "Best val_dice_image: 0.7500, trial 2: 0.2500 better than the baseline (0.5000).",
        "python -m brainseg.train seed=2",
        "Pruning saved 3 of 18 epochs.",
        "",
        "Best trials",
        "     trial  val_dice_image  epochs  learning_rate  dropout   norm  base_filters  run",
        f"         2          0.7500     4/4          0.001     0.25  batch            16  {'0' * 31}2",
        f"baseline 0          0.5000     4/4         0.0001      0.1   none                {'0' * 32}",
        "",
        "Importance for val_dice_image",
        "2 of the 5 complete trials it takes",
        "",
        "Failed trials",
        "trial  epochs  reason",
        "3      2/4     no [loss] left",
    ]


def test_the_status_says_which_constraint_is_broken_and_by_how_much():
    assert status([complete(0, 0.5, BASELINE, excesses=TOO_LARGE | {"final_dice >= 0.5": 0.125})], width=130) == [
        "quick: 1 of 12 trials finished: 1 infeasible",
        "No trial keeps the constraints yet: no best val_dice_image.",
        "0 epochs run.",
        "",
        "Importance for val_dice_image",
        "1 of the 5 complete trials it takes",
        "",
        "Infeasible trials",
        "trial  val_dice_image  reason",
        "0              0.5000  parameters <= 2e6 is missed by 41200; final_dice >= 0.5 is missed by 0.1250",
    ]


def test_a_narrow_terminal_loses_nothing():
    lines = status(every_state(), width=60)
    assert lines[5:8] == [
        "Best trials",
        "trial 2: val_dice_image 0.7500, epochs 4/4, learning_rate=0.001 dropout=0.25 norm=batch base_filters=16,"
        f" run {'0' * 31}2",
        "trial 0, the baseline: val_dice_image 0.5000, epochs 4/4, learning_rate=0.0001 dropout=0.1 norm=none,"
        f" run {'0' * 32}",
    ]


def test_a_line_to_paste_is_never_broken():
    trials = [complete(0, 0.5, BASELINE, line="seed=0 " * 50 + "last=1")]
    assert "python -m brainseg.train " + "seed=0 " * 50 + "last=1" in status(trials, width=60)


@pytest.mark.parametrize(("encoding", "block"), [("utf-8", "█"), ("ascii", "#")])
def test_importance_is_shown_as_bars_that_the_terminal_has(encoding, block):
    trials = [complete(n, 0.1 * n, params(10 ** (-5 + n / 3))) for n in range(6)]
    # One parameter decides alone: the whole bar of 30.
    assert f"learning_rate  1.00  {block * 30}" in status(trials, width=100, encoding=encoding)


def test_a_study_without_trials_has_a_status():
    assert status([], width=100) == [
        "quick: 0 of 12 trials finished",
        "No trial is complete yet: no best val_dice_image.",
        "0 epochs run.",
        "",
        "Importance for val_dice_image",
        "0 of the 5 complete trials it takes",
    ]


def test_the_front_of_several_metrics_is_called_by_its_name():
    lines = status([complete(0, (0.5, 1000)), complete(1, (0.7, 3000))], width=130, metrics=TWO_METRICS)
    assert "Pareto front" in lines
    assert "Importance for parameters" in lines


def test_a_name_is_shortened_where_it_stays_the_only_one():
    assert short_names(["model.name", "data.name", "train.loss", "seed"]) == {
        "model.name": "model.name",
        "data.name": "data.name",
        "train.loss": "loss",
        "seed": "seed",
    }


@pytest.mark.parametrize(
    ("value", "shown"), [(0.71234, "0.7123"), (0.0001234, "0.0001234"), (1940817.0, "1940817"), (0.0, "0.0000")]
)
def test_a_metric_has_the_digits_that_matter(value, shown):
    assert shown_metric(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(True, "true"), (0.00031622, "0.0003162"), (16, "16"), (20000, "20000"), ("batch", "batch")]
)
def test_a_parameter_is_shown_as_on_the_command_line(value, shown):
    assert shown_value(value) == shown
