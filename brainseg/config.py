"""What can be configured: a frozen dataclass per group of `conf/`, each with its checks.

Standard library only, so that everything else may import it. The values in `conf/` are the same as
the defaults here; a test holds the two equal. A value that breaks a rule raises `ConfigError`, whose
text names the dotted key, the rule, the value and a remedy.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from brainseg.errors import ConfigError

# The one place that says how many channels a slice and a mask have (both keep their channel axis).
IMAGE_CHANNELS = 1
MASK_CHANNELS = 1

# Raised when the meaning of a stored configuration changes. `ADDED_KEYS` and `REMOVED_KEYS` say how older ones are
# read.
SCHEMA_VERSION = 1
# Key -> the value that means what runs did before the key existed.
ADDED_KEYS: Mapping[str, object] = {
    "model.stem": 1,
    "model.standardize": False,
    "model.foreground_prior": 0.5,
    "train.ema_decay": 0.0,
    "train.deep_supervision": 0.0,
}
# Key -> the only value that can still be read: what every run does since the key is gone.
REMOVED_KEYS: Mapping[str, object] = {"model.block": "plain"}

DATA_NAMES = ("phantom", "folder")
SPLITS_BY = ("image", "patient")
AUGMENTATIONS = ("none", "light", "standard")
FLIPS = ("none", "left-right", "all")  # of evaluations and predictions
SHIFTS = ("none", "diagonal")  # likewise
MODEL_NAMES = ("unet",)
STEMS = (1, 2, 4)
NORMS = ("none", "batch")
OPTIMIZER_NAMES = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine")
LOSSES = ("dice", "bce_dice", "bce_dice_image")
PRECISIONS = ("auto", "float32", "mixed_bfloat16")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the slices come from, how they are split, and how they are fed to the model."""

    name: str = "phantom"  # phantom (made from a seed) or folder (images and masks on disk)
    root: str | None = None  # the folder of images and masks; needed by name=folder
    phantom_patients: int = 70  # how many patients the phantom has
    phantom_seed: int = 0  # what the phantom is made from
    image_size: int = 96  # pixels a side of what the model sees; stored slices are resized to it
    split_by: str = "patient"  # image (neighbouring slices may fall on both sides) or patient
    group_by: str = "patient_id"  # metadata column that split_by=patient keeps together
    stratify_by: str = "tumor_type"  # metadata column whose shares each part keeps, where it is known
    split_seed: int = 0  # seed of the split alone
    split_file: str | None = None  # a stored split.json to use instead of drawing one
    val_fraction: float = 0.2  # share of the slices (or groups) that validate
    test_fraction: float = 0.0  # share of the slices (or groups) that are kept unseen
    folds: int | None = None  # number of cross-validation folds; fold k is then the test part
    fold: int | None = None  # which fold is the test part, from 0
    batch_size: int = 16  # slices a training step
    augment: str = "standard"  # none, light or standard (flips, rotation, scale, shift, intensity)
    limit: int | None = None  # use at most this many slices, drawn by split_seed
    cache_dir: str | None = None  # where decoded slices are kept; default: cache/ under tracking.root

    def __post_init__(self) -> None:
        one_of("data.name", self.name, DATA_NAMES)
        if self.name == "folder" and not self.root:
            raise ConfigError(
                "data.root must name a folder of images and masks for data.name=folder; add data.root=DIR"
            )
        if self.name == "phantom" and self.root:
            raise ConfigError(
                f"data.root is not used by data.name=phantom, got {self.root!r}; "
                "add data=folder to train on that folder"
            )
        in_range("data.phantom_patients", self.phantom_patients, low=2, high=10_000)
        in_range("data.phantom_seed", self.phantom_seed, low=0, high=2**31 - 1)
        in_range("data.image_size", self.image_size, low=8, high=4096)
        one_of("data.split_by", self.split_by, SPLITS_BY)
        not_empty("data.group_by", self.group_by)
        not_empty("data.stratify_by", self.stratify_by)
        in_range("data.split_seed", self.split_seed, low=0, high=2**31 - 1)
        in_range("data.val_fraction", self.val_fraction, low=0.0, high=1.0, exclusive=True)
        in_range("data.test_fraction", self.test_fraction, low=0.0, high=0.9)
        if self.val_fraction + self.test_fraction >= 1.0:
            raise ConfigError(
                "data.val_fraction + data.test_fraction must be below 1, got "
                f"{self.val_fraction} + {self.test_fraction}; leave slices to train on"
            )
        self._check_folds()
        in_range("data.batch_size", self.batch_size, low=1, high=4096)
        one_of("data.augment", self.augment, AUGMENTATIONS)
        in_range("data.limit", self.limit, low=2)

    def _check_folds(self) -> None:
        in_range("data.folds", self.folds, low=2, high=1000)
        if self.fold is not None and self.folds is None:
            raise ConfigError(f"data.fold needs data.folds, got data.fold={self.fold} alone; add data.folds=5")
        if self.folds is None:
            return
        if self.fold is None:
            raise ConfigError(f"data.folds needs data.fold, got data.folds={self.folds} alone; add data.fold=0")
        in_range("data.fold", self.fold, low=0, high=self.folds - 1)
        if self.test_fraction:
            raise ConfigError(
                "data.test_fraction must be 0 with data.folds, since the fold is the test part, "
                f"got {self.test_fraction}; leave one of them out"
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network."""

    name: str = "unet"
    depth: int = 5  # encoder levels before the bottleneck
    base_filters: int = 16  # filters of the first level; each level doubles them
    stem: int = 1  # pixels a side that the first convolution joins into one; the last one parts them again
    standardize: bool = False  # each slice to mean 0 and variance 1, inside the network
    dropout: float = 0.1  # fraction of activations set to zero inside each block
    norm: str = "batch"  # none or batch (normalisation after each 3x3 convolution)
    foreground_prior: float = 0.5  # the probability that an untrained network expects at each pixel

    def __post_init__(self) -> None:
        one_of("model.name", self.name, MODEL_NAMES)
        in_range("model.depth", self.depth, low=1, high=8)
        in_range("model.base_filters", self.base_filters, low=1, high=256)
        one_of("model.stem", self.stem, STEMS)
        in_range("model.dropout", self.dropout, low=0.0, high=0.9)
        one_of("model.norm", self.norm, NORMS)
        in_range("model.foreground_prior", self.foreground_prior, low=0.001, high=0.999)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How the weights move."""

    name: str = "adamw"
    learning_rate: float = 1e-3  # the highest value of the schedule
    weight_decay: float = 1e-4  # decoupled; kernels only
    schedule: str = "cosine"  # constant, or cosine down to 0 at the last epoch
    warmup_epochs: float = 1.0  # linear rise from 0 at the start

    def __post_init__(self) -> None:
        one_of("optimizer.name", self.name, OPTIMIZER_NAMES)
        in_range("optimizer.learning_rate", self.learning_rate, low=0.0, high=10.0, exclusive=True)
        in_range("optimizer.weight_decay", self.weight_decay, low=0.0, high=1.0)
        if self.name == "adam" and self.weight_decay:
            raise ConfigError(
                "optimizer.weight_decay must be 0 for optimizer.name=adam, "
                f"got {self.weight_decay}; use optimizer=adamw for decoupled weight decay"
            )
        one_of("optimizer.schedule", self.schedule, SCHEDULES)
        in_range("optimizer.warmup_epochs", self.warmup_epochs, low=0.0, high=1000.0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, with which loss, on how much of the machine."""

    epochs: int = 24
    loss: str = "bce_dice"  # dice, bce_dice (mean binary cross-entropy + Dice loss) or bce_dice_image (of each slice)
    ema_decay: float = 0.0  # of the running mean of the weights that is validated and saved; 0: the weights themselves
    deep_supervision: float = 0.0  # weight of the loss of the decoder's second level, coarser ones count half; 0: none
    precision: str = "auto"  # auto, float32 or mixed_bfloat16; auto: bfloat16 where the hardware has it
    patience: int | None = None  # epochs without a better val_dice_image before stopping; null: never
    threads: int | None = None  # CPU threads of TensorFlow; null: every core

    def __post_init__(self) -> None:
        in_range("train.epochs", self.epochs, low=1, high=100_000)
        one_of("train.loss", self.loss, LOSSES)
        if not 0.0 <= self.ema_decay < 1.0:
            raise ConfigError(f"train.ema_decay must be at least 0 and below 1, got {self.ema_decay}; try 0.99")
        in_range("train.deep_supervision", self.deep_supervision, low=0.0, high=1.0)
        one_of("train.precision", self.precision, PRECISIONS)
        in_range("train.patience", self.patience, low=1)
        in_range("train.threads", self.threads, low=1, high=1024)


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where the record of a run goes."""

    uri: str | None = None  # MLflow store or server; null: MLFLOW_TRACKING_URI, else mlflow.db under root
    root: str = "mlruns"  # folder of the database, artifacts, checkpoints, cache and spool
    experiment: str = "brainseg"  # MLflow experiment
    predictions: int = 6  # how many validation slices the sample panels show
    offline: bool = False  # start even if the store can't be reached, and replay the record later

    def __post_init__(self) -> None:
        not_empty("tracking.root", self.root)
        not_empty("tracking.experiment", self.experiment)
        in_range("tracking.predictions", self.predictions, low=0, high=100)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, complete: the only thing that decides what a run does."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = 0  # weights, dropout, order and augmentation
    run_name: str | None = None  # name in MLflow; null: made from the overrides
    resume: str | None = None  # id of the MLflow run to go on with

    def __post_init__(self) -> None:
        in_range("seed", self.seed, low=0, high=2**31 - 1)
        # It becomes the name of a folder, which must not lead out of its parent.
        if self.resume is not None and not RUN_ID.fullmatch(self.resume):
            raise ConfigError(
                f"resume must be the id of a run (letters, digits, - and _), got {self.resume!r}; "
                "copy the id that the run printed at its start"
            )
        factor = self.model.stem * 2**self.model.depth
        if self.data.image_size % factor:
            nearest = max(factor, round(self.data.image_size / factor) * factor)
            stem = "" if self.model.stem == 1 else "model.stem * "
            raise ConfigError(
                f"data.image_size must be divisible by {stem}2**model.depth = {factor}, "
                f"got {self.data.image_size}; try {nearest}"
            )
        if self.train.deep_supervision > 0 and self.model.depth == 1:
            raise ConfigError(
                "train.deep_supervision needs coarser levels, got model.depth=1; "
                "use train.deep_supervision=0 or a depth of at least 2"
            )
        if self.optimizer.warmup_epochs > self.train.epochs:
            raise ConfigError(
                f"optimizer.warmup_epochs must be at most train.epochs = {self.train.epochs}, "
                f"got {self.optimizer.warmup_epochs}; try optimizer.warmup_epochs=0"
            )


def one_of(key: str, value: str | int, allowed: Sequence[str] | Sequence[int]) -> None:
    """Raises ConfigError, with the nearest allowed value, unless `value` is allowed."""
    if value not in allowed:
        names = [str(each) for each in allowed]
        raise ConfigError(f"{key} must be one of {', '.join(names)}, got {value!r}{did_you_mean(str(value), names)}")


def in_range(key: str, value: float | None, *, low: float, high: float | None = None, exclusive: bool = False) -> None:
    """Raises ConfigError unless low <= value <= high (strictly between them if exclusive); None passes."""
    if value is None:
        return
    inside = low < value if exclusive else low <= value
    if high is not None:
        inside = inside and (value < high if exclusive else value <= high)
    if not inside:  # NaN ends here as well
        if high is None:
            rule = f"above {low}" if exclusive else f"at least {low}"
        else:
            rule = f"between {low} and {high}" + (", both excluded" if exclusive else "")
        raise ConfigError(f"{key} must be {rule}, got {value}")


def not_empty(key: str, value: str) -> None:
    """Raises ConfigError for an empty string."""
    if not value:
        raise ConfigError(f"{key} must not be empty; leave it out for the default")


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?` for the known word nearest to `word`, or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Each key -> its last part, where no other key has the same: optimizer.learning_rate -> learning_rate."""
    keys = list(keys)
    lasts = [key.rpartition(".")[2] for key in keys]
    return {key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)}


def flatten(config: RunConfig) -> dict[str, Any]:
    """Every key with its value, dotted (`model.dropout`), in the order of the dataclasses."""
    return dict(_leaves(config, ""))


def _leaves(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", value


def from_flat(values: Mapping[str, Any]) -> RunConfig:
    """The configuration with these dotted keys; keys that are left out take the defaults.

    Raises ConfigError for a key that doesn't exist, with the nearest one, and for values out of range.
    Types are not converted here: `brainseg.compose` does that for what a user types.
    """
    groups: dict[str, dict[str, Any]] = {}
    top: dict[str, Any] = {}
    known = list(flatten(RunConfig()))
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{key} is not a configuration key{did_you_mean(key, known)}")
        group, dot, name = key.partition(".")
        if dot:
            groups.setdefault(group, {})[name] = value
        else:
            top[key] = value
    types = {
        "data": DataConfig,
        "model": ModelConfig,
        "optimizer": OptimizerConfig,
        "train": TrainConfig,
        "tracking": TrackingConfig,
    }
    return RunConfig(**{name: types[name](**items) for name, items in groups.items()}, **top)
