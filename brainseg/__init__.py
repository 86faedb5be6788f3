"""Experiment tracking and hyperparameter sweeps for image segmentation."""

import os

# TensorFlow reads both in every process that uses a GPU: a command, a worker, a served model.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # memory as it is needed, so that several find room on one
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # numbers that nvidia-smi gives as well

__version__ = "0.1.0"
