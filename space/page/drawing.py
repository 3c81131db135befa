"""What was read, as HTML: the picture with its faces outlined, and a table of bars. Every text from outside is escaped here."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from html import escape

from PIL import Image

from .recognition import FaceReading

MOST_FACES = 24
_WIDEST = 960  # pixels; the picture goes back to the visitor inside the page, so it is not larger than it is shown
_QUALITY = 85

# The browser keeps the visitor's choice of a face: when the same picture is read with other labels, the face stays chosen.
CHOOSE_FACE = """
let photo = null;
const show = () => {
  const chosen = element.querySelector('input[name=face]:checked');
  const number = chosen ? chosen.value : '0';
  element.querySelectorAll('[data-face]').forEach((part) => {
    const its = part.dataset.face === number;
    if (part.classList.contains('xc-panel')) part.hidden = !its;
    else part.classList.toggle('xc-chosen', its);
  });
};
const renew = () => {
  const reading = element.querySelector('.xc-reading');
  const first = element.querySelector('input[name=face]');
  if (reading && first) {
    if (reading.dataset.photo !== photo || !element.querySelector('input[name=face]:checked')) first.checked = true;
    photo = reading.dataset.photo;
  }
  show();
};
element.addEventListener('change', show);
watch('value', renew);
renew();
"""


def draw_reading(
    picture: Image.Image, faces: Sequence[FaceReading], no_detector: str = "", no_head: str = "", caption: str = ""
) -> str:
    """The picture, a choice of its faces and a panel of bars for each.

    Args:
        faces: as the Recogniser gives them; where there is none, that is said instead.
        no_detector, no_head: the Recogniser's sentences about what is missing.
        caption: said before the number of faces.
    """
    shown = faces[:MOST_FACES]
    photo, mark = _photo(picture)
    frame = draw_photo(picture.size, photo, shown, pick=True)
    chips = "".join(
        f'<label class="xc-chip" data-face="{i}"><input type="radio" name="face" id="face-{i}" value="{i}"'
        f"{' checked' if i == 0 else ''}><span>{i}</span> {escape(face.label)}</label>"
        for i, face in enumerate(shown)
    )
    panels = "".join(
        f'<div class="xc-panel" data-face="{i}"{"" if i == 0 else " hidden"}>'
        f"{_headline(face, i, len(faces))}{draw_bars(face.scores, face.clip_scores, ordered=True)}</div>"
        for i, face in enumerate(shown)
    )
    chips = f'<fieldset class="xc-chips"><legend class="xc-unseen">Faces</legend>{chips}</fieldset>' if shown else ""
    whole = bool(shown) and shown[0].box is None
    notes = [note for note in (no_detector if whole else "", no_head if shown else "") if note]
    return (
        f'<section class="xc-reading" data-photo="{mark}" aria-label="Reading">{frame}'
        f'<p class="xc-caption" role="status">{escape(f"{caption} {_counted(faces)}".strip())}</p>{chips}{panels}'
        + "".join(f'<p class="xc-note">{escape(note)}</p>' for note in notes)
        + "</section>"
    )


def draw_photo(size: tuple[int, int], photo: str, faces: Sequence[FaceReading], pick: bool = False) -> str:
    """A data URL in a frame of fixed height, each box as an outline with its number; with ``pick`` a click chooses the face."""
    width, height = size
    boxes = ""
    for i, face in enumerate(faces):
        if face.box is None:
            continue
        x0, y0, x1, y1 = face.box
        place = (
            f"left:{x0 / width:.3%};top:{y0 / height:.3%};width:{(x1 - x0) / width:.3%};height:{(y1 - y0) / height:.3%}"
        )
        tag, target = ("label", f' for="face-{i}"') if pick else ("div", "")
        boxes += f'<{tag} class="xc-box" data-face="{i}"{target} style="{place}"><span>{i}</span></{tag}>'
    number = sum(face.box is not None for face in faces)
    alt = f"The picture, with {number} face{'s' * (number != 1)} outlined" if number else "The picture"
    return (
        f'<div class="xc-frame"><div class="xc-photo" style="--ratio:{width / height:.4f}">'
        f'<img src="{photo}" alt="{alt}">{boxes}</div></div>'
    )


def draw_bars(scores: dict[str, float], clip_scores: dict[str, float] | None, ordered: bool) -> str:
    """A row for each label: its probability with the head and, where there is one, without. ``ordered``: most probable first."""
    labels = sorted(scores, key=scores.get, reverse=True) if ordered else list(scores)
    best = max(scores, key=scores.get)
    titles = '<th scope="col">Exp-CLIP <small>with the head</small></th>'
    if clip_scores is None:
        titles = '<th scope="col">Probability</th>'
    else:
        titles += '<th scope="col">CLIP <small>without it</small></th>'
    rows = ""
    for label in labels:
        cells = _bar("xc-head", scores[label])
        if clip_scores is not None:
            cells += _bar("xc-clip", clip_scores[label])
        rows += f'<tr{" class=xc-best" if label == best else ""}><th scope="row">{escape(label)}</th>{cells}</tr>'
    return f'<table class="xc-bars"><thead><tr><th scope="col">Label</th>{titles}</tr></thead><tbody>{rows}</tbody></table>'


def empty(message: str) -> str:
    """A frame of the same height with a sentence in it."""
    return f'<section class="xc-reading"><div class="xc-frame xc-empty"><p>{escape(message)}</p></div></section>'


def data_url(picture: Image.Image, widest: int = _WIDEST) -> str:
    """The picture as a JPEG inside a URL, scaled down to ``widest`` pixels."""
    return _photo(picture, widest)[0]


def _photo(picture: Image.Image, widest: int = _WIDEST) -> tuple[str, str]:
    small = picture.copy()
    small.thumbnail((widest, widest), reducing_gap=2.0)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    content = file.getvalue()
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}", f"{zlib.crc32(content):08x}"


def _bar(kind: str, score: float) -> str:
    return f'<td><div class="xc-bar {kind}"><i style="width:{score:.2%}"></i></div><b>{100 * score:.1f} %</b></td>'


def _headline(face: FaceReading, number: int, count: int) -> str:
    who = f"Face {number}" if count > 1 else "The face" if face.box else "The picture"
    return f'<h2 class="xc-headline">{who}: apparent expression <em>{escape(face.label)}</em></h2>'


def _counted(faces: Sequence[FaceReading]) -> str:
    if not faces:
        return "No face was found, so nothing was compared."
    if faces[0].box is None:
        return "Read as one face."
    if len(faces) == 1:
        return "One face found."
    hidden = f"; the {MOST_FACES} largest are shown" if len(faces) > MOST_FACES else ""
    return f"{len(faces)} faces found{hidden}. Choose one, here or in the picture."
