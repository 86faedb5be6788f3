"""A model and images -> probabilities -> masks."""
