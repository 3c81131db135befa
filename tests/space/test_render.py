"""The HTML of a result: outlines where the faces are, bars as long as the probabilities, nothing of a visitor's text as markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from PIL import Image

from space.page.recognition import FaceScores
from space.page.render import MAX_FACES, render_bars, render_faces, render_heat

PICTURE = Image.new("RGB", (200, 100), "grey")
NASTY = "<img src=x onerror=alert(1)>\"'&${1+1}{{value}}"


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def face(box=(20, 10, 60, 50), **scores) -> FaceScores:
    scores = scores or {"glad": 0.75, "sad": 0.25}
    return FaceScores(box, scores, dict(reversed(scores.items())))


def test_outlines_and_a_panel_for_each_face():
    html = render_faces(PICTURE, [face(), face((100, 0, 200, 100), glad=0.1, sad=0.9)])
    page = Tags(html)
    assert not page.open
    boxes = [attributes["style"] for tag, attributes in page.tags if attributes.get("class") == "xc-box"]
    assert boxes[0] == "left:10.000%;top:10.000%;width:20.000%;height:40.000%"
    radios = [attributes for tag, attributes in page.tags if tag == "input"]
    assert [radio["value"] for radio in radios] == ["0", "1"] and "checked" in radios[0]
    panels = [attributes for _, attributes in page.tags if attributes.get("class") == "xc-panel"]
    assert "hidden" not in panels[0] and "hidden" in panels[1]
    assert "2 faces found" in page.text and "Face 1: apparent expression sad" in page.text


def test_text_from_outside_is_never_markup():
    html = render_faces(PICTURE, [face(**{NASTY: 0.9, "sad": 0.1})], caption=NASTY, no_head=NASTY, no_detector=NASTY)
    page = Tags(html)
    assert [attributes["src"][:5] for tag, attributes in page.tags if tag == "img"] == ["data:"]
    assert page.text.count(NASTY) == 5  # chip, headline, row, caption, note
    assert NASTY in [attributes["data-label"] for _, attributes in page.tags if "data-label" in attributes]
    heat = Tags(render_heat(PICTURE, NASTY, 3, PICTURE))
    assert not heat.open and NASTY in heat.text and "face 3" in heat.text
    assert [attributes["src"][:5] for tag, attributes in heat.tags if tag == "img"] == ["data:"]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_bars():
    html = render_bars({"sad": 0.125, "glad": 0.875}, {"sad": 0.5, "glad": 0.5}, ordered=True)
    assert re.findall(r"width:([\d.]+)%", html) == ["87.50", "50.00", "12.50", "50.00"]
    assert re.findall(r"<b>([\d.]+ %)</b>", html) == ["87.5 %", "50.0 %", "12.5 %", "50.0 %"]
    assert "Exp-CLIP" in html and html.index("glad") < html.index("sad")
    given = render_bars({"sad": 0.125, "glad": 0.875}, None, ordered=False)
    assert "CLIP" not in given and given.index("sad") < given.index("glad")


def test_where_no_label_fits_it_says_so():
    nothing = FaceScores((20, 10, 60, 50), {"glad": 0.2, "sad": 0.1}, None, multi_label=True)
    html = render_faces(PICTURE, [nothing])
    assert Tags(html).text.count("none of these") == 2
    assert "none of these" not in render_faces(PICTURE, [face(glad=0.2, sad=0.1)])


def test_notes():
    nothing = render_faces(PICTURE, [], no_head="no head")
    assert "No face was found, so nothing was compared." in nothing
    assert not any(word in nothing for word in ("fieldset", "table", "no head"))
    assert "none here" in render_faces(PICTURE, [face(None)], no_detector="none here")
    html = render_faces(PICTURE, [face()], no_detector="none here", no_head="plain")
    assert "none here" not in html and "plain" in html and "One face found." in html


def test_a_crowd_is_cut():
    html = render_faces(PICTURE, [face()] * (MAX_FACES + 5))
    assert html.count('class="xc-panel"') == MAX_FACES
    assert f"{MAX_FACES + 5} faces found; the {MAX_FACES} largest are shown" in html
