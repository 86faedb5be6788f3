"""The scores of a registered model: as tags of its version, and in its model card."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import brainseg
from brainseg.cli.literal import in_markdown
from brainseg.cli.tables import Section
from brainseg.config import DataConfig
from brainseg.data.reading_text import deeper_text
from brainseg.runs.models import Segmenter
from brainseg.runs.select import SCORE
from brainseg.runs.slice_scores import read_scores, score_rule
from brainseg.runs.stored_run import StoredRun, evaluated_splits
from brainseg.scoring.intervals import Estimate
from brainseg.scoring.slice_score import SliceScore, by_class, by_slice, by_type, count_people, dice_table
from brainseg.tracking.protocol import RunRecord, RunStore

CARD_FILE = "model_card.md"
BEST = "best_val_dice_image"
NOT_CLINICAL = "NOT FOR CLINICAL USE"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The run's scores on its validation slices, at their stored size."""

    dice: Estimate  # with an interval over people
    by_class: Mapping[str, Estimate]  # class -> Dice; empty for binary masks
    by_type: Mapping[str, Estimate]  # tumour type -> Dice; empty if types are unknown
    best_val_dice_image: float | None  # at the model's size; it chose the epoch
    slices: int
    people: int | None  # None if no patient id is known
    empty: int | None  # slices without any foreground; None if areas aren't recorded
    evaluated: Mapping[str, str]  # by `brainseg.evaluate`: evaluation split -> Dice with its interval


def scores_of(store: RunStore, record: RunRecord) -> Scores:
    """The scores of a finished run. Raises InputError if those of its slices are missing or can't be read."""
    slices = read_scores(store, record, split="val")
    final = _last(record, SCORE)
    score_by = score_rule(record)
    dice = dice_table(slices, score_by=score_by).interval()
    areas = [[item.area_px for item in of_slice] for of_slice in by_slice(slices).values()]
    return Scores(
        dice=dice if final is None else replace(dice, value=final),
        by_class=_by_class(slices, score_by=score_by),
        by_type={name: dice_table(group, score_by=score_by).interval() for name, group in by_type(slices).items()},
        best_val_dice_image=_last(record, BEST),
        slices=len(areas),
        people=count_people(slices),
        empty=None if any(None in of_slice for of_slice in areas) else sum(not any(of_slice) for of_slice in areas),
        evaluated={split: record.tags[f"evaluation_{split}"] for split in evaluated_splits(record.tags)},
    )


def _by_class(slices: Sequence[SliceScore], *, score_by: str) -> dict[str, Estimate]:
    """Class -> its mean Dice over the slices that count; without classes that have none."""
    found = {}
    for name, of_class in by_class(slices).items():
        counted = [item for item in of_class if score_by == "slice" or not item.is_empty]
        if name and counted:
            found[name] = dice_table(counted, score_by="slice").interval()
    return found


def version_tags(record: RunRecord, scores: Scores) -> dict[str, str]:
    """The tags of the registered version, to compare versions by."""
    tags = {SCORE: scores.dice.text}
    for named in (scores.by_class, scores.by_type):
        tags |= {f"{SCORE}_{_tag(name)}": dice.text for name, dice in named.items()}
    if scores.best_val_dice_image is not None:
        tags[BEST] = f"{scores.best_val_dice_image:.4f}"
    tags |= {f"evaluation_{_tag(split)}": dice for split, dice in scores.evaluated.items()}
    known = ("data", "data_fingerprint", "split", "split_fingerprint", "patients_on_both_sides")
    tags |= {tag: record.tags[tag] for tag in known if tag in record.tags}
    return tags | {"run_id": record.run_id}


