"""The story of `sweep confirm`: choose, train again, score on the test part, compare, record."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import TrialState

from brainseg.cli.console import Progress, table_console
from brainseg.cli.literal import in_markdown
from brainseg.cli.output import temporary_folder
from brainseg.cli.tables import Console, say
from brainseg.config import TrackingConfig
from brainseg.data.people import whose
from brainseg.data.source import PATIENT
from brainseg.errors import ConfigError
from brainseg.runs.artifacts import optional_text
from brainseg.runs.select import find_run
from brainseg.runs.slice_scores import SCORE_FILES
from brainseg.runs.tested import configurations_tested, told
from brainseg.sweep.confirm import candidates as of_study
from brainseg.sweep.confirm.candidates import (
    Candidate,
    check_study,
    check_test_part,
    chosen,
    confirm_config,
    dice_of,
    seeds_of,
)
from brainseg.sweep.confirm.confirmation import CONFIRM_FILE, CONFIRMS, FOLDER, Confirmation, confirmation_of, to_json
from brainseg.sweep.confirm.experiment_file import experiment_text
from brainseg.sweep.confirm.text import section, verdicts
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.foreign import OwnStudy
from brainseg.sweep.engine.storage import StudyStorage, open_storage, place_of
from brainseg.sweep.engine.stored_study import is_whole, load_config, with_plugins, with_recipe
from brainseg.sweep.engine.trial_row import TrialRow, by_metric, trial_row
from brainseg.sweep.launchers.config import LauncherConfig
from brainseg.sweep.outcome.standing import is_finished
from brainseg.sweep.run import train_study
from brainseg.sweep.studies import storage_of
from brainseg.sweep.study.plan import check, compose_trial
from brainseg.sweep.study.space import exact
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.sweep.study.study_rules import merged
from brainseg.tracking import RunStore, open_store
from brainseg.tracking.paths import tracking_paths
from brainseg.train.run_data import load_run_data

PLAIN_WIDTH = 240  # characters of a table without a terminal
EXPERIMENTS = Path("conf", "experiment")


def confirm_study(
    name: str,
    *,
    top: int,
    front: bool,
    seeds: int,
    workers: int,
    write: bool,
    overrides: Sequence[str],
    tracking: Sequence[str],
    where: str | None,
    launcher: LauncherConfig,
    command: str,
    console: Console,
) -> int:
    """Trains the best trials of a study, and its baseline, with new seeds, and says which of them are better.

    front: those of the Pareto front of several metrics, instead of the `top` best. overrides: where the data lies, and
    plugins. write: make an experiment of the one to take. The exit code. Raises
    ConfigError, with nothing written, for a study that can't be confirmed.
    """
    experiment = EXPERIMENTS / f"{name}-best.yaml"
    if write and experiment.exists():
        raise ConfigError(f"{experiment} exists, and is left as it is; move it away, or leave --write out")
    storage = storage_of(name, tracking, where)
    with storage.reached():
        study = OwnStudy(study_name=name, storage=storage.optuna)
        config = _config(storage, study, overrides=overrides, tracking=tracking)
        check_study(config, front=front)
        rows = _rows(study, config)
    top = len(rows) if front else top
    confirming = _confirming(config, rows, top=top, seeds=seeds, workers=workers, where=where)
    done = train_study(confirming, launcher=launcher, file=None, asked=(), where=where, command=command)
    if not is_finished(done.study):
        say(f"not finished yet; go on with: {command}", console)
        return 0
    store = open_store(done.tracking)
    runs = _runs(done.study, of_study.stored(config, confirming, rows), confirming)
    _score(store, [run_id for _, of_candidate in runs for run_id, _ in of_candidate], done.tracking)
    confirmation = confirmation_of(store, name, dice_of(config), runs, seeds=seeds_of(confirming))
    tested = configurations_tested(store, find_run(store, runs[0][1][0][0]))
    _show(confirmation, console, note=told(tested))
    _record(store, done.study.user_attrs[keys.PARENT_RUN], confirmation, of=study.user_attrs[keys.STUDY_ID])
    if write:
        taken = compose_trial(config, confirmation.cheapest.candidate.params, threads=1)[0]
        experiment.parent.mkdir(parents=True, exist_ok=True)
        experiment.write_text(experiment_text(taken, about=verdicts(confirmation)), encoding="utf-8")
        say(f"experiment  {experiment}: python -m brainseg.train experiment={experiment.stem}", console)
    return 0


def _show(confirmation: Confirmation, console: Console, *, note: str) -> None:
    section(confirmation).show(table_console(plain_width=PLAIN_WIDTH))
    say("", console)
    for line in (*verdicts(confirmation), f"Note: {note}."):
        say(line, console)


def _config(
    storage: StudyStorage, study: OwnStudy, *, overrides: Sequence[str], tracking: Sequence[str]
) -> StudyConfig:
    """The study as it was started."""
    config = load_config(storage, study.study_name)
    config = dataclasses.replace(config, tracking=merged(config.tracking, tracking))
    config = with_recipe(storage, with_plugins(study, config, overrides))
    return dataclasses.replace(config, overrides=merged(config.overrides, overrides))


def _rows(study: OwnStudy, config: StudyConfig) -> list[TrialRow]:
    """The complete trials, the best Dice first, that value alone; of several metrics the front and the baseline."""
    metric = dice_of(config)
    place = list(config.metrics).index(metric)
    rows = by_metric(map(trial_row, study.get_trials(deepcopy=False)), config, metric)
    if len(config.metrics) > 1:
        front = {trial.number for trial in study.best_trials}
        rows = [row for row in rows if row.number in front or exact(row.params, config.space) == config.baseline]
    return [dataclasses.replace(row, values=(row.values[place],)) for row in rows]


def _confirming(
    config: StudyConfig, rows: Sequence[TrialRow], *, top: int, seeds: int, workers: int, where: str | None
) -> StudyConfig:
    """The confirming study: as it was started, or a new one."""
    name = f"{config.name}{of_study.SUFFIX}"
    baseline = check(config)
    root = tracking_paths(baseline.tracking).root
    place = place_of(where, root=root, name=name)
    if isinstance(place, str) or place.exists():
        storage = open_storage(where, root=root, name=name)
        with storage.reached():
            if is_whole(storage, name):
                begun = load_config(storage, name)
                _check_the_same(begun, top=top, seeds=seeds)
                return dataclasses.replace(
                    begun,
                    workers=workers,
                    tracking=config.tracking,
                    overrides=merged(begun.overrides, config.overrides),
                )
    data = load_run_data(baseline)
    people = {each.id: whose(each.id, each.columns.get(PATIENT) or "") for each in data.slices.slices}
    check_test_part(config, [people[slice_id] for slice_id in data.split.test])
    return confirm_config(config, chosen(config, rows, top=top), study_seed=baseline.seed, seeds=seeds, workers=workers)


def _check_the_same(begun: StudyConfig, *, top: int, seeds: int) -> None:
    """Raises ConfigError where another number is asked for than was started."""
    had_seeds = len(seeds_of(begun))
    had_top = len(begun.enqueue) // had_seeds - 1
    if had_seeds != seeds or had_top > top:
        raise ConfigError(
            f"{begun.name} was started with --top {had_top} --seeds {had_seeds}, got --top {top} --seeds {seeds}; "
            "go on with the former"
        )


def _runs(
    study: optuna.Study, candidates: Sequence[Candidate], confirming: StudyConfig
) -> list[tuple[Candidate, list[tuple[str, float]]]]:
    """Of each candidate the run of each seed, with the study's metric."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    points = [(exact(trial.params, confirming.space), trial) for trial in complete]

    def run_of(candidate: Candidate, seed: int) -> tuple[str, float]:
        wanted = {**candidate.params, of_study.SEED: seed}
        trial = next(trial for point, trial in points if point == wanted)
        return trial.user_attrs[keys.RUN_ID], trial.values[0]

    return [(each, [run_of(each, seed) for seed in seeds_of(confirming)]) for each in candidates]


