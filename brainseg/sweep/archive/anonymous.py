"""Leaves out of an archive what tells whose data, machine or code it is: kept is only what is known to tell nothing.

What stands in many places has one name in all of them: a person is P0001, a slice S00001, a folder PATH1. Free text
(command lines, words of failures, uncommitted changes) is left out, since no rule finds every name in it.
"""

import csv
import dataclasses
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from brainseg.cli.literal import numbered
from brainseg.cli.output import csv_text
from brainseg.config import RunConfig, flatten
from brainseg.data.people import names_of_people
from brainseg.runs.archive import ArchivedRun, as_json
from brainseg.runs.artifacts import CODE_FILE, COMMAND_FILE, MACHINE_FILE, PACKAGES_FILE, SPLIT_FILE
from brainseg.runs.slice_scores import SCORE_FILES
from brainseg.runs.stored_run import CONFIG_FILE
from brainseg.sweep.archive.contents import Contents, StudyContents
from brainseg.sweep.confirm.confirmation import CONFIRM_FILE, CONFIRMS, FOLDER
from brainseg.sweep.engine import keys
from brainseg.tracking.protocol import RunRecord

DEFAULTS = flatten(RunConfig())
# Keys whose values name a place or a person, and what they are called.
HIDDEN = {
    "data.root": "PATH",
    "data.cache_dir": "PATH",
    "data.split_file": "PATH",
    "tracking.root": "PATH",
    "tracking.uri": "REMOTE",
    "tracking.experiment": "NAME",
    "run_name": "NAME",
    "plugins": "NAME",
}
TAGS_OF_PEOPLE = "tracking.tags"
# Patterns below the data's folder, which another lab needs to read the same files.
PATTERNS = ("data.images", "data.masks", "data.annotations")
# What no value has that isn't a path, a URL or a mail address.
PLACE = re.compile(r"[/\\~@]")
KEPT_TAGS = (
    *("state", "schema_version", "data_fingerprint", "split", "split_fingerprint", "patients_on_both_sides"),
    *("precision", "threads", "weights_sha256", "git_commit", "code_changed", "sweep", "sweep_id", "sweep_role"),
    *("trial", "parent", "attempt", "pruned_epoch", "pruned_reason", "infeasible_reason", CONFIRMS),
    *(f"evaluation_{split}{end}" for split in SCORE_FILES for end in ("", "_masks")),
)
TRIAL_ATTRIBUTES = (
    *(keys.LEASE, keys.CLAIMS, keys.BEGUN, keys.RUN_ID, keys.EPOCHS, keys.THREADS, keys.DEATHS, keys.ATTEMPTS),
    *(keys.FAILURE, keys.PRUNED, keys.SECONDS),
)
TABLES = tuple(SCORE_FILES.values())  # with a row a slice
LEFT_OUT = {CODE_FILE: "uncommitted changes of the code", COMMAND_FILE: "command lines"}
REASON = re.compile(r"(\w+)\s*:.*", re.DOTALL)  # of a failure: the kind of error, and its words


def without_names(contents: Contents) -> tuple[Contents, list[str]]:
    """The contents without names, and what was left out, a line a kind."""
    hidden = _Hidden(contents)
    studies = [_study(each, hidden) for each in contents.studies]
    runs = [ArchivedRun(record=_record(run.record, hidden), texts=_texts(run, hidden)) for run in contents.runs]
    slices = [
        dataclasses.replace(each, id=hidden.slices[each.id], patient_id=hidden.person(each.patient_id))
        for each in contents.slices
    ]
    return dataclasses.replace(contents, studies=studies, runs=runs, slices=slices), hidden.told()


