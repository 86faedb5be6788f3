"""A study as one file: `export` writes it, `status` and others read it, `check` trains it again."""

PARTS = ("data", "baseline", "winner")  # of `check`
