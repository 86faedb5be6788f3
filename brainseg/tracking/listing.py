"""Which runs a list holds, and in what order: the same rules for every store."""

from collections.abc import Iterable, Mapping, Sequence

from brainseg.cli.secrets import mask
from brainseg.errors import TrackingError
from brainseg.keys import did_you_mean
from brainseg.tracking.protocol import RunFilter, RunList, RunRecord, RunSummary
from brainseg.tracking.rules import STATE

FINISHED = "finished"  # the tag `state` of the runs that are ranked
INFEASIBLE = "infeasible"  # of one that was trained to its end, but breaks a constraint of its study
ROLE = "sweep_role"  # tag
PARENT = "parent"


class UnknownExperimentError(TrackingError):
    """The store has no experiment of this name."""

    def __init__(self, name: str, known: Sequence[str], *, uri: str) -> None:
        near = did_you_mean(name, known) or f"; it has {', '.join(sorted(known)) or 'none'}"
        super().__init__(f"no experiment {name!r} in {mask(uri)}{near}")


def matches(run: RunSummary, which: RunFilter) -> bool:
    """Whether a run of brainseg's (it has the tag `state`) fulfils every condition but that of the experiment."""
    return (
        STATE in run.tags
        and run.run_id.startswith(which.id_start)
        and which.params.items() <= run.params.items()
        and which.tags.items() <= run.tags.items()
        and is_parent(run.tags) == which.parents
    )


def is_parent(tags: Mapping[str, str]) -> bool:
    """Whether these are the tags of the parent run of a study, or of `train -m`."""
    return tags.get(ROLE) == PARENT


def summary_of(record: RunRecord, *, total_of: str) -> RunSummary:
    """The record without its history."""
    series = record.metrics.get(total_of)
    return RunSummary(
        run_id=record.run_id,
        name=record.name,
        status=record.status,
        params=record.params,
        tags=record.tags,
        metrics={key: values[max(values)] for key, values in record.metrics.items()},
        total=None if series is None else sum(series.values()),
    )


def listed(runs: Iterable[RunSummary], which: RunFilter, *, rank_by: str, limit: int | None) -> RunList:
    """Filters, ranks and cuts runs that are given from the oldest to the newest."""
    found = [run for run in runs if matches(run, which)]
    finished = [run for run in found if run.tags[STATE] == FINISHED]
    others = [run for run in reversed(found) if run.tags[STATE] != FINISHED]
    whole = RunList(finished=ranked(finished, rank_by), others=tuple(others), more_finished=False, more_others=False)
    return cut_to(whole, limit)


def merged(lists: Sequence[RunList], *, rank_by: str, limit: int | None) -> RunList:
    """Joins lists, each made with at least this limit; a run that is in several of them appears once."""
    finished = {run.run_id: run for each in lists for run in each.finished}
    others = {run.run_id: run for each in lists for run in each.others}
    whole = RunList(
        finished=ranked(finished.values(), rank_by),
        others=tuple(others.values()),
        more_finished=any(each.more_finished for each in lists),
        more_others=any(each.more_others for each in lists),
    )
    return cut_to(whole, limit)


def ranked(runs: Iterable[RunSummary], metric: str) -> tuple[RunSummary, ...]:
    """Sorts runs by a metric, the best first; equal runs keep their order, and runs without the metric come last."""
    return tuple(sorted(runs, key=lambda run: -run.metrics.get(metric, float("-inf"))))


def cut_to(runs: RunList, limit: int | None) -> RunList:
    """The list with at most `limit` runs of either kind."""
    return RunList(
        finished=runs.finished[:limit],
        others=runs.others[:limit],
        more_finished=runs.more_finished or len(runs.finished[:limit]) < len(runs.finished),
        more_others=runs.more_others or len(runs.others[:limit]) < len(runs.others),
    )
