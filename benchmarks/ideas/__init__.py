"""What ideas beside the recipe are worth: many trainings at once on one GPU, in PyTorch."""
