"""The story of `sweep check`: compare the data, train the baseline and the winner again, judge, record."""

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainseg import compose
from brainseg.cli.tables import Console, say
from brainseg.config import RunConfig, TrackingConfig
from brainseg.data.digests import digests_of
from brainseg.data.load import RunData, resolved_source
from brainseg.data.split import Split, parse_split
from brainseg.errors import InputError, Interrupted
from brainseg.parsing import parse_json
from brainseg.runs.archive import Archive, as_json, read_archive
from brainseg.runs.artifacts import CODE_FILE, MACHINE_FILE, PACKAGES_FILE, SPLIT_FILE, optional_text
from brainseg.runs.stored_run import stored_config
from brainseg.sweep.archive import PARTS
from brainseg.sweep.archive.export import at_places
from brainseg.sweep.archive.slices import SliceComparison, compare_slices
from brainseg.sweep.archive.study import archived_study
from brainseg.sweep.archive.verdict import EQUAL, NOT, Verdict, contradictions, scored, verdict
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.trial_row import TrialRow
from brainseg.sweep.outcome.summary import summarize
from brainseg.sweep.study.plan import quiet
from brainseg.sweep.study.study_rules import PLUGINS, key_of, places_in
from brainseg.tracking import open_store, open_tracker
from brainseg.tracking.mlflow.connection import check_store
from brainseg.tracking.mlflow.surroundings import place_of_runs
from brainseg.tracking.paths import kept_private
from brainseg.train.environment import code_state, machine, packages
from brainseg.train.run_data import load_run_data

CHANGEABLE = ("seed", "train.precision", "train.threads")  # keys that a check may change
CHECK_FILE, CHECK_SCHEMA = "check.json", 1
CHECKS = "checks"  # tag of the parent run and of its runs: the id of the study
SHOWN_PACKAGES = ("brainseg", "tensorflow", "keras", "numpy")
DATA, BASELINE, WINNER = PARTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repetition:
    """A run of the archive that is to be trained again."""

    part: str  # baseline or winner
    row: TrialRow
    config: RunConfig
    split: Split  # with the ids of the data here


def check_archive(path: Path, given: Sequence[str], *, parts: Sequence[str], command: str, console: Console) -> int:
    """Compares the data with an exported study's and trains its runs again.

    given: overrides that say where data and records lie here, and keys of CHANGEABLE. The exit code: 0 where all is
    equal or within the interval, else 1. Raises InputError for a file or data that can't be read.
    """
    archive = read_archive(path)
    tracking = compose.freeze([item for item in given if key_of(item) == PLUGINS or item.startswith("tracking.")])
    rows, metrics = _rows(archive, parts)
    configs = {part: _config(archive, row, tracking.tracking, given) for part, row in rows.items()}
    first = next(iter(configs.values()))
    slices = _slices(archive, first)
    verdicts = []
    if DATA in parts:
        verdicts.append(Verdict(part=DATA, outcome=EQUAL if slices.is_equal else NOT, text=slices.text))
        say(verdicts[0].line, console)
    repetitions: list[Repetition] = []
    for part in (part for part in (BASELINE, WINNER) if part in parts):
        if part not in rows:
            say(f"{part}: {archive.study} has none that is complete", console)
            continue
        if any(each.row.number == rows[part].number for each in repetitions):
            say(f"{part}: the baseline itself", console)
            continue
        split, refused = _split(archive, rows[part], slices)
        refused = refused or "; ".join(contradictions(archive, rows[part], metrics))
        if refused:
            verdicts.append(Verdict(part=part, outcome=NOT, text=f"not trained again: {refused}"))
            say(verdicts[-1].line, console)
        else:
            repetitions.append(Repetition(part=part, row=rows[part], config=configs[part], split=split))
    if repetitions:
        _check_threads(repetitions)
        with kept_private(tracking.tracking):
            verdicts += _again(archive, repetitions, slices, command=command, console=console)
    return int(any(each.outcome == NOT for each in verdicts))


