"""Which configurations are trained again, and what is said of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from brainseg.errors import ConfigError
from brainseg.scoring.intervals import Estimate
from brainseg.scoring.winners import Lead
from brainseg.sweep.confirm.candidates import Candidate, check_study, check_test_part, chosen, confirm_config, stored
from brainseg.sweep.confirm.confirmation import Confirmation, Confirmed, from_json, to_json
from brainseg.sweep.confirm.text import verdicts
from brainseg.sweep.engine.trial_row import TrialRow
from brainseg.sweep.study.parameter import Parameter
from brainseg.sweep.study.study_file import PrunerConfig, StudyConfig

DROPOUT = "model.dropout"
STUDY = StudyConfig(
    name="mine",
    metrics={"val_dice_image": "maximize"},
    trials=4,
    baseline={DROPOUT: 0.1},
    space=(Parameter(key=DROPOUT, type="float", low=0.0, high=0.5, step=0.05),),
)


def row(number: int, dropout: float, value: float) -> TrialRow:
    """A complete trial."""
    nothing: dict[str, Any] = {field.name: None for field in dataclasses.fields(TrialRow)}
    return TrialRow(**nothing | {"number": number, "values": (value,), "params": {DROPOUT: dropout}})


ROWS = [row(3, 0.30000000000000004, 0.8), row(4, 0.3, 0.79), row(0, 0.1, 0.7), row(1, 0.2, 0.6), row(2, 0.0, 0.5)]


def test_the_baseline_and_the_best_other_values_are_trained_again_each_once() -> None:
    found = chosen(STUDY, ROWS, top=2)
    assert [(each.name, each.params, each.value) for each in found] == [
        ("baseline", {DROPOUT: 0.1}, 0.7),
        ("trial 3", {DROPOUT: 0.3}, 0.8),
        ("trial 1", {DROPOUT: 0.2}, 0.6),
    ]


def test_each_is_trained_with_seeds_that_the_study_has_not_had_seed_by_seed_and_without_a_pruner() -> None:
    candidates = chosen(STUDY, ROWS, top=1)
    study = confirm_config(STUDY, candidates, study_seed=7, seeds=2, workers=3)
    assert (study.name, study.trials, study.pruner.name, study.workers) == ("mine.confirm", 4, "none", 3)
    assert study.enqueue == (
        {DROPOUT: 0.1, "seed": 8},
        {DROPOUT: 0.3, "seed": 8},
        {DROPOUT: 0.1, "seed": 9},
        {DROPOUT: 0.3, "seed": 9},
    )
    assert stored(STUDY, study, ROWS) == candidates


def test_a_study_that_repeats_seeds_is_confirmed_with_others_run_by_run() -> None:
    repeated = dataclasses.replace(STUDY, repeat={"seed": (0, 9, 3)}, pruner=PrunerConfig(name="none"))
    check_study(repeated, front=False)
    study = confirm_config(repeated, chosen(STUDY, ROWS, top=1), study_seed=0, seeds=2, workers=1)
    assert [point["seed"] for point in study.enqueue] == [10, 10, 11, 11]
    assert study.repeat == {}


def test_a_study_that_repeats_folds_has_no_slices_left_to_confirm_on() -> None:
    repeated = dataclasses.replace(STUDY, repeat={"data.fold": (0, 1)}, pruner=PrunerConfig(name="none"))
    with pytest.raises(ConfigError) as error:
        check_study(repeated, front=False)
    assert str(error.value) == (
        "mine repeats data.fold, so that its trials were chosen on each other's test slices, and confirm needs slices "
        "that none has seen; start a study with data.test_fraction=0.2 and repeat: {seed: [0, 1, 2]}"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"metrics": {"parameters": "minimize"}, "pruner": PrunerConfig(name="none")},
            "mine has parameters, and confirm is for studies of val_dice_image",
        ),
        ({"baseline": {}}, "mine has no baseline to compare with"),
        (
            {
                "baseline": {DROPOUT: 0.1, "seed": 0},
                "space": (*STUDY.space, Parameter(key="seed", type="int", low=0, high=9)),
            },
            "mine searches seed, and confirm tries new seeds",
        ),
    ],
)
def test_a_study_whose_winners_cannot_be_confirmed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_study(dataclasses.replace(STUDY, **changes), front=False)


def test_a_front_is_of_several_metrics_and_several_metrics_have_no_best() -> None:
    metrics = {"parameters": "minimize", "final_dice": "maximize"}
    several = dataclasses.replace(STUDY, metrics=metrics, pruner=PrunerConfig(name="none"))
    check_study(several, front=True)
    with pytest.raises(ConfigError, match=r"mine has parameters and final_dice, and no best trial .* --front"):
        check_study(several, front=False)
    with pytest.raises(ConfigError, match="mine has val_dice_image alone, and no front therefore; leave --front out"):
        check_study(STUDY, front=True)
    study = confirm_config(several, chosen(several, ROWS, top=1), study_seed=0, seeds=2, workers=1)
    assert study.metrics == {"final_dice": "maximize"}


def test_without_a_test_part_folds_are_offered() -> None:
    check_test_part(STUDY, ["P1", "P2", "P1"])
    with pytest.raises(ConfigError, match="the test part of mine is of one person"):
        check_test_part(STUDY, ["P1", "P1"])
    with pytest.raises(
        ConfigError, match=r"no test part: .* data\.test_fraction=0\.2, or with data\.folds=5 data\.fold=0"
    ):
        check_test_part(STUDY, [])


def test_one_seed_and_a_study_of_its_baseline_alone_are_refused() -> None:
    with pytest.raises(ConfigError, match="--seeds must be 2 or more, got 1"):
        confirm_config(STUDY, chosen(STUDY, ROWS, top=1), study_seed=0, seeds=1, workers=1)
    with pytest.raises(ConfigError, match="--top must be 1 or more, got 0"):
        chosen(STUDY, ROWS, top=0)
    with pytest.raises(ConfigError, match="mine has no complete trial besides its baseline"):
        chosen(STUDY, [row(0, 0.1, 0.7)], top=3)


def configuration(
    name: str,
    test: float,
    *,
    value: float | None = 0.7,
    p: float | None = None,
    is_worse_than_best: bool = False,
    **costs: float,
) -> Confirmed:
    """p: of its lead over a baseline of 0.6; None for the baseline itself."""
    lead = test - 0.6
    return Confirmed(
        candidate=Candidate(
            params={DROPOUT: 0.1},
            trial=int(name) if name.isdecimal() else 0,
            value=value,
            is_baseline=name == "baseline",
        ),
        validation=(test - 0.02, test + 0.04),
        test=(test - 0.01, test + 0.01),
        lead=None
        if p is None
        else Lead(difference=Estimate(value=lead, low=lead - 0.02, high=lead + 0.02), p=p, spread=0.01),
        is_worse_than_best=is_worse_than_best,
        **{"parameters": 1000.0, "seconds_per_image": 0.1} | costs,
    )


def confirmation(configurations: Sequence[Confirmed]) -> Confirmation:
    return Confirmation(
        study="mine", metric="val_dice_image", seeds=(1, 2), slices=60, people=12, configurations=tuple(configurations)
    )


def test_the_verdict_names_those_that_are_better_what_was_luck_and_the_cheapest_of_the_best() -> None:
    found = confirmation(
        [
            configuration("baseline", 0.60, is_worse_than_best=True),
            configuration("3", 0.65, value=0.78, p=0.01),
            configuration("5", 0.66, p=0.002, parameters=3000.0),
            configuration("6", 0.61, p=0.7, is_worse_than_best=True),
            configuration("8", 0.50, p=0.001, is_worse_than_best=True),
        ]
    )
    assert verdicts(found) == [
        "Trial 3 is better than the baseline by 0.0500 (0.0300-0.0700) Dice on the test part.",
        "Trial 5 is better than the baseline by 0.0600 (0.0400-0.0800) Dice on the test part.",
        "Trial 6 is not to be told from the baseline on the test part.",
        "Trial 8 is worse than the baseline on the test part.",
        "Trial 3, the study's best, less the baseline: +0.0800 in the study, +0.0500 with new seeds on the same "
        "slices, and +0.0500 on the test part: +0.0300 was luck of the seed, and +0.0000 holds on validation slices "
        "alone.",
        "Take trial 3: the cheapest (1000 parameters, 0.1 s a slice) of those that aren't to be told from the best on "
        "the test part, trial 5.",
    ]
    assert from_json(to_json(found)) == found


def test_of_equal_ones_the_fastest_counts_as_cheapest_where_the_clock_can_tell() -> None:
    baseline = configuration("baseline", 0.60, seconds_per_image=0.10)
    slower = configuration("3", 0.62, p=0.3, seconds_per_image=0.11)
    slow = configuration("4", 0.63, p=0.3, seconds_per_image=0.2)
    assert confirmation([baseline, slower, slow]).cheapest is slower


def test_what_is_no_confirmation_is_none() -> None:
    assert from_json("{") is None
    assert from_json('{"schema_version": 99}') is None
    assert from_json("[]") is None
