"""`python -m brainseg.sweep`: searches hyperparameters, tells how far a study is, and stops it."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brainseg.cli.command import OneLineParser, plain_command
from brainseg.cli.secrets import mask
from brainseg.errors import ConfigError
from brainseg.keys import as_line
from brainseg.sweep.archive import PARTS

if TYPE_CHECKING:
    from brainseg.sweep.launchers.config import LauncherConfig
    from brainseg.sweep.study.study_file import StudyConfig

PROGRAM = "python -m brainseg.sweep"
EXAMPLES = f"""examples:
  {PROGRAM} plan quick                          check the study and show its first trials
  {PROGRAM} run quick                           the built-in phantom, a few minutes
  {PROGRAM} run reference data.root=DIR         dropout, learning rate and depth around the reference
  {PROGRAM} run quick --trials 40               go on with a finished study
  {PROGRAM} status quick                        best trials, importance of each parameter, plots
  {PROGRAM} add quick model.dropout=0.25        try values of your own next
  {PROGRAM} stop quick                          end its workers, on any host, after their epoch
  {PROGRAM} confirm quick                       does the winner hold? with new seeds, on the test part
  {PROGRAM} export quick -o quick.zip           the study as one file, to be read and checked elsewhere
  {PROGRAM} check quick.zip data.root=DIR       the same data? and the same scores, trained again?
  {PROGRAM} list                                the studies here
  {PROGRAM} serve                               a PostgreSQL server of one's own, for workers on several hosts
