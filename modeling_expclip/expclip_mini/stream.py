"""Pictures become face embeddings, many at a time: files are read, faces found and cropped in threads while the model works.

Travels inside every checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Condition, Thread
from typing import Any

import numpy as np
import torch
from PIL import Image

from .faces import DEFAULT_MARGIN, Face, FaceDetector, crop_face
from .processing_expclip import check_sides, open_image, scale_pixels

_END = object()
_PIXELS_AHEAD = 2**25  # four frames of 3840 x 2160
_PATIENCE = 1.0  # seconds, for threads to end with what they are doing


@dataclass
class Embedded:
    """One picture's faces, or why there are none.

    ``faces`` is None where the whole picture was taken for a face; ``embeds`` (faces, D) are not normalised; ``scores`` are one
    answer for each face, where they were asked for; ``error`` is what reading the picture raised.
    """

    faces: list[Face] | None = None
    embeds: torch.Tensor | None = None
    scores: list[Any] = field(default_factory=list)
    error: Exception | None = None

    @property
    def places(self) -> list[tuple[tuple[int, int, int, int] | None, float | None]]:
        """The box and the detector's score of each face; of a picture that was taken for one, neither is known."""
        return [(None, None)] if self.faces is None else [(face.box, face.score) for face in self.faces]


def embed_stream(
    items: Iterable[tuple[Any, Any]],
    image_processor: Any,
    tower: Callable[[torch.Tensor], torch.Tensor],
    detector: FaceDetector | None = None,
    score: Callable[[torch.Tensor], list[Any]] | None = None,
    margin: float = DEFAULT_MARGIN,
    align: bool = False,
    batch_size: int = 16,
    workers: int = 2,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Any, Embedded]]:
    """Reads and embeds pictures, in order, with at most a few batches in memory.

    Args:
        items: pairs of a key and a picture: a path, URL, a file's content or a PIL image.
        image_processor: the checkpoint's, on PIL.
        tower: pixel values (B, 3, height, width) -> embeddings (B, D).
        detector: finds the faces; None takes each picture for one face.
        score: embeddings (B, D) -> B answers; asked once for each batch of pictures, which costs less than asking for each.
        margin, align: as for ``crop_face``.
        batch_size: faces a forward pass, gathered across pictures.
        workers: threads that read pictures and find faces.
        device: where ``tower`` wants its pixel values; bytes go there, and are scaled there.

    Yields the key and what became of its picture. An error of ``items`` itself is raised after what came before it.
    """
    if batch_size < 1 or workers < 1:
        raise ValueError(f"batch size and workers must be at least 1, got {batch_size} and {workers}")

    def prepare(item: tuple[Any, Any]) -> tuple[Any, Embedded, np.ndarray | None]:
        key, image = item
        try:
            picture = open_image(image)
            faces = None if detector is None else detector(picture)
            crops = [picture] if faces is None else [crop_face(picture, face, margin, align) for face in faces]
            if not crops:
                return key, Embedded(faces), None
            for crop in crops:
                check_sides(crop, image_processor)
            # Bytes, scaled later for the whole batch: a quarter of the memory and of the way to a GPU.
            pixels = image_processor(crops, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
        except Exception as error:  # decoders of damaged files raise whatever they please
            return key, Embedded(error=error), None
        return key, Embedded(faces), pixels

    def embedded() -> Iterator[tuple[Any, Embedded]]:
        parts = [part for *_, part in waiting if part is not None]
        if parts:
            pixels = torch.from_numpy(np.concatenate(parts))
            batches = pixels.tensor_split(-(-len(pixels) // batch_size))
            scaled = (scale_pixels(batch.to(device), image_processor) for batch in batches)
            embeds = torch.cat([tower(values).float().cpu() for values in scaled])
            scores = [] if score is None else score(embeds)
        done = 0
        for key, result, part in waiting:
            if part is not None:
                result.embeds = embeds[done : done + len(part)]
                result.scores = scores[done : done + len(part)]
                done += len(part)
            yield key, result
        waiting.clear()

    waiting: list[tuple[Any, Embedded, np.ndarray | None]] = []
    faces = 0
    try:
        for prepared in _threaded(prepare, items, workers, 2 * batch_size):
            waiting.append(prepared)
            faces += 0 if prepared[2] is None else len(prepared[2])
            # Pictures without faces must not pile up either.
            if faces >= batch_size or len(waiting) >= 4 * batch_size:
                yield from embedded()
                faces = 0
    except Exception:
        yield from embedded()
        raise
    yield from embedded()


def _threaded(function: Callable[[Any], Any], items: Iterable[Any], workers: int, ahead: int) -> Iterator[Any]:
    """``function`` of each item, in order; one thread draws the items, ``workers`` others work on them.

    At most ``ahead`` items wait at once, and of those that are PIL images no more than _PIXELS_AHEAD pixels. When the caller stops, or is
    stopped, nothing waits for the threads: a server may be answering one of them.
    """
    room = Condition()
    tasks: SimpleQueue = SimpleQueue()
    results: SimpleQueue = SimpleQueue()
    waiting = pixels = 0
    stopped = False

    def draw() -> None:
        nonlocal waiting, pixels
        try:
            for item in items:
                size = math.prod(item[1].size) if isinstance(item[1], Image.Image) else 0
                with room:
                    while not stopped and waiting and (waiting >= ahead or pixels + size > _PIXELS_AHEAD):
                        room.wait()
                    if stopped:
                        return
                    waiting += 1
                    pixels += size
                result: Future = Future()
                tasks.put((item, size, result))
                results.put(result)
                del item  # it may be a large picture, and the next one is being drawn
        except BaseException as error:
            result = Future()
            result.set_exception(error)
            results.put(result)
        results.put(_END)

    def work() -> None:
        nonlocal pixels
        while (task := tasks.get()) is not _END:
            item, size, result = task
            del task
            try:
                result.set_result(None if stopped else function(item))
            except BaseException as error:
                result.set_exception(error)
            del item, result
            with room:
                pixels -= size
                room.notify_all()

    threads = [Thread(target=target, daemon=True) for target in (draw, *[work] * workers)]
    for thread in threads:
        thread.start()
    try:
        while (result := results.get()) is not _END:
            answer = result.result()
            with room:
                waiting -= 1
                room.notify_all()
            yield answer
    finally:
        with room:
            stopped = True
            room.notify_all()
        for _ in range(workers):
            tasks.put(_END)
        end = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0, end - time.monotonic()))
