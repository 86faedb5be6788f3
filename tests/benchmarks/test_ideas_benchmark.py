"""The recipe in PyTorch beside brainseg's own: the same network, loss and changes of slices."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from brainseg.compose import freeze
from brainseg.data.augment import transforms_of, warp
from brainseg.model.losses import loss_of
from brainseg.model.models import build_model
from brainseg.train.deep_supervision import DeepSupervision

torch = pytest.importorskip("torch", reason="PyTorch isn't needed by brainseg: pip install 'brainseg[benchmark]'")

from benchmarks.ideas.changes import DRAWS, NOISE_FIELDS, change  # noqa: E402  # they import PyTorch
from benchmarks.ideas.idea import IDEAS, RECIPE, Idea  # noqa: E402
from benchmarks.ideas.network import UNet, probability_of  # noqa: E402
from benchmarks.ideas.training import objective, soft_dice  # noqa: E402

DEEP = Idea(deep_supervision=0.25)


@pytest.fixture(scope="module")
def both():
    """Keras' network with its heads and PyTorch's, with the same weights, and a batch of noise with its masks."""
    config = freeze(["experiment=best", "data.root=slices"])
    model = build_model(config.model, input_shape=(256, 256, 1), seed=0)
    deep = DeepSupervision(model, config.model, weight=config.train.deep_supervision, seed=0)
    net = UNet(DEEP)
    # Both make their layers from the stem to the head.
    kernels = [np.array(weight) for weight in (*model.trainable_variables, *deep.trainable_variables)]
    named = dict(net.named_parameters())
    with torch.no_grad():
        for name, kernel in zip(order_of_keras(), kernels, strict=True):
            named.pop(name).copy_(torch.from_numpy(in_pytorch(kernel)))
    assert not named
    rng = np.random.default_rng(0)
    images = rng.random((2, 256, 256, 1), dtype=np.float32)
    masks = np.zeros((2, 256, 256, 1), np.float32)
    masks[0, 60:90, 100:150] = masks[1, 200:203, 31:35] = 1.0
    return deep, net, images, masks


def order_of_keras():
    """PyTorch's names of Keras' trainable variables, in Keras' order."""

    def block(name):
        return [f"{name}.{part}" for part in BLOCK]

    yield from ("stem.weight", "stem.bias")
    for level in range(4):
        yield from block(f"encoders.{level}")
    yield from block("bottleneck")
    for level in range(4):
        yield from (f"ups.{level}.weight", f"ups.{level}.bias")
        yield from block(f"decoders.{level}")
    yield from ("head.weight", "head.bias")
    for level in (2, 1, 0):  # Keras' heads begin with the finest of the coarser levels
        yield from (f"coarser_heads.{level}.weight", f"coarser_heads.{level}.bias")


BLOCK = [
    "first.weight",
    "first_norm.weight",
    "first_norm.bias",
    "second.weight",
    "second_norm.weight",
    "second_norm.bias",
]


def in_pytorch(kernel):
    """Keras' kernels are (height, width, in, out), of transposed convolutions (height, width, out, in)."""
    return kernel if kernel.ndim == 1 else kernel.transpose(3, 2, 0, 1)


def as_pytorch(pixels):
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())


def test_the_network_gives_the_same_probabilities_at_every_level(both):
    deep, net, images, _ = both
    finest, coarser = deep(images)
    with torch.no_grad():
        output = net.train()(as_pytorch(images))
    levels = [probability_of(output), *(torch.sigmoid(logits) for logits in reversed(output.coarser))]
    for expected, level in zip((finest, *coarser), levels, strict=True):
        np.testing.assert_allclose(level.numpy().transpose(0, 2, 3, 1), expected.numpy(), atol=2e-4)


def test_the_loss_is_the_same(both):
    deep, net, images, masks = both
    loss = loss_of("bce_dice_image")
    finest, coarser = deep(images)
    expected = float(loss(masks, finest) + deep.loss(loss, tf.constant(masks), coarser))
    with torch.no_grad():
        found, _ = objective(net.train(), DEEP, as_pytorch(images), as_pytorch(masks), torch.zeros(2, dtype=torch.long))
    assert float(found) == pytest.approx(expected, abs=1e-4)


def test_dice_of_masks_worked_out_by_hand():
    mask, probability = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    mask[..., :2, :2] = 1.0
    probability[..., 1:3, :2] = 1.0  # two of four pixels shared: (2 * 2 + 1) / (4 + 4 + 1)
    assert float(soft_dice(mask, probability)) == pytest.approx(5 / 9)


def test_slices_move_as_brainseg_moves_them():
    rng = np.random.default_rng(1)
    smooth = tf.image.resize(rng.random((2, 8, 8, 1), dtype=np.float32), (64, 64)).numpy()
    masks = (smooth > 0.6).astype(np.float32)
    draws = torch.rand(2, DRAWS, generator=torch.Generator().manual_seed(0))
    draws[:, 6:10] = 0.5  # grey levels as they are
    signed = draws.numpy() * 2 - 1
    moved, moved_masks = warp(
        tf.constant(smooth),
        tf.constant(masks),
        transforms_of(
            height=64,
            width=64,
            flip_x=np.sign(signed[:, 0]),
            flip_y=np.sign(signed[:, 1]),
            angle_rad=math.radians(15.0) * signed[:, 2],
            scale=1 + 0.15 * signed[:, 3],
            shift_x_px=0.08 * 64 * signed[:, 4],
            shift_y_px=0.08 * 64 * signed[:, 5],
        ),
    )
    fields = torch.zeros(NOISE_FIELDS, 1, 64, 64)
    images, found_masks = change(as_pytorch(smooth), as_pytorch(masks), draws, fields, IDEAS[RECIPE])
    np.testing.assert_allclose(images.numpy().transpose(0, 2, 3, 1), moved.numpy(), atol=1e-3)
    assert np.mean(found_masks.numpy().transpose(0, 2, 3, 1) != moved_masks.numpy()) < 1e-3


def test_each_idea_changes_the_recipe_and_no_two_are_the_same():
    assert len({repr(idea) for idea in IDEAS.values()}) == len(IDEAS)


@pytest.mark.parametrize("name", [name for name in IDEAS if name != "48 filters"])
def test_each_idea_trains_a_step_with_a_finite_loss(name):
    idea = replace(IDEAS[name], base_filters=4)
    net = UNet(idea).train()
    images = torch.rand(3, 1 + idea.neighbour, 256, 256)
    masks = (torch.rand(3, 1, 256, 256) > 0.9).float()
    images, masks = change(images, masks, torch.rand(3, DRAWS), torch.randn(NOISE_FIELDS, 1, 256, 256), idea)
    loss, _ = objective(net, idea, images, masks, torch.tensor([0, 1, 2]))
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in net.parameters())
