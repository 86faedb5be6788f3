"""What brainseg makes of the kept set, by its commands alone: facts in JSON's types, weights and masks as arrays."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kept_set import HERE, SETS, Project, digest, pixels, read_json, table, unpack
from numpy.typing import NDArray
from PIL import Image

TO_SERVE = "colour/images/colour0.png", "deep16/images/deep161.tif", "exif/images/exif1.jpg"
COMPARED = ("rank", "run_id", "name", "state", "final_dice", "low", "high", "data", "split")

Facts = dict[str, Any]
Arrays = dict[str, NDArray[Any]]


class Outcome:
    """The set in two folders, `kept` as it is and `anew` without its cache, after all commands were run there."""

    def __init__(
        self, folder: Path, studies: Sequence[str] = SETS, run_steps: Callable[[Path, Path], None] | None = None
    ) -> None:
        """folder: an empty one. studies: the sets whose studies go on; the first set's has to.

        run_steps: does what `kept_commands.py` does, in another process; by default one that is started for it.
        """
        self.folder = folder
        self.studies = studies
        self._run_steps = run_steps or self._start_steps
        self.kept = Project(unpack(folder / "kept"))
        self.anew = Project(unpack(folder / "anew"))
        shutil.rmtree(self.anew.root / "cache")
        self.ended = self._run(self._commands())

    def assert_good(self, command: str) -> None:
        """The command has ended well."""
        code, output = self.ended[command]
        assert code == 0, output

    def resumed(self, name: str) -> tuple[Facts, Arrays]:
        """The run to resume of a set, at its end; without a cache before."""
        self.assert_good(f"resume {name}")
        run_id = self.anew.run_named(f"{name}-run")
        weights = self.anew.weights(run_id)
        facts = _record(self.anew, run_id) | {
            "fingerprint": self.anew.fingerprint(run_id),
            "weights_sha256": digest(weights),
        }
        return facts, _named("weights", weights) | _named("val", self.anew.predictions(run_id))

    def study(self, name: str) -> list[Facts]:
        """The trials of a set's study that went on to its total, with the kept cache; and what their runs measured."""
        self.assert_good(f"study {name}")
        trials = self.kept.trials(name)
        runs = [self.kept.run_of_trial(name, number) for number in range(len(trials))]
        return [trial | {"history": self.kept.history(run_id)} for trial, run_id in zip(trials, runs, strict=True)]

    def synced(self) -> tuple[Facts, Arrays]:
        """The run whose records waited in the spool, and the runs whose records still do."""
        self.assert_good("sync")
        run_id = self.kept.run_named("offline")
        waiting = sorted(path.name for path in (self.kept.root / "spool").iterdir() if path.is_dir())
        return _record(self.kept, run_id) | {"waiting": waiting}, _named("weights", self.kept.weights(run_id))

    def compared(self) -> list[Facts]:
        """The runs that `compare` shows, just after the spool was delivered."""
        self.assert_good("compare")
        return [{key: run[key] for key in COMPARED} for run in read_json(self.folder / "compare.json")["runs"]]

    def evaluated(self) -> Facts:
        """The scores of the finished run."""
        self.assert_good("evaluate")
        folder = self.folder / "evaluated"
        return {
            "scores": table((folder / "scores.csv").read_text()),
            "summary": read_json(folder / "summary.json")["overall"],
        }

    def predicted(self) -> tuple[list[Facts], Arrays]:
        """Masks of the images of three sets, by the alias of the registered model."""
        self.assert_good("predict")
        folder = self.folder / "predicted"
        masks = {path.stem: pixels(path) for path in sorted((folder / "masks").rglob("*.png"))}
        rows = table((folder / "predictions.csv").read_text())
        return [row | {"warnings": len(row["warnings"].split("; "))} for row in rows], masks

    def served(self, command: str) -> tuple[list[Facts], Arrays]:
        """Answers of the registered model. command: `served` after brainseg's own ones, or `served alone`."""
        self.assert_good(command)
        answers = read_json(self._answers(command))
        masks = {name: _mask(answer.pop("mask")) for name, answer in zip(TO_SERVE, answers, strict=True)}
        return [answer | {"warnings": len(answer["warnings"])} for answer in answers], masks

    def _commands(self) -> dict[str, list[str]]:
        """Name -> folder, program and arguments, in order."""
        kept, anew = str(self.kept.folder), str(self.anew.folder)
        images = [f"{name}/images" for name in SETS[1:]]
        return {
            # First: whatever opens a run delivers what waits in the spool.
            "sync": [kept, "brainseg.tracking", "sync"],
            "compare": [kept, "brainseg.compare", "--json", str(self.folder / "compare.json")],
            "evaluate": [
                *(kept, "brainseg.evaluate", self.kept.run_named("finished")),
                *("-o", str(self.folder / "evaluated")),
            ],
            "predict": [kept, "brainseg.predict", "champion", *images, "-o", str(self.folder / "predicted")],
            "study grey": [kept, "brainseg.sweep", "run", "grey"],
            **{f"study {name}": [kept, "brainseg.sweep", "worker", name] for name in self.studies[1:]},
            **{
                f"resume {name}": [anew, "brainseg.train", f"resume={self.anew.run_named(f'{name}-run')}"]
                for name in SETS
            },
            "served": [kept, *self._ask("served")],
        }

    def _run(self, commands: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, str]]:
        """Command -> exit code and output. All in one process, but for the last, which has one of its own."""
        todo, results = self.folder / "steps.json", self.folder / "results.json"
        todo.write_text(json.dumps(list(commands.values())))
        self._run_steps(todo, results)
        alone = self._start(*self._ask("served alone"))
        ended = [(code, output) for code, output in read_json(results)]
        return dict(zip(commands, ended, strict=True)) | {"served alone": (alone.returncode, alone.stderr)}

    def _start_steps(self, todo: Path, results: Path) -> None:
        done = self._start(str(HERE / "kept_commands.py"), str(todo), str(results))
        assert done.returncode == 0, done.stderr
        print(done.stdout)  # how long each took

    def _start(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Runs Python without what a user may have set for MLflow or brainseg."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "BRAINSEG_"))}
        environment = kept | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.kept.folder, env=environment, capture_output=True, text=True)

    def _ask(self, command: str) -> list[str]:
        images = [str(self.kept.folder / name) for name in TO_SERVE]
        return [str(HERE / "kept_served.py"), str(self.kept.folder), str(self._answers(command)), *images]

    def _answers(self, command: str) -> Path:
        return self.folder / f"{command.replace(' ', '-')}.json"


def collect(outcome: Outcome) -> tuple[Facts, Arrays]:
    """Everything that a later version is held against."""
    resumed = {name: outcome.resumed(name) for name in SETS}
    synced, synced_arrays = outcome.synced()
    predicted, masks = outcome.predicted()
    served, served_masks = outcome.served("served alone")
    arrays = _named("synced", synced_arrays) | _named("predicted", masks) | _named("served", served_masks)
    for name, (_, found) in resumed.items():
        arrays |= _named(f"resumed/{name}", found)
    facts = {
        "cache": outcome.kept.cache(),
        "resumed": {name: found for name, (found, _) in resumed.items()},
        "studies": {name: outcome.study(name) for name in outcome.studies},
        "synced": synced,
        "compared": outcome.compared(),
        "evaluated": outcome.evaluated(),
        "predicted": predicted,
        "served": served,
    }
    return facts, arrays


def _record(project: Project, run_id: str) -> Facts:
    status, state = project.ending(run_id)
    history, scores = project.history(run_id), project.scores(run_id)
    return {"status": status, "state": state, "history": history, "scores": scores}


def _named(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _mask(text: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image)
