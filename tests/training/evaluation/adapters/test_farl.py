"""FaRL: weights in a file with OpenAI's names."""

import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

from tests.conftest import small_tokenizer
from tests.training.evaluation.adapters.by_hand import LABELS, TEXT, VISION, by_hand, check_features, close, configured
from tests.training.small_models import random_weights
from training.evaluation.adapters import load_zero_shot_model
from training.evaluation.farl import load_farl


def openai_names(clip):
    """A CLIPModel's weights as OpenAI's code would store them."""
    state, old = {}, clip.state_dict()
    for tower, prefix in (("vision_model", "visual."), ("text_model", "")):
        for layer in range(2):
            theirs, ours = f"{prefix}transformer.resblocks.{layer}", f"{tower}.encoder.layers.{layer}"
            for kind in ("weight", "bias"):
                parts = [old[f"{ours}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                state[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(parts)
                pairs = {"attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
                pairs |= {"ln_1": "layer_norm1", "ln_2": "layer_norm2"}
                for their, our in pairs.items():
                    state[f"{theirs}.{their}.{kind}"] = old[f"{ours}.{our}.{kind}"]
    for kind in ("weight", "bias"):
        state[f"visual.ln_pre.{kind}"] = old[f"vision_model.pre_layrnorm.{kind}"]
        state[f"visual.ln_post.{kind}"] = old[f"vision_model.post_layernorm.{kind}"]
        state[f"ln_final.{kind}"] = old[f"text_model.final_layer_norm.{kind}"]
    embeddings = "vision_model.embeddings"
    state["visual.class_embedding"] = old[f"{embeddings}.class_embedding"]
    state["visual.positional_embedding"] = old[f"{embeddings}.position_embedding.weight"]
    state["visual.conv1.weight"] = old[f"{embeddings}.patch_embedding.weight"]
    state["visual.proj"] = old["visual_projection.weight"].T.clone()
    state["token_embedding.weight"] = old["text_model.embeddings.token_embedding.weight"]
    state["positional_embedding"] = old["text_model.embeddings.position_embedding.weight"]
    state["text_projection"] = old["text_projection.weight"].T.clone()
    state["logit_scale"] = old["logit_scale"]
    return state


@pytest.fixture(scope="module")
def farl(tmp_path_factory):
    """A random CLIP and its weights in a file as FaRL's, with what its pretraining left there."""
    wide = {"hidden_size": 64, "num_attention_heads": 1}
    clip = random_weights(CLIPModel(configured(CLIPConfig, TEXT | wide, VISION | wide | {"image_size": 35})))
    clip.text_model.final_layer_norm.bias.data += 1
    state = openai_names(clip)
    state["visual.mask_token"] = torch.zeros(64)
    state["visual.lm_transformer.resblocks.0.attn.in_proj_weight"] = torch.zeros(192, 64)
    state["visual.lm_head.weight"], state["visual.ln_lm.bias"] = torch.zeros(100, 64), torch.zeros(64)
    path = tmp_path_factory.mktemp("farl") / "farl.pth"
    torch.save({"state_dict": state, "epoch": 64}, path)
    small_tokenizer().save_pretrained(path.parent / "tokenizer")
    return path, clip, state


def test_farl_is_the_clip_it_was_made_of(farl, faces, clips):
    path, clip, _ = farl
    loaded, images = load_farl(path)
    assert all(torch.equal(weight, clip.state_dict()[name]) for name, weight in loaded.state_dict().items())
    assert images.size == {"shortest_edge": 35} and images.image_mean == CLIPImageProcessorPil().image_mean
    processor = CLIPProcessor(images, small_tokenizer())
    rgb = [face.convert("RGB") for face in faces]

    def logits(prompts):
        options = {"padding": True, "truncation": True, "max_length": 77, "return_tensors": "pt"}
        return clip(**processor(images=rgb, text=prompts, **options)).logits_per_image

    model = load_zero_shot_model(f"farl:{path}", tokenizer=str(path.parent / "tokenizer"))
    close(model.logits(model.image_features(faces), LABELS, "ensemble5"), by_hand(logits))
    check_features(model, faces, clips)


def test_a_file_without_logit_scale_ranks_the_same(farl, tmp_path, faces, capsys):
    path, _, state = farl
    torch.save({"state_dict": {k: v for k, v in state.items() if k != "logit_scale"}}, tmp_path / "farl.pth")
    tokenizer = str(path.parent / "tokenizer")
    whole = load_zero_shot_model(f"farl:{path}", tokenizer=tokenizer)
    assert "logit_scale" not in capsys.readouterr().out
    without = load_zero_shot_model(f"farl:{tmp_path / 'farl.pth'}", tokenizer=tokenizer)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "farl.pth has no logit_scale: its probabilities use CLIP's usual 100" in said
    features = whole.image_features(faces)
    assert torch.equal(features, without.image_features(faces))
    scale = state["logit_scale"].exp()
    expected = whole.logits(features, LABELS, "ensemble5") * 100 / scale
    torch.testing.assert_close(without.logits(features, LABELS, "ensemble5"), expected, atol=1e-3, rtol=0)


class Code:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"model": state}, "key 'state_dict', as FaRL's files do; found: model"),
        (lambda state: [1], "found: list"),
        (lambda state: {"state_dict": state, "code": Code()}, "refused: it is not a plain state dict"),
        (lambda state: {"state_dict": state | {"ln_final.weight": None}}, "tensor of floats for 'ln_final.weight'"),
        (lambda state: {"state_dict": state | {"ln_final.weight": torch.ones(3)}}, "'wrong shape': 'text_model.final"),
        (lambda state: {"state_dict": state | {"ln_final.bias": torch.full((64,), torch.nan)}}, "'not finite': 'text"),
        (lambda state: {"state_dict": state | {"visual.layer1.weight": torch.ones(3)}}, "'unknown': 'visual.layer1"),
        (lambda state: {"state_dict": {k: v for k, v in state.items() if k != "ln_final.bias"}}, "'missing': 'text_mo"),
        (
            lambda state: {"state_dict": {"mlp.weight": torch.ones(3, 3)}},
            "is no ViT CLIP with OpenAI's names: visual.c",
        ),
        (lambda state: {"state_dict": state | {"text_projection": torch.ones(3)}}, "is no ViT CLIP.* text_projection"),
    ],
)
def test_farl_refuses_anything_else(tmp_path, farl, change, message, capsys):
    torch.save(change(farl[2]), tmp_path / "farl.pth")
    with pytest.raises(ValueError, match=message):
        load_farl(tmp_path / "farl.pth")
    assert "executed" not in capsys.readouterr().out


def test_farl_files_that_are_not_whole(tmp_path, farl):
    (tmp_path / "cut.pth").write_bytes(farl[0].read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut.pth"):
        load_farl(tmp_path / "cut.pth")
    with pytest.raises(FileNotFoundError, match="pass FaRL's .pth"):
        load_zero_shot_model(f"farl:{tmp_path / 'none.pth'}")
    with pytest.raises(ValueError, match="has no revision"):
        load_zero_shot_model(f"farl:{farl[0]}", revision="main")
