"""Checkpoint folders: load and validate, golden outputs, convert, merge, card, publish."""
