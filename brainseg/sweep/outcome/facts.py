"""What a report says about a study: its baseline, its best trials, and the plots of what mattered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from brainseg.cli.tables import Section
from brainseg.config import TrackingConfig
from brainseg.drawing.page_figures import FigureGroup
from brainseg.sweep.outcome.front import FrontTrial
from brainseg.tracking.paths import tracking_paths

if TYPE_CHECKING:
    from brainseg.runs.archive import Archive
    from brainseg.sweep.engine.foreign import OwnStudy
    from brainseg.sweep.study.study_file import StudyConfig

KINDS = ("importance", "slice", "parallel")  # plots; a report has its own curves and scores


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """What is known about a study besides its runs."""

    name: str
    id: str = ""  # tag `sweep_id` of its runs, which tells it from others of its name; empty if unknown
    baseline: str | None  # run id; None if it has none
    verdicts: tuple[str, ...] = ()  # its best trial, a sentence for each metric
    progress: str = ""  # how many trials have ended, and how, and how far their forecast was off; empty if unknown
    trials: Section | None = None  # the best ones, where a trial is several runs: a report has a table of runs
    groups: tuple[FigureGroup, ...] = ()
    missing: str = ""  # why there are no figures; empty if there are
    metrics: Mapping[str, str] = field(default_factory=dict)  # metric -> direction; empty if unknown
    front: tuple[FrontTrial, ...] = ()  # of several metrics


def facts_of_study(name: str, *, tracking: TrackingConfig, where: str | None) -> StudyFacts | None:
    """What the study's storage knows; None if no storage was named and there is none here.

    where: the storage, as `--storage` takes it. Raises TrackingError if it can't be used, or has no such study.
    """
    from brainseg.sweep.engine.storage import open_storage, place_of  # Optuna, which a report of runs never needs

    root = tracking_paths(tracking).root
    place = place_of(where, root=root, name=name)
    if where is None and not isinstance(place, str) and not place.exists():
        return None
    from brainseg.sweep.engine.foreign import OwnStudy
    from brainseg.sweep.engine.stored_study import load_config

    storage = open_storage(where, root=root, name=name, create=False)
    with storage.reached():
        return _facts(OwnStudy(study_name=name, storage=storage.optuna), load_config(storage, name))


def facts_in_archive(archive: "Archive", name: str) -> StudyFacts:
    """What an exported file knows of one of its studies. Raises InputError where it can't be read."""
    from brainseg.sweep.archive.study import archived_study

    config, study = archived_study(archive, name)
    return _facts(study, config)


def _facts(study: "OwnStudy", config: "StudyConfig") -> StudyFacts:
    from brainseg.sweep.engine.keys import STUDY_ID
    from brainseg.sweep.outcome.figures import figure_groups
    from brainseg.sweep.outcome.summary import best_trials, forecast_text, headline, summarize, verdict
    from brainseg.sweep.study.plan import quiet

    with quiet():
        summary = summarize(study, config)
        return StudyFacts(
            name=config.name,
            id=study.user_attrs.get(STUDY_ID, ""),
            baseline=(summary.baseline.run_id or None) if summary.baseline is not None else None,
            verdicts=tuple(verdict(summary, metric) for metric in summary.metrics),
            progress=f"{headline(summary)}.{forecast_text(summary)}",
            trials=best_trials(summary, config) if config.repeat and summary.best else None,
            groups=figure_groups(study, summary, kinds=KINDS),
            metrics=config.metrics,
            front=tuple(
                FrontTrial(number=row.number, values=row.values, run_id=row.run_id)
                for row in (summary.best if len(config.metrics) > 1 else ())
            ),
        )
