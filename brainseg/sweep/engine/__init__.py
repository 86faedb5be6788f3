"""Who trains what: the study's storage, its trial queue, the workers and their supervisor."""
