"""Results as HTML: the image with its faces outlined, and tables of bars.

Every text from outside is escaped here.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from html import escape

from PIL import Image

from .recognition import FaceScores

MAX_FACES = 24
NONE_FITS = "none of these"
_MAX_HEAT = 480
_MAX_SIDE = 960  # pixels; the image goes back to the visitor inside the page, so it is not larger than it is shown
_QUALITY = 85

# The browser keeps the visitor's choice of a face when the same image is read with other labels.
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
  const result = element.querySelector('.xc-result');
  const first = element.querySelector('input[name=face]');
  if (result && first) {
    if (result.dataset.photo !== photo || !element.querySelector('input[name=face]:checked')) first.checked = true;
    photo = result.dataset.photo;
  }
  show();
};
element.addEventListener('change', show);
element.addEventListener('click', (event) => {
  const row = event.target.closest('tr[data-label]');
  if (row) trigger('click', {face: Number(row.closest('[data-face]').dataset.face), label: row.dataset.label});
});
watch('value', renew);
renew();
"""


def render_faces(
    image: Image.Image, faces: Sequence[FaceScores], no_detector: str = "", no_head: str = "", caption: str = ""
) -> str:
    """The image, a choice of its faces and a panel of bars for each.

    Args:
        faces: as the Recogniser gives them; where there is none, that is said instead.
        no_detector, no_head: the Recogniser's sentences about what is missing.
        caption: said before the number of faces.
    """
    shown = faces[:MAX_FACES]
    photo, mark = _photo(image)
    frame = render_photo(image.size, photo, shown, pick=True)
    chips = "".join(
        f'<label class="xc-chip" data-face="{i}"><input type="radio" name="face" id="face-{i}" value="{i}"'
        f"{' checked' if i == 0 else ''}><span>{i}</span> {escape(face.label or NONE_FITS)}</label>"
        for i, face in enumerate(shown)
    )
    panels = "".join(
        f'<div class="xc-panel" data-face="{i}"{"" if i == 0 else " hidden"}>'
        f"{_headline(face, i, len(faces))}{render_bars(face.scores, face.clip_scores, ordered=True, pick=True)}</div>"
        for i, face in enumerate(shown)
    )
    chips = f'<fieldset class="xc-chips"><legend class="xc-unseen">Faces</legend>{chips}</fieldset>' if shown else ""
    whole = bool(shown) and shown[0].box is None
    notes = [note for note in (no_detector if whole else "", no_head if shown else "") if note]
    return (
        f'<section class="xc-result" data-photo="{mark}" aria-label="Result">{frame}'
        f'<p class="xc-caption" role="status">{escape(f"{caption} {_counted(faces)}".strip())}</p>{chips}{panels}'
        + "".join(f'<p class="xc-note">{escape(note)}</p>' for note in notes)
        + "</section>"
    )


def render_photo(size: tuple[int, int], photo: str, faces: Sequence[FaceScores], pick: bool = False) -> str:
    """A data URL in a frame of fixed height, each box as an outline with its number.

    With ``pick`` a click chooses the face.
    """
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
    alt = f"The image, with {number} face{'s' * (number != 1)} outlined" if number else "The image"
    return (
        f'<div class="xc-frame"><div class="xc-photo" style="--ratio:{width / height:.4f}">'
        f'<img src="{photo}" alt="{alt}">{boxes}</div></div>'
    )


def render_heat(heat: Image.Image, label: str, number: int, photo: Image.Image) -> str:
    """Where a label is seen in a face of ``photo``, as ``Recogniser.explain`` draws it."""
    said = escape(f"What speaks for “{label}” in face {number}: yellow where most does. The bar says how much.")
    return (
        f'<figure class="xc-why" data-photo="{_photo(photo)[1]}">'
        f'<img src="{data_url(heat, _MAX_HEAT)}" alt="The face with a map of “{escape(label)}”">'
        f"<figcaption>{said}</figcaption></figure>"
    )


def render_bars(
    scores: dict[str, float], clip_scores: dict[str, float] | None, ordered: bool, pick: bool = False
) -> str:
    """A row for each label: its probability with the head and, where there is one, without.

    ``ordered``: most probable first. With ``pick`` a click chooses the label.
    """
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
        name, row = escape(label), " class=xc-best" if label == best else ""
        if pick:
            row += f' data-label="{name}"'
            name = f'<button type="button" title="Where in the face?">{name}</button>'
        rows += f'<tr{row}><th scope="row">{name}</th>{cells}</tr>'
    return f'<table class="xc-bars"><thead><tr><th scope="col">Label</th>{titles}</tr></thead><tbody>{rows}</tbody></table>'


def placeholder(message: str) -> str:
    """A frame of the same height with a sentence in it."""
    return f'<section class="xc-result"><div class="xc-frame xc-empty"><p>{escape(message)}</p></div></section>'


def data_url(image: Image.Image, max_side: int = _MAX_SIDE) -> str:
    """The image as a JPEG inside a URL, scaled down to ``max_side`` pixels."""
    return _photo(image, max_side)[0]


def _photo(image: Image.Image, max_side: int = _MAX_SIDE) -> tuple[str, str]:
    small = image.copy()
    small.thumbnail((max_side, max_side), reducing_gap=2.0)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    content = file.getvalue()
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}", f"{zlib.crc32(content):08x}"


def _bar(kind: str, score: float) -> str:
    return f'<td><div class="xc-bar {kind}"><i style="width:{score:.2%}"></i></div><b>{100 * score:.1f} %</b></td>'


def _headline(face: FaceScores, number: int, count: int) -> str:
    who = f"Face {number}" if count > 1 else "The face" if face.box else "The image"
    return f'<h2 class="xc-headline">{who}: apparent expression <em>{escape(face.label or NONE_FITS)}</em></h2>'


def _counted(faces: Sequence[FaceScores]) -> str:
    if not faces:
        return "No face was found, so nothing was compared."
    if faces[0].box is None:
        return "Read as one face."
    if len(faces) == 1:
        return "One face found."
    hidden = f"; the {MAX_FACES} largest are shown" if len(faces) > MAX_FACES else ""
    return f"{len(faces)} faces found{hidden}. Choose one, here or in the image."
