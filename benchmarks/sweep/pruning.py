"""Runs one list of trials with and without the pruner: what it saves, and whether it costs the best trial."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from benchmarks.figures import print_table
from benchmarks.sweep.sweep_process import Command, sweep_command, trials_of
from brainseg.sweep.study.plan import first_trials
from brainseg.sweep.study.study_file import SamplerConfig, read_study, study_path

METRIC = "val_dice_image"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The trials of the list, once they are run."""

    seconds: float
    trials: Sequence[FrozenTrial]

    @property
    def epochs(self) -> int:
        """Epochs trained in all trials together."""
        return sum(len(trial.intermediate_values) for trial in self.trials)

    @property
    def best(self) -> FrozenTrial:
        """The complete trial with the highest score."""
        return max(self._in(TrialState.COMPLETE), key=lambda trial: trial.value or 0.0)

    @property
    def pruned(self) -> set[int]:
        """Numbers of the trials that were stopped early."""
        return {trial.number for trial in self._in(TrialState.PRUNED)}

    def _in(self, state: TrialState) -> list[FrozenTrial]:
        return [trial for trial in self.trials if trial.state == state]


def measure_pruning(*, trials: int, overrides: Sequence[str]) -> None:
    """Prints what the pruner of the study `reference` does if a data.root is given, else that of `quick`."""
    name = "reference" if any(item.startswith("data.root=") for item in overrides) else "quick"
    content = OmegaConf.to_container(OmegaConf.load(study_path(name)))
    assert isinstance(content, dict)
    study = replace(read_study(name, overrides=overrides), sampler=SamplerConfig(name="random", seed=0))
    params = first_trials(study, trials)
    common = content | {"trials": trials, "enqueue": params[1:], "sampler": {"name": "random", "seed": 0}}
    outcomes: dict[str, Outcome] = {}
    for pruner in ({"name": "none"}, content["pruner"]):
        outcomes[pruner["name"]] = _run(common | {"pruner": pruner}, overrides=overrides)
    _print(name, outcomes["none"], outcomes[content["pruner"]["name"]])


def _run(content: dict[Any, Any], *, overrides: Sequence[str]) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        root = Path(folder) / "mlruns"
        path = Path(folder) / "pruning.yaml"
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(content)), encoding="utf-8")
        words = [*sweep_command(path, root), *overrides]
        seconds = Command(words=words, folder=Path.cwd(), log=Path(folder) / "output.log").finish()
        return Outcome(seconds=seconds, trials=trials_of(root, path.stem))


def _print(name: str, whole: Outcome, pruned: Outcome) -> None:
    rows = []
    for label, outcome in (("without", whole), ("with", pruned)):
        best = outcome.best
        cells = [label, f"{best.value:.4f} (trial {best.number})", str(len(outcome.pruned)), str(outcome.epochs)]
        rows.append([*cells, f"{100 * (1 - outcome.epochs / whole.epochs):.0f} %", f"{outcome.seconds:.0f} s"])
    print(f"{len(whole.trials)} trials of {name}, the same list twice\n")
    print_table(["pruner", f"best {METRIC}", "pruned", "epochs", "saved", "time"], rows)
    lost = [trial.value or 0.0 for trial in whole.trials if trial.number in pruned.pruned]
    if lost:
        print(f"best of those that were pruned, trained to their end: {max(lost):.4f}\n")