def _rows(archive: Archive, parts: Sequence[str]) -> tuple[dict[str, TrialRow], list[str]]:
    """Part -> its trial, and the study's metrics. Raises InputError for a part that the study hasn't."""
    config, study = archived_study(archive, archive.study)
    with quiet():
        summary = summarize(study, config)
    found = {}
    if summary.baseline is not None and summary.baseline.state == "complete":
        found[BASELINE] = summary.baseline
    if summary.best:
        found[WINNER] = summary.best[0]
    if not found:
        raise InputError(f"{archive.path} has no complete trial of {archive.study}; there is nothing to train again")
    for part in parts:
        if part != DATA and part not in found and len(parts) == 1:
            raise InputError(f"{archive.path} has no {part} that is complete; leave --part {part} out")
    return found, list(config.metrics)


def _config(archive: Archive, row: TrialRow, tracking: TrackingConfig, given: Sequence[str]) -> RunConfig:
    """The run's own configuration with its number format and threads, with the places and changes of this host."""
    config = stored_config(archive.store, row.run_id, root=tracking.root)
    # What is written here is written where this host says, never where a file from elsewhere does.
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, cache_dir=None, split_file=None))
    config = at_places(config, places_in(given))
    tags = archive.store.read(row.run_id).tags
    with archive.reading("runs.json"):
        changes: dict[str, Any] = {
            "train.precision": tags["precision"],
            "train.threads": int(tags["threads"]),
            "seed": config.seed,
        }
    changes |= compose.values_in([item for item in given if key_of(item) in CHANGEABLE])
    train = dataclasses.replace(config.train, precision=changes["train.precision"], threads=changes["train.threads"])
    return dataclasses.replace(config, train=train, seed=changes["seed"], tracking=tracking, run_name=None)


def _slices(archive: Archive, config: RunConfig) -> SliceComparison:
    _, here = digests_of(resolved_source(config)[0])
    return compare_slices(archive.slices, here, by_id=not archive.is_anonymous)


def _split(archive: Archive, row: TrialRow, slices: SliceComparison) -> tuple[Split, str]:
    """The run's split with the ids of the data here; and why it can't be used."""
    where = f"{SPLIT_FILE} of run {row.run_id}"
    stored = parse_split(archive.store.text(row.run_id, SPLIT_FILE), where=where, remedy="ask for the archive again")
    parts = {part: getattr(stored, part) for part in ("train", "val", "test")}
    lost = [each for ids in parts.values() for each in ids if each not in slices.ids]
    known = {part: tuple(sorted(slices.ids[each] for each in ids if each in slices.ids)) for part, ids in parts.items()}
    return Split(**known), f"{len(lost)} slices of its split are missing, first: {lost[0]}" if lost else ""


def _check_threads(repetitions: Sequence[Repetition]) -> None:
    """Raises InputError where they were trained on different numbers of threads: a process has one."""
    threads = {each.part: each.config.train.threads for each in repetitions}
    if len(set(threads.values())) > 1:
        told = " and ".join(f"the {part} was trained on {count} threads" for part, count in threads.items())
        raise InputError(f"{told}, and one process has one number of them; check one after the other with --part")


