"""The recipe of `experiment=best` as it is trained here, and each idea as what it changes in it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Idea:
    """One training. The defaults are the recipe's, for 30 epochs; what is 0, False or plain there is an idea."""

    base_filters: int = 24
    residual: bool = False  # blocks add to their input, He et al. 2016, arXiv:1512.03385
    stochastic_depth: float = 0.0  # chance that a residual block adds nothing to a slice, Huang et al. 2016, 1603.09382
    squeeze: bool = False  # channels weighted by their means, Hu et al. 2018, arXiv:1709.01507
    gates: bool = False  # attention on the skips, Oktay et al. 2018, arXiv:1804.03999
    attention: bool = False  # self-attention of the bottleneck's pixels, Vaswani et al. 2017, arXiv:1706.03762
    context: bool = False  # the bottleneck's mean over the slice is added to each of its pixels
    activation: str = "relu"  # or silu
    dropout: float = 0.0  # of activations inside blocks
    channel_dropout: float = 0.0  # of whole channels of the bottleneck, Tompson et al. 2015, arXiv:1411.4280
    mirrored: bool = False  # the slice mirrored left-right is a second channel
    neighbour: bool = False  # the same person's slice that looks most like it is a second channel
    position: bool = False  # row and column are two more channels
    deep_supervision: float = 0.0  # weight of the second level's loss, halved at each coarser one
    types: bool = False  # a mask for each tumour type; the largest probability of the three counts
    classification: float = 0.0  # weight of naming the tumour's type from the bottleneck's mean
    tversky: bool = False  # Tversky loss of each slice, misses 0.6, false alarms 0.4, instead of its Dice loss
    augment: str = "standard"  # a key of `changes.LIMITS`
    elastic: float = 0.0  # largest shift by a smooth random field, as a fraction of half the slice
    bias_field: float = 0.0  # largest logarithm of a smooth field that brightens and darkens
    curve: float = 0.0  # how far grey levels are bent by a smooth curve
    blur: float = 0.0  # chance of a mean over 3x3 pixels
    cutout: float = 0.0  # chance that a rectangle is grey, DeVries and Taylor 2017, arXiv:1708.04552
    mixup: float = 0.0  # chance that up to half of another slice is mixed in, Zhang et al. 2018, arXiv:1710.09412
    balanced: bool = False  # people with many slices are drawn less often: by the root of their number
    batch_size: int = 8
    weight_decay: float = 1e-2
    averaged: float = 0.0  # decay of the running mean of the weights
    sharpness: float = 0.0  # radius of sharpness-aware minimisation, Foret et al. 2021, arXiv:2010.01412
    epochs: int = 30


RECIPE = "recipe"
# Name -> what is trained, in the order in which the search goes through them.
IDEAS: Mapping[str, Idea] = {
    RECIPE: Idea(),
    "residual blocks": Idea(residual=True),
    "deep supervision": Idea(deep_supervision=0.25),
    "attention gates on the skips": Idea(gates=True),
    "self-attention in the bottleneck": Idea(attention=True),
    "squeeze and excitation": Idea(squeeze=True),
    "the slice's mean in the bottleneck": Idea(context=True),
    "a mask for each type": Idea(types=True),
    "naming the type as well": Idea(classification=0.2),
    "mirrored slice as second channel": Idea(mirrored=True),
    "the person's most similar slice as second channel": Idea(neighbour=True),
    "row and column as channels": Idea(position=True),
    "48 filters": Idea(base_filters=48),
    "SiLU": Idea(activation="silu"),
    "dropout 0.2": Idea(dropout=0.2),
    "dropout 0.3 of the bottleneck's channels": Idea(channel_dropout=0.3),
    "residual blocks with stochastic depth 0.2": Idea(residual=True, stochastic_depth=0.2),
    "Tversky loss": Idea(tversky=True),
    "light augmentation": Idea(augment="light"),
    "standard augmentation, never upside down": Idea(augment="upright"),
    "strong augmentation": Idea(augment="strong"),
    "rotation by any angle": Idea(augment="turned"),
    "elastic deformation": Idea(elastic=0.05),
    "bias field": Idea(bias_field=0.3),
    "bent grey levels": Idea(curve=0.3),
    "blur": Idea(blur=0.3),
    "cutout": Idea(cutout=0.5),
    "mixup": Idea(mixup=0.5),
    "people balanced": Idea(balanced=True),
    "batches of 16": Idea(batch_size=16),
    "weight decay 0.2": Idea(weight_decay=0.2),
    "averaged weights, 0.999": Idea(averaged=0.999),
    "sharpness-aware minimisation": Idea(sharpness=0.05),
}

# What is trained on all five folds: several recipes, whose mean is taken as well.
FOLDS: Mapping[str, Idea] = {
    RECIPE: Idea(),
    "residual": Idea(residual=True),
    "residual, deep": Idea(residual=True, deep_supervision=0.25),
    "residual, deep, other seed": Idea(residual=True, deep_supervision=0.25),
    "residual, elastic, averaged": Idea(residual=True, elastic=0.05, averaged=0.999),
}

# The split by image, with light augmentation.
BY_IMAGE: Mapping[str, Idea] = {
    "24 filters, residual, 80 epochs": Idea(augment="light", residual=True, epochs=80),
    "48 filters, residual, deep, 70 epochs": Idea(
        augment="light", residual=True, deep_supervision=0.25, base_filters=48, epochs=70
    ),
}