"""


def _sweep(arguments: list[str]) -> int:
    parsed = _parsed(arguments)
    return int(parsed.does(parsed))


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser()
    parsed, rest = parser.parse_known_args(arguments)
    unknown = next((item for item in rest if item.startswith("-")), None)
    if unknown is not None:
        parser.error(f"{unknown} is no option of {parsed.command}")
    parsed.overrides += rest  # overrides and options in any order
    return parsed


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Searches hyperparameters with Optuna; every trial is a tracked run.",
        epilog=EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = _command(commands, "run", _run, "start a study, or go on with it")
    plan = _command(commands, "plan", _plan, "check a study file and show the first trials; starts nothing")
    status = _command(commands, "status", _status, "best trials, importance, plots")
    worker = _command(commands, "worker", _worker, "one more worker for a study that has been started")
    for command in (run, plan):
        command.add_argument("--trials", type=int, help="total of finished trials, instead of the file's")
        command.add_argument("--workers", type=int, help="processes that train, instead of the file's")
        command.add_argument("--new", metavar="NAME", help="start another study of the same file under this name")
        command.add_argument("--hours", type=_hours, help="time limit of this start, instead of the file's")
    plan.add_argument("--time", action="store_true", help="time a few steps of the baseline here")
    add = _command(commands, "add", _add, "one trial with values of your own, before the sampler's next draw")
    stop = _command(commands, "stop", _stop, "end the workers of a study, on any host, after their epoch")
    confirm = _command(commands, "confirm", _confirm, "train the best trials again with new seeds, and test them")
    confirm.add_argument("--top", type=int, default=3, help="how many of the best trials; default: %(default)s")
    confirm.add_argument("--front", action="store_true", help="of several metrics: the front instead of the best")
    confirm.add_argument("--seeds", type=int, default=3, help="how many new seeds; default: %(default)s")
    confirm.add_argument("--workers", type=int, default=1, help="processes that train; default: %(default)s")
    confirm.add_argument("--write", action="store_true", help="write conf/experiment/STUDY-best.yaml")
    export = _command(commands, "export", _export, "write a study, its runs and curves to one file")
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.zip")
    export.add_argument("--anonymous", action="store_true", help="leave out names, paths, hosts, users and patient ids")
    check = _command(commands, "check", _check, "compare data with an exported study's, and train its best again")
    check.add_argument("--part", choices=PARTS, action="append", help="this alone; may be repeated; default: all")
    listing = commands.add_parser("list", help="the studies of a storage", description="The studies of a storage.")
    listing.add_argument("overrides", nargs="*", default=[], help="where records are here: tracking.root=DIR")
    listing.set_defaults(does=_list)
    for command in (status, listing):
        command.add_argument("--json", action="store_true", help="print JSON")
    for command in (run, plan, status, worker, add, stop, confirm, export, listing):
        command.add_argument("--storage", help="a journal file, or postgresql://USER@HOST/DATABASE")
    serving = commands.add_parser(
        "serve",
        help="a PostgreSQL server for the studies and records of a folder",
        description="Runs PostgreSQL from the folder tracking.root until a signal comes.",
    )
    serving.add_argument("overrides", nargs="*", default=[], help="the folder: tracking.root=DIR")
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on; default: for this machine alone")
    serving.add_argument("--while-needed", action="store_true", help=argparse.SUPPRESS)
    serving.set_defaults(does=_serve)
    worker.add_argument("--threads", type=int, help="CPU threads; default: every core")
    worker.add_argument("--supervisor", help=argparse.SUPPRESS)
    worker.add_argument("--listen", action="store_true", help=argparse.SUPPRESS)
    return parser


def _command(
    commands: "argparse._SubParsersAction[OneLineParser]",
    name: str,
    does: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    of_file = name in ("run", "plan")
    named = {"check": "FILE.zip that export has written", "status": "name, or FILE.zip"}
    command.add_argument(
        "study", help="a file of sweeps/ by its name, or its path" if of_file else named.get(name, "name")
    )
    keys = "keys for every trial: data.root=DIR" if of_file else "where its records are here: tracking.root=DIR"
    if name == "add":
        keys = f"the values to try: model.dropout=0.25; and {keys}"
    if name in ("worker", "confirm", "export", "check"):
        keys += "; and the data: data.root=DIR"
    command.add_argument("overrides", nargs="*", default=[], help=keys)
    command.set_defaults(does=does)
    return command


def _hours(text: str) -> float:
    """A time limit. Raises ArgumentTypeError."""
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours < 1e5:
        raise argparse.ArgumentTypeError(f"must be a number of hours above 0, got {text}; try 8")
    return hours


def _run(parsed: argparse.Namespace) -> int:
    from brainseg.sweep.launchers.config import launcher_config, split_overrides
    from brainseg.sweep.run import run_study
    from brainseg.sweep.study.study_file import study_path

    command = _command_line(parsed)
    of_launcher, parsed.overrides = split_overrides(parsed.overrides)
    launcher = launcher_config(of_launcher)
    study, where = _placed(_study(parsed), parsed.storage, launcher)
    return run_study(
        study,
        launcher=launcher,
        file=study_path(parsed.study),
        asked=parsed.overrides,
        hours=parsed.hours,
        where=where,
        command=command,
    )


def _plan(parsed: argparse.Namespace) -> int:
    from brainseg.sweep.launchers.config import launcher_config, split_overrides
    from brainseg.sweep.plan_cost import show_cost
    from brainseg.sweep.study.plan import show_plan

    of_launcher, parsed.overrides = split_overrides(parsed.overrides)
    launcher = launcher_config(of_launcher)
    study, where = _placed(_study(parsed), parsed.storage, launcher)
    if parsed.hours is not None:
        study = dataclasses.replace(study, time_limit_min=60 * parsed.hours)
    baseline = show_plan(study)
    show_cost(study, baseline, launcher=launcher, where=where, is_timed=parsed.time)
    if of_launcher:
        from brainseg.sweep.launchers.known import show_submission
        from brainseg.sweep.server.job import show_server

        show_server(launcher, study.tracking, where)
        show_submission(launcher, study, baseline)
    return 0


def _status(parsed: argparse.Namespace) -> int:
    from brainseg.runs.archive_file import is_archive
    from brainseg.sweep.status import show_archived, show_status

    if is_archive(parsed.study):
        return show_archived(Path(parsed.study), as_json=parsed.json)
    tracking, where = _at_server(parsed)
    return show_status(parsed.study, tracking=tracking, where=where, as_json=parsed.json)


def _add(parsed: argparse.Namespace) -> int:
    from brainseg.sweep.add import add_trial
    from brainseg.sweep.status import quiet_console

    tracking = [item for item in parsed.overrides if item.startswith("tracking.")]
    given = [item for item in parsed.overrides if item not in tracking]
    return add_trial(parsed.study, given, tracking=tracking, where=parsed.storage, console=quiet_console())


def _confirm(parsed: argparse.Namespace) -> int:
    from brainseg.sweep.confirm.confirm import confirm_study
    from brainseg.sweep.launchers.config import launcher_config, split_overrides
    from brainseg.sweep.status import quiet_console

    command = _command_line(parsed)
    of_launcher, parsed.overrides = split_overrides(parsed.overrides)
    places, tracking, where = _on_this_host(parsed)
    return confirm_study(
        parsed.study,
        top=parsed.top,
        front=parsed.front,
        seeds=parsed.seeds,
        workers=parsed.workers,
        write=parsed.write,
        overrides=places,
        tracking=tracking,
        where=where,
        launcher=launcher_config(of_launcher),
        command=command,
        console=quiet_console(),
    )


def _export(parsed: argparse.Namespace) -> int:
    from brainseg.sweep.archive.export import export_study
    from brainseg.sweep.status import quiet_console

    places, tracking, where = _on_this_host(parsed)
    return export_study(
        parsed.study,
        output=parsed.output,
        anonymous=parsed.anonymous,
        places=places,
        tracking=tracking,
        where=where,
        console=quiet_console(),
    )


def _check(parsed: argparse.Namespace) -> int:
    from brainseg.sweep.archive.check import CHANGEABLE, check_archive
    from brainseg.sweep.status import quiet_console

    given = _overrides_of_a_host(parsed, also=CHANGEABLE)
    return check_archive(
        Path(parsed.study), given, parts=parsed.part or PARTS, command=_command_line(parsed), console=quiet_console()
    )


def _stop(parsed: argparse.Namespace) -> int:
    from brainseg.sweep.status import quiet_console
    from brainseg.sweep.studies import stop_study

    tracking, where = _at_server(parsed, is_to_stop=True)
    return stop_study(parsed.study, tracking=tracking, where=where, console=quiet_console())


def _list(parsed: argparse.Namespace) -> int:
    from brainseg.sweep.status import quiet_console
    from brainseg.sweep.studies import list_studies

    tracking = _tracking_overrides(parsed)
    return list_studies(tracking=tracking, where=parsed.storage, as_json=parsed.json, console=quiet_console())


def _worker(parsed: argparse.Namespace) -> int:
    from brainseg.sweep.engine.worker import run_worker

    places, tracking, where = _on_this_host(parsed)
    code = run_worker(
        parsed.study,
        overrides=[*tracking, *places],
        where=where,
        threads=parsed.threads,
        supervisor=parsed.supervisor,
        listens=parsed.listen,
    )
    if parsed.supervisor is None:  # which would record the end
        from brainseg.sweep.status import record_if_over

        record_if_over(parsed.study, tracking=tracking, where=where)
    return code


def _serve(parsed: argparse.Namespace) -> int:
    from brainseg.sweep.server.serve import serve
    from brainseg.sweep.studies import is_awaited

    return serve(_tracking_overrides(parsed), host=parsed.host, is_needed=is_awaited if parsed.while_needed else None)


def _placed(study: "StudyConfig", where: str | None, launcher: "LauncherConfig") -> "tuple[StudyConfig, str | None]":
    """The study, and where it is kept if that isn't a journal: workers of a scheduler need a server."""
    from brainseg.sweep.launchers.config import LOCAL
    from brainseg.sweep.server.address import at_server

    tracking, where = at_server(study.tracking, where, name=study.name, is_wanted=launcher.kind != LOCAL)
    return dataclasses.replace(study, tracking=tracking), where


