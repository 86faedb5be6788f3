"""A campaign on one machine, in as many pieces as one likes: each case is a line of a file, and is run once."""

import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.faults.broken_machine import FAULTS, Case
from benchmarks.faults.machine import Machine, Outcome, differences
from benchmarks.figures import print_table


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What a training, or a sweep, leaves that nobody has broken."""

    of: str  # the name of its class
    seconds: float
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Result:
    """What has come of a case."""

    kind: str
    seed: int
    case: int
    struck: Sequence[str]
    wrong: Sequence[str]  # why it isn't as undisturbed, and where its files are; empty if it is
    seconds: float


class Results:
    """The file, a JSON line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        stored = [json.loads(line) for line in lines]
        self.undisturbed = {line["of"]: Undisturbed(**line) for line in stored if "of" in line}
        self.cases = [Result(**line) for line in stored if "kind" in line]

    def add(self, result: Result | Undisturbed) -> None:
        """Writes a line at once."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        if isinstance(result, Result):
            self.cases.append(result)
        else:
            self.undisturbed[result.of] = result

    def print(self) -> None:
        """A row for each kind of fault of which there is a case."""
        rows = []
        for kind, fault in FAULTS.items():
            cases = [result for result in self.cases if result.kind == kind]
            wrong = sum(bool(result.wrong) for result in cases)
            strikes = sum(len(result.struck) for result in cases)
            rows += [[fault.what, *map(str, (len(cases), strikes, len(cases) - wrong, wrong))]] if cases else []
        print_table(["", "cases", "struck while it ran", "as undisturbed", "not"], rows)
        for result in self.cases:
            for line in result.wrong:
                print(f"{result.kind}, seed {result.seed}, case {result.case}: {line}")


def run(results: Results, folder: Path, *, kinds: Sequence[str], cases: int | None, seed: int) -> Iterator[str]:
    """Runs the cases 0, 1, .. of each kind that the file doesn't have; a line for people after each.

    folder: each case has a folder in it, which is deleted if the case ends as it should. cases: of each kind, by
    default as many as a whole campaign has.
    """
    for kind in kinds:
        known = {result.case for result in results.cases if (result.kind, result.seed) == (kind, seed)}
        for case in range(FAULTS[kind].cases if cases is None else cases):
            if case in known:
                continue
            name = FAULTS[kind].machine.__name__
            if name not in results.undisturbed:
                results.add(_undisturbed(FAULTS[kind].machine, folder))
                yield f"undisturbed {name}: {results.undisturbed[name].seconds:.0f} s"
            result = _tried(kind, case, folder, results.undisturbed[name], seed=seed)
            results.add(result)
            ending = "; ".join(result.wrong) or "as undisturbed"
            yield f"{kind} {case}: struck {'; '.join(result.struck) or 'nothing'}: {ending}"


def _undisturbed(kind: type[Machine], folder: Path) -> Undisturbed:
    machine, begun = kind(folder / f"undisturbed {kind.__name__}"), time.monotonic()
    machine.finish()
    seconds = time.monotonic() - begun
    return Undisturbed(of=kind.__name__, seconds=seconds, outcome=_as_json(machine.outcome()))


def _tried(kind: str, number: int, folder: Path, undisturbed: Undisturbed, *, seed: int) -> Result:
    own, begun = folder / f"{kind}-{seed}-{number}", time.monotonic()
    machine = FAULTS[kind].machine(own)
    source = random.Random(f"{seed} {kind} {number}")  # noqa: S311  # no secret
    case = Case(source=source, seconds=undisturbed.seconds)
    try:
        FAULTS[kind].do(machine, case)
        machine.finish()
        if unlike := differences(_as_json(machine.outcome()), undisturbed.outcome):
            case.wrong.append(f"unlike the undisturbed one in: {unlike}")
    except Exception as error:  # the other cases may tell more
        case.wrong.append(repr(error))
    if case.wrong:
        case.wrong.append(f"see {own}")
    else:
        shutil.rmtree(own)
    return Result(
        kind=kind,
        seed=seed,
        case=number,
        struck=case.struck,
        wrong=case.wrong,
        seconds=round(time.monotonic() - begun, 1),
    )


def _as_json(outcome: Outcome) -> Outcome:
    """As it comes back from the file."""
    stored: Outcome = json.loads(json.dumps(outcome))
    return stored
