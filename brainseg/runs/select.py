"""Selects runs by ids or their starts, names of studies, and conditions `key=value`."""

import re
from collections.abc import Sequence
from dataclasses import replace

from brainseg.config import RunConfig, flatten, place_of_options
from brainseg.errors import InputError
from brainseg.keys import did_you_mean
from brainseg.tracking.listing import merged
from brainseg.tracking.protocol import RunFilter, RunList, RunStore, RunSummary

SCORE = "final_dice"
SECONDS = "seconds"  # of each epoch
# Keys that change names and places, but not the training.
IRRELEVANT = ("run_name", "resume", "data.root", "data.cache_dir", "tracking.")
SHORTEST_ID = 6  # characters of an id, to name a run
NEWEST = 100  # runs searched for the key that was meant
TEXTS = {"true": "True", "false": "False", "null": "None"}  # value as typed -> as recorded


def find_study(store: RunStore, name: str) -> RunList | None:
    """The runs of the study of this name, the best first; None if it is the name of a run.

    Raises InputError for any other name, and for a study without runs.
    """
    which = _named(store, name, RunFilter())
    return None if "sweep" not in which.tags else _overview(store, which, limit=None)


def select(store: RunStore, words: Sequence[str], *, experiment: str, limit: int | None) -> RunList:
    """The runs that an id or a study among the words names, and that meet all conditions `key=value`.

    Without an id or a study: the runs of the experiment. Raises InputError if no run is found.
    """
    filters = [word for word in words if "=" in word]
    which = RunFilter()
    for word in filters:
        key, _, value = word.partition("=")
        which = _with_condition(which, key.strip(), value.strip())
    names = [word for word in words if "=" not in word]
    if names:
        lists = [_overview(store, _named(store, name, which), limit=limit) for name in dict.fromkeys(names)]
    else:
        lists = [_overview(store, replace(which, experiment=experiment), limit=limit)]
    found = merged(lists, rank_by=SCORE, limit=limit)
    if not found.finished and not found.others:
        raise _nothing(store, names, filters, experiment=experiment)
    return found


def find_run(store: RunStore, name: str) -> RunSummary:
    """The run with this id, or with an id that starts so. Raises InputError for none, or several."""
    found = _runs_starting(store, name)
    if not found:
        raise InputError(f"no run {name!r} here; python -m brainseg.compare lists them, or check --root and --uri")
    return found[0]


def _overview(store: RunStore, which: RunFilter, *, limit: int | None) -> RunList:
    return store.overview(which, rank_by=SCORE, total_of=SECONDS, limit=limit)


def _with_condition(which: RunFilter, key: str, value: str) -> RunFilter:
    """A configuration key is a parameter, any other key a tag."""
    if not re.fullmatch(r"[\w./-]+", key):
        raise InputError(f"'{key}={value}' is not of the form key=value, such as model.depth=5 or state=finished")
    known = flatten(RunConfig())
    is_parameter = key in known or place_of_options(key) is not None
    conditions = which.params if is_parameter else which.tags
    recorded = _as_recorded(known.get(key), value) if is_parameter else value
    if conditions.get(key, recorded) != recorded:
        raise InputError(f"{key} is given twice, and all conditions must hold; leave one out")
    if is_parameter:
        return replace(which, params={**which.params, key: recorded})
    return replace(which, tags={**which.tags, key: recorded})


def _as_recorded(default: object, typed: str) -> str:
    """The text under which a value is recorded: `1e-4` is 0.0001. default: of the same key."""
    if isinstance(default, float):
        try:
            return str(float(typed))
        except ValueError:
            return typed
    return TEXTS.get(typed, typed)


def _named(store: RunStore, name: str, which: RunFilter) -> RunFilter:
    """The filter for the study or the run of this name. Raises InputError if there is neither."""
    of_study = replace(which, tags={**which.tags, "sweep": name})
    looks_like_id = re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},32}}|local-[0-9a-f]+", name) is not None
    # The likelier meaning first: each is a request to the server.
    if looks_like_id and (found := _runs_starting(store, name)):
        return replace(which, id_start=found[0].run_id)
    if _any(_overview(store, RunFilter(tags={"sweep": name}), limit=1)):
        return of_study
    if not looks_like_id and len(name) >= SHORTEST_ID and (found := _runs_starting(store, name)):
        return replace(which, id_start=found[0].run_id)
    parents = _any(_overview(store, RunFilter(parents=True), limit=None))
    studies = sorted({run.tags.get("sweep", "") for run in parents})
    if name in studies:
        raise InputError(f"study {name!r} has no runs yet; python -m brainseg.sweep status {name} shows how it stands")
    near = did_you_mean(name, studies) or "; python -m brainseg.compare lists the runs"
    shortest = f" (the start of an id needs {SHORTEST_ID} characters)" if len(name) < SHORTEST_ID else ""
    raise InputError(f"no run and no study {name!r} here{shortest}{near}")


def _runs_starting(store: RunStore, start: str) -> list[RunSummary]:
    """The run whose id starts so, or none. Raises InputError if several do and none is named in full."""
    if len(start) < SHORTEST_ID:
        raise InputError(f"the start of a run id needs at least {SHORTEST_ID} characters, got {start!r}")
    found = _any(_overview(store, RunFilter(id_start=start), limit=2))
    whole = [run for run in found if run.run_id == start]
    if len(found) > 1 and not whole:
        ids = " and ".join(run.run_id for run in found[:2])
        raise InputError(f"{start!r} is the start of several ids, of {ids} for two; give more of it")
    return whole or found


def _any(runs: RunList) -> list[RunSummary]:
    return [*runs.finished, *runs.others]


def _nothing(store: RunStore, names: Sequence[str], filters: Sequence[str], *, experiment: str) -> InputError:
    """The error for a search without a result; it suggests the key that was meant if one is unknown."""
    where = f"of {', '.join(names)}" if names else f"in experiment {experiment!r}"
    if not filters:
        return InputError(f"no runs {where}; train one first, or check --experiment, --root and --uri")
    newest = _any(_overview(store, RunFilter(experiment=None if names else experiment), limit=NEWEST))
    known = sorted({*flatten(RunConfig()), *(key for run in newest for key in run.tags)})
    for word in filters:
        key = word.partition("=")[0].strip()
        if key not in known:
            near = did_you_mean(key, known) or "; a key is one of the configuration, or a tag such as state or sweep"
            return InputError(f"no run {where} has the parameter or tag {key}{near}")
    return InputError(f"no run {where} has {' and '.join(filters)}; leave a condition out, or check the values")


def called(run: RunSummary) -> str:
    """A run's name, or its id if it has none."""
    return run.name or run.run_id


def quoted(run: RunSummary) -> str:
    """A run's name in quotes: it may hold any words."""
    return f"'{called(run)}'"
