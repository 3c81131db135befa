"""The page as a visitor uses it, in a real browser."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from PIL import Image

from .conftest import GROUP, files_below

LOOPBACK = {"127.0.0.1", "localhost"}
BARS = "#photo-result .xc-panel:not([hidden]) .xc-bars tbody tr"


@pytest.fixture
def visitor(browser) -> Iterator:
    """A new visitor; at the end nothing went wrong in the page, and it asked no other server for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, permissions=["camera"])
    page = context.new_page()
    problems, hosts = [], set()

    def hear(message) -> None:
        # Gradio's own API page asks for statistics, which are switched off.
        if message.type == "error" and not message.location["url"].endswith("/monitoring/summary"):
            problems.append(message.text)

    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", hear)
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    yield page
    context.close()
    assert not problems
    assert {host for host in hosts if host} <= LOOPBACK


@pytest.fixture
def page(visitor, server):
    visitor.goto(server.url)
    visitor.wait_for_selector(BARS)
    return visitor


def upload(page, path) -> None:
    if page.get_by_label("Remove Image").count():
        page.get_by_label("Remove Image").click()
    page.locator("#photo-image input[type=file]").set_input_files(path)


def caption(page, begins: str) -> None:
    page.locator("#photo-result .xc-caption", has_text=re.compile(f"^{begins}")).wait_for()


def bars(page) -> dict[str, tuple[float, ...]]:
    rows = {}
    for row in page.locator(BARS).all():
        rows[row.locator("th").inner_text()] = tuple(float(b.rstrip(" %")) for b in row.locator("b").all_inner_texts())
    return rows


def toast(page, message: str) -> None:
    page.get_by_test_id("toast-body").filter(has_text=message).wait_for()


def show_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def test_the_first_look_shows_an_example(page, yunet):
    assert page.title() == "Exp-CLIP: apparent facial expressions in your own words"
    assert page.locator("#photo-result label.xc-box").count() == 5
    both = bars(page)
    assert next(iter(both)) == "happiness" and len(both) == 7
    assert sum(with_head for with_head, _ in both.values()) == pytest.approx(100, abs=0.5)
    assert sum(without for _, without in both.values()) == pytest.approx(100, abs=0.5)
    assert both["happiness"][0] > both["happiness"][1]  # the head at work
    page.get_by_label("1 surprise").check()  # the radio button of a face, as from a keyboard
    assert next(iter(bars(page))) == "surprise"


def test_labels_can_be_tried_on_the_example(page):
    page.get_by_label("Labels").fill("furious, joyful")
    page.get_by_role("button", name="Compare").click()
    page.locator(BARS, has_text="joyful").wait_for()
    assert set(bars(page)) == {"furious", "joyful"}
    caption(page, "An example")


def test_a_click_on_a_bar_shows_where_its_label_is_seen(page, group_photo):
    hint = page.locator("#photo-why", has_text="Click a bar")
    hint.wait_for()
    page.locator(BARS).nth(1).locator("td").first.click()  # of the example
    label = page.locator(BARS).nth(1).locator("th").inner_text()
    page.locator("#photo-why figcaption", has_text=f"“{label}” in face 0").wait_for()
    assert page.locator("#photo-why img").evaluate("e => e.decode().then(() => e.naturalWidth)") > 50

    # A map that comes when another photo is shown is left out.
    shown = page.locator("#photo-result .xc-result")
    mark = shown.evaluate("e => e.dataset.photo")
    shown.evaluate("e => e.dataset.photo = 'another'")
    page.locator(BARS).nth(2).locator("td").first.click()
    hint.wait_for()
    shown.evaluate("(e, mark) => e.dataset.photo = mark", mark)
    page.locator(BARS).nth(2).locator("td").first.click()
    label = page.locator(BARS).nth(2).locator("th").inner_text()
    page.locator("#photo-why figcaption", has_text=f"“{label}” in face 0").wait_for()

    upload(page, group_photo)
    hint.wait_for()  # a map goes with its photo
    page.get_by_label("Labels").fill("<b>grumpy</b>, over the moon")
    page.get_by_role("button", name="Compare").click()
    page.locator(BARS, has_text="over the moon").wait_for()
    page.locator("#photo-result label.xc-box").nth(2).click()
    page.locator(BARS).get_by_role("button", name="<b>grumpy</b>").press("Enter")
    page.locator("#photo-why figcaption", has_text="“<b>grumpy</b>” in face 2").wait_for()
    assert page.locator("#photo-why b").count() == 0

    page.get_by_label("Labels").fill("other words, than these")  # not compared yet
    page.locator(BARS).get_by_role("button", name="over the moon").click()
    toast(page, "press Compare")