def _score(store: RunStore, run_ids: Sequence[str], tracking: TrackingConfig) -> None:
    """Scores the test part of each run that hasn't been."""
    missing = [run_id for run_id in run_ids if optional_text(store, run_id, SCORE_FILES["test"]) is None]
    if not missing:
        return
    from brainseg.evaluate.evaluation import outcome_of, score, task_of
    from brainseg.evaluate.files import add_files, write_files
    from brainseg.inference.postprocess import MaskSettings
    from brainseg.runs.models import start_tensorflow
    from brainseg.runs.stored_run import read_run

    start_tensorflow(None)
    with temporary_folder() as folder, Progress(unit="slices") as progress:
        for run_id in missing:
            run = read_run(store, run_id, root=tracking.root, folder=folder)
            outcome = outcome_of([score(task_of(run, split="test", settings=MaskSettings()), progress)])
            add_files(store, run_id, outcome, write_files(folder / f"scores-{run_id}", outcome))


def _record(store: RunStore, run_id: str, confirmation: Confirmation, *, of: str) -> None:
    """Adds the outcome to the confirming study's parent run. of: the id of the study whose winners they are."""
    with temporary_folder() as folder:
        Path(folder, CONFIRM_FILE).write_text(to_json(confirmation), encoding="utf-8")
        text = "\n\n".join([*map(in_markdown, verdicts(confirmation)), section(confirmation).markdown(level=3)])
        Path(folder, "confirm.md").write_text(f"{text}\n", encoding="utf-8")
        store.add(run_id, folder, to=FOLDER, tags={"description": text, CONFIRMS: of})
