"""What it takes to call another's class by hand and compare: small configs, prompts one by one, tolerances."""

import torch
from transformers import CLIPImageProcessorPil

from modeling_expclip.prompts import build_prompts

LABELS = ("happiness", "anger", "a face like rain")
SIDE, FRAMES, QUERIES = 28, 4, 3
SIZE = {"height": SIDE, "width": SIDE}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**TOWER, "vocab_size": 514, "max_position_embeddings": 77, "bos_token_id": 512, "eos_token_id": 513}
TEXT |= {"pad_token_id": 513}
BERT = {**TOWER, "vocab_size": 70, "max_position_embeddings": 90, "pad_token_id": 0}
VISION = {**TOWER, "image_size": SIDE, "patch_size": 7}
CLIP_IMAGES = CLIPImageProcessorPil(size=SIZE, crop_size=SIZE)


def configured(config_class, text, vision, **options):
    return config_class(text_config=dict(text), vision_config=dict(vision), **options)


def by_hand(logits, prompts="ensemble5"):
    """Logits of each prompt (B, prompts) by a function of the prompts, averaged over each label's."""
    groups = build_prompts(LABELS, prompts)
    with torch.no_grad():
        return torch.stack([logits(group).mean(1) for group in groups], 1)


def close(got, expected, tolerance=1e-4):
    assert got.shape == expected.shape and got.dtype == torch.float32
    assert (expected[0] - expected[1]).abs().max() > 10 * tolerance, "the faces must differ for a test of anything"
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)


def check_features(model, faces, clips):
    """Features computed once are those computed one by one; a clip is the mean of its frames."""
    features = model.image_features(faces)
    assert features.dtype == torch.float32 and features.device.type == "cpu" and not features.requires_grad
    for index, face in enumerate(faces):
        torch.testing.assert_close(model.image_features([face])[0], features[index], atol=1e-4, rtol=0)
    video = model.video_features(clips)
    assert video.shape == features.shape
    for clip, got in zip(clips, video):
        torch.testing.assert_close(got, model.image_features(clip).mean(0), atol=1e-4, rtol=0)
    assert model.logits(video, LABELS, "photo").shape == (3, 3)
