"""Parts of the small random models that teachers and baselines are tested with."""

import torch
from transformers import BertTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz .,?"
QFORMER = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
QFORMER |= {"num_attention_heads": 2, "initializer_range": 0.2}


def random_weights(model, seed=0):
    """Large enough for every part to matter; the stock initialisation leaves queries and biases at zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data.copy_(noise * parameter.shape[-1] ** -0.5)
        else:  # biases and the scales of norms
            parameter.data.add_(0.2 * noise)
    return model.eval()


def bert_tokenizer():
    pieces = [letter for letter in LETTERS if letter.isalpha()]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, *("##" + piece for piece in pieces), ".", "?"]
    return BertTokenizer({word: index for index, word in enumerate(words)})
