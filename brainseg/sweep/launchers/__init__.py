"""What places, restarts and ends the workers of a study: this machine, or the scheduler of a cluster."""
