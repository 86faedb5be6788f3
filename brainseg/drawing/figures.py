"""The figures of a run: curves, panels of predictions beside the truth, Dice against size, and calibration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brainseg.classes import BINARY, Labels
from brainseg.data.encode import as_css, class_colour, shown
from brainseg.data.masks import class_masks, ignored_pixels
from brainseg.data.source import Source
from brainseg.scoring.calibration import Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH_COLOUR = "#2ca02c"
PREDICTION_COLOUR = "#ff5a36"
TRAIN_COLOUR = "#7f7f7f"
VAL_COLOUR = "#1f77b4"
IMAGE_COLOUR = "#d62728"
MOST_CURVES = 8  # of classes, in one picture
TYPE_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#7f7f7f")


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One slice of a picture with panels. Arrays are (height, width, ...), at the stored size."""

    id: str
    tumor_type: str
    dice: float  # of several classes the mean
    image: NDArray[np.uint8]  # (height, width, channels)
    mask: NDArray[np.bool_]  # (height, width, classes)
    predicted: NDArray[np.bool_]  # the same
    ignored: NDArray[np.bool_] | None = None  # (height, width): left out of scores
    labels: Labels = BINARY
    channel: str = ""  # which one is shown, of channels that are no colours

    @property
    def counted(self) -> NDArray[np.bool_]:
        """The predicted masks as they are scored: without ignored pixels."""
        return self.predicted if self.ignored is None else self.predicted & ~self.ignored[..., np.newaxis]


def panel_of(
    source: Source,
    slice_id: str,
    *,
    tumor_type: str,
    dice: float,
    predicted: NDArray[np.bool_],
    channels: str | Sequence[str] = "grey",
) -> Panel:
    """The panel of a slice, whose image and true mask are read here.

    predicted: (height, width, classes), as stored. channels: `data.channels`.
    """
    image, mask = source.read(slice_id)
    return Panel(
        id=slice_id,
        tumor_type=tumor_type,
        dice=dice,
        image=image,
        mask=class_masks(mask, source.labels),
        predicted=predicted,
        ignored=ignored_pixels(mask, source.labels),
        labels=source.labels,
        channel="" if isinstance(channels, str) else channels[0],
    )