def test_labels_by_themselves(page):
    page.get_by_label("Labels", exact=False).first.fill("tractor, algebra")
    page.get_by_label("Score each label by itself").first.check()
    page.locator("#photo-result .xc-headline", has_text="none of these").first.wait_for()
    page.locator(BARS, has_text="tractor").wait_for()
    assert sum(with_head for with_head, _ in bars(page).values()) < 90


def test_a_photo_its_faces_and_own_labels(page, group_photo):
    upload(page, group_photo)
    caption(page, "3 faces found")
    photo = page.locator("#photo-result .xc-photo img").bounding_box()
    box = page.locator("#photo-result label.xc-box").first.bounding_box()  # the large face, on the left
    assert photo["x"] < box["x"] and box["x"] + box["width"] < photo["x"] + photo["width"] / 2
    assert "rgba(0, 0, 0, 0)" in page.locator("label.xc-box").first.evaluate("e => getComputedStyle(e).background")

    page.locator("#photo-result label.xc-box").nth(2).click()
    assert page.locator(".xc-panel:not([hidden]) .xc-headline").inner_text().startswith("Face 2: apparent expression")
    before = page.locator("#photo-result").bounding_box()
    page.get_by_label("Labels").fill("over the moon\n<b>grumpy</b>, ${1+1}{{value}}\ntaken aback")
    page.get_by_role("button", name="Compare").click()
    page.locator(BARS, has_text="taken aback").wait_for()
    assert set(bars(page)) == {"over the moon", "<b>grumpy</b>", "${1+1}{{value}}", "taken aback"}
    assert page.locator("#photo-result tbody b b, #photo-result th b").count() == 0
    # The chosen face stays chosen, and nothing above the bars has moved.
    assert page.locator(".xc-panel:not([hidden]) .xc-headline").inner_text().startswith("Face 2")
    assert page.locator("#photo-result").bounding_box()["y"] == before["y"]


def test_label_and_prompt_sets(page):
    before = bars(page)
    page.get_by_label("Prompt set").first.click()
    page.get_by_role("option", name="class_name").click()
    page.wait_for_function(
        "before => document.querySelector('#photo-result .xc-bars b').textContent !== before",
        arg=f"{next(iter(before.values()))[0]:.1f} %",
    )
    page.get_by_label("Label set").first.click()
    page.get_by_role("option", name="mafw").click()
    page.locator(BARS, has_text="helplessness").first.wait_for()
    assert len(bars(page)) == 11
    assert page.get_by_label("Labels").first.input_value().endswith("helplessness, disappointment")


def test_an_example_with_one_click(page, yunet):
    page.get_by_role("button", name="average surprise").click()
    caption(page, "One face found")
    assert next(iter(bars(page))) == "surprise"
    assert page.locator("#photo-image img").first.evaluate("e => e.naturalWidth") > 0
    page.get_by_role("button", name="average anger").click()
    page.locator(".xc-headline", has_text="anger").wait_for()
    page.get_by_label("Remove Image").click()
    caption(page, "An example")


def test_mistakes_are_explained(page, tmp_path):
    page.get_by_label("Labels").fill("sad, <img src=x onerror=alert(1)>, sad")
    page.get_by_role("button", name="Compare").click()
    toast(page, "labels: labels 1 and 3 are the same")
    page.get_by_label("Labels").fill("")
    (tmp_path / "not-an-image.png").write_text("hello")
    upload(page, tmp_path / "not-an-image.png")
    toast(page, "image: this is not an image of a known format")
    Image.new("L", (12000, 12000)).save(tmp_path / "bomb.png")
    upload(page, tmp_path / "bomb.png")
    toast(page, "image: refused")


def test_the_camera_after_consent(page, server):
    show_tab(page, "Live")
    assert "Before the camera starts" in page.locator(".xc-consent").inner_text()
    assert not page.get_by_text("Click to Access Webcam").is_visible()
    kept = set(files_below(server.files))
    page.get_by_label("I agree").check()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_label("capture photo").click()
    page.locator("#live-result .xc-bars").wait_for()
    read = page.locator("#live-result .xc-photo img")
    frames = set()
    for _ in range(40):
        frames.add(read.get_attribute("src"))
        page.wait_for_timeout(100)
    assert len(frames) > 3
    assert page.locator("#live-result .xc-best th").inner_text() == "happiness"
    page.locator("#live-labels textarea").fill("bored, bored")
    page.locator("#live-result", has_text="labels 1 and 2 are the same").wait_for()
    page.locator("#live-labels textarea").fill("bored, amused")
    page.locator("#live-result .xc-bars", has_text="amused").wait_for()
    page.get_by_label("I agree").uncheck()
    page.get_by_text("The camera appears here").wait_for()
    assert set(files_below(server.files)) <= kept, "a camera frame was written to disk"


