"""Measures how fast the reference trains in brainseg, in a plain Keras script and in PyTorch, in turn.

    python -m benchmarks.speed                             the reference at 256x256 on the phantom
    python -m benchmarks.speed --root DIR                  on a folder of images and masks
    python -m benchmarks.speed --root DIR --size 128 --rounds 7
    python -m benchmarks.speed --root DIR --profile        where a step's time goes, instead

All contenders train one network on the same slices, with the same loss, optimizer, batch size and number
of threads; the last one also normalises and augments:

plain Keras    what a notebook does: float32, the slices in two arrays, `model.compile`, `model.fit`, Keras' own layers
PyTorch        eager, channels_last, bfloat16 by autocast; left out unless torch is installed (the extra benchmark)
brainseg       its training loop and input pipeline, in float32, in mixed_bfloat16 (the reference's recipe), and in
               mixed_bfloat16 with model.norm=batch and data.augment=standard

Each lives in a process of its own. A round trains every contender once over the slices, one after the
other; the first round warms up and isn't counted. Ratios are taken round by round, so that a machine
whose speed drifts doesn't decide them. Figures are medians, with the smallest and the largest behind.

Waiting is the share of the training time that a step waits for its batch. Memory is the most that the
process has held, and what it held when its packages were imported. Busy is the share of the threads' time in
which the process computed. On a GPU it is the share of the time in which that computed anything, by nvidia-smi
five times a second, and the most of its memory that all contenders together held is told as well.
The arithmetic of a training step is 3 (forward, gradient of the inputs, gradient of the weights) * 2 (multiply
and add) * the multiply-adds of the convolutions' forward pass; the machine's peak is the fastest product of two
square matrices by TensorFlow.
Tracking is the record of an epoch, from the call until SQLite has it, and the checkpoint, as shares of
an epoch on so many slices as `--epoch-slices` says.

Run it on an idle machine: beside other programs, PyTorch on several threads loses far more than TensorFlow.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import load, print_table, ratios, spread, verdict
from benchmarks.speed.contenders import (
    NORMALISED,
    PLAIN_KERAS,
    PYTORCH,
    REFERENCE,
    ContenderProcess,
    Made,
    available,
    in_own_process,
)
from benchmarks.speed.device import Usage, device, watched
from benchmarks.speed.task import Round, Task
from brainseg.compose import freeze
from brainseg.data.cache import load_slices
from brainseg.data.load import source_of
from brainseg.model.runtime import import_tensorflow, resolve_threads

POLICY = "mixed_bfloat16"  # of what is profiled and recorded
NORMALISED_BAR = 0.85  # of the reference's speed
WAITING_BAR = 3.0  # percent


def main() -> None:
    """Measures what is asked for and prints tables."""
    options = _options()
    import_tensorflow()  # first of all: what needs it is imported inside the functions
    with tempfile.TemporaryDirectory(prefix="brainseg-") as folder:
        task = _task(options, Path(folder))
        print(f"{_description(task)}\non {device()}\n{load()}\n", flush=True)
        if options.profile:
            _print_profiles(task)
        else:
            _print_speeds(task, rounds=options.rounds, epoch_slices=options.epoch_slices)
    print(f"afterwards: {load()}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description="Images a second of brainseg, a plain Keras script and PyTorch."
    )
    parser.add_argument("--root", type=Path, help="folder of images and masks; default: the phantom")
    parser.add_argument("--size", type=int, default=256, help="pixels a side (default 256)")
    parser.add_argument("--images", type=int, default=128, help="slices a round (default 128)")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default 5)")
    parser.add_argument("--threads", type=int, help="CPU threads; default: every core")
    parser.add_argument(
        "--epoch-slices", type=int, default=2451, help="slices of the epoch that tracking is a share of (default 2451)"
    )
    parser.add_argument("--profile", action="store_true", help="where a step's time goes, instead of the speeds")
    return parser.parse_args()


def _task(options: argparse.Namespace, cache: Path) -> Task:
    """The reference on the chosen source; decodes the slices into the cache."""
    source = [f"data.root={options.root}"] if options.root else ["data=phantom"]
    config = freeze(["experiment=reference", *source, f"data.image_size={options.size}"])
    slices = load_slices(source_of(config), config.data, cache_dir=cache)
    images = min(options.images, len(slices.slices))
    return Task(config=config, images=images, threads=resolve_threads(options.threads), cache=cache)


def _description(task: Task) -> str:
    size, batch = task.config.data.size[0], task.config.data.batch_size
    return f"the reference at {size}x{size}, {task.images} slices a round, batches of {batch}, {task.threads} threads"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of one contender."""

    made: Made
    rounds: Sequence[Round]  # without the first one
    usages: Sequence[Usage]  # of the device, in the same rounds
    peak_mib: float  # the most memory that its process has held

    @property
    def speeds(self) -> list[float]:
        """Images a second, one a round."""
        return [each.images_per_second for each in self.rounds]

    @property
    def speed(self) -> float:
        """Their median."""
        return statistics.median(self.speeds)


def _print_speeds(task: Task, *, rounds: int, epoch_slices: int) -> None:
    from benchmarks.speed.arithmetic import matrix_peaks

    before = in_own_process(matrix_peaks, task.threads)
    measured = _measure(task, rounds=rounds)
    after = in_own_process(matrix_peaks, task.threads)
    _print_contenders(measured)
    _print_verdicts(measured)
    _print_arithmetic(measured, {dtype: max(before[dtype], after[dtype]) for dtype in before})
    _print_recording(task, epoch_s=epoch_slices / measured[REFERENCE].speed, epoch_slices=epoch_slices)


