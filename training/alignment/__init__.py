"""Training the head: its loss, the Trainer, the run from cache to checkpoint."""
