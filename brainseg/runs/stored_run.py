"""Reads a finished run from the store: its configuration, split, model and data."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainseg.config import RunConfig
from brainseg.config_file import from_yaml
from brainseg.data.cache import SliceSet, load_slices
from brainseg.data.load import cache_dir_of, source_of, source_of_folder
from brainseg.data.source import Source
from brainseg.data.split import Split, parse_split
from brainseg.errors import InputError
from brainseg.model.keras_file import read_model
from brainseg.plugins import is_built_in, made, names
from brainseg.runs.artifacts import SPLIT_FILE, optional_file
from brainseg.tracking.protocol import MODEL_FILE, RunStore

CONFIG_FILE = "config.yaml"


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """All that it takes to score a run's model."""

    id: str
    name: str
    config: RunConfig  # with the present `tracking.root`
    split: Split
    fingerprint: str  # of the data that it was trained on
    threads: int | None  # of TensorFlow in its training
    model_file: Path
    evaluated: tuple[str, ...]  # its evaluation splits, as under evaluation/ in its artifacts
    weights: str = ""  # what it started from; empty: its seed


def read_run(store: RunStore, run_id: str, *, root: str, folder: Path) -> StoredRun:
    """Reads the run and fetches its model into `folder`. root: where the cache of decoded slices lies.

    Raises InputError for an unknown run, for one without a model, and for artifacts that can't be read.
    """
    record = store.read(run_id)
    if record.tags.get("sweep_role") == "parent":
        if "multirun" in record.tags:
            raise InputError(f"run {run_id} is the parent run of others and has no model; name one of those")
        study = record.tags.get("sweep", "NAME")
        raise InputError(
            f"run {run_id} is the parent run of study {study} and has no model; name one of the study's runs, "
            f"or evaluate them all with --study {study}"
        )
    model_file = optional_file(store, run_id, MODEL_FILE, folder / run_id)
    if model_file is None:
        state = record.tags.get("state", record.status.lower())
        raise InputError(f"run {run_id} has no model (state: {state}); name a run that was trained to its end")
    split = parse_split(
        store.text(run_id, SPLIT_FILE),
        where=f"{SPLIT_FILE} of run {run_id}",
        remedy="restore the artifact that the run recorded",
    )
    return StoredRun(
        id=run_id,
        name=record.name,
        config=stored_config(store, run_id, root=root),
        split=split,
        fingerprint=record.tags.get("data_fingerprint", ""),
        threads=int(record.tags["threads"]) if "threads" in record.tags else None,
        model_file=model_file,
        evaluated=evaluated_splits(record.tags),
        weights=record.tags.get("weights", ""),
    )


def stored_config(store: RunStore, run_id: str, *, root: str) -> RunConfig:
    """The configuration that the run has recorded, with the present `tracking.root`. Raises InputError for none."""
    stored = from_yaml(store.text(run_id, CONFIG_FILE), where=f"{CONFIG_FILE} of run {run_id}")
    return dataclasses.replace(stored, tracking=dataclasses.replace(stored.tracking, root=root))


def model_of(run: StoredRun) -> Any:
    """The run's Keras model, in Keras's safe mode. Raises InputError for a file that Keras can't load so."""
    return read_model(
        run.model_file, called=f"run {run.id}: its model", remedy=f"restore the artifact {MODEL_FILE}, or train again"
    )


def training_slices(run: StoredRun) -> SliceSet:
    """The data that the run was trained on. Raises InputError if it is gone, or has changed since."""
    slices = load_slices(source_of_run(run.id, run.config), run.config.data, cache_dir=cache_dir_of(run.config))
    if slices.fingerprint != run.fingerprint:
        raise InputError(
            f"run {run.id}: the data in {slices.source.location} has changed since the run was trained; "
            "restore it, or score the run on it as another data set with --data DIR"
        )
    return slices


def source_of_run(run_id: str, config: RunConfig) -> Source:
    """Where the run's slices come from. Raises InputError if their folder isn't there."""
    if not is_built_in("readers", config.data.name):
        _import_plugins()  # one may read it
    root = config.data.root
    if root is not None and not Path(root).is_dir():
        raise InputError(f"run {run_id}: its data {root} isn't there; name where it lies now with --data DIR")
    return source_of(config)


def metrics_of(config: RunConfig) -> tuple[dict[str, Any], list[str]]:
    """The run's metrics of plugins by name, and those that ./conf and installed packages don't have."""
    if config.metrics:
        _import_plugins()
    here = [name for name in config.metrics if name in names("metrics")]
    found = {name: made("metrics", name, config.metric_options) for name in here}
    return found, [str(name) for name in config.metrics if name not in found]


def _import_plugins() -> None:
    """Those that ./conf names."""
    from brainseg import compose  # Hydra: runs without parts of plugins need none

    compose.freeze([])


def slices_in(run: StoredRun, folder: Path, named: Mapping[str, Any]) -> SliceSet:
    """The slices of a folder at the size that the run works at. Raises DataError if it can't be used.

    named: as for `source_of_folder`.
    """
    source = source_of_folder(folder, run.config.data, named=named)
    data = dataclasses.replace(run.config.data, ignore=source.data.ignore)
    slices = load_slices(source, data, cache_dir=cache_dir_of(run.config))
    notes = [*source.notes, *slices.notes]
    if data.ignore != run.config.data.ignore:
        notes.append(f"{folder} has pixels to ignore, unlike the data of run {run.id}; they are left out of the scores")
    return dataclasses.replace(slices, notes=tuple(notes))


def evaluated_splits(tags: Mapping[str, str]) -> tuple[str, ...]:
    """The evaluation splits of a run, from the tags that `brainseg.evaluate` has set."""
    prefix = "evaluation_"
    tagged = (tag for tag in tags if tag.startswith(prefix) and f"{tag}_masks" in tags)
    return tuple(sorted(tag.removeprefix(prefix) for tag in tagged))
