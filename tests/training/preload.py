"""Imported once by the server that forks the processes of the kill tests, so that each of them starts in no time."""

import torch

torch.set_num_threads(1)
