"""Images become face crops, many at a time: files are read, and faces found and cut out, in threads while the model works."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Condition, Thread
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..processing_expclip import check_sides
from .faces import Box, Detector, Face, crop_face
from .images import open_image

_END = object()
_PIXELS_AHEAD = 2**25  # four frames of 3840 x 2160
_PATIENCE = 1.0  # seconds, for threads to end with what they are doing


@dataclass
class FoundFaces:
    """The faces of one image, or why there are none.

    ``faces`` is None where the whole image was taken for a face; ``pixels`` are the crops, (faces, 3, height, width) uint8, until
    they become ``embeds``, (faces, D), not normalised; both stay None without a face. ``error`` is what reading the image raised.
    """

    faces: list[Face] | None = None
    pixels: np.ndarray | None = None
    embeds: torch.Tensor | None = None
    error: Exception | None = None

    @property
    def places(self) -> list[tuple[Box | None, float | None]]:
        """The box and the detector's score of each face; of an image that was taken for one, neither is known."""
        return [(None, None)] if self.faces is None else [(face.box, face.score) for face in self.faces]


def find_faces(
    items: Iterable[tuple[Any, Any]],
    image_processor: Any,
    detector: Detector | None,
    margin: float,
    align: bool,
    workers: int,
    ahead: int,
) -> Iterator[tuple[Any, FoundFaces]]:
    """Reads images and cuts their faces out, in order.

    Args:
        items: pairs of a key and an image (see ``open_image``).
        image_processor: the checkpoint's, on PIL; it resizes the crops.
        detector: finds the faces; None takes each image for one face.
        margin, align: as for ``crop_face``.
        workers: threads that read images and find faces.
        ahead: images that may wait.

    Yields the key and what became of its image. An error of ``items`` itself is raised after what came before it.
    """

    def find(item: tuple[Any, Any]) -> tuple[Any, FoundFaces]:
        key, image = item
        try:
            photo = open_image(image)
            faces = None if detector is None else list(detector(photo))
            crops = [photo] if faces is None else [crop_face(photo, face, margin, align) for face in faces]
            if not crops:
                return key, FoundFaces(faces)
            for crop in crops:
                check_sides(crop, image_processor)
            # Bytes, scaled later for the whole batch: a quarter of the memory and of the way to a GPU.
            pixels = image_processor(crops, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
        except Exception as error:  # decoders of damaged files raise whatever they please
            return key, FoundFaces(error=error)
        return key, FoundFaces(faces, pixels)

    return _threaded(find, items, workers, ahead)


def batched(found: Iterable[tuple[Any, FoundFaces]], batch_size: int) -> Iterator[list[tuple[Any, FoundFaces]]]:
    """Lists of images with ``batch_size`` faces or more together, the last with fewer. An error of ``found`` is raised after what
    came before it."""
    waiting: list[tuple[Any, FoundFaces]] = []
    faces = 0
    try:
        for key, image in found:
            waiting.append((key, image))
            faces += 0 if image.pixels is None else len(image.pixels)
            # Images without faces must not pile up either.
            if faces >= batch_size or len(waiting) >= 4 * batch_size:
                yield waiting
                waiting, faces = [], 0
    except Exception:
        yield waiting
        raise
    yield waiting


def scale_pixels(pixels: torch.Tensor, image_processor) -> torch.Tensor:
    """What an image processor leaves with ``do_rescale=False, do_normalize=False``, (B, 3, height, width) uint8, made the float32
    pixel values that it would have made."""
    values = pixels.to(torch.float32, copy=True)  # changed in place: half the time of making a tensor at each step
    if image_processor.do_rescale:
        values *= image_processor.rescale_factor
    if image_processor.do_normalize:
        mean, std = (
            torch.tensor(v, device=values.device).view(-1, 1, 1)
            for v in (image_processor.image_mean, image_processor.image_std)
        )
        values.sub_(mean).div_(std)
    return values


def _pixels(image: Any) -> int:
    """How many pixels of an image are in memory already; 0 of a file or its content."""
    if isinstance(image, Mapping):
        image = image.get("image")
    if isinstance(image, np.ndarray):
        return image.nbytes // 3
    return math.prod(image.size) if isinstance(image, Image.Image) else 0


def _threaded(function: Callable[[Any], Any], items: Iterable[Any], workers: int, ahead: int) -> Iterator[Any]:
    """``function`` of each item, in order; one thread draws the items, ``workers`` others work on them.

    At most ``ahead`` items wait at once, and of those that are decoded images no more than _PIXELS_AHEAD pixels. When the caller stops, or is
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
                size = _pixels(item[1])
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
