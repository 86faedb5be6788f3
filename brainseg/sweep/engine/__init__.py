"""What runs a study: its storage, the trial queue, the workers and their supervisor."""
