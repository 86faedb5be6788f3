"""What can be configured: a frozen dataclass per group of `conf/`.

A key is written once, here: its field has the default, the rule and the help (`key`). The check of a value, what the
shell completes, the tables in `docs/configuration.md` (`make docs`), the comments of `--help`, the defaults of `conf/`
and the values for older runs follow from it. Standard library only, so that everything else may import it.

A value that breaks a rule raises `ConfigError`, which names the dotted key, the rule, the value and often a remedy.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from brainseg.classes import BACKGROUND, BINARY, Classes, Labels, parse_classes
from brainseg.errors import ConfigError
from brainseg.keys import Absent, Key, as_text, check_keys, did_you_mean, in_range, key, one_of
from brainseg.plugins import REMEDY, Names, completed, is_built_in, made, names

# Raised when the meaning of a stored configuration changes.
SCHEMA_VERSION = 1
# Key that is gone -> the only value that can still be read: what every run does now.
REMOVED_KEYS: Mapping[str, object] = {"model.block": "plain"}

MASK_FILES = "masks"  # of data.annotations
NIFTI = "nifti"  # of data.name: volumes, cut into slices
ON_DISK = f"folder {NIFTI}"  # of data.name: what has a root
READINGS = (1, 2)  # rules of reading files: 1 is that of version 0.1
READING_KEYS = ("reading", "channels", "classes", "ignore", "window")
CHANNEL_COUNTS: Mapping[str, int] = {"grey": 1, "rgb": 3}
CHANNELS = ("auto", *CHANNEL_COUNTS)
# Kind of phantom -> its classes.
PHANTOM_CLASSES: Mapping[str, Mapping[str, int] | None] = {
    "binary": None,
    "classes": {"core": 1, "rim": 2, "oedema": 3},
    "colour": None,
}
SPLITS_BY = ("image", "patient", "folder")
PATTERN = "a path below `data.root` with `{id}`, `{patient}`, `{part}`, `{channel}` and `*`"
_IN_PATTERNS = re.compile(r"\{(?:id|patient|part|channel)\}")
SCORES_BY = ("auto", "slice", "case")
FLIPS = ("none", "left-right", "all")  # of evaluations and predictions
SHIFTS = ("none", "diagonal")  # likewise
ENCODERS = (  # model/encoders/known.py
    "efficientnet_lite0",
    "efficientnet_b0",
    "efficientnetv2_b0",
    "resnet50v2",
    "mobilenetv3_large",
    "densenet121",
    "convnext_tiny",
)
# Of depthwise convolutions, which a processor computes no faster in bfloat16.
DEPTHWISE_ENCODERS = (
    "efficientnet_lite0",
    "efficientnet_b0",
    "efficientnetv2_b0",
    "mobilenetv3_large",
    "convnext_tiny",
)
ENCODERS_FACTOR = 32  # how many times fewer pixels a side the coarsest features of each have
IMAGENET = "imagenet"
STEMS = (1, 2, 4)
NORMS = ("none", "batch")
SCHEDULES = ("constant", "cosine")  # train/optimizers.py
LOSS_SUMS: Mapping[str, tuple[str, ...]] = {"bce_dice": ("ce", "dice"), "bce_dice_image": ("ce", "dice_image")}
TVERSKY = ("tversky", "focal_tversky")
PRECISIONS = ("auto", "float32", "mixed_bfloat16")
IMAGE_SIZES = (8, 4096)  # smallest and largest side of what a model sees, in pixels
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MAX_SEED = 2**31 - 1
# Tags of a run that brainseg sets itself.
OWN_TAGS = (
    *("attempt", "code_changed", "data", "data_fingerprint", "description", "failure", "git_commit"),
    *("infeasible_reason", "local_id", "multirun", "overrides", "parent", "patients_on_both_sides", "plugins"),
    *("precision", "pruned_epoch", "pruned_reason", "repeat", "schema_version", "source", "split", "split_fingerprint"),
    *("state", "sweep", "sweep_id", "sweep_role", "threads", "trial", "weights", "weights_sha256"),
)
RESERVED_TAGS = ("mlflow", "evaluation_")  # likewise, how they begin
# The key under which a part's own options are -> the key that names the part, or several, and the kind of part.
OPTIONS: Mapping[str, tuple[str, str]] = {
    "data.options": ("data.name", "readers"),
    "data.augment_options": ("data.augment", "augmentations"),
    "model.options": ("model.name", "networks"),
    "optimizer.options": ("optimizer.name", "optimizers"),
    "train.loss_options": ("train.loss", "losses"),
    "metric_options": ("metrics", "metrics"),
}
BUILT_IN_NETWORKS = "unet encoder_unet"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the slices come from, how they are split, and how they are fed to the model."""

    name: str = key(
        "phantom",
        choices=Names("readers"),
        remedy=REMEDY,
        help="slices made from a seed, or images and masks on disk; nifti: volumes",
    )
    options: Any = field(default_factory=dict)
    root: str | None = key(
        None, allowed="a folder; only with `data=folder` or `nifti`", help="folder of images and masks"
    )
    images: str | None = key(
        None,
        since=None,
        only=ON_DISK,
        literal=True,
        allowed=PATTERN,
        help="which files are images; `null`: found out by the names of folders and files",
    )
    masks: str | None = key(
        None,
        since=None,
        only=ON_DISK,
        literal=True,
        allowed="likewise, without `{channel}`",
        help="which files are masks; several of one image, by a `*`, are merged",
    )
    phantom_patients: int = key(70, low=2, high=10_000, only="phantom", help="patients that the phantom has")
    phantom_seed: int = key(0, low=0, high=MAX_SEED, only="phantom", help="what the phantom is made from")
    phantom_kind: str = key(
        "binary",
        choices=tuple(PHANTOM_CLASSES),
        since="binary",
        only="phantom",
        help="binary: tumours in grey; classes: their core, rim and oedema; colour: tumours that colour alone shows",
    )
    annotations: str | None = key(
        None,
        since=MASK_FILES,
        only=ON_DISK,
        literal=True,
        empty=False,
        allowed="a COCO file, below `data.root` or absolute; `labelme`; `masks`",
        help="what has the masks; masks: image files, and nothing is taken from JSON; `null`: what the folder holds",
    )
    reading: int = key(
        2,
        choices=READINGS,
        since=1,
        help="how files are read; 1: as by version 0.1 (grey, smallest to largest value, no EXIF orientation)",
    )
    channels: Any = key(
        "auto",
        since="grey",
        allowed="auto, grey, rgb, or a list of names for files ID_NAME.ext",
        help="what the model sees of an image; auto: rgb where the images hold colour, else grey",
    )
    classes: dict[str, Any] | None = key(
        None,
        since=None,
        allowed='`{name: 1}`, `{name: [1, 2]}`, `{name: "#rrggbb"}` or `{name: CATEGORY}`',
        help="the classes of the masks and their values; values that overlap: regions; `null`: those of annotations or "
        "of nnU-Net's `dataset.json`, else two kinds of pixels",
    )
    ignore: int | None = key(
        None, low=0, high=65535, since=None, help="value of mask pixels that are left out of loss and scores"
    )
    window: Any = key(
        None,
        since=None,
        allowed="`[low, high]`",
        help="values that become black and white in images of more than 8 bits; `null`: percentiles of each image",
    )
    axis: int | None = key(
        None,
        low=0,
        high=2,
        since=None,
        only=NIFTI,
        help="along which axis of its array a volume is cut into slices; `null`: the one with the largest voxel side",
    )
    image_size: Any = key(
        96,
        allowed=f"{IMAGE_SIZES[0]} to {IMAGE_SIZES[1]}, or two: `[height, width]`; divisible by `model.stem` * "
        "2**`model.depth`",
        help="pixels a side of what the model sees; slices are resized to it, or with `data.patches` cut to it",
    )
    patches: int = key(
        0,
        low=0,
        high=10_000,
        since=0,
        help="crops of each slice an epoch, at the stored size; 0: whole slices, resized",
    )
    split_by: str = key(
        "patient",
        choices=SPLITS_BY,
        help="what stays together: a slice, or all slices of a patient; folder: the split is that of folders train, "
        "val and test",
    )
    group_by: str = key(
        "patient_id",
        empty=False,
        allowed="a metadata column",
        help="column that `data.split_by=patient` keeps together",
    )
    stratify_by: str = key(
        "tumor_type",
        empty=False,
        allowed="a metadata column",
        help="column whose shares each part of the split keeps, where it is known",
    )
    split_seed: int = key(0, low=0, high=MAX_SEED, help="seed of the split alone")
    split_file: str | None = key(
        None, allowed="a `split.json` that a run recorded", help="use this split instead of drawing one"
    )
    val_fraction: float = key(0.2, low=0.0, high=1.0, exclusive=True, help="share of the slices that is validated on")
    test_fraction: float = key(
        0.0,
        low=0.0,
        high=0.9,
        allowed="with `data.val_fraction` below 1",
        help="share of the slices that is kept unseen",
    )
    folds: int | None = key(
        None,
        low=2,
        high=1000,
        allowed="with `data.fold`, without `data.test_fraction`",
        help="parts of a cross-validation; one is the test part",
    )
    fold: int | None = key(None, allowed="0 to `data.folds` - 1", help="which fold is the test part")
    batch_size: int = key(16, low=1, high=4096, help="slices a training step")
    foreground_share: float | None = key(
        None,
        low=0.0,
        high=1.0,
        since=None,
        help="share of the slices of an epoch that are drawn from those with foreground, or of the patches that lie "
        "near some; `null`: each slice once, patches anywhere",
    )
    score_by: str = key(
        "auto",
        choices=SCORES_BY,
        since="slice",
        help="what ranks: the mean over all slices, or over cases with the class; auto: case with `data.classes`",
    )
    augment: str = key(
        "standard",
        choices=Names("augmentations"),
        remedy=REMEDY,
        help="standard: flips, rotation, scale, shift, intensity; light: less of each, and never upside down",
    )
    augment_options: Any = field(default_factory=dict)
    limit: int | None = key(None, low=2, help="use at most this many slices, drawn by `data.split_seed`")
    cache_dir: str | None = key(
        None, allowed="a folder", help="where decoded slices are kept; `null`: `cache/` under `tracking.root`"
    )

    def __post_init__(self) -> None:
        check_keys("data.", self)
        _complete("data.options", self)
        _complete("data.augment_options", self)
        if self.name in ON_DISK.split() and not self.root:
            raise ConfigError(
                f"data.root must name a folder of images and masks for data.name={self.name}; add data.root=DIR"
            )
        if self.is_of_volumes and self.annotations not in (None, MASK_FILES):
            raise ConfigError(
                f"data.annotations must be {MASK_FILES} or null for data.name={NIFTI}, got {self.annotations!r}; "
                "leave it out"
            )
        if self.name == "phantom" and self.root:
            raise ConfigError(
                f"data.root is not used by data.name=phantom, got {self.root!r}; "
                "add data=folder to train on that folder"
            )
        if self.val_fraction + self.test_fraction >= 1.0:
            raise ConfigError(
                "data.val_fraction + data.test_fraction must be below 1, got "
                f"{self.val_fraction} + {self.test_fraction}; leave slices to train on"
            )
        self._check_folds()
        # Plain values, however they came: a stored configuration equals the composed one.
        object.__setattr__(self, "image_size", _image_size(self.image_size))
        object.__setattr__(self, "channels", _channels(self.channels))
        object.__setattr__(self, "window", _window(self.window))
        self._check_patterns()
        if self.classes is not None:
            object.__setattr__(self, "classes", {name: _plain(value) for name, value in self.classes.items()})
        if self.classes is None:
            own = PHANTOM_CLASSES[self.phantom_kind]
            object.__setattr__(self, "classes", None if own is None else dict(own))
        self._check_classes()

    @property
    def is_of_volumes(self) -> bool:
        """Whether files are volumes, each of many slices."""
        return self.name == NIFTI

    @property
    def mask_classes(self) -> Classes | None:
        """The classes as pixels of a file have them; None for binary masks."""
        return None if self.classes is None else parse_classes(self.classes)

    @property
    def labels(self) -> Labels:
        """What masks hold in memory, and what the network gives."""
        has_ignored = self.ignore is not None
        classes = self.mask_classes
        if classes is None:
            return dataclasses.replace(BINARY, has_ignored=has_ignored)
        return classes.labels(has_ignored=has_ignored)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the model sees, in pixels."""
        return self.image_size if isinstance(self.image_size, tuple) else (self.image_size, self.image_size)

    @property
    def size_text(self) -> str:
        """`96x128`: the width, then the height."""
        height, width = self.size
        return f"{width}x{height}"

    @property
    def seen_text(self) -> str:
        """`at 96x96`, or `in windows of 96x96`: how a model sees an image."""
        return f"in windows of {self.size_text}" if self.patches else f"at {self.size_text}"

    @property
    def channel_count(self) -> int:
        """Channels of an image. Raises ValueError for `auto`: `data/load.py` resolves it first."""
        if isinstance(self.channels, tuple):
            return len(self.channels)
        if self.channels not in CHANNEL_COUNTS:
            raise ValueError("data.channels=auto is not resolved yet")
        return CHANNEL_COUNTS[self.channels]

    @property
    def channels_are_alike(self) -> bool:
        """Whether channels are colours of one picture; named ones are pictures of their own."""
        return not isinstance(self.channels, tuple)

    @property
    def reading_keys(self) -> dict[str, Any]:
        """The keys that say how files are read, with their values."""
        return {name: getattr(self, name) for name in READING_KEYS}

    def check_phantom(self) -> None:
        """Raises ConfigError for keys of files that are set with data.name=phantom.

        Apart from the other checks: a model or a test may know how files are read, without a set of them.
        """
        if self.name != "phantom":
            return
        allowed = {"classes": PHANTOM_CLASSES[self.phantom_kind], "ignore": None, "window": None}
        for name, value in allowed.items():
            if self.reading_keys[name] != value:
                raise ConfigError(f"data.{name} is for files, got it with data.name=phantom; leave it out")
        if not self.channels_are_alike:
            raise ConfigError("data.channels must be auto, grey or rgb for data.name=phantom, got names of files")

    def _check_classes(self) -> None:
        classes = self.mask_classes
        if self.ignore is not None and classes is not None:
            named = {value for values in (*classes.values.values(), classes.background) for value in values}
            if self.ignore in named and not classes.are_colours and not classes.categories:
                raise ConfigError(
                    f"data.ignore must be no value of a class or the background, got {self.ignore}; leave one out"
                )

    def _check_patterns(self) -> None:
        if (self.images is None) != (self.masks is None):
            given, other = ("images", "masks") if self.masks is None else ("masks", "images")
            raise ConfigError(f"data.{given} needs data.{other}; add data.{other}=PATTERN")
        if self.images is None or self.masks is None:
            return
        for name, text in (("images", self.images), ("masks", self.masks)):
            steps = text.split("/")
            if "{id}" not in text or {"", ".", ".."} & {*steps} or re.search("[{}]", _IN_PATTERNS.sub("", text)):
                raise ConfigError(
                    f"data.{name} must be {PATTERN.replace('`', '')}, {{id}} among them, got {text!r}; "
                    f"write data.{name}={name}/{{id}}.png"
                )
        if "{channel}" in self.masks or ("{channel}" in self.images and self.channels_are_alike):
            raise ConfigError(
                "{channel} is for data.images, with the channels' names in data.channels=[flair,t1]; "
                f"got data.images={self.images} data.masks={self.masks}"
            )

    def _check_folds(self) -> None:
        if self.split_by == "folder" and (self.folds is not None or self.test_fraction):
            raise ConfigError(
                "data.split_by=folder has the test part that lies in test/; leave out data.folds and data.test_fraction"
            )
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

    name: str = key("unet", choices=Names("networks"), remedy=REMEDY, help="the network")
    options: Any = field(default_factory=dict)
    depth: int = key(5, low=1, high=8, only="unet", help="encoder levels before the bottleneck")
    base_filters: int = key(
        16, low=1, high=256, only="unet", help="filters of the first level; each level doubles them"
    )
    stem: int = key(
        1,
        choices=STEMS,
        since=1,
        only="unet",
        help="pixels a side that the first convolution joins into one, and the last one parts again; above 1: faster",
    )
    standardize: bool = key(
        False,
        since=False,
        only=BUILT_IN_NETWORKS,
        help="each slice to mean 0 and variance 1, inside the network; with patches before they are cut",
    )
    dropout: float = key(
        0.1, low=0.0, high=0.9, only=BUILT_IN_NETWORKS, help="fraction of activations set to zero inside each block"
    )
    norm: str = key("batch", choices=NORMS, only=BUILT_IN_NETWORKS, help="normalisation after each 3x3 convolution")
    foreground_prior: float = key(
        0.5,
        low=0.001,
        high=0.999,
        since=0.5,
        only=BUILT_IN_NETWORKS,
        help="probability that an untrained network expects at each pixel; the true share saves the first epochs",
    )
    encoder: str = key(
        ENCODERS[0], choices=ENCODERS, since=ENCODERS[0], only="encoder_unet", help="the network before the decoder"
    )
    decoder_filters: Any = key(
        (96, 64, 48, 32),
        since=(96, 64, 48, 32),
        only="encoder_unet",
        allowed="four numbers of 1 to 1024",
        help="filters of the decoder's levels, the coarsest first; convnext_tiny has three levels",
    )
    weights: str | None = key(
        None,
        since=None,
        allowed="imagenet, a file, or the id of a run",
        help="weights to start from: of an encoder, or of a whole network; `null`: drawn from `seed`",
    )

    def __post_init__(self) -> None:
        check_keys("model.", self)
        _complete("model.options", self)
        object.__setattr__(self, "decoder_filters", _filters(self.decoder_filters))
        if self.weights == IMAGENET and not self.has_encoder:
            raise ConfigError(
                f"model.weights={IMAGENET} is for an encoder, got model.name={self.name}; add model=encoder_unet"
            )

    @property
    def own(self) -> Any:
        """The network of a plugin, with its options; None for one of brainseg's, or where the plugin isn't here."""
        if isinstance(self.name, Absent) or is_built_in("networks", self.name):
            return None
        return made("networks", self.name, self.options)

    @property
    def has_encoder(self) -> bool:
        """Whether the network has one of ENCODERS."""
        return self.name == "encoder_unet"

    @property
    def is_depthwise(self) -> bool:
        """Whether most of its convolutions are."""
        return self.has_encoder and self.encoder in DEPTHWISE_ENCODERS

    @property
    def size_factor(self) -> int:
        """What the sides of an image must be divisible by: the stem and each level of the encoder shrink it."""
        if self.own is not None:
            return int(self.own.size_factor())
        return ENCODERS_FACTOR if self.has_encoder else int(self.stem * 2**self.depth)

    @property
    def coarse_levels(self) -> int:
        """How many levels of the decoder are coarser than the one that the mask is made from."""
        if self.own is not None:
            return len(self.own.coarse()) if hasattr(self.own, "coarse") else 0
        return (len(self.decoder_filters) if self.has_encoder else self.depth) - 1

    def check_image_size(self, image_size: Any) -> None:
        """Raises ConfigError, which names `data.image_size`, unless the network can take so many pixels a side."""
        sides = image_size if isinstance(image_size, tuple) else (image_size,)
        if not isinstance(self.name, Absent) and any(side % self.size_factor for side in sides):
            nearest = [max(self.size_factor, round(side / self.size_factor) * self.size_factor) for side in sides]
            stem = "" if self.stem == 1 else "model.stem * "
            factors = "" if self.name != "unet" else f"{stem}2**model.depth = "
            raise ConfigError(
                f"data.image_size must be divisible by {factors}{self.size_factor}, got {as_text(image_size)}; "
                f"try {as_text(nearest if len(nearest) > 1 else nearest[0])}"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How the weights move."""

    name: str = key("adamw", choices=Names("optimizers"), remedy=REMEDY, help="what moves the weights")
    options: Any = field(default_factory=dict)
    learning_rate: float = key(1e-3, low=0.0, high=10.0, exclusive=True, help="the highest value of the schedule")
    weight_decay: float = key(1e-4, low=0.0, high=1.0, allowed="0 for adam", help="decoupled; kernels only")
    encoder_rate: float = key(
        1.0, low=0.0, high=10.0, since=1.0, help="how many times the step of the decoder the encoder's weights move"
    )
    schedule: str = key("cosine", choices=SCHEDULES, help="cosine: down to 0 at the last epoch")
    warmup_epochs: float = key(
        1.0, low=0.0, high=1000.0, allowed="at most `train.epochs`", help="linear rise from 0 at the start"
    )

    def __post_init__(self) -> None:
        check_keys("optimizer.", self)
        _complete("optimizer.options", self)
        if self.name == "adam" and self.weight_decay:
            raise ConfigError(
                "optimizer.weight_decay must be 0 for optimizer.name=adam, "
                f"got {self.weight_decay}; use optimizer=adamw for decoupled weight decay"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, with which loss, on how much of the machine."""

    epochs: int = key(24, low=1, high=100_000, help="times that every training slice is seen")
    loss: str = key(
        "bce_dice",
        choices=Names("losses", *LOSS_SUMS),
        joined=True,
        remedy=REMEDY,
        allowed="or several joined by `+`",
        help="Dice loss of the batch or of each image, cross-entropy, focal, Tversky; bce_dice: ce+dice; "
        "bce_dice_image: ce+dice_image",
    )
    loss_options: Any = field(default_factory=dict)
    focal_gamma: float = key(
        2.0,
        low=0.0,
        high=10.0,
        since=2.0,
        terms=("focal",),
        help="how far pixels that the model is sure of weigh less; 0: as in cross-entropy",
    )
    tversky_alpha: float = key(
        0.3, low=0.01, high=1.0, since=0.3, terms=TVERSKY, help="weight of false positives; 0.5 for both weights: Dice"
    )
    tversky_beta: float = key(0.7, low=0.01, high=1.0, since=0.7, terms=TVERSKY, help="weight of false negatives")
    focal_tversky_gamma: float = key(
        4 / 3,
        low=0.1,
        high=10.0,
        since=4 / 3,
        terms=("focal_tversky",),
        help="each class' Tversky loss is raised to 1 / this",
    )
    class_weights: dict[str, float] | None = key(
        None,
        since=None,
        terms=("ce", "focal"),
        allowed="`{name: 2.0}`, also of `background`",
        help="how many times a pixel of a class counts in cross-entropy and focal loss, whose mean is over pixels; "
        "a class that isn't named: once",
    )
    ema_decay: float = key(
        0.0,
        since=0.0,
        allowed="0 or more, below 1",
        help="share of the weights' running mean that a step keeps; it is validated and saved; 0: the weights are",
    )
    deep_supervision: float = key(
        0.0,
        low=0.0,
        high=1.0,
        since=0.0,
        allowed="0 for a depth of 1",
        help="weight of the loss of the decoder's second level; each coarser one counts half of the one above; 0: none",
    )
    precision: str = key("auto", choices=PRECISIONS, help="auto: bfloat16 where the hardware multiplies it")
    patience: int | None = key(
        None, low=1, help="epochs without a better `val_dice_image` before stopping; `null`: never"
    )
    threads: int | None = key(None, low=1, high=1024, help="CPU threads of TensorFlow; `null`: every core")

    def __post_init__(self) -> None:
        check_keys("train.", self)
        _complete("train.loss_options", self)
        if not 0.0 <= self.ema_decay < 1.0:
            raise ConfigError(f"train.ema_decay must be at least 0 and below 1, got {self.ema_decay}; try 0.99")
        for name, weight in (self.class_weights or {}).items():
            in_range(f"train.class_weights.{name}", weight, low=0.0, high=1e6)
        loss_terms(self.loss)


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where the record of a run goes."""

    uri: str | None = key(
        None,
        allowed="an MLflow store or server, or `server`",
        help="where records go; `server`: the one that `sweep serve` runs; `null`: `MLFLOW_TRACKING_URI`, else "
        "`mlflow.db` under `tracking.root`",
    )
    root: str = key("mlruns", empty=False, allowed="a folder", help="database, artifacts, checkpoints, cache and spool")
    experiment: str | None = key(
        None,
        empty=False,
        allowed="any name",
        help="MLflow experiment; `null`: what `MLFLOW_EXPERIMENT_NAME` or `MLFLOW_EXPERIMENT_ID` names, else the "
        "parent run's, else `brainseg`",
    )
    predictions: int = key(6, low=0, high=100, help="validation slices in the sample panels")
    offline: bool = key(False, help="start even if the store can't be reached, and deliver the record later")
    tags: dict[str, str] | None = key(
        None,
        since=None,
        allowed="`{name: text}`",
        help="tags of your own for the run; one alone: `tracking.tags.NAME=TEXT`",
    )
    system_metrics: bool = key(
        False, since=False, help="record the load of processor, memory, disk, network and GPU beside the training"
    )
    private: bool = key(
        False, since=False, help="other users of the machine can't read what a run writes below `tracking.root`"
    )

    def __post_init__(self) -> None:
        check_keys("tracking.", self)
        for name in self.tags or ():
            if name in OWN_TAGS or name.startswith(RESERVED_TAGS):
                raise ConfigError(
                    f"tracking.tags.{name} is a tag that brainseg or MLflow sets itself; choose another name"
                )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, complete: the only thing that decides what a run does."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    plugins: Any = key(
        (),
        since=(),
        allowed="modules on the path or beside `./conf`",
        help="modules that register networks, losses and other parts of one's own",
    )
    metrics: Any = key((), since=(), allowed="names of metrics", help="what is measured of each validation slice, too")
    metric_options: Any = field(default_factory=dict)
    seed: int = key(0, low=0, high=MAX_SEED, help="weights, dropout, order and augmentation")
    run_name: str | None = key(None, allowed="any text", help="name in MLflow; `null`: made from the overrides")
    resume: str | None = key(
        None,
        allowed="the id of a run",
        help="run to go on with; only `train.epochs` and `train.patience` may change",
    )

    def __post_init__(self) -> None:
        check_keys("", self)
        object.__setattr__(self, "plugins", texts("plugins", self.plugins))
        object.__setattr__(self, "metrics", texts("metrics", self.metrics))
        for name in self.metrics:
            if not isinstance(name, Absent):
                one_of("metrics", name, names("metrics"), remedy=REMEDY)
        _complete("metric_options", self)
        # It becomes the name of a folder, which must not lead out of its parent.
        if self.resume is not None and not RUN_ID.fullmatch(self.resume):
            raise ConfigError(
                f"resume must be the id of a run (letters, digits, - and _), got {self.resume!r}; "
                "copy the id that the run printed at its start"
            )
        self.data.check_phantom()
        self.model.check_image_size(self.data.image_size)
        if self.optimizer.encoder_rate != 1.0 and not self.model.has_encoder:
            raise ConfigError(
                f"optimizer.encoder_rate is for an encoder, got model.name={self.model.name}; add model=encoder_unet"
            )
        if self.train.deep_supervision > 0 and not self.model.coarse_levels:
            got, remedy = "model.depth=1", "a depth of at least 2"
            if self.model.own is not None:
                got, remedy = f"model.name={self.model.name} without coarse()", "a network that has it"
            raise ConfigError(
                f"train.deep_supervision needs coarser levels, got {got}; use train.deep_supervision=0 or {remedy}"
            )
        if self.optimizer.warmup_epochs > self.train.epochs:
            raise ConfigError(
                f"optimizer.warmup_epochs must be at most train.epochs = {self.train.epochs}, "
                f"got {self.optimizer.warmup_epochs}; try optimizer.warmup_epochs=0"
            )
        if self.train.class_weights is not None:
            self._check_class_weights(self.train.class_weights)

    def _check_class_weights(self, weights: Mapping[str, float]) -> None:
        labels = self.data.labels
        if not labels.are_named:
            raise ConfigError("train.class_weights needs classes; name them in data.classes, or leave it out")
        background = [BACKGROUND] if labels.has_background or not labels.exclusive else []
        for name in weights:
            one_of("a name in train.class_weights", name, [*labels.names, *background])


