"""The network, its layers, and the loss and metric: tensors in, tensors out."""
