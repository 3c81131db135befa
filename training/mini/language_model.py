"""A language model reads the describer's sentences, in place of the sentence encoder that made the mini's head.

Faces and a GGUF file come in; a Parquet file of the same faces leaves, each with the mean of what the model's last layer holds for its
four sentences. Such a file is what the teacher ``vectors`` reads.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from ..data.faces import image_bytes, load_faces, read_image
from ..teachers.base import masked_mean, ready_to_pad
from .describer import ACTIONS, Describer

BATCH = 256  # faces
COLUMN = "language_model"


@torch.inference_mode()
def sentence_vectors(gguf: Path, sentences: list[str]) -> torch.Tensor:
    """The mean of the last hidden state over each sentence's tokens (N, H), the one that begins every text left out."""
    tokenizer = ready_to_pad(AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name))
    model = AutoModel.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    vectors = []
    for sentence in tqdm(sentences, desc="language model"):
        inputs = tokenizer([sentence], return_tensors="pt")
        mask = inputs["attention_mask"].clone()
        mask[:, 0] = 0
        vectors.append(masked_mean(model(**inputs).last_hidden_state, mask))
    return torch.cat(vectors)


def write_vectors(source: str, gguf: Path, output: Path) -> None:
    faces, describe = load_faces([source]), Describer()
    described = [
        sentences
        for start in tqdm(range(0, len(faces), BATCH), desc="describer")
        for sentences in describe(
            [read_image(image_bytes(face)) for face in faces.select(range(start, min(start + BATCH, len(faces))))],
            ACTIONS,
        )
    ]
    known = sorted({sentence for sentences in described for sentence in sentences})
    vectors = dict(zip(known, sentence_vectors(gguf, known)))
    column = [torch.stack([vectors[sentence] for sentence in sentences]).mean(0).tolist() for sentences in described]
    faces.select_columns(["image"]).add_column(COLUMN, column).to_parquet(str(output))