def loss_terms(loss: str) -> tuple[str, ...]:
    """The terms that a checked `train.loss` adds up: ce, dice and focal for `bce_dice+focal`.

    Raises ConfigError for a term that is there twice.
    """
    terms = tuple(term for part in loss.split("+") for term in LOSS_SUMS.get(part, (part,)))
    for term in terms:
        if terms.count(term) > 1:
            raise ConfigError(
                f"train.loss must have each term once, got {loss!r}, which has {term} twice; leave one out"
            )
    return terms


def chosen_parts(kind: str, value: Any) -> tuple[str, ...]:
    """The parts that a key names: one, several losses joined by `+`, or a list of metrics."""
    if kind == "losses":
        return loss_terms(value)
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else ()


def _complete(where: str, group: Any) -> None:
    """Checks the options under the key `where`, a field of `group`, and gives those that are left out their defaults.

    Those of a plugin that isn't here stay as they are stored.
    """
    (name, kind), field_name = OPTIONS[where], where.rpartition(".")[2]
    value, given = getattr(group, name.rpartition(".")[2]), getattr(group, field_name)
    if isinstance(value, Absent) or any(isinstance(each, Absent) for each in value):
        return
    object.__setattr__(group, field_name, completed(where, kind, chosen_parts(kind, value), given))


