"""What a run's predictions are worth: scores of each slice, and figures."""
