"""How often `sweep confirm` calls a winner in simulated studies: of equal configurations, and of better ones.

    python -m benchmarks.winners

What makes a person hard is common to all configurations (standard deviation 0.18); each configuration (0.03) and each
run (0.04) has people that suit it. 46 people are in the test part; three configurations are compared with a baseline.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from brainseg.scoring.ranking import DiceTable
from brainseg.scoring.winners import leads

PEOPLE, CONFIGURATIONS = 46, 4
PERSON_SD, CONFIGURATION_SD, RUN_SD = 0.18, 0.03, 0.04
BETTER_BY = 0.03


def simulated(
    studies: int, *, better_by: float, seeds_sd: float, seeds: int = 3, seed: int = 0
) -> Iterator[list[list[DiceTable]]]:
    """Of each study a baseline and three others, a table a seed; the others are better by as much on everyone."""
    rng = np.random.default_rng(seed)
    for _ in range(studies):
        hardness = rng.normal(0.7, PERSON_SD, PEOPLE)
        yield [
            [
                table(dices + rng.normal(0, seeds_sd) + rng.normal(0, RUN_SD, PEOPLE))
                for dices in [hardness + rng.normal(better_by * (place > 0), CONFIGURATION_SD, PEOPLE)]
                for _ in range(seeds)
            ]
            for place in range(CONFIGURATIONS)
        ]


def table(dices: NDArray[np.float64]) -> DiceTable:
    """Scores of a slice a person, (people,)."""
    return DiceTable(
        dices=dices[:, None],
        counted=np.ones((len(dices), 1), dtype=bool),
        people=tuple(range(len(dices))),
        groups=("",) * len(dices),
    )


def share_with_winner(studies: int, *, better_by: float, seeds_sd: float, seeds: int = 3) -> float:
    """The share of studies in which a configuration is called better than the baseline."""
    found = [
        any(lead.is_better for lead in leads(baseline, others))
        for baseline, *others in simulated(studies, better_by=better_by, seeds_sd=seeds_sd, seeds=seeds)
    ]
    return sum(found) / studies


def main() -> None:
    """Prints the table of docs/evaluation.md."""
    parser = argparse.ArgumentParser(description="How often `sweep confirm` calls a winner in simulated studies.")
    parser.add_argument("--studies", type=int, default=2000, help="of each kind; default: %(default)s")
    studies = parser.parse_args().studies
    print("| seeds' sd | seeds | equal: a winner in | better by 0.03: a winner in |\n| --- | --- | --- | --- |")
    for seeds_sd in (0.005, 0.01, 0.02):
        for seeds in (3, 5):
            equal, better = (
                share_with_winner(studies, better_by=better_by, seeds_sd=seeds_sd, seeds=seeds)
                for better_by in (0.0, BETTER_BY)
            )
            print(f"| {seeds_sd} | {seeds} | {equal:.1%} | {better:.1%} |", flush=True)


if __name__ == "__main__":
    main()
