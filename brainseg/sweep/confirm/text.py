"""A confirmation in words: the table, the verdict, and how much of the winner's lead was luck."""

from statistics import fmean, stdev

from brainseg.cli.tables import Section
from brainseg.config import short_names
from brainseg.sweep.confirm.confirmation import Confirmation, Confirmed
from brainseg.sweep.engine.trial_row import shown_metric, shown_params


def verdicts(confirmation: Confirmation) -> list[str]:
    """Sentences: which configurations are better than the baseline, what was luck, and which one to take."""
    return [*_comparison(confirmation), *_luck(confirmation), _advice(confirmation)]


def section(confirmation: Confirmation) -> Section:
    """A row a configuration."""
    names = short_names(confirmation.baseline.candidate.params)
    rows = [
        (
            each.candidate.name,
            "" if each.candidate.value is None else shown_metric(each.candidate.value),
            _mean_and_spread(each.validation),
            _mean_and_spread(each.test),
            "" if each.lead is None else each.lead.difference.text,
            "" if each.lead is None else f"{each.lead.p:.2g}",
            f"{each.parameters:.0f}",
            f"{each.seconds_per_image:.3g}",
            shown_params(each.candidate.params, names),
        )
        for each in confirmation.configurations
    ]
    count = len(confirmation.seeds)
    return Section(
        title=f"{confirmation.study}, trained again with {count} new seeds",
        headings=(
            "",
            f"{confirmation.metric} in the study",
            f"with {count} new seeds",
            "Dice on the test part",
            "lead over the baseline there",
            "p",
            "parameters",
            "s a slice",
            "values",
        ),
        rows=tuple(rows),
        align="l" + "r" * 7 + "l",
        narrow_lines=tuple(_line(each, names_of=names) for each in confirmation.configurations),
        lines=(
            f"test part: {confirmation.slices} slices of {confirmation.people} people, which no trial has seen; seeds "
            f"{', '.join(map(str, confirmation.seeds))}, spread after ±",
            "intervals and p over people and seeds at once, for all configurations together (docs/evaluation.md)",
        ),
    )


def _line(each: Confirmed, *, names_of: dict[str, str]) -> str:
    lead = "" if each.lead is None else f", lead {each.lead.difference.text}"
    scores = f"validation {_mean_and_spread(each.validation)}, test {_mean_and_spread(each.test)}{lead}"
    return f"{each.candidate.name}: {scores}; {shown_params(each.candidate.params, names_of)}"


def _mean_and_spread(values: tuple[float, ...]) -> str:
    return f"{fmean(values):.4f} ±{stdev(values):.4f}"


def _comparison(confirmation: Confirmation) -> list[str]:
    others = [(each.candidate.name, each.lead) for each in confirmation.configurations if each.lead is not None]
    told = [
        f"{name.capitalize()} is better than the baseline by {lead.difference.text} Dice on the test part."
        for name, lead in others
        if lead.is_better
    ]
    worse = [name for name, lead in others if lead.is_worse]
    unclear = [name for name, lead in others if not lead.is_better and not lead.is_worse]
    for names, what in ((unclear, "not to be told from the baseline"), (worse, "worse than the baseline")):
        if names:
            be = "is" if len(names) == 1 else "are"
            told.append(f"{_listed(names).capitalize()} {be} {what} on the test part.")
    return told


def _luck(confirmation: Confirmation) -> list[str]:
    """Of the study's winner, whose lead on validation chose it."""
    baseline, winner = confirmation.configurations[:2]
    if winner.candidate.value is None or baseline.candidate.value is None:
        return []
    in_study = winner.candidate.value - baseline.candidate.value
    again = winner.of_validation - baseline.of_validation
    on_test = winner.of_test - baseline.of_test
    return [
        f"{winner.candidate.name.capitalize()}, the study's best, less the baseline: {in_study:+.4f} in the study, "
        f"{again:+.4f} with new seeds on the same slices, and {on_test:+.4f} on the test part: "
        f"{in_study - again:+.4f} was luck of the seed, and {again - on_test:+.4f} holds on validation slices alone."
    ]


def _advice(confirmation: Confirmation) -> str:
    cheapest, best = confirmation.cheapest, confirmation.best
    cost = f"{cheapest.parameters:.0f} parameters, {cheapest.seconds_per_image:.3g} s a slice"
    if cheapest is best:
        return f"Take {best.candidate.name}: the best on the test part, and none that equals it is cheaper ({cost})."
    return (
        f"Take {cheapest.candidate.name}: the cheapest ({cost}) of those that aren't to be told from the best on the "
        f"test part, {best.candidate.name}."
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
