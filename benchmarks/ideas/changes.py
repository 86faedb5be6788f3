"""`brainseg.data.augment` in PyTorch, with what an `Idea` adds to it.

All random numbers of a slice are a row of uniform ones, drawn beforehand: a CUDA graph replays the same kernels.
"""

import dataclasses
import math

import torch
from torch.nn import functional

from benchmarks.ideas.idea import Idea
from brainseg.data.augment import LIMITS as BRAINSEG
from brainseg.data.augment import Limits

DRAWS = 40  # uniform numbers a slice
NOISE_FIELDS = 32  # of which each batch takes one

STANDARD = BRAINSEG["standard"]
LIMITS = {
    "light": BRAINSEG["light"],
    "standard": STANDARD,
    "upright": dataclasses.replace(STANDARD, upside_down=False),
    "turned": dataclasses.replace(STANDARD, rotation_deg=180.0),
    "strong": Limits(
        upside_down=True,
        rotation_deg=25.0,
        scale=0.25,
        shift_fraction=0.1,
        log_gamma=0.4,
        brightness=0.15,
        contrast=0.25,
        noise_stddev=0.03,
    ),
}


def change(
    images: torch.Tensor, masks: torch.Tensor, draws: torch.Tensor, fields: torch.Tensor, idea: Idea
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch changed as the idea says.

    images: [0, 1], (batch, 1 or 2, height, width). masks: {0, 1}, (batch, 1, height, width).
    draws: uniform in [0, 1), (batch, DRAWS). fields: normal, (NOISE_FIELDS, 1, height, width).
    """
    limits = LIMITS[idea.augment]
    images, masks = _moved(images, masks, draws, limits, idea)
    field = fields.index_select(0, (draws[0, 10:11] * NOISE_FIELDS).long())
    images = _recoloured(images, draws, field, limits, idea)
    if idea.cutout:
        images = _cut(images, draws, idea.cutout)
    if idea.mixup:
        share = 0.5 * draws[:, 11] * (draws[:, 36] < idea.mixup)
        share = share.view(-1, 1, 1, 1)
        images = (1 - share) * images + share * images.roll(1, 0)
        masks = (1 - share) * masks + share * masks.roll(1, 0)
    return images, masks


def _moved(
    images: torch.Tensor, masks: torch.Tensor, draws: torch.Tensor, limits: Limits, idea: Idea
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, _, height, width = images.shape
    signed = draws * 2 - 1
    flip_x = torch.sign(signed[:, 0])
    flip_y = torch.sign(signed[:, 1]) if limits.upside_down else torch.ones_like(flip_x)
    angle = signed[:, 2] * math.radians(limits.rotation_deg)
    scale = 1 + signed[:, 3] * limits.scale
    shift_x, shift_y = (signed[:, at] * limits.shift_fraction * 2 for at in (4, 5))  # 2: sides go from -1 to 1
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    xx, xy, yx, yy = flip_x * cosine, -flip_x * sine, flip_y * sine, flip_y * cosine
    rows = [xx, xy, -xx * shift_x - xy * shift_y, yx, yy, -yx * shift_x - yy * shift_y]
    grid = functional.affine_grid(
        torch.stack(rows, 1).view(batch, 2, 3), [batch, 1, height, width], align_corners=False
    )
    if idea.elastic:
        coarse = torch.stack([signed[:, 20:36].reshape(batch, 4, 4), signed[:, 4:20].reshape(batch, 4, 4).flip(1)], 1)
        grid = grid + idea.elastic * _smooth(coarse, height, width).permute(0, 2, 3, 1)
    return (
        functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False),
        functional.grid_sample(masks, grid, mode="nearest", padding_mode="zeros", align_corners=False),
    )


def _recoloured(
    images: torch.Tensor, draws: torch.Tensor, field: torch.Tensor, limits: Limits, idea: Idea
) -> torch.Tensor:
    batch, _, height, width = images.shape
    signed = (draws * 2 - 1).view(batch, DRAWS, 1, 1, 1)
    images = torch.exp(torch.exp(signed[:, 6] * limits.log_gamma) * torch.log(images.clamp_min(1e-8)))
    if idea.curve:
        phase = math.pi * images.clamp(0, 1)
        bend = signed[:, 12] * torch.sin(phase) + 0.5 * signed[:, 13] * torch.sin(2 * phase)
        images = images + idea.curve * bend * images
    brightness, contrast = 1 + signed[:, 7] * limits.brightness, 1 + signed[:, 8] * limits.contrast
    mean = images.mean((2, 3), keepdim=True)
    images = brightness * (contrast * images + (1 - contrast) * mean)
    if idea.bias_field:
        coarse = draws[:, 20:29].reshape(batch, 1, 3, 3) * 2 - 1
        images = images * torch.exp(idea.bias_field * _smooth(coarse, height, width))
    if idea.blur:
        blurred = functional.avg_pool2d(images, 3, 1, 1)
        images = torch.where(draws[:, 14].view(batch, 1, 1, 1) < idea.blur, blurred, images)
    return (images + signed[:, 9] * limits.noise_stddev * field).clamp_min(0)


def _cut(images: torch.Tensor, draws: torch.Tensor, chance: float) -> torch.Tensor:
    """A rectangle of a tenth to a third of each side takes the slice's mean."""
    batch, _, height, width = images.shape
    rows = torch.arange(height, device=images.device).view(1, 1, -1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, 1, -1)
    y, half_height, x, half_width, drawn = (draws[:, at].view(batch, 1, 1, 1) for at in (15, 16, 17, 18, 19))
    inside = (rows - y * height).abs() < height * (0.05 + 0.12 * half_height)
    inside = inside & ((columns - x * width).abs() < width * (0.05 + 0.12 * half_width))
    return torch.where(inside & (drawn < chance), images.mean((2, 3), keepdim=True), images)


def _smooth(coarse: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