def _at_server(parsed: argparse.Namespace, *, is_to_stop: bool = False) -> tuple[tuple[str, ...], str | None]:
    """The overrides of tracking.* and the storage of a study. Raises TrackingError where its server doesn't run."""
    from brainseg.sweep.server.address import STORAGE, at_server
    from brainseg.sweep.server.job import check_server

    tracking, where = at_server(_tracking_overrides(parsed), parsed.storage, name=parsed.study)
    if where == STORAGE:
        check_server(tracking, is_to_stop=is_to_stop)
    return tracking, where


def _study(parsed: argparse.Namespace) -> "StudyConfig":
    from brainseg.sweep.study.study_file import read_study

    config = read_study(parsed.study, overrides=parsed.overrides, trials=parsed.trials, workers=parsed.workers)
    return config if parsed.new is None else dataclasses.replace(config, name=parsed.new)


def _tracking_overrides(parsed: argparse.Namespace) -> tuple[str, ...]:
    """What `status` takes: where the records are; all else is the study's."""
    return _allowed(parsed, ("tracking.",), "tracking.*")


def _on_this_host(parsed: argparse.Namespace) -> tuple[list[str], tuple[str, ...], str | None]:
    """Where this host has the data, as overrides; where the records are; and the storage of the study."""
    from brainseg.sweep.server.address import at_server

    given = _overrides_of_a_host(parsed)
    of_tracking = [item for item in given if item.startswith("tracking.")]
    tracking, where = at_server(of_tracking, parsed.storage, name=parsed.study)
    return [item for item in given if item not in of_tracking], tracking, where


def _overrides_of_a_host(parsed: argparse.Namespace, *, also: Sequence[str] = ()) -> tuple[str, ...]:
    """What `worker` takes: where this host has the records and the data. also: keys that the command takes as well."""
    from brainseg.sweep.study.study_rules import LOCATIONS

    *others, last = (*LOCATIONS, *also)
    keys = [f"{key}=" for key in (*others, last)]
    return _allowed(parsed, ("tracking.", *keys), f"tracking.*, {', '.join(others)} and {last}")


def _allowed(parsed: argparse.Namespace, beginnings: tuple[str, ...], named: str) -> tuple[str, ...]:
    for item in parsed.overrides:
        if not item.startswith(beginnings):
            raise ConfigError(f"{parsed.command} takes {named} alone, got {item}; the study has its keys already")
    return tuple(parsed.overrides)


def _command_line(parsed: argparse.Namespace) -> str:
    """The command that starts this study, or goes on with it; passwords are masked."""
    words = [parsed.command, parsed.study, *parsed.overrides]
    for option in ("trials", "workers", "new", "hours", "top", "seeds", "storage"):
        value = getattr(parsed, option, None)
        words += [] if value is None else [f"--{option}", str(value)]
    words += ["--front"] if getattr(parsed, "front", False) else []
    return mask(f"{PROGRAM} {as_line(words)}")


main = plain_command(_sweep)

if __name__ == "__main__":
    sys.exit(main())