def model_card(record: RunRecord, segmenter: Segmenter, scores: Scores, *, name: str) -> str:
    """The card in Markdown. segmenter: the run's model. name: of the registered model."""
    run = segmenter.run
    assert run is not None  # no file is registered
    data = run.config.data
    parts = [
        f"# {in_markdown(f'{name}: run {record.name}')}",
        f"**{NOT_CLINICAL}.** brainseg is no medical device, and this model has been tried on the slices below alone. "
        f"It marks {in_markdown(_marked(data))} on single slices, for research.",
        f"Run `{record.run_id}`, registered by brainseg {brainseg.__version__}.",
        "## Trained on",
        Section(headings=("", ""), rows=_training(record, run)).markdown(),
        "## Scores",
        f"Dice on {scores.slices} validation slices{_of_people(scores)}: {_mean_over(data)} at their stored size, with "
        "its 95 % interval over people. The best epoch was chosen on these slices, so that they flatter a little.",
        Section(
            headings=("", "Dice"),
            rows=(
                ("all", scores.dice.text),
                *((name, dice.text) for named in (scores.by_class, scores.by_type) for name, dice in named.items()),
            ),
        ).markdown(),
        *_further(scores),
        _about_people(record),
        "## What it can't do",
        "\n".join(f"- {in_markdown(line)}" for line in _limits(data, scores)),
        "## Use",
        in_markdown(f"Masks are made with {segmenter.settings.text} ({segmenter.settings_from})."),
        _commands(record, name),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _training(record: RunRecord, run: StoredRun) -> tuple[tuple[str, ...], ...]:
    data, split, dataset = run.config.data, run.split, record.dataset
    people = "unknown" if dataset is None or dataset.patients is None else str(dataset.patients)
    total = "" if dataset is None else f"{dataset.slices} in all: "
    by = "a file" if data.split_file is not None else data.split_by
    return (
        ("data set", f"{record.tags.get('data', data.name)}, fingerprint {run.fingerprint[:16]}"),
        ("slices", f"{total}{len(split.train)} trained on, {len(split.val)} validation, {len(split.test)} test"),
        ("people", people),
        ("image size", _seen(data)),
        ("channels", _channels(data)),
        ("classes", _classes(data)),
        ("files read", _reading(data)),
        ("split", f"by {by}, fingerprint {record.tags.get('split_fingerprint', '')[:16]}"),
        ("patients on both sides", record.tags.get("patients_on_both_sides", "unknown")),
        ("epochs", f"{_number(record, 'best_epoch')} of {run.config.train.epochs}, loss {run.config.train.loss}"),
        *((("starts from", record.tags["weights"]),) if "weights" in record.tags else ()),
        ("number format", record.tags.get("precision", "unknown")),
    )


def _seen(data: DataConfig) -> str:
    if data.patches:
        return f"{data.size_text}; images of any size are seen in windows of it, at their own resolution"
    return f"{data.size_text}; images of any size are resized to it"


def _marked(data: DataConfig) -> str:
    return ", ".join(data.labels.names) if data.labels.are_named else "the foreground"


def _mean_over(data: DataConfig) -> str:
    slices = "slices" if data.score_by == "slice" else "slices where either mask has the class"
    return f"mean over {slices}, then over classes," if data.labels.are_named else f"mean over {slices}"


def _channels(data: DataConfig) -> str:
    known = {"grey": "grey", "rgb": "red, green and blue"}
    return known[data.channels] if data.channels in known else f"{', '.join(data.channels)}, a file each"


def _classes(data: DataConfig) -> str:
    if not data.labels.are_named:
        return "foreground and background"
    kind = "a pixel has one at most" if data.labels.exclusive else "a pixel may have several"
    return f"{', '.join(data.labels.names)}; {kind}"


def _reading(data: DataConfig) -> str:
    """How deeper images become 8 bits, and whether pictures are turned."""
    turned = "EXIF orientation applied" if data.reading > 1 else "EXIF orientation not applied"
    return f"{deeper_text(data)}; {turned}"


def _further(scores: Scores) -> list[str]:
    lines = [f"- {in_markdown(f'{split}, evaluated: {dice}')}" for split, dice in scores.evaluated.items()]
    if scores.best_val_dice_image is not None:
        lines.insert(0, f"- {BEST}, at the model's size: {scores.best_val_dice_image:.4f}")
    return ["\n".join(lines)] if lines else []


def _about_people(record: RunRecord) -> str:
    both = record.tags.get("patients_on_both_sides", "unknown")
    if both == "0":
        return ""
    if both == "unknown":
        return "Whose slices they are isn't known: the same people may be on both sides of the split."
    return f"**{both} patients have slices on both sides of the split**: these scores say little about new patients."


def _limits(data: DataConfig, scores: Scores) -> list[str]:
    lines = [
        "Images of another kind (another scanner or sequence, say, or another camera): it has seen one data set.",
        "Images unlike the training data: they are pointed out where that shows in size, brightness or contrast"
        + ("." if data.patches else f", and what is finer than {data.size_text} is lost."),
        "Volumes: it sees 2D slices one by one, and nothing of the slices beside them.",
        f"Anything but {_marked(data)}: other findings may be marked as such, or passed over.",
    ]
    without = "Slices without " + (f"any of {_marked(data)}" if data.labels.are_named else "foreground")
    if scores.empty == 0:
        lines.insert(1, f"{without}: none was among the validation slices. It may mark some where none is.")
    elif scores.empty is not None:
        lines.insert(1, f"{without}: {scores.empty} of {scores.slices} validation slices were such.")
    unknown = [name for name in data.labels.names if name not in scores.by_class] if data.labels.are_named else []
    if unknown:
        lines.insert(1, f"{', '.join(unknown)}: on no validation slice, so that there is no score.")
    return lines


def _commands(record: RunRecord, name: str) -> str:
    return (
        "```sh\n"
        f"python -m brainseg.predict {record.run_id} IMAGES -o DIR\n"
        f"{serve_command(f'{name}/VERSION')}\n"
        f"python -m brainseg.export {record.run_id} --format onnx\n"
        "```\n\n"
        "The second one answers HTTP requests that carry images; VERSION is the number of this version."
    )


def serve_command(version: str) -> str:
    """The shell command that serves NAME/VERSION or NAME@ALIAS of a registered model."""
    return f"python -m brainseg.serve {shlex.quote(version)}"


def _of_people(scores: Scores) -> str:
    return "" if scores.people is None else f" of {scores.people} people"


def _last(record: RunRecord, metric: str) -> float | None:
    values = record.metrics.get(metric)
    return values[max(values)] if values else None


def _number(record: RunRecord, metric: str) -> str:
    value = _last(record, metric)
    return "?" if value is None else f"{value:.0f}"


def _tag(name: str) -> str:
    """MLflow takes no other characters in a tag's name."""
    return re.sub(r"[^\w .-]", "_", name, flags=re.ASCII)
