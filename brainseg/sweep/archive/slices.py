"""Which slices of some data are those of an archive, by their digests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from brainseg.data.digests import SliceDigest
from brainseg.data.names import nfc

SHOWN = 20  # slices in a line


@dataclass(frozen=True, kw_only=True)
class SliceComparison:
    """Data here against that of an archive."""

    count: int  # slices of the archive
    differing: Mapping[str, str]  # id here -> image, mask, or both
    missing: Sequence[str]  # the archive's ids
    new: Sequence[str]  # ids here
    ids: Mapping[str, str]  # the archive's id -> the one here, of each slice that is in both

    @property
    def is_equal(self) -> bool:
        """Whether both have the same slices, to the last pixel."""
        return not (self.differing or self.missing or self.new)

    @property
    def text(self) -> str:
        """What it comes to, in a line."""
        if self.is_equal:
            return f"equal, pixel by pixel: {self.count} slices"
        parts = [
            f"{len(names)} {what}: {', '.join(names[:SHOWN])}{' ...' if len(names) > SHOWN else ''}"
            for what, names in (
                ("differ", [f"{name} ({what})" for name, what in self.differing.items()]),
                ("missing", self.missing),
                ("new", self.new),
            )
            if names
        ]
        return f"not equal: of {self.count} slices {'; '.join(parts)}"


def compare_slices(archived: Sequence[SliceDigest], here: Sequence[SliceDigest], *, by_id: bool) -> SliceComparison:
    """Both in the order of their ids. by_id: ids name the same slices; else pixels and the order tell which do."""
    pairs = _by_id(archived, here) if by_id else _by_order(archived, here)
    known, found = {one.id for one, _ in pairs}, {other.id for _, other in pairs}
    return SliceComparison(
        count=len(archived),
        differing={other.id: what for one, other in pairs if (what := _difference(one, other))},
        missing=[each.id for each in archived if each.id not in known],
        new=[each.id for each in here if each.id not in found],
        ids={one.id: other.id for one, other in pairs},
    )


def _by_id(archived: Sequence[SliceDigest], here: Sequence[SliceDigest]) -> list[tuple[SliceDigest, SliceDigest]]:
    found = {nfc(each.id): each for each in here}
    return [(each, found[nfc(each.id)]) for each in archived if nfc(each.id) in found]


def _by_order(archived: Sequence[SliceDigest], here: Sequence[SliceDigest]) -> list[tuple[SliceDigest, SliceDigest]]:
    """Equal slices, and between two of them as many others as there are on the other side."""
    pixels, pixels_here = ([(each.image, each.mask) for each in side] for side in (archived, here))
    matcher = SequenceMatcher(a=pixels, b=pixels_here, autojunk=False)
    return [
        pair
        for _, start, end, start_here, end_here in matcher.get_opcodes()
        if end - start == end_here - start_here
        for pair in zip(archived[start:end], here[start_here:end_here], strict=True)
    ]


def _difference(one: SliceDigest, other: SliceDigest) -> str:
    return " and ".join(what for what in ("image", "mask") if getattr(one, what) != getattr(other, what))
