"""`brainseg COMMAND ...`: the same as `python -m brainseg.COMMAND ...`."""

import os
import sys
from importlib import import_module

from brainseg.cli.command import Main, plain_command
from brainseg.errors import InputError

COMMANDS = {
    "train": "train a model; every run is tracked",
    "evaluate": "score runs with confidence intervals, and show where they fail",
    "predict": "draw masks and outlines on new images",
    "compare": "show runs by score, and what is more than chance",
    "report": "write one HTML file about runs or a study",
    "gallery": "write one HTML file to leaf through predictions",
    "register": "put a model into the registry, ready to serve",
    "serve": "answer images with masks over HTTP, by a registered model",
    "export": "write a model as ONNX, LiteRT or Keras file",
    "plan": "read a folder, and write an experiment for it",
    "sweep": "search hyperparameters; every trial is a tracked run",
    "data": "check, import or preview a data set",
    "tracking": "deliver spooled records, delete old checkpoints",
}
MODULES = {name: f"brainseg.{name}.__main__" for name in COMMANDS}


def _brainseg(words: list[str]) -> int:
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        from brainseg.completion import complete

        complete(MODULES)
    name, *arguments = words or ["--help"]
    if name in ("-h", "--help"):
        print("usage: brainseg COMMAND ...\n")
        for command, does in COMMANDS.items():
            print(f"  {command:<10}{does}")
        print("\nbrainseg COMMAND --help tells more.")
        return 0
    if name not in MODULES:
        raise InputError(f"{name} is no command; the commands are {', '.join(MODULES)}")
    main: Main = import_module(MODULES[name]).main
    return main(arguments)


main = plain_command(_brainseg)

if __name__ == "__main__":
    sys.exit(main())
