"""Models that recipes name: where their weights are, which ones they are, the frozen CLIP."""
