"""`python -m brainseg.evaluate`: scores of runs with confidence intervals, by tumour type and size; and failures.

Errors are found before a slice is predicted. TensorFlow and MLflow are imported when a run is scored.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainseg.cli.command import OneLineParser, command
from brainseg.cli.console import Progress, table_console
from brainseg.cli.options import add_mask_options, add_store_options, check_named_once, given_settings, tracking_of
from brainseg.cli.output import check_new_folder, with_folder, writing
from brainseg.config import TrackingConfig
from brainseg.errors import InputError

if TYPE_CHECKING:
    from brainseg.evaluate.evaluation import Outcome, Task
    from brainseg.tracking import RunStore

PROGRAM = "python -m brainseg.evaluate"
EXAMPLES = f"""examples:
  {PROGRAM} RUN_ID                     its validation slices
  {PROGRAM} RUN_ID --split test --tune its test slices, with settings chosen on validation
  {PROGRAM} RUN_ID --data DIR          another data set; data.annotations=FILE names its masks
  {PROGRAM} --study NAME               the folds of a cross-validation, pooled
  {PROGRAM} RUN_ID RUN_ID --average    an ensemble of two models of one split
"""
KEYS_OF_FOLDER = ("data.annotations", "data.images", "data.masks")
PLAIN_WIDTH = 240  # characters of a table without a terminal


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The runs that are to be scored."""

    run_ids: tuple[str, ...]
    parent: str | None  # of one study, to which the pooled files are added; else None

    @property
    def are_pooled(self) -> bool:
        return len(self.run_ids) > 1


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Scores runs slice by slice: Dice, IoU, precision, recall and distances of outlines with "
        "95 % intervals, by tumour type and size; the files are added to the runs.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN_ID|KEY=VALUE",
        help=f"one run, or several that are pooled; {', '.join(KEYS_OF_FOLDER)} of --data",
    )
    parser.add_argument(
        "--study", metavar="NAME", action="append", default=[], help="every finished run of a study, pooled; repeatable"
    )
    parser.add_argument("--split", choices=("val", "test"), help="default: val for one run, test for several")
    parser.add_argument("--data", type=Path, metavar="DIR", help="another data set, or where the run's has moved to")
    add_mask_options(parser)
    parser.add_argument("--tune", action="store_true", help="choose these four on each run's validation slices")
    parser.add_argument("--average", action="store_true", help="score runs on the same slices as an ensemble")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write the files here too; new or empty")
    add_store_options(parser)
    return parser


def _evaluate(parsed: argparse.Namespace, folder: Path) -> int:
    """Scores what was asked for, prints the tables, and adds the files to the runs; the exit code.

    folder: for fetched artifacts.
    """
    from brainseg.runs.models import start_tensorflow
    from brainseg.tracking import open_store

    run_ids = [item for item in parsed.runs if "=" not in item]
    named = _named([item for item in parsed.runs if "=" in item], folder=parsed.data)
    if bool(run_ids) == bool(parsed.study):
        raise InputError(f"name runs by their ids, or a study with --study NAME; {PROGRAM} --help shows how it is used")
    if parsed.output is not None:
        check_new_folder(parsed.output, option="-o")
    tracking = tracking_of(parsed)
    store = open_store(tracking)
    asked = _asked(run_ids, parsed.study, store)
    tasks = _tasks(parsed, store, asked, named, folder / "runs")
    for note in dict.fromkeys(note for task in tasks for note in (*task.split.slices.notes, *_unmeasured(task))):
        print(f"note: {note}")
    start_tensorflow(tasks[0].runs[0].threads)  # on as many threads as in the training: they decide the last digits
    from brainseg.evaluate.evaluation import outcome_of, score
    from brainseg.evaluate.text import print_outcome

    with Progress(unit="slices") as progress:
        scored = [score(task, progress) for task in tasks]
    outcome = outcome_of(scored)
    try:
        _keep(outcome, store, asked, output=parsed.output, folder=folder)
    finally:  # print the scores even if the store has gone away
        print_outcome(outcome, table_console(plain_width=PLAIN_WIDTH))
    _tell_where(outcome, asked, tracking, output=parsed.output)
    return 0


def _unmeasured(task: "Task") -> list[str]:
    from brainseg.runs.stored_run import metrics_of

    return [
        f"{name} isn't measured: it is a plugin's; name its module in ./conf/config.yaml, plugins: [MODULE]"
        for name in metrics_of(task.runs[0].config)[1]
    ]


