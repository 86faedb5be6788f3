"""Counts the arithmetic of a training step, and measures the peak of the machine."""

import time

import keras
import tensorflow as tf

PASSES = 3  # a training step beside its forward pass: forward, gradient by the inputs, gradient by the weights
OPERATIONS = 2  # of a multiply-add
SIDES = (1024, 2048, 4096)  # of the square matrices
REPEATS = 4


def forward_multiply_adds(model: keras.Model) -> int:
    """Multiply-adds of one image's forward pass through the model's convolutions.

    A convolution multiplies its whole kernel (height * width * channels in * channels out) once for each
    pixel of its output, a transposed one once for each pixel of its input. Biases, activations,
    normalisation and pooling aren't counted.
    """
    return sum(_pixels(layer) * layer.kernel.shape.num_elements() for layer in model.layers if _is_convolution(layer))


def _is_convolution(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose)


def _pixels(layer: keras.layers.Layer) -> int:
    end = layer.input if isinstance(layer, keras.layers.Conv2DTranspose) else layer.output
    _, height, width, _ = end.shape
    return int(height * width)


def step_gflops(images_per_second: float, multiply_adds: int) -> float:
    """GFLOP/s of training at this speed, with so many multiply-adds in the forward pass of an image."""
    return images_per_second * PASSES * OPERATIONS * multiply_adds / 1e9


def matrix_peaks(threads: int) -> dict[str, float]:
    """dtype -> GFLOP/s of the fastest product of two square matrices, of several sizes and repeats.

    Sets the number of TensorFlow's threads: for a process of its own.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return {dtype: max(_product_gflops(side, dtype) for side in SIDES) for dtype in ("float32", "bfloat16")}


def _product_gflops(side: int, dtype: str) -> float:
    matrix = tf.cast(tf.random.stateless_normal((side, side), (0, 0)), dtype)
    durations_s = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        tf.matmul(matrix, matrix)
        tf.test.experimental.sync_devices()  # a GPU goes on when the call is back
        durations_s.append(time.perf_counter() - begun)
    return OPERATIONS * side**3 / min(durations_s) / 1e9
