"""Trainings side by side on one GPU: each step is a CUDA graph, and each training replays its own in its own stream.

The networks are small for a GPU, so that one training alone would leave most of it idle. On a processor, which has
neither, steps run one after the other.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from benchmarks.ideas.changes import DRAWS, NOISE_FIELDS, change
from benchmarks.ideas.idea import Idea
from benchmarks.ideas.network import TYPES, Output, UNet, probability_of
from benchmarks.ideas.slices import SIZE, Part, Slices
from brainseg.config import OptimizerConfig
from brainseg.inference.postprocess import THRESHOLD
from brainseg.model.losses import SMOOTH
from brainseg.scoring.overlap import dice_per_image
from brainseg.train.optimizers import learning_rate_at

SCHEDULE = OptimizerConfig(learning_rate=2e-3, warmup_epochs=1.0, schedule="cosine")
SCORED_AT_ONCE = 64  # slices
BYTE = 255.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one training is asked for."""

    name: str
    idea: Idea
    part: Part
    seed: int


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What it came to, by the weights of its last epoch; probabilities are means over the mirror image."""

    job: Job
    train_dice: float  # soft, mean over the last epoch's slices as they were changed
    val: NDArray[np.float64]  # Dice at 0.5 of each slice of the validation part, in [0, 1]
    val_probability: torch.Tensor  # uint8, 255 times the probability, (slices, SIZE, SIZE), in main memory
    test_probability: torch.Tensor  # of the test part
    seconds: float  # from its start, beside the others


class Training:
    """One network, its optimizer and its step. Everything that a step reads lies on the device."""

    def __init__(self, slices: Slices, job: Job) -> None:
        torch.manual_seed(job.seed)
        self.job = job
        self._slices = slices
        self._order = np.random.default_rng(job.seed)
        device, idea, train = slices.device, job.idea, job.part.train
        self._net = UNet(idea).to(device, memory_format=torch.channels_last)
        self._weights = list(self._net.parameters())
        self.steps = len(train) // idea.batch_size
        self._rates = torch.from_numpy(_rates(self.steps, idea.epochs)).to(device)
        self._rate = torch.tensor(SCHEDULE.learning_rate, device=device)
        self._optimizer = self._build_optimizer()
        self._averages = [weight.detach().clone() for weight in self._weights] if idea.averaged else None
        # What an epoch goes through, and where it stands.
        self._batches = torch.zeros(self.steps, idea.batch_size, dtype=torch.long, device=device)
        self._draws = torch.zeros(self.steps, idea.batch_size, DRAWS, device=device)
        self._fields = torch.randn(NOISE_FIELDS, 1, SIZE, SIZE, device=device)
        self._step = torch.zeros(1, dtype=torch.long, device=device)
        self._dice = torch.zeros((), device=device)
        self._begun = time.perf_counter()
        self._stream = torch.cuda.Stream() if device.type == "cuda" else None
        self._graph: torch.cuda.CUDAGraph | None = None
        self.begin_epoch()
        self._net.train()
        if self._stream is not None:
            self._capture()

    def begin_epoch(self) -> None:
        """Draws the order of the slices and how they are changed."""
        train, batches = self.job.part.train, tuple(self._batches.shape)
        if self.job.idea.balanced:
            _, person, slices_of = np.unique(self._slices.person_of[train], return_inverse=True, return_counts=True)
            shares = 1 / np.sqrt(slices_of[person])
            chosen = self._order.choice(train, batches[0] * batches[1], p=shares / shares.sum())
        else:
            chosen = self._order.permutation(train)[: batches[0] * batches[1]]
        self._batches.copy_(torch.from_numpy(chosen.reshape(batches)))
        self._draws.uniform_()
        self._dice.zero_()

    def advance(self) -> None:
        """One step; on a GPU it is only asked for."""
        if self._graph is None:
            self._run_step()
            return
        with torch.cuda.stream(self._stream):
            self._graph.replay()

    @contextlib.contextmanager
    def between_epochs(self) -> Iterator[None]:
        """Waits for the steps asked for; what happens inside is in their order."""
        if self._stream is None:
            yield
            return
        self._stream.synchronize()
        with torch.cuda.stream(self._stream):
            yield

    def result(self) -> Trained:
        """To be called between epochs, after the last one."""
        part = self.job.part
        self._net.eval()
        if self._averages is not None:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, self._averages)
        val, test = (self._predict(positions) for positions in (part.val, part.test))
        return Trained(
            job=self.job,
            train_dice=float(self._dice) / self.steps,
            val=dice(self._slices, part.val, val, threshold=THRESHOLD),
            val_probability=val.cpu(),
            test_probability=test.cpu(),
            seconds=time.perf_counter() - self._begun,
        )

    def _build_optimizer(self) -> torch.optim.Optimizer:
        """AdamW as Keras has it; kernels alone are decayed. On a GPU its rate is a tensor that steps write."""
        idea = self.job.idea
        kernels = [weight for weight in self._weights if weight.ndim > 1]
        others = [weight for weight in self._weights if weight.ndim <= 1]
        groups = [
            {"params": kernels, "weight_decay": idea.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        on_gpu = self._rate.device.type == "cuda"
        return torch.optim.AdamW(groups, lr=self._rate, eps=1e-7, fused=on_gpu, capturable=on_gpu)

    def _capture(self) -> None:
        """Records a step as a graph, after some that are taken back: the first ones allocate and choose kernels."""
        torch.cuda.synchronize()
        start = {name: value.clone() for name, value in self._net.state_dict().items()}
        with torch.cuda.stream(self._stream):
            for _ in range(3):
                self._run_step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self._run_step()
        self._net.load_state_dict(start)
        moments = [value for state in self._optimizer.state.values() for value in state.values()]
        for value in (*moments, self._step, self._dice):
            value.zero_()
        for average, weight in zip(self._averages or [], self._weights, strict=False):
            average.copy_(weight.detach())
        torch.cuda.synchronize()
        self._graph = graph

    def _run_step(self) -> None:
        idea = self.job.idea
        self._rate.copy_(self._rates.index_select(0, self._step)[0])
        with torch.no_grad():
            at = self._step % self.steps
            chosen, draws = self._batches.index_select(0, at)[0], self._draws.index_select(0, at)[0]
            masks = self._slices.masks[chosen][:, None].float()
            images, masks = change(self._images(chosen), masks, draws, self._fields, idea)
            types = self._slices.type_of[chosen]
        loss, overlap = objective(self._net, idea, images, masks, types)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if idea.sharpness:
            self._look_around(images, masks, types)
        self._optimizer.step()
        with torch.no_grad():
            if self._averages is not None:
                torch._foreach_lerp_(self._averages, self._weights, 1 - idea.averaged)
            self._dice += overlap.detach()
            self._step += 1

    def _look_around(self, images: torch.Tensor, masks: torch.Tensor, types: torch.Tensor) -> None:
        """Takes the gradient a little uphill, where the loss is highest nearby."""
        with torch.no_grad():
            gradients = [weight.grad for weight in self._weights]
            norm = torch.sqrt(sum((gradient * gradient).sum() for gradient in gradients)) + 1e-12
            uphill = torch._foreach_mul(gradients, self.job.idea.sharpness / norm)
            torch._foreach_add_(self._weights, uphill)
        self._optimizer.zero_grad(set_to_none=True)
        objective(self._net, self.job.idea, images, masks, types)[0].backward()
        with torch.no_grad():
            torch._foreach_sub_(self._weights, uphill)

    def _images(self, chosen: torch.Tensor) -> torch.Tensor:
        """In [0, 1], (slices, 1 or 2, SIZE, SIZE)."""
        seen = [chosen, self._slices.neighbour_of[chosen]] if self.job.idea.neighbour else [chosen]
        return self._slices.images[torch.stack(seen, 1)].float() / BYTE

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _predict(self, positions: NDArray[np.intp]) -> torch.Tensor:
        found = [torch.zeros(0, SIZE, SIZE, dtype=torch.uint8, device=self._slices.device)]
        for start in range(0, len(positions), SCORED_AT_ONCE):
            images = self._images(torch.from_numpy(positions[start : start + SCORED_AT_ONCE]).to(self._slices.device))
            both = probability_of(self._net(images)) + probability_of(self._net(images.flip(3))).flip(3)
            found.append((both[:, 0] / 2 * BYTE).round().to(torch.uint8))
        return torch.cat(found)


def train_all(slices: Slices, jobs: Sequence[Job], *, at_once: int, report: Callable[[Trained], None]) -> None:
    """Trains them in order, so many at once, and reports each as it ends."""
    waiting, live = deque(jobs), list[tuple[Training, int]]()
    while waiting or live:
        while waiting and len(live) < at_once:
            training = Training(slices, waiting.popleft())
            live.append((training, training.steps * training.job.idea.epochs))
        for training, _ in live:
            training.advance()
        live = [(training, left - 1) for training, left in live]
        for training, left in live:
            if left % training.steps:
                continue
            with training.between_epochs():
                if left:
                    training.begin_epoch()
                else:
                    report(training.result())
        live = [(training, left) for training, left in live if left]


def objective(
    net: UNet, idea: Idea, images: torch.Tensor, masks: torch.Tensor, types: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss, and the soft Dice of each slice's mask, mean over the batch.

    images: [0, 1], (batch, 1 or 2, height, width). masks: {0, 1}, (batch, 1, height, width). types: (batch,).
    """
    on_gpu = images.device.type == "cuda"
    # A CUDA graph would keep what a cache of converted weights holds.
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=on_gpu, cache_enabled=False):
        output: Output = net(images)
    probability = probability_of(output)
    overlap = soft_dice(masks, probability).mean()
    targets = _of_types(masks, types) if idea.types else masks
    # Three masks share a slice's pixels: their mean cross-entropy counts thrice.
    loss = targets.shape[1] * functional.binary_cross_entropy_with_logits(output.masks, targets)
    loss = loss + 1 - (tversky(masks, probability).mean() if idea.tversky else overlap)
    for steps_up, logits in enumerate(reversed(output.coarser)):
        shrunk = functional.adaptive_max_pool2d(targets, logits.shape[2:])
        coarse = functional.binary_cross_entropy_with_logits(logits, shrunk)
        coarse = coarse + 1 - soft_dice(shrunk, torch.sigmoid(logits)).mean()
        loss = loss + idea.deep_supervision * 0.5**steps_up * coarse
    if output.types is not None:
        loss = loss + idea.classification * functional.cross_entropy(output.types, types)
    return loss, overlap


