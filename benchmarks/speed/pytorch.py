"""The reference's network in PyTorch: eager, channels_last, bfloat16 by autocast.

Autocast and not a bfloat16 copy of float32 weights, as it is the faster of the two. Only the sigmoid and the loss are
float32; brainseg's last convolution is, too. Nothing here imports TensorFlow.
"""

import itertools
import time

import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed.task import EndRound, Round, Task
from brainseg.config import ModelConfig
from brainseg.model.losses import SMOOTH


class Block(nn.Module):  # type: ignore[misc]  # torch is skipped when types are checked
    """Two 3x3 convolutions with dropout between them."""

    def __init__(self, channels: int, filters: int, *, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, filters, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to (batch, filters, height, width)."""
        x = self.dropout(functional.relu(self.first(x), inplace=True))
        return functional.relu(self.second(x), inplace=True)


class UNet(nn.Module):  # type: ignore[misc]
    """The network of `brainseg.model.unet` without normalisation, layer by layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = [config.base_filters * 2**level for level in range(config.depth + 1)]
        pairs = list(itertools.pairwise(widths))  # of neighbouring levels, from the top
        self.encoders = nn.ModuleList(
            Block(channels, filters, dropout=config.dropout)
            for channels, filters in zip([1, *widths[:-2]], widths[:-1], strict=True)
        )
        self.bottleneck = Block(*pairs[-1], dropout=config.dropout)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(below, filters, 2, stride=2) for filters, below in reversed(pairs))
        self.decoders = nn.ModuleList(
            Block(2 * filters, filters, dropout=config.dropout) for filters, _ in reversed(pairs)
        )
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images in [0, 1], (batch, channels, height, width), to float32 probabilities of the same size."""
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips), strict=True):
            x = decoder(torch.cat([up(x), skip], dim=1))
        return torch.sigmoid(self.head(x).float())


class PyTorch:
    """A contender; all slices lie in memory as float32 tensors."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        slices, ids = task.load()
        positions = slices.positions(ids)
        self._images = _channels_last(torch.from_numpy(slices.images[positions]).float() / 255.0).to(self._device)
        self._masks = _channels_last(torch.from_numpy(slices.masks[positions]).float()).to(self._device)
        self._batch_size = task.config.data.batch_size
        self._model = UNet(task.config.model).to(self._device, memory_format=torch.channels_last)
        self._optimizer = torch.optim.Adam(
            self._model.parameters(), task.config.optimizer.learning_rate, eps=1e-7, fused=True
        )
        self.parameters = sum(weight.numel() for weight in self._model.parameters())
        self.multiply_adds = forward_multiply_adds(self._model, self._images[:1])

    def train(self, end_round: EndRound) -> None:
        """A pass over the slices in a new order each round."""
        while True:
            begun = time.perf_counter()
            for chosen in torch.randperm(len(self._images)).split(self._batch_size):
                self._step(self._images[chosen], self._masks[chosen])
            end_round(Round(images_per_second=len(self._images) / (time.perf_counter() - begun)))

    def _step(self, images: torch.Tensor, masks: torch.Tensor) -> float:
        with torch.autocast(self._device, dtype=torch.bfloat16):
            probability = self._model(images)
        loss = dice_loss(masks, probability)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())


def dice_loss(mask: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
    """`brainseg.model.losses`: soft Dice over all pixels of the batch."""
    return 1.0 - (2.0 * (mask * probability).sum() + SMOOTH) / (mask.sum() + probability.sum() + SMOOTH)


def forward_multiply_adds(model: nn.Module, image: torch.Tensor) -> int:
    """Counts the same as `benchmarks.speed.arithmetic.forward_multiply_adds`, in one forward pass."""
    counts: list[int] = []

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        end = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        counts.append(layer.weight.numel() * end.shape[2] * end.shape[3])

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, kinds)]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def _channels_last(pixels: torch.Tensor) -> torch.Tensor:
    """(batch, height, width, channels) to (batch, channels, height, width), in the same order in memory."""
    return pixels.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
