"""A comparison for programs: CSV with a row a run or a slice, JSON with everything."""

import json
from dataclasses import asdict
from typing import Any

from brainseg.cli.output import csv_text
from brainseg.compare.comparison import Comparison, Row, RunPair
from brainseg.compare.text import shown_params
from brainseg.runs.select import SCORE

COMPARISON_SCHEMA = 1
RUN_COLUMNS = ("rank", "run_id", "name", "state", SCORE, "low", "high", "training_seconds", "data", "split", "mark")
SLICE_COLUMNS = ("id", "patient_id", "tumor_type", "dice_a", "dice_b", "difference")


def comparison_csv(comparison: Comparison) -> str:
    """A row a run: `RUN_COLUMNS`, then the parameters that differ, under their keys; empty if there is none."""
    differing = comparison.differing
    rows = ([*_run(row).values(), *shown_params(row, differing)] for row in comparison.rows)
    return csv_text([*RUN_COLUMNS, *differing], rows)


def comparison_json(comparison: Comparison) -> str:
    """Every row with all parameters and tags, and the parameters that differ."""
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
    rows = (
        [each.id, each.patient_id, each.tumor_type, each.first, each.second, each.difference] for each in pair.slices
    )
    return csv_text(SLICE_COLUMNS, rows)


def pair_json(pair: RunPair) -> str:
    """The differences with their intervals; the slices are in the CSV file."""
    first, second = pair.dices
    return _json(
        {
            "part": pair.split,
            "a": {"run_id": pair.first.run_id, "name": pair.first.name, "dice": first},
            "b": {"run_id": pair.second.run_id, "name": pair.second.name, "dice": second},
            "slices": len(pair.slices),
            "people": pair.people,
            "only_a": pair.only_first,
            "only_b": pair.only_second,
            "difference": asdict(pair.overall),
            **({} if pair.configurations_tested is None else {"configurations_tested": pair.configurations_tested}),
            "by_type": {name: asdict(estimate) for name, estimate in pair.by_type.items()},
            **({"by_class": {name: asdict(each) for name, each in pair.by_class.items()}} if pair.by_class else {}),
        }
    )


def _run(row: Row) -> dict[str, Any]:
    """`RUN_COLUMNS` of the row, in their order."""
    score = row.score
    values = (row.rank, row.run.run_id, row.run.name, row.state)
    scores = (None, None, None) if score is None else (score.value, score.low, score.high)
    further = (row.run.total, row.data, row.split, row.not_comparable)
    return dict(zip(RUN_COLUMNS, (*values, *scores, *further), strict=True))


def _json(content: dict[str, Any]) -> str:
    return json.dumps({"schema_version": COMPARISON_SCHEMA, **content}, indent=2) + "\n"
