"""What the commands without Hydra share: wrong usage is one line, like every other error."""

import argparse
import sys
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line on stderr and exit code 2; its subcommands' are as well."""

    def error(self, message: str) -> NoReturn:
        """Leaves the process; called by argparse."""
        print(f"error: {message}; {self.prog} --help shows how it is used", file=sys.stderr)
        sys.exit(2)
