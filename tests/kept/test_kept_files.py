"""What brainseg 0.1 has left on disk is read by this version, and goes on as it would have with 0.1."""

import pytest
from kept_expected import Expected
from kept_outcome import Outcome
from kept_set import SETS, Project

pytestmark = pytest.mark.timeout(1200)  # one to three minutes; more where others compute as well

METRICS = {"train_loss", "train_dice", "val_loss", "val_dice", "val_dice_image", "learning_rate"}
SHAPE = (20, 24)  # of most slices; PIL turns TIFF files by their EXIF tag


@pytest.mark.parametrize("name", SETS)
def test_the_kept_set_has_a_run_to_resume_and_a_trial_in_flight(untouched: Project, name: str) -> None:
    finished, in_flight = untouched.trials(name)
    assert (finished["state"], in_flight["state"]) == ("COMPLETE", "RUNNING")
    assert [epoch for epoch, _ in in_flight["epochs"]] == [1]
    for run_id in (untouched.run_named(f"{name}-run"), untouched.run_of_trial(name, 1)):
        assert (untouched.root / "checkpoints" / run_id / "last.npz").is_file()
        assert [epoch for epoch, _ in untouched.history(run_id).get("val_loss", [[1, 0.0]])] == [1]


@pytest.mark.parametrize("name", SETS)
def test_a_run_of_0_1_goes_on_to_the_same_weights_history_and_scores(
    outcome: Outcome, expected: Expected, name: str
) -> None:
    facts, arrays = outcome.resumed(name)
    assert (facts["status"], facts["state"]) == ("FINISHED", "finished")
    assert facts["history"].keys() >= METRICS
    assert {tuple(epoch for epoch, _ in facts["history"][metric]) for metric in METRICS} == {(1, 2, 3)}
    expected.assert_facts(facts, expected.facts["resumed"][name])
    expected.assert_arrays(arrays, f"resumed/{name}")
    assert not (outcome.anew.root / "checkpoints" / outcome.anew.run_named(f"{name}-run")).exists()


# What differs between the sets is how slices are decoded, which the runs show: a study of each is a long form.
@pytest.mark.parametrize("study", [SETS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in SETS[1:])])
def test_a_study_of_0_1_goes_on_with_its_trial_in_flight_and_draws_the_next_one_as_before(
    outcome: Outcome, untouched: Project, expected: Expected, study: str
) -> None:
    trials = outcome.study(study)
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 3
    assert trials[0] == trials[0] | untouched.trials(study)[0]
    assert trials[1]["params"] == untouched.trials(study)[1]["params"]
    assert outcome.kept.run_of_trial(study, 1) == untouched.run_of_trial(study, 1)
    expected.assert_facts(trials, expected.facts["studies"][study])


def test_what_0_1_has_decoded_is_used_again(outcome: Outcome, expected: Expected) -> None:
    for name in outcome.studies:
        outcome.study(name)
    assert outcome.kept.cache() == expected.facts["cache"]


def test_slices_are_decoded_to_the_same_bytes_under_the_same_names(
    outcome: Outcome, untouched: Project, expected: Expected
) -> None:
    for name in SETS:
        outcome.resumed(name)
    assert outcome.anew.cache() == expected.facts["cache"] == untouched.cache()
    assert len([name for name in expected.facts["cache"] if name.endswith("images.npy")]) == len(SETS)


def test_records_that_waited_in_the_spool_of_0_1_reach_the_store(
    outcome: Outcome, untouched: Project, expected: Expected
) -> None:
    assert untouched.rows("SELECT run_uuid FROM runs WHERE name = 'offline'") == []
    facts, arrays = outcome.synced()
    expected.assert_facts(facts, expected.facts["synced"])
    expected.assert_arrays(arrays, "synced")
    assert facts["waiting"] == []


def test_runs_of_0_1_are_compared(outcome: Outcome, expected: Expected) -> None:
    expected.assert_facts(outcome.compared(), expected.facts["compared"])


def test_a_finished_run_of_0_1_is_evaluated(outcome: Outcome, expected: Expected) -> None:
    expected.assert_facts(outcome.evaluated(), expected.facts["evaluated"])


def test_the_registered_model_of_0_1_predicts(outcome: Outcome, expected: Expected) -> None:
    facts, masks = outcome.predicted()
    expected.assert_facts(facts, expected.facts["predicted"])
    expected.assert_arrays(masks, "predicted")
    turned = {name for name, mask in masks.items() if mask.shape == SHAPE[::-1]}
    assert turned == {"exif6"}
    assert {mask.shape for name, mask in masks.items() if name not in turned} == {SHAPE}


@pytest.mark.parametrize("command", ["served alone", "served"])
def test_the_registered_model_of_0_1_is_served_with_and_without_brainseg_in_the_process(
    outcome: Outcome, expected: Expected, command: str
) -> None:
    facts, masks = outcome.served(command)
    expected.assert_facts(facts, expected.facts["served"])
    expected.assert_arrays(masks, "served")