def test_a_short_video(page, short_video, tmp_path, yunet):
    show_tab(page, "Video")
    page.locator("#video-file input[type=file]").set_input_files(short_video)
    page.locator("#video-timeline .xc-plot img").wait_for()
    assert page.locator("#video-timeline .xc-plot img").evaluate("e => e.naturalWidth") > 500
    assert "apparent expression happiness in 100%" in page.locator("#video-timeline").inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the table").click()
    download.value.save_as(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["face"] for row in rows} == {"0", "1"} and {row["error"] for row in rows} == {""}
    assert {row["label"] for row in rows} == {"happiness", "anger", "neutral"}
    assert float(rows[-1]["time"]) > 1

    odd = "$\\nope$, _low, <b>x</b>, " + "long " * 30
    page.locator("#video-labels textarea").fill(odd)
    page.get_by_role("button", name="Read the video").click()
    page.locator("#video-timeline li em", has_text=re.compile("nope|_low|<b>x</b>|long")).first.wait_for()
    page.locator("#video-labels textarea").fill("path, glad")
    page.get_by_role("button", name="Read the video").click()
    toast(page, "labels: path is a column of the table")
    page.locator("#video-labels textarea").fill("")

    (tmp_path / "video.mp4").write_text("hello")
    page.get_by_label("Clear").first.click()
    page.locator("#video-file input[type=file]").set_input_files(tmp_path / "video.mp4")
    toast(page, "video: the file is no video")


def test_about_says_what_it_must(page):
    show_tab(page, "About")
    for needed in (
        "apparent expressions",
        "Article 5(1)(f)",
        "expclip-mini. It is a small model",
        "Nothing is kept",
        "Intended use",
        "within 10 minutes",
    ):
        # The page renders the figure first and the text a moment later, so each piece is waited for.
        page.locator(".xc-about", has_text=needed).wait_for()
    assert page.locator(".xc-about svg").get_attribute("aria-label").startswith("Training:")


def test_the_api_page(page):
    page.get_by_role("button", name="Use via API").click()
    page.get_by_text("not what a person feels").first.wait_for()
    page.get_by_text("Python", exact=True).click()
    for needed in ("/classify", "handle_file", "ensemble10"):
        page.locator("code, pre, span", has_text=needed).locator("visible=true").first.wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_and_text_stands_off(visitor, server, theme, width):
    page = visitor
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{server.url}?__theme={theme}")
    page.wait_for_selector(BARS)
    for tab in ("Photo", "Live", "Video", "About"):
        show_tab(page, tab)
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
        assert not page.evaluate(LOW_CONTRAST), tab


def test_all_is_reachable_and_named_for_a_keyboard(page):
    page.locator("body").click(position={"x": 2, "y": 2})
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED))
        if "Settings" in seen[-1]:
            break
    for needed in (
        "Photo",
        "About",
        "Capture from camera",
        "average fear",
        "Labels",
        "Label set",
        "Prompt set",
        "Compare",
    ):
        assert any(needed in name for name in seen), (needed, seen)
    assert all(seen)


def test_a_photo_from_a_phone_held_upright(page, tmp_path, yunet):
    """Its pixels lie on their side and the file says so; outlines must fit what is shown."""
    image = Image.open(GROUP).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    upload(page, tmp_path / "phone.jpg")
    caption(page, "5 faces found")
    shown = page.locator("#photo-result .xc-photo img")
    assert shown.evaluate("e => e.naturalWidth > e.naturalHeight")


FOCUSED = """(() => {
  const e = document.activeElement;
  const label = e.labels && e.labels[0] ? e.labels[0].innerText : '';
  return (e.getAttribute('aria-label') || e.innerText || e.title || label).trim();
})()"""

# Texts whose contrast with the nearest painted ground is below 4.5:1 (WCAG AA); what is disabled or lies on an image is left out.
LOW_CONTRAST = """(() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (c.startsWith('rgb') && parse(c)[3] === 1) return parse(c);
    }
    return [255, 255, 255, 1];
  };
  const low = [];
  const walker = document.createTreeWalker(document.querySelector('.gradio-container'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !e.checkVisibility({opacityProperty: true, visibilityProperty: true}) || e.closest('svg, :disabled, .xc-unseen')) continue;
    const c = getComputedStyle(e).color;
    if (!c.startsWith('rgb')) continue;
    const [a, b] = [light(parse(c)), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(`${text.slice(0, 40)} ${c} ${ground(e)}`);
  }
  return low.join('\\n');
})()"""