def texts(where: str, given: Any) -> tuple[str, ...]:
    """A list of texts, each once. Raises ConfigError."""
    texts = (given,) if isinstance(given, str) or not isinstance(given or (), Sequence) else tuple(given or ())
    if not all(isinstance(text, str) for text in texts) or len(set(texts)) < len(texts):
        raise ConfigError(f"{where} must be a list of different names, got {given!r}; write {where}=[NAME]")
    return texts


def _plain(value: Any) -> Any:
    return [*value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _channels(given: Any) -> str | tuple[str, ...]:
    """`data.channels`, checked. Raises ConfigError."""
    if isinstance(given, str):
        one_of("data.channels", given, CHANNELS)
        return given
    names = tuple(given) if isinstance(given, Sequence) else ()
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ConfigError(
            f"data.channels must be auto, grey, rgb or a list of different names, got {given!r}; "
            "write data.channels=[flair,t1]"
        )
    return names


def _image_size(given: Any) -> int | tuple[int, int]:
    """`data.image_size`, checked; a number where both sides are equal. Raises ConfigError."""
    sides = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    if not 1 <= len(sides) <= 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        raise ConfigError(
            f"data.image_size must be a whole number or two, got {as_text(given)}; write 96 or [96,128], height first"
        )
    for side in sides:
        in_range("data.image_size", side, low=IMAGE_SIZES[0], high=IMAGE_SIZES[1])
    height, width = sides[0], sides[-1]
    return height if height == width else (height, width)


def _filters(given: Any) -> tuple[int, ...]:
    """`model.decoder_filters`, checked. Raises ConfigError."""
    filters = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    if len(filters) != 4 or not all(isinstance(each, int) and 1 <= each <= 1024 for each in filters):
        raise ConfigError(
            f"model.decoder_filters must be four numbers of 1 to 1024, got {given!r}; write [96,64,48,32]"
        )
    return filters


def _window(given: Any) -> tuple[float, float] | None:
    """`data.window`, checked. Raises ConfigError."""
    if given is None:
        return None
    ends = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in ends)
    if len(ends) != 2 or not numbers or not ends[0] < ends[1]:
        raise ConfigError(
            f"data.window must be two numbers, the lower one first, got {given!r}; write data.window=[-160,240]"
        )
    return float(ends[0]), float(ends[1])


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Each key -> its last part, where no other key has the same: optimizer.learning_rate -> learning_rate."""
    keys = list(keys)
    lasts = [key.rpartition(".")[2] for key in keys]
    return {key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)}


def flatten(config: RunConfig) -> dict[str, Any]:
    """Every key with its value, dotted (`model.dropout`), in the dataclasses' order; then the options of parts."""
    options = {f"{where}.{name}": value for where in OPTIONS for name, value in attrgetter(where)(config).items()}
    return {name: attrgetter(name)(config) for name in KEYS} | options