def save_curves(path: Path, history: Sequence[Mapping[str, float]], *, best_epoch: int) -> None:
    """Loss and Dice of each epoch, side by side, with the best epoch marked."""
    figure = _figure(10.0, 4.0)
    epochs = np.arange(1, len(history) + 1)

    def draw(axes: "Axes", key: str, label: str, colour: str) -> None:
        axes.plot(epochs, [metrics[key] for metrics in history], label=label, color=colour, marker=".", markersize=3)

    losses, dices = figure.subplots(1, 2)
    draw(losses, "train_loss", "training", TRAIN_COLOUR)
    draw(losses, "val_loss", "validation", VAL_COLOUR)
    losses.set_ylabel("loss")
    draw(dices, "train_dice", "training, soft, whole batches", TRAIN_COLOUR)
    draw(dices, "val_dice", "validation, soft, batches of 16", VAL_COLOUR)
    draw(dices, "val_dice_image", "validation, each image at 0.5", IMAGE_COLOUR)
    dices.set_ylabel("Dice")
    dices.set_ylim(0.0, 1.0)
    for axes in (losses, dices):
        axes.axvline(best_epoch, color="black", linewidth=0.8, linestyle=":", label=f"best epoch: {best_epoch}")
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def choose_panels(dices: Sequence[float], *, count: int) -> list[int]:
    """Positions of the worst, the median and the best slices, about a third each, from worst to best."""
    order = np.argsort(np.asarray(dices), kind="stable")
    count = min(count, len(order))
    worst, best = (count + 2) // 3, count // 3
    median = count - worst - best
    middle = max(worst, min(len(order) // 2 - median // 2, len(order) - best - median))
    chosen = [*range(worst), *range(middle, middle + median), *range(len(order) - best, len(order))]
    return [int(order[position]) for position in chosen]


def save_panels(path: Path, panels: Sequence[Panel]) -> None:
    """Each slice alone above the same slice with the true and the predicted outline of each class.

    panels: at least one, all of the same classes.
    """
    labels = panels[0].labels
    lines = math.ceil(len(labels.names) / len(panels)) if labels.are_named else 0  # of the legend: a name below each
    figure = _figure(2.1 * len(panels), 4.9 + 0.2 * lines)
    rows = figure.subplots(2, len(panels), squeeze=False)
    for column, panel in enumerate(panels):
        for axes in rows[:, column]:
            axes.imshow(shown(panel.image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_axis_off()
        rows[0, column].set_title(" ".join(filter(None, (panel.id, panel.tumor_type, panel.channel))), fontsize=8)
        rows[1, column].set_title(f"Dice {panel.dice:.3f}", fontsize=9)
        for place in range(len(labels.names)):
            truth, predicted = _outline_styles(labels, place)
            _outline(rows[1, column], panel.mask[..., place], **truth)
            _outline(rows[1, column], panel.predicted[..., place], **predicted)
    if labels.are_named:
        _legend_of_classes(figure, labels, columns=len(panels))
    else:
        figure.text(0.5, 0.01, "true outline green, predicted outline orange", ha="center", fontsize=9)
    figure.savefig(path, dpi=110)


def save_dice_by_size(
    path: Path,
    *,
    sizes: Sequence[float],
    dices: Sequence[float],
    types: Sequence[str],
    classes: Sequence[str] = (),
) -> None:
    """A point for each score: its Dice over the mask's share of the slice (logarithmic), coloured by type or class.

    sizes: in [0, 1]; empty masks are left out. types: the tumour type, or with `classes`, the names of all in their
    order, the class. All of one length.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = _figure(7.0, 5.0)
    axes = figure.subplots()
    for position, name in enumerate(classes or sorted(set(types))):
        points = [
            (100 * size, dice) for size, dice, kind in zip(sizes, dices, types, strict=True) if kind == name and size
        ]
        colour = as_css(class_colour(position)) if classes else TYPE_COLOURS[position % len(TYPE_COLOURS)]
        axes.scatter(
            [size for size, _ in points],
            [dice for _, dice in points],
            s=12,
            alpha=0.6,
            color=colour,
            linewidths=0,
            label=f"{name or 'unknown type'} ({len(points)})",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())  # else powers of ten stand over the other labels
    axes.set_xlabel("true mask's share of the slice (%)")
    axes.set_ylabel("Dice")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside upper center", ncols=4)
    figure.savefig(path, dpi=110)


def save_reliability(path: Path, curves: Mapping[str, Reliability], *, of_classes: bool = False) -> None:
    """For each of the curves: share of true pixels over the mean probability of a bin, beside how many pixels.

    of_classes: there is a curve for each class, and the first `MOST_CURVES` are drawn.
    """
    figure = _figure(10.0, 4.5)
    lines, bars = figure.subplots(1, 2)
    lines.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":", label="perfect")
    drawn = list(curves.items())[: MOST_CURVES if of_classes else None]
    for position, (name, curve) in enumerate(drawn):
        points = [
            (said, true)
            for said, true in zip(curve.probability, curve.tumor_share, strict=True)
            if said is not None and true is not None
        ]
        colour = as_css(class_colour(position)) if of_classes else TYPE_COLOURS[position % len(TYPE_COLOURS)]
        label = f"{name}, expected calibration error {curve.error:.4f}"
        lines.plot([said for said, _ in points], [true for _, true in points], color=colour, marker="o", label=label)
        edges = np.linspace(0, 1, len(curve.pixels) + 1)
        bars.stairs(curve.pixels, edges, color=colour, label=name)
    lines.set_xlabel("predicted probability")
    lines.set_ylabel("share of true pixels")
    bars.set_xlabel("predicted probability")
    bars.set_ylabel("pixels")
    bars.set_yscale("symlog")
    for axes in (lines, bars):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    if len(drawn) < len(curves):
        figure.suptitle(f"the first {len(drawn)} of {len(curves)} classes", fontsize=9)
    figure.savefig(path, dpi=110)


def _outline_styles(labels: Labels, place: int) -> tuple[dict[str, str], dict[str, str]]:
    """Colour and line of a class's true and its predicted outline."""
    if not labels.are_named:
        return {"colour": TRUTH_COLOUR, "line": "solid"}, {"colour": PREDICTION_COLOUR, "line": "solid"}
    colour = as_css(class_colour(place))
    return {"colour": colour, "line": "solid"}, {"colour": colour, "line": "dashed"}


def _legend_of_classes(figure: "Figure", labels: Labels, *, columns: int) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=as_css(class_colour(place)), label=name) for place, name in enumerate(labels.names)]
    figure.legend(
        handles=handles,
        title="true outlines solid, predicted ones dashed",
        title_fontsize=9,
        fontsize=8,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )


def _outline(axes: "Axes", mask: NDArray[np.bool_], *, colour: str, line: str) -> None:
    if mask.any() and not mask.all():  # matplotlib warns of a contour that doesn't exist
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.1, linestyles=line)


def _figure(width_in: float, height_in: float) -> "Figure":
    """A figure without pyplot: no global state, no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")