def _of_types(masks: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
    """A mask for each type, (batch, TYPES, height, width)."""
    return masks * (types[:, None] == torch.arange(TYPES, device=types.device)).float()[:, :, None, None]


def dice(
    slices: Slices, positions: NDArray[np.intp], probability: torch.Tensor, *, threshold: float
) -> NDArray[np.float64]:
    """Hard Dice of each slice, in [0, 1]. probability: 255 times itself, (slices, SIZE, SIZE)."""
    masks = slices.masks[torch.from_numpy(positions).to(slices.device)] > 0
    return dice_per_image(masks.cpu().numpy(), (probability >= threshold * BYTE).cpu().numpy())


def soft_dice(masks: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
    """`brainseg.model.losses.dice_coefficient` of each image, (batch, masks)."""
    shared = (masks * probability).sum((2, 3))
    return (2 * shared + SMOOTH) / (masks.sum((2, 3)) + probability.sum((2, 3)) + SMOOTH)


def tversky(masks: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
    """Salehi et al. 2017, arXiv:1706.05721, of each image: misses count 0.6, false alarms 0.4."""
    shared = (masks * probability).sum((2, 3))
    missed, false = (masks * (1 - probability)).sum((2, 3)), ((1 - masks) * probability).sum((2, 3))
    return (shared + SMOOTH) / (shared + 0.6 * missed + 0.4 * false + SMOOTH)


def _rates(steps: int, epochs: int) -> NDArray[np.float32]:
    """Of each step of the training."""
    rates = (
        learning_rate_at(SCHEDULE, step=step, steps_per_epoch=steps, epochs=epochs) for step in range(steps * epochs)
    )
    return np.fromiter(rates, np.float32)
