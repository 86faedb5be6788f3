"""What a study searches: its file, checked, its space, its samplers, and whether every trial can run."""
