"""The vectors of a language model: each face gets the mean of its sentences', each sentence is read once."""

from __future__ import annotations

import io

import numpy as np
import torch
from datasets import Dataset, Features, Image, Value

from tests.conftest import picture
from training.mini import language_model
from training.mini.describer import ACTIONS, Describer


def test_a_face_gets_the_mean_of_its_sentences(tmp_path, monkeypatch):
    images = []
    for index in range(3):
        picture(index).save(file := io.BytesIO(), "PNG")
        images.append({"bytes": file.getvalue(), "path": None})
    faces = Dataset.from_dict({"image": images, "id": list("abc")}, Features({"image": Image(), "id": Value("string")}))
    faces.to_parquet(str(tmp_path / "faces.parquet"))
    read = []

    def vectors(gguf, sentences):
        read.extend(sentences)
        return torch.arange(len(sentences) * 2.0).view(-1, 2)

    monkeypatch.setattr(language_model, "sentence_vectors", vectors)
    language_model.write_vectors(str(tmp_path / "faces.parquet"), tmp_path / "x.gguf", tmp_path / "out.parquet")
    written = Dataset.from_parquet(str(tmp_path / "out.parquet"))
    described = Describer()([picture(index) for index in range(3)], ACTIONS)
    assert len(read) == len(set(read)) and set(read) == {sentence for face in described for sentence in face}
    expected = [np.mean([[2 * read.index(s), 2 * read.index(s) + 1] for s in face], 0) for face in described]
    np.testing.assert_allclose(written[language_model.COLUMN], expected)
