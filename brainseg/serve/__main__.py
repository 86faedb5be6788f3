"""`python -m brainseg.serve`: answers requests that carry images with masks, by a registered model."""

import argparse
import signal
import socket
import subprocess
import sys
from pathlib import Path

from brainseg.cli.command import OneLineParser, command
from brainseg.cli.options import add_store_options, tracking_of, whole_number
from brainseg.cli.output import with_folder
from brainseg.errors import InputError
from brainseg.tracking.protocol import ModelRegistry, ModelVersion

PROGRAM = "python -m brainseg.serve"
EXAMPLES = f"""examples:
  {PROGRAM} brainseg@champion        the version that this alias names
  {PROGRAM} liver/3 --port 5002      version 3 of liver
"""
HOST = "127.0.0.1"


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Serves a registered model on this machine's loopback address by MLflow's scoring server, behind "
        "limits for the size and number of requests.",
        epilog=EXAMPLES,
    )
    parser.add_argument("model", metavar="MODEL", help="NAME@ALIAS or NAME/VERSION of a registered model")
    parser.add_argument("--port", type=whole_number(low=1), default=5001, help="port to listen on: %(default)s")
    parser.add_argument(
        "--max-megabytes", type=whole_number(low=1), default=32, metavar="N", help="size of a request: %(default)s"
    )
    parser.add_argument(
        "--max-requests", type=whole_number(low=1), default=4, metavar="N", help="answered at once: %(default)s"
    )
    add_store_options(parser)
    return parser


def _serve(parsed: argparse.Namespace, folder: Path) -> int:
    """Serves until it is stopped. folder: for the model, which is fetched from the store."""
    from brainseg.register.registering import SERVED, folder_of
    from brainseg.tracking import open_registry, open_store

    _check_free(parsed.port)
    tracking = tracking_of(parsed)
    version = _version_of(open_registry(tracking), parsed.model)
    model = open_store(tracking).file(version.run_id, f"{folder_of(version)}/{SERVED}", folder)
    print(f"version {version.version} of {version.name}, run {version.run_id}", flush=True)
    limits = (f"--max-megabytes={parsed.max_megabytes}", f"--max-requests={parsed.max_requests}")
    # A process of its own, without brainseg: the model brings the one that it was registered with. -P keeps this
    # script's folder off its path.
    script = Path(__file__).with_name("server.py")
    process = subprocess.Popen([sys.executable, "-P", str(script), str(model), f"--port={parsed.port}", *limits])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return process.wait()
    finally:
        process.terminate()
        process.wait()


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise InputError(f"--port {port} can't be listened on ({error}); choose another") from None


def _version_of(registry: ModelRegistry, model: str) -> ModelVersion:
    """Raises InputError for a name without a version that `register` has made."""
    name, at, alias = model.partition("@")
    if at:
        found = registry.with_alias(name, alias)
    else:
        name, _, number = model.partition("/")
        found = registry.with_number(name, number)
    if found is None or not found.run_id:
        raise InputError(
            f"{model!r} is no version of a registered model; name NAME@ALIAS or NAME/VERSION as "
            "python -m brainseg.register prints them, or check --root and --uri"
        )
    return found


main = command(with_folder(_serve), make_parser)

if __name__ == "__main__":
    sys.exit(main())
