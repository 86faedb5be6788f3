"""`python -m brainseg.tracking`: replays spooled records (`sync`), deletes checkpoints that nothing needs (`clean`)."""

import argparse
import sys

from brainseg.cli.command import OneLineParser, command
from brainseg.cli.literal import numbered
from brainseg.cli.options import add_store_options, tracking_of
from brainseg.cli.secrets import mask
from brainseg.errors import BrainsegError, InputError
from brainseg.tracking.paths import TrackingPaths, resolve_uri, tracking_paths

PROGRAM = "python -m brainseg.tracking"
EXAMPLES = f"""examples:
  {PROGRAM} sync                             deliver what a server that was away has missed
  {PROGRAM} sync --uri http://127.0.0.1:5000
  {PROGRAM} clean                            delete checkpoints that nothing needs
  {PROGRAM} clean RUN_ID                     those of a run that could still be resumed
"""


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Looks after the records of runs.",
        epilog=EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sync = commands.add_parser("sync", help="deliver the records that wait in the spool")
    clean = commands.add_parser("clean", help="delete the checkpoints of finished runs (asks first)")
    clean.add_argument("runs", nargs="*", metavar="RUN_ID", help="these runs, even if they could be resumed")
    clean.add_argument("--yes", action="store_true", help="don't ask")
    for subcommand, work in ((sync, _sync), (clean, _clean)):
        add_store_options(subcommand)
        subcommand.set_defaults(work=work)
    return parser


def _sync(parsed: argparse.Namespace) -> int:
    from brainseg.tracking.mlflow.connection import reached
    from brainseg.tracking.mlflow.sync import sync_spools
    from brainseg.tracking.spool.spool import spooled_runs

    paths, uri = _paths(parsed), _uri(parsed)
    if not spooled_runs(paths.spool):
        print(f"nothing waits in {paths.spool}")
        return 0
    synced = sync_spools(reached(uri), paths, uri=uri)
    for result in synced:
        rest = f", {result.pending} still wait" if result.pending else ""
        problem = f" ({result.problem})" if result.problem else ""
        print(f"{result.run_id}: {result.delivered} records delivered{rest}{problem}")
    skipped = set(spooled_runs(paths.spool)) - {result.run_id for result in synced}
    for run_id in sorted(skipped):
        print(f"{run_id}: left alone, a process is still writing it")
    return 1 if any(result.pending for result in synced) else 0


def _clean(parsed: argparse.Namespace) -> int:
    from brainseg.tracking.mlflow.clean import FINISHED, UNKNOWN, delete, every, named
    from brainseg.tracking.mlflow.connection import reached, store_errors

    paths = _paths(parsed)
    if not paths.checkpoints.is_dir():
        if parsed.runs:
            raise InputError(f"run {parsed.runs[0]} has no checkpoints in {paths.checkpoints}; check the id and --root")
        print(f"no checkpoints in {paths.checkpoints}")
        return 0
    uri = _uri(parsed)
    client = reached(uri)
    with store_errors(uri):
        found = named(client, paths, parsed.runs, uri=uri) if parsed.runs else every(client, paths, uri=uri)
    if not parsed.runs:
        for checkpoints in found:
            if checkpoints.status == UNKNOWN:
                whose = f"recorded in {checkpoints.store}" if checkpoints.store else "its store isn't known"
                print(f"kept: {checkpoints.folder} ({whose}); name the run or its --uri to delete it")
        found = [checkpoints for checkpoints in found if checkpoints.status == FINISHED]
    if not found:
        print(f"nothing to delete in {paths.checkpoints}: no run there is finished in this store")
        return 0
    for checkpoints in found:
        print(f"{checkpoints.size_bytes / 1e6:10.1f} MB  {checkpoints.status:<8}  {checkpoints.folder}")
    if not parsed.yes and not _agreed():
        print("nothing was deleted")
        return 0
    for checkpoints in found:
        try:
            delete(checkpoints)
        except OSError as error:
            raise BrainsegError(
                f"{checkpoints.folder} can't be deleted ({error.strerror}); delete it by hand"
            ) from error
    print(f"deleted {numbered(len(found), 'folder')}")
    return 0


def _agreed() -> bool:
    try:
        return input("delete them? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError as error:
        raise InputError("clean asks before it deletes and got no answer; add --yes") from error


def _paths(parsed: argparse.Namespace) -> TrackingPaths:
    paths = tracking_paths(tracking_of(parsed))
    if paths.root.exists() and not paths.root.is_dir():
        raise InputError(f"{paths.root} is a file, not a folder of runs; name the folder with --root DIR")
    return paths


def _uri(parsed: argparse.Namespace) -> str:
    uri = resolve_uri(tracking_of(parsed))
    print(f"store: {mask(uri)}", file=sys.stderr)
    return uri


main = command(lambda parsed: parsed.work(parsed), make_parser)

if __name__ == "__main__":
    sys.exit(main())
