"""A comparison for programs: CSV with a row a run or a slice, JSON with everything."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from brainseg.compare.comparison import Comparison, Row, RunPair
from brainseg.runs.select import SCORE
from brainseg.scoring.intervals import Estimate

COMPARISON_SCHEMA = 1
RUN_COLUMNS = ("rank", "run_id", "name", "state", SCORE, "low", "high", "training_seconds", "data", "split", "mark")
SLICE_COLUMNS = ("id", "patient_id", "tumor_type", "dice_a", "dice_b", "difference")


def comparison_csv(comparison: Comparison) -> str:
    """A row a run: `RUN_COLUMNS`, then the parameters that differ, under their keys; empty where there is no value."""
    rows = []
    for row in comparison.rows:
        told = _run(row)
        params = (row.run.params.get(key, "") for key in comparison.differing)
        rows.append([*("" if told[column] is None else told[column] for column in RUN_COLUMNS), *params])
    return _csv([*RUN_COLUMNS, *comparison.differing], rows)


def comparison_json(comparison: Comparison) -> str:
    """All of a row, with every parameter and tag, and which parameters differ."""
    runs = [{**_run(row), "params": dict(row.run.params), "tags": dict(row.run.tags)} for row in comparison.rows]
    return _json(
        {
            "differing": list(comparison.differing),
            "more_finished": comparison.more_finished,
            "more_others": comparison.more_others,
            "runs": runs,
        }
    )


def pair_csv(pair: RunPair) -> str:
    """A row a slice that both have scored, in the order of ids."""
    rows = [
        [
            each.first.id,
            each.first.patient_id,
            each.first.tumor_type,
            each.first.dice,
            each.second.dice,
            each.difference,
        ]
        for each in pair.slices
    ]
    return _csv(SLICE_COLUMNS, rows)


def pair_json(pair: RunPair) -> str:
    """The differences with their intervals; the slices are in the CSV file."""
    first, second = pair.mean_dice()
    return _json(
        {
            "part": pair.split,
            "a": {"run_id": pair.first.run_id, "name": pair.first.name, "dice": first},
            "b": {"run_id": pair.second.run_id, "name": pair.second.name, "dice": second},
            "slices": len(pair.slices),
            "people": pair.people,
            "only_a": pair.only_first,
            "only_b": pair.only_second,
            "difference": _estimate(pair.overall),
            "by_type": {name: _estimate(estimate) for name, estimate in pair.by_type.items()},
        }
    )


def _run(row: Row) -> dict[str, Any]:
    score = row.score or Estimate(value=float("nan"), low=None, high=None)
    return {
        "rank": row.rank,
        "run_id": row.run.run_id,
        "name": row.run.name,
        "state": row.state,
        SCORE: None if row.score is None else score.value,
        "low": score.low,
        "high": score.high,
        "training_seconds": row.run.total,
        "data": row.data,
        "split": row.split,
        "mark": row.not_comparable,
    }


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _csv(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue()


def _json(content: dict[str, Any]) -> str:
    return json.dumps({"schema_version": COMPARISON_SCHEMA, **content}, indent=2) + "\n"
