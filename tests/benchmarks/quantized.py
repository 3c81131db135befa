"""``python -m tests.benchmarks.quantized --data PARQUET``: what int8 costs in the graphs of ``expclip merge --onnx``.

FER+ faces with the taggers' votes pass both towers in ONNX Runtime, in float32 and in int8; WAR leaves, of the majority's label among
eight.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
from PIL import Image

from modeling_expclip import LABEL_SETS, MINI, load_checkpoint, merge
from modeling_expclip.prompts import build_prompts
from tests.benchmarks.results import record

LABELS = LABEL_SETS["ferplus"]


def embed(graph: Path, name: str, values: np.ndarray) -> np.ndarray:
    """Normalised embeddings (B, D)."""
    session = onnxruntime.InferenceSession(str(graph))
    parts = [session.run(None, {name: values[i : i + 64]})[0] for i in range(0, len(values), 64)]
    embeddings = np.concatenate(parts)
    return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    rows = pq.read_table(parser.parse_args().data, columns=["image", "votes"]).to_pylist()
    references = np.array([row["votes"][: len(LABELS)] for row in rows]).argmax(1)
    images = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in rows]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "merged"
        merge(MINI, folder, onnx=True)
        _, processor = load_checkpoint(folder)
        pixels = processor.image_processor(images=images, return_tensors="np")["pixel_values"]
        groups = build_prompts(LABELS, "ensemble10")
        prompts = [prompt for group in groups for prompt in group]
        ids = processor.tokenizer(prompts, padding=True, truncation=True, return_tensors="np")["input_ids"]
        war = {}
        for precision, suffix in (("float32", ""), ("int8", "_quantized")):
            faces = embed(folder / "onnx" / f"vision_model{suffix}.onnx", "pixel_values", pixels)
            texts = embed(folder / "onnx" / f"text_model{suffix}.onnx", "input_ids", ids)
            prototypes = texts.reshape(len(groups), -1, texts.shape[-1]).mean(1)  # (labels, D)
            war[precision] = 100 * float(np.mean((faces @ prototypes.T).argmax(1) == references))
    rows = [("WAR of the graphs in float32", war["float32"], "%", "", 1)]
    rows += [("WAR of int8 less float32's", war["int8"] - war["float32"], "points", "within 0.5", 1)]
    record(f"expclip-mini, FER+ validation, {len(images)} faces, ensemble10", rows)


if __name__ == "__main__":
    main()
