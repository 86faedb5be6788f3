"""How many configurations the test slices of some data have judged: with each, they are less unseen."""

from brainseg.data.split import parse_split
from brainseg.errors import TrackingError
from brainseg.runs.artifacts import SPLIT_FILE, optional_text
from brainseg.runs.select import IRRELEVANT, SCORE, SECONDS
from brainseg.tracking.mlflow.connection import UnreachableError
from brainseg.tracking.protocol import RunFilter, RunStore, RunSummary

TESTED = "evaluation_test"  # tag of a run with test scores
SAME_RECIPE = (*IRRELEVANT, "seed", "train.threads", "train.precision")  # keys that make no other configuration


def configurations_tested(store: RunStore, run: RunSummary) -> int:
    """Of the runs here with test scores on this run's data and test slices: how many configurations they have.

    Runs that differ by their seed alone have one. Raises UnreachableError if the store is away.
    """
    same_data = RunFilter(tags={"data_fingerprint": run.tags.get("data_fingerprint", "")})
    found = store.overview(same_data, rank_by=SCORE, total_of=SECONDS, limit=None)
    tested = [each for each in (*found.finished, *found.others) if TESTED in each.tags]
    one_of_each_split = {_split(each): each for each in (*tested, run)}
    slices = {split: _test_ids(store, each) for split, each in one_of_each_split.items()}
    return len({_recipe(each) for each in tested if slices[_split(each)] == slices[_split(run)]})


def told(count: int) -> str:
    """A sentence beside a test score."""
    if count <= 1:
        return "no other configuration has been scored on these test slices here"
    return f"{count} configurations have been scored on these test slices here; the best of many is partly luck"


def _split(run: RunSummary) -> str:
    return run.tags.get("split_fingerprint", "")


def _test_ids(store: RunStore, run: RunSummary) -> tuple[str, ...]:
    try:
        text = optional_text(store, run.run_id, SPLIT_FILE)
    except UnreachableError:
        raise
    except TrackingError:  # the folder of its artifacts is gone
        return ()
    if text is None:
        return ()
    return parse_split(text, where=f"{SPLIT_FILE} of run {run.run_id}", remedy="restore the artifact").test


def _recipe(run: RunSummary) -> tuple[tuple[str, str], ...]:
    return tuple((key, run.params[key]) for key in sorted(run.params) if not key.startswith(SAME_RECIPE))