def from_flat(values: Mapping[str, Any]) -> RunConfig:
    """The configuration with these dotted keys; keys that are left out take the defaults.

    Raises ConfigError for a key that doesn't exist, with the nearest one, and for values out of range.
    Types are not converted here: `brainseg.compose` does that for what a user types.
    """
    groups: dict[str, dict[str, Any]] = {group: {} for group in ("", *GROUPS)}
    for name, value in values.items():
        where = place_of_options(name)
        if where is not None:
            group, _, last = where.rpartition(".")
            own = value if name == where else {name.removeprefix(f"{where}."): value}
            groups[group][last] = groups[group].get(last, {}) | own
        elif name in KEYS:
            group, _, last = name.rpartition(".")
            groups[group][last] = value
        else:
            raise ConfigError(f"{name} is not a configuration key{did_you_mean(name, list(KEYS))}")
    top = groups.pop("")
    return RunConfig(**{group: GROUPS[group](**items) for group, items in groups.items()}, **top)


def place_of_options(name: str) -> str | None:
    """`model.options` for `model.options.width`, an option of a part; None for any other key."""
    return next((where for where in OPTIONS if name == where or name.startswith(f"{where}.")), None)


def stored(values: Mapping[str, Any]) -> RunConfig:
    """`from_flat` of a configuration that a run has stored: parts that aren't brainseg's are `Absent`.

    So the record of a run can be read without its plugin, and nothing is imported because a record names it.
    """
    found = dict(values)
    for name, kind in OPTIONS.values():
        value = values.get(name, KEYS[name].default)
        if not all(is_built_in(kind, each) for each in chosen_parts(kind, value)):
            found[name] = Absent(value) if isinstance(value, str) else tuple(map(Absent, value))
    return from_flat(found)


def with_parts(config: RunConfig) -> RunConfig:
    """A stored configuration that is to be trained: its plugins' parts must be here. Raises ConfigError if not."""
    values = flatten(config)
    for name, _ in OPTIONS.values():
        value = values[name]
        values[name] = str(value) if isinstance(value, str) else tuple(map(str, value))
    return from_flat(values)


def _keys(group: Any, prefix: str) -> Iterator[tuple[str, Key]]:
    for item in dataclasses.fields(group):
        if "key" in item.metadata:
            yield f"{prefix}{item.name}", dataclasses.replace(item.metadata["key"], type=item.type)
        elif dataclasses.is_dataclass(item.type):
            yield from _keys(item.type, f"{item.name}.")


# Group -> its dataclass.
GROUPS: Mapping[str, Any] = {
    item.name: item.type for item in dataclasses.fields(RunConfig) if dataclasses.is_dataclass(item.type)
}
# Every key, dotted, in the order of the dataclasses.
KEYS: Mapping[str, Key] = dict(_keys(RunConfig, ""))
# How version 0.1 read files, which had no keys for it.
FIRST_READING: Mapping[str, Any] = {name: KEYS[f"data.{name}"].since for name in READING_KEYS}
