"""What holds for every model: batches, prompts encoded once, refusals."""

import pytest
import torch
from transformers import BertConfig, BertModel

from tests.conftest import picture
from tests.training.evaluation.adapters.by_hand import BERT, LABELS
from training.evaluation.adapters import load_zero_shot_model


def test_many_items_pass_in_several_batches(clip_folder, xclip, monkeypatch):
    images = [picture(i) for i in range(5)]
    for folder in (clip_folder, xclip[0]):
        model = load_zero_shot_model(str(folder))
        features = model.image_features(images)
        whole = model.logits(features, LABELS, "ensemble5")
        with monkeypatch.context() as patch:
            patch.setattr("training.evaluation.adapters._BATCH", 2)
            torch.testing.assert_close(model.image_features(images), features, atol=1e-5, rtol=0)
            again = load_zero_shot_model(str(folder)).logits(features, LABELS, "ensemble5")
        torch.testing.assert_close(again, whole, atol=1e-4, rtol=0)


def test_prompts_are_encoded_once(clip_folder, monkeypatch):
    model = load_zero_shot_model(str(clip_folder))
    features, calls = model.image_features([picture()]), []
    tower = model.model.get_text_features
    monkeypatch.setattr(model.model, "get_text_features", lambda **tokens: calls.append(1) or tower(**tokens))
    first = model.logits(features, LABELS, "photo")
    assert torch.equal(model.logits(features, list(LABELS), "photo"), first) and len(calls) == 1
    model.logits(features, LABELS, "expression")
    assert len(calls) == 2


def test_unsupported_models_are_refused(tmp_path, clip_folder, xclip):
    BertModel(BertConfig(**BERT)).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"type 'bert', which is not supported; expected one of expclip, .*clip, siglip"
    ):
        load_zero_shot_model(str(tmp_path))
    with pytest.raises(ValueError, match="unknown kind 'vilt' in 'vilt:a/b'; choose one of clip-of:, blip2-itc:"):
        load_zero_shot_model("vilt:a/b")
    with pytest.raises(ValueError, match="of type 'xclip'; blip2-itm: expects one of type 'blip-2'"):
        load_zero_shot_model(f"blip2-itm:{xclip[0]}")
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        load_zero_shot_model(str(clip_folder), dtype="int8")
    with pytest.raises(FileNotFoundError, match="no folder './nowhere'"):
        load_zero_shot_model("./nowhere")


def test_clips_without_frames_are_named(clip_folder, xclip):
    for folder in (clip_folder, xclip[0]):
        model = load_zero_shot_model(str(folder))
        with pytest.raises(ValueError, match=r"clips \[1\] of 2 have no frames"):
            model.video_features([[picture()], []])
        with pytest.raises(ValueError, match="pass at least one"):
            model.image_features([])
