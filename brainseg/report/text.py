"""A report in sentences: the question, the answer with its interval, and what limits the answer."""

from brainseg.compare.comparison import RunPair
from brainseg.report.report import Report
from brainseg.runs.select import SCORE, quoted
from brainseg.scoring.intervals import CONFIDENCE, RESAMPLES


def title(report: Report) -> str:
    """The page's name."""
    if report.study is not None:
        return f"Report of study {report.study.name}"
    rows = report.comparison.rows
    return f"Report of run {quoted(rows[0].run)}" if len(rows) == 1 else f"Report of {len(rows)} runs"


def question(report: Report) -> str:
    """What the page answers."""
    if len(report.comparison.rows) == 1 and report.baseline in (None, report.comparison.rows[0].run):
        return "How well does this run segment the validation slices?"
    who = "run" if report.study is None else f"trial of study {report.study.name}"
    better = ", and is it better than the baseline by more than chance" if report.baseline is not None else ""
    return f"Which {who} segments the validation slices best{better}?"


def answer(report: Report) -> str:
    """The answer in a sentence or two."""
    if report.best is None or report.best.score is None:
        return (
            "The scores can't be ranked: the runs were scored on different slices (another split, or other data), "
            "and some slices are harder than others."
        )
    best, score = quoted(report.best.run), report.best.score
    if report.baseline is None or len(report.comparison.rows) == 1:
        return f"{best} has a Dice of {score.text}."
    baseline = quoted(report.baseline)
    if report.best.run.run_id == report.baseline.run_id:
        return f"No run is better than the baseline {baseline}, whose Dice is {score.text}."
    if SCORE not in report.baseline.metrics:
        state = report.baseline.tags.get("state", report.baseline.status.lower())
        return (
            f"{best} is the best with a Dice of {score.text}; the baseline {baseline} is {state}, without a final Dice."
        )
    if report.pair is None:
        gain = score.value - report.baseline.metrics[SCORE]
        return (
            f"{best} has the highest Dice, {score.text}, {gain:.4f} above the baseline {baseline}; whether that is "
            "chance can't be told, since the scores of single slices are missing."
        )
    return _paired(best, baseline, report.pair)


def notes(report: Report) -> list[str]:
    """What limits the answer, a sentence or two each."""
    found = []
    if report.pair is not None:
        drawn = "slices, since no patient ids are known" if report.pair.people is None else "people"
        people = "" if report.pair.people is None else f" of {report.pair.people} people"
        found.append(
            f"The gain is the mean difference of the Dice, slice by slice, over the {len(report.pair.slices)} "
            f"validation slices{people} that both runs have scored; the {CONFIDENCE:.0%} interval is from a "
            f"bootstrap over {drawn}, {RESAMPLES} resamples."
        )
    if report.pair is not None and report.pair.by_class:
        gains = ", ".join(f"{name} {gain.text}" for name, gain in report.pair.by_class.items())
        found.append(f"It is the mean over the classes, whose gains are: {gains}.")
    if report.pair is not None and len(report.rankable) > 2:
        found.append(
            f"{quoted(report.pair.second)} is the best of {len(report.rankable)} runs on these very slices, so that "
            f"a part of its lead is luck. {_remedy(report)}"
        )
    if report.study is not None and report.baseline is None:
        found.append("The study has no baseline; --baseline RUN_ID names a run to compare the best with.")
    marked = [row for row in report.comparison.rows if row.not_comparable]
    if marked and report.best is not None:
        found.append(
            f"{_runs(len(marked))} marked with * {_were(len(marked))} scored on other slices (another split, or "
            "other data): that score can't be ranked."
        )
    if report.best is None:
        found.append("To compare recipes, train them on one split, or over all folds and pool them with evaluate.")
    others = [row.state for row in report.comparison.rows if row.score is None]
    if others:
        states = ", ".join(f"{others.count(state)} {state}" for state in dict.fromkeys(others))
        found.append(f"{_runs(len(others))} without a final Dice: {states}.")
    both = report.best.run.tags.get("patients_on_both_sides", "") if report.best is not None else ""
    if both.isdecimal() and int(both):
        found.append(
            f"{both} people have slices on both sides of the split, so that the scores say little about new patients."
        )
    if both == "unknown":
        found.append(
            "Which slices are of one person isn't known, so that the scores may say little about new patients."
        )
    if report.study is not None:
        found += [f"By the study's own measure: {verdict}" for verdict in report.study.verdicts]
        found += [report.study.progress] if report.study.progress else []
    return found


def _remedy(report: Report) -> str:
    if report.confirmation is not None:
        return "How large that part is was found out with new seeds and test slices, see below."
    if report.study is not None:
        return f"`python -m brainseg.sweep confirm {report.study.name}` finds out, with new seeds and test slices."
    return "A comparison on test slices, or over several seeds, is free of that."


def _paired(best: str, baseline: str, pair: RunPair) -> str:
    before, after = pair.dices
    dices = f"Dice {after:.4f} against {before:.4f}"
    gain = pair.overall
    if gain.value <= 0:
        return f"No run is better than the baseline {baseline}: {best} has {dices}, a difference of {gain.text}."
    if gain.low is None or gain.high is None:
        return (
            f"{best} has the highest Dice, {after:.4f} against {before:.4f} of the baseline {baseline}; the slices "
            "are of one person alone, so that there is no interval and the difference may be chance."
        )
    if gain.low > 0:
        return f"{best} is better than the baseline {baseline}: {dices}, a gain of {gain.text}."
    return (
        f"Not told apart: {best} has the highest Dice, {after:.4f} against {before:.4f} of the baseline {baseline}, "
        f"but the {CONFIDENCE:.0%} interval of the gain, {gain.text}, holds 0: the difference may be chance."
    )


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