def _named(overrides: Sequence[str], *, folder: Path | None) -> dict[str, Any]:
    """What is said of the folder of --data, as fields of `DataConfig`. Raises InputError."""
    if not overrides:
        return {}
    from brainseg.compose import values_in

    values = values_in(overrides)
    for key in values:
        if folder is None or key not in KEYS_OF_FOLDER:
            raise InputError(f"{key} is what the run has; only {', '.join(KEYS_OF_FOLDER)} may be given, of --data DIR")
    return {key.removeprefix("data."): value for key, value in values.items()}


def _asked(run_ids: Sequence[str], study_names: Sequence[str], store: "RunStore") -> Asked:
    check_named_once(run_ids, called="run")
    check_named_once(study_names, called="study")
    if not study_names:
        return Asked(run_ids=tuple(run_ids), parent=None)
    studies = [_asked_study(name, store) for name in study_names]
    run_ids = tuple(run_id for study in studies for run_id in study.run_ids)
    return Asked(run_ids=run_ids, parent=studies[0].parent if len(studies) == 1 else None)


def _asked_study(name: str, store: "RunStore") -> Asked:
    parents = store.find({"sweep": name, "sweep_role": "parent"})
    finished = store.find({"sweep": name, "state": "finished"})
    run_ids = tuple(run_id for run_id in finished if run_id not in parents)
    if not run_ids:
        raise InputError(
            f"study {name} has no finished runs here; check the name, --root and --uri, or train them first"
        )
    if len(parents) > 1:
        raise InputError(
            f"{len(parents)} studies are called {name}, with the parent runs {', '.join(parents)}; "
            "name the runs by their ids instead"
        )
    return Asked(run_ids=run_ids, parent=parents[0] if parents else None)


def _tasks(
    parsed: argparse.Namespace, store: "RunStore", asked: Asked, named: Mapping[str, Any], folder: Path
) -> "list[Task]":
    """The runs with the slices and settings to score them by. Raises InputError for whatever can be wrong with them."""
    from brainseg.evaluate.evaluation import task_of, together
    from brainseg.inference.postprocess import MaskSettings
    from brainseg.runs.stored_run import read_run

    given = given_settings(parsed)
    if parsed.tune and given:
        raise InputError("--tune chooses --flip, --shift, --threshold and --min-area itself; leave them out")
    settings = None if parsed.tune else MaskSettings(**given)
    default = "test" if asked.are_pooled or parsed.study else "val"
    tasks = []
    for run_id in asked.run_ids:
        run = read_run(store, run_id, root=parsed.root, folder=folder)
        tasks.append(
            task_of(run, split=parsed.split, settings=settings, data=parsed.data, named=named, default=default)
        )
    return together(tasks, average=parsed.average)


def _keep(outcome: "Outcome", store: "RunStore", asked: Asked, *, output: Path | None, folder: Path) -> None:
    """Writes the files: to the output folder first, since a server may be away."""
    from brainseg.evaluate.evaluation import outcome_of
    from brainseg.evaluate.files import add_files, write_files

    whole = write_files(folder / "whole", outcome)
    if output is not None:
        with writing(output, option="-o"):
            shutil.copytree(whole, output, dirs_exist_ok=True)
    for scored in outcome.scored:
        if len(scored.runs) > 1:
            continue  # an ensemble's score belongs to none of its runs
        own = outcome_of([scored]) if asked.are_pooled else outcome
        add_files(store, scored.id, own, write_files(folder / f"of-{scored.id}", own) if asked.are_pooled else whole)
    if asked.parent is not None:
        add_files(store, asked.parent, outcome, whole)


def _tell_where(outcome: "Outcome", asked: Asked, tracking: TrackingConfig, *, output: Path | None) -> None:
    from brainseg.tracking.mlflow.connection import where_to_look

    print()
    if asked.parent is not None:
        print(f"pooled      evaluation/{outcome.place} of the parent run {asked.parent}")
    elif asked.are_pooled and output is None:
        print("pooled      not kept; -o DIR writes it to a folder")
    if output is not None:
        print(f"files       {output}")
    if any(len(scored.runs) == 1 for scored in outcome.scored):
        alone = "each run" if outcome.ensemble_size == 1 else "each run that is scored alone"
        print(f"artifacts   evaluation/{outcome.split} of {alone if asked.are_pooled else 'the run'}")
    print(f"look at it  {where_to_look(tracking)}")


main = command(with_folder(_evaluate), make_parser, intermixed=True)

if __name__ == "__main__":
    sys.exit(main())
