"""`python -m brainseg.gallery`: one HTML file to leaf through every validation slice of a run, or of two side by side.

What can be wrong is said before anything is written. TensorFlow is never imported.
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from brainseg.cli.command import OneLineParser, command
from brainseg.cli.options import add_store_options, tracking_of
from brainseg.cli.output import check_new_file, with_folder

PROGRAM = "python -m brainseg.gallery"
EXAMPLES = f"""examples:
  {PROGRAM} 1a2b3c                         all validation slices of a run (the start of its id), worst first
  {PROGRAM} 1a2b3c 4d5e6f -o two.html      two runs side by side, over the slices that both have scored
  {PROGRAM} 1a2b3c --data DIR              the slices lie elsewhere now
"""


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments; their errors leave the process."""
    parser = OneLineParser(
        prog=PROGRAM,
        description="Writes one HTML file with every validation slice of a run, its true and its predicted outline: "
        "sorted by Dice, area or id, filtered by type, patient or id. It opens without a network.",
        epilog=EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN_ID", help="the run, or the start of its id")
    parser.add_argument("other", nargs="?", metavar="OTHER_ID", help="a second run, shown beside the first")
    parser.add_argument("-o", "--output", type=Path, default=Path("gallery.html"), metavar="FILE", help="%(default)s")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the slices lie now")
    parser.add_argument("--force", action="store_true", help="replace FILE where it exists")
    add_store_options(parser)
    return parser


def _gallery(parsed: argparse.Namespace, folder: Path) -> int:
    """Reads, and writes the page; the exit code. folder: for what is fetched."""
    check_new_file(parsed.output, option="-o", force=parsed.force)
    from brainseg.drawing.page import write_page
    from brainseg.gallery.gallery import make_gallery
    from brainseg.gallery.page import gallery_html, summary
    from brainseg.tracking import open_store

    store = open_store(tracking_of(parsed))
    gallery = make_gallery(store, parsed.run, parsed.other, data=parsed.data, folder=folder)
    write_page(parsed.output, gallery_html(gallery, made=datetime.now()))
    print(summary(gallery))
    print(f"gallery  {parsed.output}")
    return 0


main = command(with_folder(_gallery), make_parser)

if __name__ == "__main__":
    sys.exit(main())
