"""The keys of a run of seconds."""

from typing import Any

# TensorFlow's threads can't change within a process, so that every test asks for the same.
THREADS = 2

# Metrics that differ between runs of one configuration.
TIMINGS = ("seconds", "images_per_second", "seconds_per_image")

TINY: dict[str, Any] = {
    "data.phantom_patients": 8,
    "data.image_size": 32,
    "data.batch_size": 8,
    "model.depth": 2,
    "model.base_filters": 4,
    "train.epochs": 2,
    "train.precision": "float32",
    "train.threads": THREADS,
    "tracking.predictions": 3,
}
