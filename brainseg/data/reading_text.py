"""The rules by which images are read, in words: for other programs and for people."""

from brainseg.config import DataConfig


def deeper_text(data: DataConfig) -> str:
    """How values of more than 8 bits become 0..255."""
    if data.window is not None:
        low, high = data.window
        ends = f"{low:g} and {high:g}"
    elif data.reading == 1:
        ends = "the image's own smallest and largest"
    else:
        ends = "the image's own 0.5th and 99.5th percentile (where these are equal, its smallest and largest)"
    return f"deeper values scaled so that {ends} become 0 and 255, clipped and rounded"
