"""The networks, their layers and losses, and how TensorFlow is started."""
