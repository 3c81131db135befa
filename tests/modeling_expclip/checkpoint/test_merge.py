import pytest
import torch
from transformers import AutoModel, CLIPModel, pipeline

from modeling_expclip import ExpCLIPModel
from modeling_expclip.checkpoint.convert import convert
from modeling_expclip.cli.main import main
from tests.conftest import picture, write_head


@pytest.mark.parametrize("alignment_dim", [48, 10])
def test_merged_folder_is_a_plain_clip(tmp_path, clip_folder, alignment_dim):
    head = write_head(tmp_path / "head.pth", alignment_dim=alignment_dim)
    source, merged = tmp_path / "expclip", tmp_path / "merged"
    convert(str(clip_folder), head, source)
    assert main(["merge", "--model", str(source), "--output", str(merged)]) == 0
    assert {path.name for path in merged.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "golden.safetensors",
        "README.md",
    }
    assert not [path.name for path in merged.glob("*.json") if "auto_map" in path.read_text()]
    assert "trust_remote_code" not in (merged / "README.md").read_text()
    assert type(AutoModel.from_pretrained(merged)) is CLIPModel
    assert main(["verify", "--model", str(merged)]) == 0

    images, labels = [picture(seed) for seed in range(4)], ["anger", "fear", "joyful"]
    before = pipeline("zero-shot-image-classification", model=str(source), trust_remote_code=True)
    after = pipeline("zero-shot-image-classification", model=str(merged))
    for one, other in zip(before(images, candidate_labels=labels), after(images, candidate_labels=labels)):
        assert [entry["label"] for entry in one] == [entry["label"] for entry in other]
        assert [entry["score"] for entry in one] == pytest.approx([entry["score"] for entry in other], abs=1e-5)


def test_rank_deficient_head(tmp_path, clip_folder, checkpoint):
    torch.save({"mlp.weight": torch.randn(48, 2) @ torch.randn(2, 24)}, tmp_path / "head.pth")
    convert(str(clip_folder), tmp_path / "head.pth", tmp_path / "expclip")
    model = ExpCLIPModel.from_pretrained(tmp_path / "expclip")
    merged = model.merge_projection()
    pixels, ids = torch.rand(2, 3, 32, 32), torch.tensor([[512, 5, 9, 513], [512, 8, 9, 513]])
    expected = model(input_ids=ids, pixel_values=pixels).logits_per_image
    torch.testing.assert_close(merged(input_ids=ids, pixel_values=pixels).logits_per_image, expected, atol=1e-4, rtol=0)


def test_a_plain_clip_has_nothing_to_merge(tmp_path, clip_folder, capsys):
    assert main(["merge", "--model", str(clip_folder), "--output", str(tmp_path / "out")]) == 2
    assert "no projection head to merge" in capsys.readouterr().err
