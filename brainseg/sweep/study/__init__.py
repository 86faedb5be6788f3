"""What a study searches: its file and rules, its space, its samplers, its recipe, and a dry run."""