class _Hidden:
    """What takes the place of each name, and how often something was left out."""

    def __init__(self, contents: Contents) -> None:
        rows = [row for run in contents.runs for name in TABLES if name in run.texts for row in _rows(run.texts[name])]
        slices = {each.id for each in contents.slices} | {row["id"] for row in rows}
        for run in contents.runs:
            slices.update(each for ids in _parts(run.texts.get(SPLIT_FILE, "{}")).values() for each in ids)
        people = {each.patient_id for each in contents.slices} | {row["patient_id"] for row in rows}
        of_people = names_of_people(people - {""})
        # In the order of the names: sorting, which decides what is trained when, gives the same order.
        self.slices = {each: f"S{number:05d}" for number, each in enumerate(sorted(slices), start=1)}
        numbers = {name: number for number, name in enumerate(sorted(set(of_people.values())), start=1)}
        self._people = {each: f"P{numbers[name]:04d}" for each, name in of_people.items()}
        self._names: dict[tuple[str, str], str] = {}  # (kind, name) -> what takes its place
        self._left_out: Counter[str] = Counter()

    def person(self, patient_id: str) -> str:
        return self._people[patient_id] if patient_id else ""

    def name(self, kind: str, text: str) -> str:
        """What takes the place of a name; kind: PATH, REMOTE or NAME."""
        number = 1 + sum(each == kind for each, _ in self._names)
        return self._names.setdefault((kind, text), f"{kind}{number}")

    def leave_out(self, what: str) -> None:
        self._left_out[what] += 1

    def value(self, key: str, value: Any) -> Any:
        """A configuration value; a text of it as in a table of parameters."""
        if key == TAGS_OF_PEOPLE or key.startswith(f"{TAGS_OF_PEOPLE}."):
            if value not in (None, "None", "null"):
                self.leave_out("tags of your own")
            return "None" if isinstance(value, str) else None
        if isinstance(value, Mapping):
            return {each: self.value(f"{key}.{each}", item) for each, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(key, item) for item in value]
        if not isinstance(value, str) or value in ("None", "null", str(DEFAULTS.get(key))):
            return value
        if key in PATTERNS and not value.startswith(("/", "~")):
            return value
        if kind := HIDDEN.get(key, "PATH" if PLACE.search(value) else ""):
            return self.name(kind, value)
        return value

    def overrides(self, overrides: Iterable[str]) -> list[str]:
        """Each `key=value`."""
        found = (item.partition("=") for item in overrides)
        return [f"{key}{sign}{self.value(key.lstrip('+~'), value)}" for key, sign, value in found]

    def reason(self, text: str) -> str:
        """Of a failure: what kind of error it was."""
        if text:
            self.leave_out("words of a failure")
        return REASON.sub(r"\1", text) if REASON.fullmatch(text) else ""

    def told(self) -> list[str]:
        """What was left out, a line a kind."""
        kinds = {"PATH": "paths", "REMOTE": "addresses of servers", "NAME": "names"}
        lines = [f"{len(self._people)} patient ids, now P0001 to {max(self._people.values())}"] * bool(self._people)
        lines += [f"{len(self.slices)} slice ids, now S00001 to {max(self.slices.values())}"] * bool(self.slices)
        for kind, what in kinds.items():
            found = [alias for (each, _), alias in self._names.items() if each == kind]
            lines += [f"{len(found)} {what}, now {', '.join(found)}"] * bool(found)
        return [*lines, *(f"{what}, {numbered(count, 'time')}" for what, count in sorted(self._left_out.items()))]


def _study(each: StudyContents, hidden: _Hidden) -> StudyContents:
    attributes = {key: value for key, value in each.study["attributes"].items() if key != keys.PLUGINS}
    definition = dict(attributes[keys.DEFINITION])
    definition["overrides"] = hidden.overrides(definition["overrides"])
    for name in ("baseline", "enqueue", "space", "recipe"):
        if name in definition:
            definition[name] = _deep(definition[name], hidden)
    attributes[keys.DEFINITION] = definition
    return StudyContents(
        config=each.config,
        study={**each.study, "attributes": attributes},
        trials=[_trial(trial, hidden) for trial in each.trials],
        file=None if each.file is None else _study_file(each.file, hidden),
    )


def _deep(content: Any, hidden: _Hidden, key: str = "") -> Any:
    """Keys and values of a study, at whatever depth."""
    if isinstance(content, Mapping):
        return {name: _deep(item, hidden, str(name)) for name, item in content.items()}
    if isinstance(content, list):
        return [_deep(item, hidden, key) for item in content]
    return hidden.value(key, content)


