"""The mini's image tower: a stock CLIPVisionModel trained against captions, vote shares and the teacher's feature map.

Captions enter as frozen sentence embeddings; the matrix that takes them to CLIP's space is learned with the tower and
later folded into the text tower (``text.py``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from .captions import CATEGORIES, NOT_MENTIONED, agreement
from .images import SIZE
from .teacher import MAPS, TeacherNet

PROJECTION_DIM = 128
VISION = CLIPVisionConfig(
    hidden_size=192,
    intermediate_size=768,
    num_hidden_layers=6,
    num_attention_heads=3,
    image_size=SIZE,
    patch_size=8,
    hidden_act="gelu",
    projection_dim=PROJECTION_DIM,
    attn_implementation="eager",  # its backward pass is 10 times faster than sdpa's in bf16 on a CPU
)
LAYERS = (2, 4, 6)  # of the tower, which imitate the teacher's maps


class ImageTower(nn.Module):
    """CLIP's image side, the captions' projection, and heads that exist only for distillation."""

    def __init__(self, sentence_dim: int) -> None:
        super().__init__()
        self.vision_model = CLIPVisionModel(VISION)
        with torch.no_grad():
            self.vision_model.embeddings.position_embedding.weight[1:] = grid_positions()
        self.visual_projection = nn.Linear(VISION.hidden_size, PROJECTION_DIM, bias=False)
        self.caption_projection = nn.Linear(sentence_dim, PROJECTION_DIM, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))
        self.token_heads = nn.ModuleList(nn.Linear(VISION.hidden_size, channels) for channels in MAPS)
        self.vote_head = nn.Linear(VISION.hidden_size, len(CATEGORIES))

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Grey views (B, 1, 48, 48) -> patch tokens (B, 36, 192) after each of ``LAYERS``, and the pooled output (B, 192)."""
        output = self.vision_model(x.expand(-1, 3, -1, -1), output_hidden_states=True)
        return [output.hidden_states[layer][:, 1:] for layer in LAYERS], output.pooler_output

    def hidden(self) -> list[nn.Parameter]:
        """The matrices inside the transformer."""
        return [value for value in self.vision_model.encoder.parameters() if value.ndim == 2]


def grid_positions() -> torch.Tensor:
    """Sines and cosines of a patch's row and column (patches, hidden_size), as strong as what patches show.

    CLIP's own start, a tenth of that, leaves attention blind to place for the first epochs of so short a training.
    """
    side = SIZE // VISION.patch_size
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.flatten()[:, None] * torch.linspace(0.3, 3.0, VISION.hidden_size // 4) for place in (rows, columns)]
    return 0.35 * torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)


@torch.no_grad()
def mean_features(teacher: TeacherNet, x: torch.Tensor) -> list[torch.Tensor]:
    """Of each of the teacher's maps, the mean (C,) over views (N, 1, 48, 48): what all faces share, and no tower need imitate."""
    teacher.eval()
    parts = [[feature.mean((0, 2, 3)) for feature in teacher(part)[0]] for part in x.split(256)]
    return [torch.stack(features).mean(0) for features in zip(*parts)]


def truth_table(
    spoken: torch.Tensor, speaks: torch.Tensor, mentions: torch.Tensor, belief: torch.Tensor, factors: torch.Tensor
) -> torch.Tensor:
    """How true caption j is of picture i, (pictures, captions) in 0..1.

    A caption is true as far as its distribution ``spoken`` (captions, 8) agrees with ``belief`` (pictures, 8), where it
    ``speaks`` of the expression at all (captions,), and only where every factor it ``mentions`` (captions, factors) is the
    picture's own (``factors``, pictures x factors).
    """
    same = (mentions[None] == factors[:, None]) | (mentions == NOT_MENTIONED)[None]
    return same.all(-1) * torch.where(speaks[None], agreement(spoken, belief), 1.0)


def distillation_loss(
    tower: ImageTower, teacher: TeacherNet, shared_features: list[torch.Tensor], x: torch.Tensor, shares: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vote shares, and the imitation of the teacher, token by token.

    ``shared_features`` are taken off the teacher's maps before tokens are compared with them. Of views ``x`` (B, 1, 48, 48) with vote shares
    (B, 8), gives the loss, the pooled output (B, 192) and what the faces are believed to show (B, 8).
    """
    with torch.no_grad():
        maps, teacher_logits = teacher(x)
    # Ten votes are a small sample; the teacher, who saw all faces, knows what others would have said.
    belief = 0.5 * shares + 0.5 * teacher_logits[0].float().softmax(-1)
    layers, pooled = tower(x)
    loss = F.cross_entropy(tower.vote_head(pooled).float(), belief)
    # What the last layer imitates, the image's embedding is made of; the others show the way there.
    for tokens, head, feature_map, shared, weight in zip(layers, tower.token_heads, maps, shared_features, (1, 1, 2)):
        said = head(F.layer_norm(tokens, tokens.shape[-1:])).float()
        wanted = feature_map.flatten(2).mT.float() - shared  # (B, 36, C)
        loss = loss + weight * (1 - F.cosine_similarity(said, wanted, dim=-1).mean())
    return loss, pooled, belief


def contrastive_loss(
    tower: ImageTower,
    pooled: torch.Tensor,
    sentences: torch.Tensor,
    table: torch.Tensor,
) -> torch.Tensor:
    """CLIP's loss between pooled outputs (B, 192) and sentence embeddings (B, sentence_dim), in which every true caption is a
    positive: ``table`` (B, B), of ``truth_table``."""
    image = F.normalize(tower.visual_projection(pooled).float(), dim=-1)
    text = F.normalize(tower.caption_projection(sentences).float(), dim=-1)
    logits = tower.logit_scale.exp().clamp(max=100) * image @ text.T  # (B, B)
    of_images = F.cross_entropy(logits, table / table.sum(1, keepdim=True).clamp(min=1e-6))
    of_captions = F.cross_entropy(logits.T, table.T / table.T.sum(1, keepdim=True).clamp(min=1e-6))
    return (of_images + of_captions) / 2