def _measure(task: Task, *, rounds: int) -> Mapping[str, Measured]:
    """Trains all contenders in turn; maps contender to its measurements."""
    processes = {name: ContenderProcess(name, task) for name in available()}
    _check_one_network({name: process.made for name, process in processes.items()})
    results: dict[str, list[tuple[Round, Usage]]] = {name: [] for name in processes}
    for number in range(rounds + 1):
        for name, process in processes.items():
            results[name].append(watched(process.round, pid=process.pid, threads=task.threads))
        print(f"round {number} of {rounds} is over", file=sys.stderr, flush=True)  # it is a long wait
    measured = {}
    for name, process in processes.items():
        counted, usages = zip(*results[name][1:], strict=True)
        measured[name] = Measured(made=process.made, rounds=counted, usages=usages, peak_mib=process.finish())
    return measured


def _check_one_network(made: Mapping[str, Made]) -> None:
    """Checks that all have the reference's convolutions and, the normalised one aside, its parameters."""
    for name, contender in made.items():
        assert contender.multiply_adds == made[REFERENCE].multiply_adds, name
        assert contender.parameters == made[REFERENCE].parameters or name == NORMALISED, name


def _print_contenders(measured: Mapping[str, Measured]) -> None:
    rows = [
        [
            name,
            f"{each.made.parameters:,}",
            spread(each.speeds),
            spread(ratios(each.speeds, measured[PLAIN_KERAS].speeds), digits=2),
            spread([usage.busy for usage in each.usages], unit="%", digits=0),
            f"{each.peak_mib:.0f} MiB",
            f"{each.made.imported_mib:.0f} MiB",
        ]
        for name, each in measured.items()
    ]
    print_table(["", "parameters", "images/s", "beside plain Keras", "busy", "peak memory", "after importing"], rows)
    held = [usage.memory_mib for each in measured.values() for usage in each.usages if usage.memory_mib is not None]
    if held:
        print(f"of the GPU's memory, all contenders together held at most {max(held)} MiB\n")


def _print_verdicts(measured: Mapping[str, Measured]) -> None:
    beside = ratios(measured[NORMALISED].speeds, measured[REFERENCE].speeds)
    passed = verdict(statistics.median(beside), bar=NORMALISED_BAR, digits=2, at_least=True)
    rows = [["norm=batch and augment=standard beside the reference's recipe", spread(beside, digits=2), passed]]
    for name in (REFERENCE, NORMALISED):
        waiting = [100 * each.waiting for each in measured[name].rounds if each.waiting is not None]
        passed = verdict(statistics.median(waiting), bar=WAITING_BAR, unit="%", digits=2)
        rows.append([f"{name}: waiting for batches", spread(waiting, unit="%", digits=2), passed])
    cells = ["not measured", "pip install '.[benchmark]'"]
    if PYTORCH in measured:
        cells = [spread(ratios(measured[REFERENCE].speeds, measured[PYTORCH].speeds), digits=2), "no bar"]
    rows.append([f"{REFERENCE}, beside PyTorch", *cells])
    print_table(["", "", "verdict"], rows)


def _print_arithmetic(measured: Mapping[str, Measured], peaks: Mapping[str, float]) -> None:
    from benchmarks.speed.arithmetic import step_gflops

    multiply_adds = measured[REFERENCE].made.multiply_adds
    print(f"forward pass of an image: {multiply_adds / 1e9:.2f} billion multiply-adds in convolutions\n")
    rows = [[f"matrix product, {dtype}", f"{peak:.0f}", ""] for dtype, peak in peaks.items()]
    for name in (REFERENCE, NORMALISED):
        gflops = step_gflops(measured[name].speed, multiply_adds)
        rows.append([name, f"{gflops:.0f}", f"{gflops / peaks['bfloat16']:.2f}"])
    print_table(["", "GFLOP/s", "of the bfloat16 peak"], rows)


def _print_recording(task: Task, *, epoch_s: float, epoch_slices: int) -> None:
    from benchmarks.speed.recording import recording_s

    print(f"an epoch of {epoch_slices} slices in {POLICY}: {epoch_s:.1f} s of training steps\n")
    durations_s = in_own_process(recording_s, task, policy=POLICY)
    rows = [[what, f"{1000 * s:.1f} ms", f"{100 * s / epoch_s:.3f} %"] for what, s in durations_s.items()]
    print_table(["tracking, each epoch", "", "of the epoch"], rows)


def _print_profiles(task: Task) -> None:
    """Prints the time of each kind of operation in a step of the reference and of the normalised contender."""
    from benchmarks.speed.own_loop import normalised
    from benchmarks.speed.profile import profile_steps

    for name, own in ((REFERENCE, task), (NORMALISED, normalised(task))):
        profile = in_own_process(profile_steps, own, policy=POLICY)
        total_s = sum(profile.operations_s.values())
        rows = [
            [kind, f"{1000 * seconds:.1f} ms", f"{100 * seconds / total_s:.1f} %"]
            for kind, seconds in profile.operations_s.items()
        ]
        print(f"{name}: {1000 * profile.step_s:.0f} ms a step\n")
        print_table(["", "a step, summed over operations that run at once", "share"], rows)


if __name__ == "__main__":
    main()
