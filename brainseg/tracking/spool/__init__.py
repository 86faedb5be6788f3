"""The local record of a run until its store has taken it."""
