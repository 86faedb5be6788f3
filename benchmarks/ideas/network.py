"""`brainseg.model.unet.build_unet` of the recipe in PyTorch, with what an `Idea` changes in it."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from benchmarks.ideas.idea import Idea

DEPTH = 4
STEM = 4
FOREGROUND_PRIOR = 0.02
TYPES = 3
HEADS = 4  # of self-attention
EPSILON = 1e-3  # of normalisation, as Keras has it

ACTIVATIONS = {"relu": functional.relu, "silu": functional.silu}


@dataclass(frozen=True, kw_only=True)
class Output:
    """What the network says of a batch, as logits."""

    masks: torch.Tensor  # (batch, 1 or TYPES, height, width)
    coarser: list[torch.Tensor]  # the same of the decoder's coarser levels, the coarsest first
    types: torch.Tensor | None  # (batch, TYPES)


class Block(nn.Module):  # type: ignore[misc]  # torch is skipped when types are checked
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""

    def __init__(self, channels: int, filters: int, idea: Idea) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(filters, eps=EPSILON, momentum=0.1)
        self.second = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(filters, eps=EPSILON, momentum=0.1)
        self.dropout = nn.Dropout(idea.dropout)
        self.activation = ACTIVATIONS[idea.activation]
        self.squeeze = _squeeze(filters) if idea.squeeze else None
        self.residual = idea.residual
        self.skipped = idea.stochastic_depth
        same = channels == filters
        self.shortcut = nn.Identity() if same or not idea.residual else nn.Conv2d(channels, filters, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to (batch, filters, height, width)."""
        y = self.dropout(self.activation(self.first_norm(self.first(x))))
        y = self.second_norm(self.second(y))
        if self.squeeze is not None:
            y = y * self.squeeze(y)
        if self.residual:
            if self.skipped and self.training:
                kept = torch.rand(len(y), 1, 1, 1, device=y.device) > self.skipped
                y = y * kept.float() / (1 - self.skipped)
            y = y + self.shortcut(x)
        return self.activation(y)


class Attention(nn.Module):  # type: ignore[misc]
    """Each pixel looks at all others; it starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.project = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width), and the same again."""
        batch, channels, height, width = x.shape
        parts = self.project(self.norm(x)).reshape(batch, 3, HEADS, channels // HEADS, height * width)
        query, key, value = parts.permute(1, 0, 2, 4, 3).contiguous().unbind(0)
        weights = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(channels // HEADS), -1)
        return x + self.out((weights @ value).permute(0, 1, 3, 2).reshape(x.shape))


class Gate(nn.Module):  # type: ignore[misc]
    """A weight in [0, 1] for each pixel of a skip, nearly 1 at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.join = nn.Conv2d(2 * channels, channels // 2, 1)
        self.weigh = nn.Conv2d(channels // 2, 1, 1)

    def forward(self, skip: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        """The skip weighted; both inputs are (batch, channels, height, width)."""
        return skip * torch.sigmoid(self.weigh(functional.relu(self.join(torch.cat([skip, below], 1)))))


class UNet(nn.Module):  # type: ignore[misc]
    """Images in [0, 1], (batch, 1 or 2, 256, 256), to an `Output`."""

    def __init__(self, idea: Idea) -> None:
        super().__init__()
        self.idea = idea
        widths = [idea.base_filters * 2**level for level in range(DEPTH + 1)]
        below, masks = widths[-1], TYPES if idea.types else 1
        channels = 1 + idea.mirrored + idea.neighbour + 2 * idea.position
        self.stem = nn.Conv2d(channels, widths[0], STEM, stride=STEM)
        self.encoders = nn.ModuleList(
            Block(above, width, idea) for above, width in zip([widths[0], *widths[:-2]], widths[:-1], strict=True)
        )
        self.bottleneck = Block(widths[-2], below, idea)
        self.attention = Attention(below) if idea.attention else None
        self.context = (
            nn.Sequential(nn.Linear(below, below), nn.ReLU(), nn.Linear(below, below)) if idea.context else None
        )
        upwards = widths[-2::-1]
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in upwards)
        self.decoders = nn.ModuleList(Block(2 * width, width, idea) for width in upwards)
        self.gates = nn.ModuleList(Gate(width) for width in upwards) if idea.gates else None
        coarser = upwards[:-1] if idea.deep_supervision else []
        self.coarser_heads = nn.ModuleList(nn.Conv2d(width, masks, 1) for width in coarser)
        self.head = nn.ConvTranspose2d(widths[0], masks, STEM, stride=STEM)
        self.classifier = nn.Linear(below, TYPES) if idea.classification else None
        self._start(masks)

    def _start(self, masks: int) -> None:
        """The weights that the recipe starts with."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        limit = math.sqrt(6.0 / (self.idea.base_filters + 1))
        nn.init.uniform_(self.head.weight, -limit, limit)
        prior = FOREGROUND_PRIOR / masks
        for head in (self.head, *self.coarser_heads):
            nn.init.constant_(head.bias, math.log(prior / (1 - prior)))
        for gate in self.gates or []:
            nn.init.constant_(gate.weigh.bias, 2.0)
        if self.attention is not None:
            nn.init.zeros_(self.attention.out.weight)

    def forward(self, images: torch.Tensor) -> Output:
        """Standardizes each slice, and what the class says."""
        x = self.stem(self._channels(images).contiguous(memory_format=torch.channels_last))
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottleneck(x)
        if self.idea.channel_dropout:
            x = functional.dropout2d(x, self.idea.channel_dropout, self.training)
        if self.attention is not None:
            x = self.attention(x)
        mean = x.mean((2, 3))
        if self.context is not None:
            x = x + self.context(mean)[:, :, None, None]
        coarser = []
        for level, (up, decoder) in enumerate(zip(self.ups, self.decoders, strict=True)):
            below, skip = up(x), skips[-1 - level]
            if self.gates is not None:
                skip = self.gates[level](skip, below)
            x = decoder(torch.cat([below, skip], 1))
            if level < len(self.coarser_heads):
                coarser.append(self.coarser_heads[level](x).float())
        types = None if self.classifier is None else self.classifier(mean).float()
        return Output(masks=self.head(x).float(), coarser=coarser, types=types)

    def _channels(self, images: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(images, (2, 3), keepdim=True, unbiased=False)
        channels = [(images - mean) * torch.rsqrt(variance + EPSILON)]
        if self.idea.mirrored:
            channels.append(channels[0][:, :1].flip(3))
        if self.idea.position:
            batch, _, height, width = images.shape
            rows = torch.linspace(-1, 1, height, device=images.device).view(1, 1, -1, 1)
            columns = torch.linspace(-1, 1, width, device=images.device).view(1, 1, 1, -1)
            channels += [rows.expand(batch, 1, height, width), columns.expand(batch, 1, height, width)]
        return torch.cat(channels, 1)


def probability_of(output: Output) -> torch.Tensor:
    """Tumour or not, (batch, 1, height, width); of several types' masks the largest."""
    return torch.sigmoid(output.masks).amax(1, keepdim=True)


def _squeeze(filters: int) -> nn.Module:
    hidden = max(filters // 8, 4)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(filters, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, filters, 1), nn.Sigmoid()
    )
