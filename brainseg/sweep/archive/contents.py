"""What an archive holds of a study, before it is written; `anonymous.py` makes it nameless."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brainseg.data.digests import SliceDigest
from brainseg.runs.archive import ArchivedRun, as_json, texts_of
from brainseg.sweep.archive.study import STUDY, STUDY_FILE, TRIALS, TRIALS_TABLE, member, trial_of
from brainseg.sweep.outcome.summary import trials_csv
from brainseg.sweep.study.study_file import StudyConfig
from brainseg.train.environment import LOCK_FILE


@dataclass(frozen=True, kw_only=True)
class StudyContents:
    """A study, in JSON's types."""

    config: StudyConfig
    study: Mapping[str, Any]  # `study_json`
    trials: Sequence[Mapping[str, Any]]  # `trial_json` of each, in their order
    file: str | None  # as its parent run recorded it

    def texts(self) -> dict[str, str]:
        """Its members."""
        rows = [trial_of(trial, metrics=len(self.config.metrics)) for trial in self.trials]
        found = {
            STUDY: as_json(self.study),
            TRIALS: as_json(self.trials),
            TRIALS_TABLE: trials_csv(rows, self.config),
            **({} if self.file is None else {STUDY_FILE: self.file}),
        }
        return {member(self.config.name, name): text for name, text in found.items()}


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A study, the one that confirms its winners, if there is one, and what both come from."""

    studies: Sequence[StudyContents]
    runs: Sequence[ArchivedRun]
    slices: Sequence[SliceDigest]
    lock: str | None  # requirements.lock at the commit of its runs; None where git can't show it

    def texts(self, *, is_anonymous: bool) -> dict[str, str]:
        """All members."""
        names = [each.config.name for each in self.studies]
        found = texts_of(names, self.runs, self.slices, is_anonymous=is_anonymous)
        for each in self.studies:
            found |= each.texts()
        return found | ({} if self.lock is None else {LOCK_FILE: self.lock})
