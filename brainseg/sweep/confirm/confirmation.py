"""What the seeds of a confirming study have shown, computed from its runs; the record that a report reads again."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from brainseg.parsing import parse_json
from brainseg.runs.artifacts import optional_text
from brainseg.runs.select import find_run
from brainseg.runs.slice_scores import read_scores, score_rule
from brainseg.scoring.intervals import Estimate
from brainseg.scoring.ranking import DiceTable
from brainseg.scoring.slice_score import dice_table
from brainseg.scoring.winners import Lead, leads
from brainseg.sweep.confirm.candidates import Candidate
from brainseg.tracking.protocol import RunStore

SCHEMA = 1
FOLDER, CONFIRM_FILE = "confirm", "confirm.json"  # artifacts of the confirming study's parent run
CONFIRMS = "confirms"  # its tag: the id of the study whose winners were trained again
SAME_SPEED = 1.2
COSTS = ("parameters", "seconds_per_image")  # metrics of a run


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """A configuration of the study, trained again."""

    candidate: Candidate
    validation: tuple[float, ...]  # the study's metric, of each new seed
    test: tuple[float, ...]  # mean Dice of the test part at the stored size, of each new seed
    parameters: float
    seconds_per_image: float
    lead: Lead | None  # over the baseline, on the test part; None for the baseline
    is_worse_than_best: bool  # whether it can be told from the configuration with the highest mean on the test part

    @property
    def of_test(self) -> float:
        """The mean over seeds."""
        return fmean(self.test)

    @property
    def of_validation(self) -> float:
        """The mean over seeds."""
        return fmean(self.validation)


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """All configurations, the baseline first, then the study's best first."""

    study: str
    metric: str
    seeds: tuple[int, ...]
    slices: int  # of the test part
    people: int
    configurations: tuple[Confirmed, ...]

    @property
    def baseline(self) -> Confirmed:
        """What the others are compared with."""
        return self.configurations[0]

    @property
    def best(self) -> Confirmed:
        """The highest mean on the test part."""
        return max(self.configurations, key=lambda each: each.of_test)

    @property
    def cheapest(self) -> Confirmed:
        """Of those that can't be told from the best: the fewest parameters, then the fewest seconds, then the best.

        Seconds within SAME_SPEED of the fewest are the same: the machine had other things to do.
        """
        equal = [each for each in self.configurations if not each.is_worse_than_best]
        smallest = [each for each in equal if each.parameters == min(each.parameters for each in equal)]
        fewest_s = min(each.seconds_per_image for each in smallest)
        fast = [each for each in smallest if each.seconds_per_image <= fewest_s * SAME_SPEED]
        return max(fast, key=lambda each: each.of_test)


def confirmation_of(
    store: RunStore,
    study: str,
    metric: str,
    runs: Sequence[tuple[Candidate, Sequence[tuple[str, float]]]],
    *,
    seeds: Sequence[int],
) -> Confirmation:
    """Reads the runs' scores. runs: of each candidate, the baseline first, a run's id and its metric for each seed.

    Raises InputError where a run's scores can't be read, ValueError for a test part of one person.
    """
    tables: list[list[DiceTable]] = []
    costs: list[dict[str, float]] = []
    for _, of_candidate in runs:
        found = [find_run(store, run_id) for run_id, _ in of_candidate]
        scores = [(read_scores(store, run, split="test"), score_rule(run)) for run in found]
        tables.append([dice_table(of_run, score_by=rule) for of_run, rule in scores])
        costs.append({name: fmean(run.metrics[name] for run in found) for name in COSTS})
    over_baseline = [None, *leads(tables[0], tables[1:])]
    best = max(range(len(tables)), key=lambda place: fmean(table.score for table in tables[place]))
    others = [place for place in range(len(tables)) if place != best]
    behind = dict(zip(others, leads(tables[best], [tables[place] for place in others]), strict=True))
    return Confirmation(
        study=study,
        metric=metric,
        seeds=tuple(seeds),
        slices=len(tables[0][0].people),
        people=len(set(tables[0][0].people)),
        configurations=tuple(
            Confirmed(
                candidate=candidate,
                validation=tuple(value for _, value in of_candidate),
                test=tuple(table.score for table in tables[place]),
                **costs[place],
                lead=over_baseline[place],
                is_worse_than_best=place in behind and behind[place].is_worse,
            )
            for place, (candidate, of_candidate) in enumerate(runs)
        ),
    )


def read_confirmation(store: RunStore, study_id: str) -> Confirmation | None:
    """What is recorded for the study; None if its winners weren't trained again, or are being trained."""
    for run_id in store.find({CONFIRMS: study_id}) if study_id else ():
        if (text := optional_text(store, run_id, f"{FOLDER}/{CONFIRM_FILE}")) is not None:
            return from_json(text)
    return None


def to_json(confirmation: Confirmation) -> str:
    """What `from_json` reads."""
    return json.dumps({"schema_version": SCHEMA, **dataclasses.asdict(confirmation)}, indent=2) + "\n"


def from_json(text: str) -> Confirmation | None:
    """A stored confirmation; None for one of another version of brainseg, or what is none."""
    try:
        content = parse_json(text)
        if content.pop("schema_version") != SCHEMA:
            return None
        configurations = tuple(_confirmed(each) for each in content.pop("configurations"))
        return Confirmation(configurations=configurations, **{**content, "seeds": tuple(content["seeds"])})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _confirmed(content: Mapping[str, Any]) -> Confirmed:
    lead = content["lead"]
    return Confirmed(
        **{
            **content,
            "candidate": Candidate(**content["candidate"]),
            "validation": tuple(content["validation"]),
            "test": tuple(content["test"]),
            "lead": None if lead is None else Lead(**{**lead, "difference": Estimate(**lead["difference"])}),
        }
    )