def _again(
    archive: Archive, repetitions: Sequence[Repetition], slices: SliceComparison, *, command: str, console: Console
) -> list[Verdict]:
    """Trains them as runs of one parent, which records the verdicts."""
    tracking = repetitions[0].config.tracking
    check_store(tracking)
    place = place_of_runs(tracking, is_single=False)
    from brainseg.model.runtime import import_tensorflow

    import_tensorflow()
    from brainseg.train.experiment import prepare

    here = [
        dataclasses.replace(each, config=dataclasses.replace(each.config, tracking=place.tracking))
        for each in repetitions
    ]
    loaded = [load_run_data(each.config, split=each.split) for each in here]
    for each, data in zip(here, loaded, strict=True):  # raises what can be wrong, before anything is recorded
        prepare(each.config, data)
    study_id = archived_study(archive, archive.study)[1].user_attrs.get(keys.STUDY_ID, "")
    tags = {CHECKS: study_id, "multirun": uuid.uuid4().hex[:8]}
    parent = open_tracker(
        place.tracking,
        run_name=f"{archive.study}.check",
        tags={**place.tags, **tags, "sweep_role": "parent", "source": command},
    )
    verdicts: list[Verdict] = []
    try:
        with parent:
            for each, data in zip(here, loaded, strict=True):
                run_id = _train(data, name=f"{archive.study} {each.part}", tags=tags | {"parent": parent.run_id})
                before = scored(archive.store, each.row.run_id)
                found = verdict(each.part, before, scored(open_store(place.tracking), run_id), ids=slices.ids)
                verdicts.append(dataclasses.replace(found, text=f"{found.text}; run {run_id}"))
                say(verdicts[-1].line, console)
                if found.outcome != EQUAL:
                    for note in _surroundings(archive, each):
                        say(f"note: {note}", console)
            parent.log_text(_as_json(verdicts, slices), CHECK_FILE)
            parent.set_tags({"description": "\n\n".join(each.line for each in verdicts)})
    except Interrupted as stopped:
        say(f"{stopped}; the same command starts again: {command}", console)
        raise
    say(f"parent run  {parent.run_id}", console)
    return verdicts


def _train(data: RunData, *, name: str, tags: Mapping[str, str]) -> str:
    """The id of the run."""
    from brainseg.train.experiment import prepare, run
    from brainseg.train.progress import Terminal

    config = data.config
    prepared = prepare(config, data)  # once more: Keras builds in the number format of the last one that was prepared
    tracker = open_tracker(config.tracking, run_name=name, tags=tags)
    result = run(config, tracker, prepared=prepared, reporter=Terminal())
    if result.stopped_by is not None:
        raise Interrupted(result.stopped_by)
    return result.run_id


def _as_json(verdicts: Sequence[Verdict], slices: SliceComparison) -> str:
    content = {
        "schema_version": CHECK_SCHEMA,
        "verdicts": [dataclasses.asdict(each) for each in verdicts],
        "slices": {"differing": slices.differing, "missing": slices.missing, "new": slices.new},
    }
    return as_json(content)


def _surroundings(archive: Archive, each: Repetition) -> list[str]:
    """What is otherwise here than where the run was trained."""
    run_id = each.row.run_id
    recorded = optional_text(archive.store, run_id, PACKAGES_FILE) or ""
    then, now = (
        dict(line.split("==") for line in text.splitlines() if "==" in line) for text in (recorded, packages())
    )
    notes = [
        f"{name} {then[name]} there, {now.get(name, 'none')} here"
        for name in SHOWN_PACKAGES
        if name in then and then[name] != now.get(name)
    ]
    tags, code = archive.store.read(run_id).tags, code_state()
    if tags.get("precision") != each.config.train.precision or tags.get("threads") != str(each.config.train.threads):
        notes.append(
            f"{tags.get('precision')} on {tags.get('threads')} threads there, {each.config.train.precision} on "
            f"{each.config.train.threads} here"
        )
    if code is not None and tags.get("git_commit") not in (None, code.commit):
        notes.append(f"commit {tags['git_commit'][:12]} there, {code.commit[:12]} here")
    if tags.get("code_changed") == "yes":
        notes.append(f"the code had uncommitted changes, runs/{run_id}/{CODE_FILE} in the file")
    processor = machine().processor
    with archive.reading(MACHINE_FILE):
        there = parse_json(optional_text(archive.store, run_id, MACHINE_FILE) or "{}").get("processor")
    if there not in (None, processor):
        notes.append(f"{there} there, {processor} here")
    return notes
