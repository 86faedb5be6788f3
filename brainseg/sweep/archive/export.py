"""The story of `sweep export`: read the study, its runs and its data, leave out what is asked, write one file."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import optuna

from brainseg import compose
from brainseg.cli.output import check_new_file
from brainseg.cli.secrets import mask
from brainseg.cli.tables import Console, say
from brainseg.config import RunConfig
from brainseg.data.digests import SliceDigest, digests_of
from brainseg.data.load import resolved_source
from brainseg.errors import InputError
from brainseg.runs.archive import ArchivedRun
from brainseg.runs.archive_file import ZIP_ENDING, write_texts
from brainseg.runs.artifacts import (
    CODE_FILE,
    COMMAND_FILE,
    MACHINE_FILE,
    PACKAGES_FILE,
    SPLIT_FILE,
    optional_text,
)
from brainseg.runs.slice_scores import SCORE_FILES
from brainseg.runs.stored_run import CONFIG_FILE, stored_config
from brainseg.sweep.archive.contents import Contents, StudyContents
from brainseg.sweep.archive.study import STUDY_FILE, study_json, trial_json
from brainseg.sweep.confirm.candidates import SUFFIX
from brainseg.sweep.confirm.confirmation import CONFIRM_FILE, FOLDER
from brainseg.sweep.engine import keys
from brainseg.sweep.engine.storage import StudyStorage, open_storage, place_of
from brainseg.sweep.engine.stored_study import is_whole, load_config
from brainseg.sweep.studies import storage_of
from brainseg.sweep.study.study_rules import PLUGINS, key_of, merged
from brainseg.tracking import RunStore, open_store
from brainseg.tracking.paths import tracking_paths
from brainseg.train.environment import lock_of

# What is taken of a run's artifacts: no images, no masks, no models.
TEXTS = (
    CONFIG_FILE,
    SPLIT_FILE,
    *SCORE_FILES.values(),
    COMMAND_FILE,
    f"{FOLDER}/{CONFIRM_FILE}",
    PACKAGES_FILE,
    MACHINE_FILE,
    CODE_FILE,
)


def export_study(
    name: str,
    *,
    output: Path,
    anonymous: bool,
    places: Sequence[str],
    tracking: Sequence[str],
    where: str | None,
    console: Console,
) -> int:
    """Writes the study, its runs and the digests of its data to a file. The exit code.

    anonymous: leave out names, paths, hosts, users, remotes and ids. places: where the data lies here, as overrides.
    Raises InputError, with nothing written, for a study that isn't there, one without a run, and data that isn't as it
    was.
    """
    if output.suffix != ZIP_ENDING:
        raise InputError(f"-o must name a file that ends in {ZIP_ENDING}, got {output}")
    check_new_file(output, option="-o")
    contents = _read(name, places=places, tracking=tracking, where=where)
    left_out: list[str] = []
    if anonymous:
        from brainseg.sweep.archive.anonymous import without_names

        contents, left_out = without_names(contents)
    texts = {member: mask(text) for member, text in contents.texts(is_anonymous=anonymous).items()}
    write_texts(output, texts)
    trials = ", ".join(f"{each.config.name} with {len(each.trials)} trials" for each in contents.studies)
    say(f"{output}: {trials}; {len(contents.runs)} runs, {len(contents.slices)} slices' digests", console)
    for line in left_out:
        say(f"left out: {line}", console)
    return 0


def _read(name: str, *, places: Sequence[str], tracking: Sequence[str], where: str | None) -> Contents:
    storage = storage_of(name, tracking, where)
    with storage.reached():
        config = load_config(storage, name)
        plugins = [item for item in places if key_of(item) == PLUGINS]  # one of them may read the data
        store_at = compose.freeze([*merged(config.tracking, tracking), *plugins]).tracking
        storages = [(name, storage), *_confirming(f"{name}{SUFFIX}", root=tracking_paths(store_at).root, where=where)]
        store = open_store(store_at)
        studies = [_study(store, each, of_study) for of_study, each in storages]
    ids = [run_id for each in studies for run_id in store.find({"sweep_id": each.study["attributes"][keys.STUDY_ID]})]
    runs = [_run(store, run_id) for run_id in ids]
    return Contents(
        studies=studies,
        runs=runs,
        slices=_slices(store, name, runs, root=store_at.root, places=places),
        lock=_lock(runs),
    )


def _confirming(name: str, *, root: Path, where: str | None) -> list[tuple[str, StudyStorage]]:
    """The study of `sweep confirm`, if it has begun."""
    place = place_of(where, root=root, name=name)
    if not isinstance(place, str) and not place.exists():
        return []
    storage = open_storage(where, root=root, name=name, create=False)
    return [(name, storage)] if is_whole(storage, name) else []


def _study(store: RunStore, storage: StudyStorage, name: str) -> StudyContents:
    study = optuna.load_study(study_name=name, storage=storage.optuna)  # with what other programs have added
    parent = study.user_attrs.get(keys.PARENT_RUN)
    return StudyContents(
        config=load_config(storage, name),
        study=study_json(study),
        trials=[trial_json(trial) for trial in study.get_trials(deepcopy=False)],
        file=None if parent is None else optional_text(store, parent, STUDY_FILE),
    )


def _run(store: RunStore, run_id: str) -> ArchivedRun:
    texts = {name: text for name in TEXTS if (text := optional_text(store, run_id, name)) is not None}
    return ArchivedRun(record=store.read(run_id), texts=texts)


def _slices(
    store: RunStore, name: str, runs: Sequence[ArchivedRun], *, root: str, places: Sequence[str]
) -> Sequence[SliceDigest]:
    """Digests of the data that the study was started with."""
    run = next((run for run in runs if CONFIG_FILE in run.texts), None)
    if run is None:
        raise InputError(f"{name} has no run yet that has recorded its {CONFIG_FILE}; go on with it first")
    config = at_places(stored_config(store, run.record.run_id, root=root), places)
    fingerprint, slices = digests_of(resolved_source(config)[0])
    if fingerprint != run.record.tags.get("data_fingerprint"):
        raise InputError(
            f"the data of {name} has changed since its trials were trained ({config.data.root or config.data.name}); "
            "restore it, or name where it lies now by data.root=DIR"
        )
    return slices


def at_places(config: RunConfig, places: Sequence[str]) -> RunConfig:
    """The configuration with the data where it lies here. Raises InputError where the folder isn't there."""
    given = {key_of(item): item.partition("=")[2] for item in places}
    data = dataclasses.replace(
        config.data,
        root=given.get("data.root", config.data.root),
        cache_dir=given.get("data.cache_dir", config.data.cache_dir),
    )
    if data.root is not None and not Path(data.root).is_dir():
        raise InputError(f"the study's data {data.root} isn't there; name where it lies here by data.root=DIR")
    return dataclasses.replace(config, data=data)


def _lock(runs: Sequence[ArchivedRun]) -> str | None:
    commits = [run.record.tags["git_commit"] for run in runs if "git_commit" in run.record.tags]
    return lock_of(commits[0]) if commits else None
