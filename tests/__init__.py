"""Read before anything imports huggingface_hub: the tests never ask a network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
