"""Compares the experiment that `brainseg.plan` writes with the defaults, on each kind of phantom.

    python -m benchmarks.plan
    python -m benchmarks.plan --patients 8 --epochs 1 --seeds 1     whether it works

Both see each slice of the same people as often, and are scored on the same validation slices at their stored size.
The defaults are those of `python -m brainseg.train`, at 96x96. The trainings stay in --root, and the same command goes
on where it was stopped.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import brainseg as bs
from benchmarks.figures import print_table, spread
from brainseg.config import PHANTOM_CLASSES, TrackingConfig
from brainseg.data.phantom.source import PhantomSource, write_phantom
from brainseg.plan.planning import make_plan
from brainseg.tracking import open_store

WAYS = ("defaults", "plan")
SMALLER = ("model.base_filters=8", "data.batch_size=8")  # than either's 16: more steps in the same time


def main() -> None:
    """Trains what isn't trained yet, and prints a row for each kind of phantom."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description="What a plan gives.")
    parser.add_argument("--root", type=Path, default=Path("mlruns/plan"), help="for the trainings: %(default)s")
    parser.add_argument("--patients", type=int, default=24, help="of each phantom: %(default)s")
    parser.add_argument("--epochs", type=int, default=8, help="of each training: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each: %(default)s")
    options = parser.parse_args()
    dices: dict[tuple[str, str], list[float]] = {(kind, way): [] for kind in PHANTOM_CLASSES for way in WAYS}
    for seed in range(options.seeds):  # the outermost: what is stopped has all kinds
        for (kind, way), found in dices.items():
            found.append(dice_of(options.root, kind, way, patients=options.patients, epochs=options.epochs, seed=seed))
    rows = [[kind, *cells(*(dices[kind, way] for way in WAYS))] for kind in PHANTOM_CLASSES]
    print_table(["phantom", *WAYS, "gain"], rows)


def cells(defaults: Sequence[float], plan: Sequence[float]) -> list[str]:
    """The Dice of each and the gain, seed by seed: median, smallest and largest."""
    gains = [own - other for own, other in zip(plan, defaults, strict=True)]
    return [spread(values, digits=3) for values in (defaults, plan, gains)]


def dice_of(root: Path, kind: str, way: str, *, patients: int, epochs: int, seed: int) -> float:
    """The final Dice of a training that is there or is made now."""
    name = f"{kind} {way} seed={seed} patients={patients} epochs={epochs}"
    store = open_store(TrackingConfig(root=str(root)))
    if known := store.find({"benchmark": name, "state": "finished"}):
        (dice,) = store.read(known[-1]).metrics["final_dice"].values()
        return dice
    given = [*SMALLER, f"seed={seed}", f"train.epochs={epochs}", "train.threads=1", "tracking.predictions=0"]
    given += [f"tracking.root={root}", f"tracking.tags.benchmark='{name}'"]
    if way == "defaults":
        config = bs.configure(f"data.phantom_kind={kind}", f"data.phantom_patients={patients}", *given)
    else:
        folder = root / f"{kind}-{patients}"
        if not folder.exists():
            write_phantom(PhantomSource(patients=patients, kind=kind), folder)
        classes = PHANTOM_CLASSES[kind]
        named = "" if classes is None else ", ".join(f"{each}: {value}" for each, value in classes.items())
        config = make_plan(folder, [*given, *([f"data.classes={{{named}}}"] if named else [])]).config
    print(name, flush=True)
    return bs.fit(config, quiet=True).final_dice


if __name__ == "__main__":
    main()