def _study_file(text: str, hidden: _Hidden) -> str | None:
    """Its content, without comments."""
    try:
        content = yaml.safe_load(text)
        overrides = hidden.overrides(content.get("overrides") or [])
    except (yaml.YAMLError, AttributeError):
        hidden.leave_out("a study file that is no YAML")
        return None
    hidden.leave_out("comments of a study file")
    return yaml.safe_dump({**_deep(content, hidden), "overrides": overrides}, sort_keys=False)


def _trial(trial: Mapping[str, Any], hidden: _Hidden) -> dict[str, Any]:
    attributes = {key: value for key, value in trial["attributes"].items() if key != keys.LINE}
    if keys.LINE in trial["attributes"]:
        hidden.leave_out("overrides of a trial, which repeat its parameters")
    if attributes.get(keys.FAILURE):
        attributes[keys.FAILURE] = hidden.reason(attributes[keys.FAILURE])
    return {
        **trial,
        "params": _deep(trial["params"], hidden),
        "distributions": {
            key: json.dumps(_deep(json.loads(each), hidden, key)) for key, each in trial["distributions"].items()
        },
        "enqueued": _deep(trial["enqueued"], hidden),
        "attributes": {key: value for key, value in attributes.items() if key in TRIAL_ATTRIBUTES},
    }


def _record(record: RunRecord, hidden: _Hidden) -> RunRecord:
    for tag in record.tags:
        if tag not in (*KEPT_TAGS, "failure", "data"):
            hidden.leave_out(f"the tag {tag}")
    tags = {key: value for key, value in record.tags.items() if key in KEPT_TAGS}
    if "failure" in record.tags:
        tags["failure"] = hidden.reason(record.tags["failure"])
    name = record.tags.get("data", "")
    is_made = record.params.get("data.name") == "phantom"
    if name:
        tags["data"] = name if is_made else hidden.name("NAME", name)
    dataset = record.dataset
    if dataset is not None and not is_made:
        source = hidden.name("PATH", dataset.source)
        dataset = dataclasses.replace(dataset, name=hidden.name("NAME", dataset.name), source=source)
    params = {key: str(hidden.value(key, value)) for key, value in record.params.items()}
    params.pop("overrides", None)  # of a parent run: the study has them one by one
    trial = f" {int(tags['trial']):03d}" if tags.get("trial", "").isdecimal() else ""
    shown = f"{tags.get('sweep', 'run')}{trial}"
    return dataclasses.replace(record, name=shown, tags=tags, params=params, dataset=dataset)


def _texts(run: ArchivedRun, hidden: _Hidden) -> dict[str, str]:
    found = {}
    for name, text in run.texts.items():
        if name in LEFT_OUT:
            hidden.leave_out(LEFT_OUT[name])
        elif name in TABLES:
            found[name] = _table(text, hidden)
        elif name == SPLIT_FILE:
            ids = {part: [hidden.slices[each] for each in ids] for part, ids in _parts(text).items()}
            found[name] = json.dumps({**json.loads(text), **ids}, indent=1) + "\n"
        elif name == CONFIG_FILE:
            content = {key: _config(key, value, hidden) for key, value in yaml.safe_load(text).items()}
            found[name] = yaml.safe_dump(content, sort_keys=False)
        elif name == MACHINE_FILE:
            hidden.leave_out("the host")
            kept = {key: value for key, value in json.loads(text).items() if key != "host"}
            found[name] = json.dumps(kept, indent=1) + "\n"
        elif name == f"{FOLDER}/{CONFIRM_FILE}":
            found[name] = as_json(_deep(json.loads(text), hidden))
        elif name == PACKAGES_FILE:
            found[name] = text
    return found


def _config(group: str, value: Any, hidden: _Hidden) -> Any:
    if isinstance(value, Mapping):
        return {key: hidden.value(f"{group}.{key}", item) for key, item in value.items()}
    return hidden.value(group, value)


def _table(text: str, hidden: _Hidden) -> str:
    rows = _rows(text)
    columns = list(rows[0]) if rows else []
    return csv_text(
        columns,
        [
            [
                hidden.slices[value] if column == "id" else hidden.person(value) if column == "patient_id" else value
                for column, value in row.items()
            ]
            for row in rows
        ],
    )


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _parts(text: str) -> dict[str, Sequence[str]]:
    """Part of a split -> ids."""
    content = json.loads(text)
    return {part: content[part] for part in ("train", "val", "test") if part in content}
