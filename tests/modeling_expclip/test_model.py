import copy

import pytest
import torch

from modeling_expclip import ExpCLIPConfig, ExpCLIPModel
from tests.conftest import small_clip


def small_expclip(alignment_dim=48, **options) -> ExpCLIPModel:
    clip = small_clip(**options)
    config = ExpCLIPConfig(
        **{k: v for k, v in clip.config.to_dict().items() if k != "model_type"}, alignment_dim=alignment_dim
    )
    torch.manual_seed(7)
    model = ExpCLIPModel(config).eval()
    missing = model.load_state_dict(clip.state_dict(), strict=False)
    assert missing.missing_keys == ["projection_head.weight"] and not missing.unexpected_keys
    return model


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 500, (5, 12), generator=generator)
    ids[:, 0], ids[:, -1] = 512, 513
    ids[0, 5:] = 513
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.rand(3, 3, 32, 32, generator=generator)}


def test_forward_is_clip_then_head(inputs):
    model, clip = small_expclip(), small_clip()
    output = model(**inputs)
    weight = model.projection_head.weight
    image = clip.visual_projection(clip.vision_model(inputs["pixel_values"]).pooler_output) @ weight.T
    text = clip.text_projection(clip.text_model(inputs["input_ids"], inputs["attention_mask"]).pooler_output) @ weight.T
    image, text = image / image.norm(dim=-1, keepdim=True), text / text.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(output.image_embeds, image)
    torch.testing.assert_close(output.text_embeds, text)
    torch.testing.assert_close(output.logits_per_image, clip.logit_scale.exp() * image @ text.T)
    torch.testing.assert_close(output.logits_per_text, output.logits_per_image.T)
    assert output.logits_per_image.shape == (3, 5)


def test_features_and_embedding_before_the_head(inputs):
    model = small_expclip()
    pixels = inputs["pixel_values"]
    before = model.visual_projection(model.vision_model(pixels).pooler_output)
    features = model.get_image_features(pixel_values=pixels)
    torch.testing.assert_close(features.pooler_output, model.projection_head(before))
    assert features.pooler_output.shape == (3, 48)
    assert model.get_text_features(input_ids=inputs["input_ids"]).pooler_output.shape == (5, 48)
    as_tuple = model.get_image_features(pixel_values=pixels, return_dict=False)
    assert isinstance(as_tuple, tuple)
    torch.testing.assert_close(as_tuple[1], features.pooler_output)


def test_video_is_the_mean_of_its_frames_before_normalising(inputs):
    model = small_expclip()
    clips = torch.rand(2, 4, 3, 32, 32)
    frames = model.get_image_features(clips.flatten(0, 1)).pooler_output.view(2, 4, -1)
    torch.testing.assert_close(model.get_video_features(clips).pooler_output, frames.mean(1))
    with pytest.raises(ValueError, match=r"\(B, T, C, H, W\), got \(3, 3, 32, 32\)"):
        model.get_video_features(inputs["pixel_values"])


def test_only_the_head_learns(inputs):
    model = small_expclip().freeze_clip()
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["projection_head.weight"]
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(**inputs).logits_per_image.square().mean().backward()
    optimizer.step()
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert changed == ["projection_head.weight"]


def test_head_starts_as_the_papers():
    weight = small_expclip(alignment_dim=4096).projection_head.weight.detach()
    bound = 24**-0.5
    assert weight.abs().max() <= bound and weight.std() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_round_trip_dtype_and_attention(tmp_path, inputs):
    model = small_expclip()
    model.save_pretrained(tmp_path)
    again = ExpCLIPModel.from_pretrained(tmp_path)
    assert again.dtype == torch.float32
    assert again.config.alignment_dim == 48
    expected = model(**inputs).logits_per_image
    torch.testing.assert_close(again(**inputs).logits_per_image, expected, rtol=0, atol=0)
    eager = ExpCLIPModel.from_pretrained(tmp_path, attn_implementation="eager")
    torch.testing.assert_close(eager(**inputs).logits_per_image, expected)
    half = ExpCLIPModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.projection_head.weight.dtype == torch.bfloat16
    inputs["pixel_values"] = inputs["pixel_values"].bfloat16()
    torch.testing.assert_close(half(**inputs).logits_per_image.float(), expected, atol=0.3, rtol=0.1)


def test_device_map_auto(tmp_path, inputs):
    model = small_expclip()
    model.save_pretrained(tmp_path)
    spread = ExpCLIPModel.from_pretrained(tmp_path, device_map="auto")
    torch.testing.assert_close(spread(**inputs).logits_per_image, model(**inputs).logits_per_image)


def test_return_loss(inputs):
    inputs["pixel_values"] = torch.rand(5, 3, 32, 32)
    assert torch.isfinite(small_expclip()(**inputs, return_loss=True).loss)


def test_config_refuses_nonsense():
    with pytest.raises(ValueError, match="alignment_dim must be at least 1, got 0"):
        ExpCLIPConfig(alignment_dim=0)


@pytest.mark.parametrize("alignment_dim", [48, 24, 7, 1])
@pytest.mark.parametrize("legacy_eos", [False, True])
def test_merge_keeps_every_cosine(inputs, alignment_dim, legacy_eos):
    model = small_expclip(alignment_dim=alignment_dim, legacy_eos=legacy_eos)
    merged = model.merge_projection()
    assert type(merged).__name__ == "CLIPModel" and merged.config.model_type == "clip"
    assert merged.config.projection_dim == 24
    torch.testing.assert_close(merged(**inputs).logits_per_image, model(**inputs).logits_per_image, atol=1e-4, rtol=0)


def test_merge_of_a_rank_deficient_head_in_float64(inputs):
    model = small_expclip().double()
    with torch.no_grad():
        model.projection_head.weight.copy_(torch.randn(48, 3).double() @ torch.randn(3, 24).double())
    merged = model.merge_projection()
    assert merged.dtype == torch.float64
    inputs["pixel_values"] = inputs["pixel_values"].double()
    torch.testing.assert_close(merged(**inputs).logits_per_image, model(**inputs).logits_per_image, atol=1e-10, rtol=0)
