"""The story of a registration: a run's model is made ready to be served, tried, and made a version.

Nothing is written to the store before the model, as it will be served, has answered a request.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brainseg.errors import BrainsegError, InputError
from brainseg.inference.postprocess import MaskSettings
from brainseg.parsing import parse_json
from brainseg.register.model_card import CARD_FILE, model_card, scores_of, version_tags
from brainseg.register.serving import LOADER, SETTINGS_NAME, Served, example_request, write_served
from brainseg.runs.artifacts import optional_text
from brainseg.runs.mask_settings import settings_of
from brainseg.runs.models import Segmenter, load, segmenter_of_run
from brainseg.runs.stored_run import evaluated_splits
from brainseg.tracking.listing import FINISHED, INFEASIBLE
from brainseg.tracking.mlflow.registry import check_name
from brainseg.tracking.protocol import ModelRegistry, ModelVersion, NewVersion, RunRecord, RunStore

# The artifact folder of a run with the model that is served, and its card. A further version of a run has a folder of
# its own, `registered-after-1` say: the folder of version 1 is what version 1 serves.
REGISTERED = "registered"
FOLDER_TAG = "artifact_folder"  # of a version; those of brainseg 0.1 have none, and lie in `REGISTERED`
SERVED = "model"  # in that folder
DATA = "data"  # MLflow copies a folder of this name to `data/` of the model


@dataclass(frozen=True, kw_only=True)
class Changed:
    """How masks are made, in words: by a version, and by the run as it is now."""

    served: str
    now: str


@dataclass(frozen=True, kw_only=True)
class Registered:
    """The version of a run, and what came of the request for it."""

    version: ModelVersion
    is_new: bool
    changed: Changed | None  # where a version that was there before makes masks otherwise than the run does now
    before: ModelVersion | None  # which the alias named, where that was another one

    @property
    def artifacts(self) -> str:
        """The run's artifact folder with the model and the card."""
        return folder_of(self.version)


def register_run(
    store: RunStore,
    registry: ModelRegistry,
    run_id: str,
    *,
    name: str | None,
    alias: str | None,
    again: bool,
    root: str,
    folder: Path,
) -> Registered:
    """Makes a version of the run unless the registered model has one, and lets its alias name that.

    name: of the registered model; None for the one that has the run already, else the run's experiment.
    again: make a further version. root: where the cache of decoded slices lies. folder: for what is fetched and made.
    Raises InputError for a run without a model or with artifacts that can't be read, and TrackingError for an unknown
    one.
    """
    record = store.read(run_id)
    _check_finished(record)
    versions = registry.of_run(run_id)
    found = next((version for version in reversed(versions) if name in (None, version.name)), None)
    if found is not None and not again:
        before = _move_alias(registry, alias, found)
        return Registered(version=found, is_new=False, changed=_changed(store, record, found), before=before)
    if name is None:
        name = found.name if found is not None else registry.name_for(run_id)
        check_name(name, called="the run's experiment")
    taken = {folder_of(version) for version in versions}
    artifacts = next(folder for folder in _folders() if folder not in taken)
    new = _prepared(store, record, artifacts, name=name, root=root, folder=folder)
    store.add(run_id, folder / artifacts, to=artifacts, tags={})
    version = registry.register(run_id, new)
    return Registered(version=version, is_new=True, changed=None, before=_move_alias(registry, alias, version))


def _folders() -> Iterator[str]:
    """The artifact folders of a run's versions, one after the other."""
    yield REGISTERED
    for versions in itertools.count(1):
        yield f"{REGISTERED}-after-{versions}"


def folder_of(version: ModelVersion) -> str:
    """The artifact folder of its run in which a version and its card lie."""
    return version.tags.get(FOLDER_TAG, REGISTERED)


def _check_finished(record: RunRecord) -> None:
    """Raises InputError for a run that has ended in any other way, or is running; a study's parent is refused later."""
    state = record.tags.get("state", record.status.lower())
    if state not in (FINISHED, INFEASIBLE) and record.tags.get("sweep_role") != "parent":
        raise InputError(
            f"run {record.run_id} has no model to register (state: {state}); name a run that was trained to its end"
        )


def _changed(store: RunStore, record: RunRecord, version: ModelVersion) -> Changed | None:
    """None if the version makes masks as the run does now."""
    text = optional_text(store, record.run_id, f"{folder_of(version)}/{SERVED}/data/{DATA}/{SETTINGS_NAME}")
    try:
        served = MaskSettings.stored(parse_json(text or "")["settings"]).text
    except (ValueError, KeyError, TypeError):
        served = "unknown settings"
    now, _ = settings_of(store, record.run_id, evaluated=evaluated_splits(record.tags), given={})
    return None if served == now.text else Changed(served=served, now=now.text)


def _prepared(store: RunStore, record: RunRecord, artifacts: str, *, name: str, root: str, folder: Path) -> NewVersion:
    """Writes the served model and the card into folder/artifacts, tries the model, and gives the version to be."""
    segmenter = segmenter_of_run(store, record.run_id, root=root, folder=folder / "run", given={})
    scores = scores_of(store, record)
    card = model_card(record, segmenter, scores, name=name)
    (folder / artifacts).mkdir()
    _write_served(segmenter, record.run_id, folder / artifacts / SERVED, folder / DATA)
    (folder / artifacts / CARD_FILE).write_text(card, encoding="utf-8")
    tags = version_tags(record, scores) | {FOLDER_TAG: artifacts}
    return NewVersion(name=name, artifact=f"{artifacts}/{SERVED}", tags=tags, description=card)


def _write_served(segmenter: Segmenter, run_id: str, folder: Path, data: Path) -> None:
    """Writes the model that MLflow serves, and asks it for a mask."""
    from brainseg.model.runtime import import_tensorflow

    import_tensorflow()
    from brainseg.tracking.mlflow.model_folders import try_served_folder, write_served_folder

    _, data_config = load(segmenter)
    served = Served(run_id=run_id, data=data_config, threads=segmenter.threads, settings=segmenter.settings)
    write_served(data, served, model_file=segmenter.model_file, statistics=segmenter.statistics)
    example = example_request(data_config)
    write_served_folder(
        folder,
        data=data,
        loader=LOADER,
        example=example,
        has_classes=data_config.labels.are_named,
        run_id=run_id,
    )
    (answer,) = try_served_folder(folder, example)
    if answer["error"] is not None:
        raise BrainsegError(f"the served model of run {run_id} can't answer ({answer['error']}); please report this")


def _move_alias(registry: ModelRegistry, alias: str | None, version: ModelVersion) -> ModelVersion | None:
    """Lets the alias name the version; the other one that it named, if any."""
    if alias is None:
        return None
    before = registry.with_alias(version.name, alias)
    if before is not None and before.version == version.version:
        return None
    registry.set_alias(alias, version)
    return before
