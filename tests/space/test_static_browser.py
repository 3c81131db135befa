"""The page that needs no server, as a visitor uses it, against what Python says of the same pictures."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from huggingface_hub import SpaceCard
from PIL import Image

from modeling_expclip import MINI, WORD_SETS, FaceAnalyzer
from modeling_expclip.checkpoint.head import with_head
from modeling_expclip.checkpoint.load import load_checkpoint
from modeling_expclip.media.faces import Face, crop_face
from modeling_expclip.prompts import LABEL_SETS, PROMPT_SETS, build_prompts
from space.browser import assemble, model

from .conftest import EXAMPLES, GROUP, ROOT
from .test_browser import FOCUSED, LOW_CONTRAST

PAGE = ROOT / "space" / "browser"
LOCKS = [PAGE, ROOT / "tests" / "benchmarks" / "browser_packages"]
CLOSE = 0.005  # of probabilities; float32 weights give 1e-6, float16 ones about 1e-3
LABELS = ["over the moon", "taken aback", "neutral", "Grumpy"]

FACES = """() => [...document.querySelectorAll("[data-face]")].map((face) => ({
  face: Number(face.dataset.face),
  box: face.dataset.box.split(" ").map(Number),
  scores: Object.fromEntries([...face.querySelectorAll("[data-label]")].map((e) => [e.dataset.label, Number(e.dataset.probability)])),
  plain: Object.fromEntries(
    [...face.querySelectorAll("[data-label]")].map((e) => [e.dataset.label, Number(e.dataset.probabilityWithoutHead)])),
}))"""


class Files(http.server.SimpleHTTPRequestHandler):
    """A folder, with the headers that the card asks the Hub for; ``asked`` are the paths of all requests."""

    asked: list[str]

    def end_headers(self) -> None:
        for name, value in SpaceCard.load(PAGE / "README.md").data.to_dict()["custom_headers"].items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        self.asked.append(self.path)


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Files,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", handler.asked
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def built(tmp_path_factory, yunet) -> Path:
    """The page with the embedded model and the face detector."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm for the page's packages")
    output = tmp_path_factory.mktemp("static") / "page"
    try:
        assemble.assemble(output, MINI, yunet)
    except OSError as error:
        if "npm could not fetch" in str(error):
            pytest.skip(str(error))
        raise
    return output


@pytest.fixture(scope="module")
def site(built) -> Iterator[tuple[str, list[str]]]:
    with serving(built) as served:
        yield served


@pytest.fixture
def visit(browser) -> Iterator[Callable]:
    """Opens an address; at the end nothing went wrong in any page that it opened, and none asked another server for anything."""
    contexts, problems, foreign = [], [], []

    def open_page(url: str, **options):
        context = browser.new_context(permissions=["camera"], **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: message.type == "error" and problems.append(message.text))
        page.on(
            "request",
            lambda request: urlsplit(request.url).netloc != urlsplit(url).netloc and foreign.append(request.url),
        )
        page.goto(url)
        page.locator("[data-face] [data-label]").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == [] and [url for url in foreign if not url.startswith("blob:")] == []


@pytest.fixture
def page(visit, site):
    return visit(site[0])


@pytest.fixture
def quiet_visit(browser, site) -> Iterator:
    """A page whose console may complain."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(site[0])
    page.locator("[data-face] [data-label]").first.wait_for()
    yield page
    context.close()


def wait_until(page, condition: str, arg: object = None) -> None:
    """Playwright's own wait_for_function evaluates text in the page, which its policy forbids."""
    end = time.monotonic() + 30
    while not page.evaluate(condition, arg):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def show(page, path: Path, found: str) -> list[dict]:
    page.locator("input[type=file]").set_input_files(path)
    page.locator("#status", has_text=found).wait_for()
    return page.evaluate(FACES)


def ask(page, labels: list[str]) -> list[dict]:
    page.get_by_label("Labels", exact=True).fill(", ".join(labels))
    wait_until(
        page,
        "wanted => JSON.stringify([...document.querySelectorAll('[data-face=\"0\"] [data-label]')].map(e => e.dataset.label)) === wanted",
        arg=json.dumps(labels, separators=(",", ":")),
    )
    return page.evaluate(FACES)


def pictures(folder: Path) -> Iterator[Path]:
    """The group as it is; large, as a JPEG that lies on its side; small, with transparency, as a PNG."""
    yield GROUP
    group = Image.open(GROUP).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    large = group.resize((3000, 3000 * group.height // group.width)).transpose(Image.Transpose.ROTATE_90)
    large.save(folder / "large.jpg", exif=exif, quality=95)
    yield folder / "large.jpg"
    face = Image.open(EXAMPLES / "average-surprise.png").convert("RGBA")
    clear = Image.new("RGBA", (face.width + 60, face.height + 60), (0, 0, 0, 0))
    clear.paste(face, (30, 30))
    clear.save(folder / "clear.png")
    yield folder / "clear.png"


def test_boxes_and_probabilities_are_pythons(page, tmp_path, yunet):
    model, processor = load_checkpoint(MINI)
    with_the_head = FaceAnalyzer(model, processor, detector=yunet)
    without = FaceAnalyzer(with_head(model, torch.eye(model.config.projection_dim)), processor, detector=yunet)
    ask(page, LABELS)
    for path in pictures(tmp_path):
        seen = show(page, path, "found.")
        expected = with_the_head.photo(path, labels=LABELS)
        plain = without.photo(path, labels=LABELS)
        assert len(seen) == len(expected) > 0, path
        for number, (ours, theirs, alone) in enumerate(zip(seen, expected, plain)):
            assert ours["face"] == number
            assert np.abs(np.subtract(ours["box"], theirs["box"])).max() <= 2, (path, ours["box"], theirs["box"])
            if [*theirs["box"]] == ours["box"]:
                assert ours["scores"] == pytest.approx(theirs["scores"], abs=CLOSE), path
                assert ours["plain"] == pytest.approx(alone["scores"], abs=CLOSE), path
            assert sum(ours["scores"].values()) == pytest.approx(1)
        assert seen[0]["box"] == [*expected[0]["box"]] or path.suffix == ".jpg"


def test_whole_pictures_and_prompt_sets(page):
    page.get_by_label("Find the faces").uncheck()
    face = EXAMPLES / "average-fear.png"
    analyzer = FaceAnalyzer(MINI, faces=False)
    for prompts in PROMPT_SETS:
        page.get_by_label("Prompt set").select_option(prompts)
        [seen] = show(page, face, "Read as one face")
        [expected] = analyzer.photo(face, prompts=prompts)
        assert seen["scores"] == pytest.approx(expected["scores"], abs=CLOSE), prompts
    assert page.locator(".box").count() == 0


def test_labels_by_themselves_are_pythons(page):
    page.get_by_label("Find the faces").uncheck()
    page.get_by_label("Score each label by itself").check()
    analyzer, labels = FaceAnalyzer(MINI, faces=False), ["over the moon", "fear", "tractor"]
    ask(page, labels)
    for name in ("happiness", "anger"):
        face = EXAMPLES / f"average-{name}.png"
        [seen] = show(page, face, "Read as one face")
        [expected] = analyzer.photo(face, labels, multi_label=True)
        assert seen["scores"] == pytest.approx(expected["scores"], abs=CLOSE)
        said = page.locator("caption").inner_text()
        assert said == f"The picture: apparent expression {expected['label'] or 'none of these'}"
    assert expected["label"] is None


def test_label_sets_fill_in_their_labels(page):
    page.get_by_label("Find the faces").uncheck()
    face = EXAMPLES / "average-happiness.png"
    show(page, face, "Read as one face")
    names, alone = page.get_by_label("Label set"), page.get_by_label("Score each label by itself")
    analyzer = FaceAnalyzer(MINI, faces=False)
    for name in ("action_units", "emonet40", "mafw"):
        names.select_option(name)
        multi_label = name != "mafw"
        [expected] = analyzer.photo(face, label_set=name, multi_label=multi_label)
        wait_until(page, "count => document.querySelectorAll('[data-label]').length === count", len(expected["scores"]))
        [seen] = page.evaluate(FACES)
        assert seen["scores"] == pytest.approx(expected["scores"], abs=CLOSE), name
        assert alone.is_checked() == multi_label
    alone.check()
    assert names.input_value() == ""
    # A contrast beside a free label, each against its own references
    labels = ["over the moon", "AU25 lips parted", "bored"]
    [seen] = ask(page, labels)
    contrasts = {labels[1]: WORD_SETS["action_units"][labels[1]]}
    [expected] = analyzer.photo(face, labels, contrasts=contrasts)
    assert seen["scores"] == pytest.approx(expected["scores"], abs=CLOSE)


def test_pixels_are_pillows(page):
    random = np.random.default_rng(0)
    for width, height, to in [
        (301, 203, (48, 48)),
        (40, 30, (48, 48)),
        (48, 48, (48, 48)),
        (1000, 7, (33, 40)),
        (97, 90, (256, 237)),
    ]:
        image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        rgba = list(image.convert("RGBA").tobytes())
        ours = page.evaluate(
            """async ([data, width, height, to]) => {
              const { resize, shrink, cropSquare } = await import("./pixels.js");
              const image = { width, height, data: Uint8ClampedArray.from(data) };
              const crops = [[3, 2, 20, 29], [-5, 0, 12, 4], [width - 9, height - 6, width + 3, height]].map((b) => cropSquare(image, b));
              return [resize(image, ...to, "bilinear"), shrink(image, ...to), ...crops].map(({ data }) => [...data]);
            }""",
            [rgba, width, height, to],
        )
        assert ours[0] == list(image.resize(to, Image.Resampling.BILINEAR).convert("RGBA").tobytes())
        shrunk = np.asarray(image.resize(to, Image.Resampling.BOX, reducing_gap=2.0).convert("RGBA"), int).ravel()
        assert np.abs(shrunk - ours[1]).max() <= 1
        for box, crop in zip([(3, 2, 20, 29), (-5, 0, 12, 4), (width - 9, height - 6, width + 3, height)], ours[2:]):
            assert crop == list(crop_face(image, Face(box, 1.0, ())).convert("RGBA").tobytes()), box


def test_prompts_and_tokens_are_pythons(page, built):
    labels = [*LABEL_SETS["mafw"], "constructor", "{noun}", "$& $1", "日本 😀 Don't", "word " * 90]
    about = json.loads((built / "model" / "about.json").read_text())
    _, processor = load_checkpoint(MINI)
    for name in PROMPT_SETS:
        prompts = page.evaluate(
            "async ([labels, set]) => (await import('./prompts.js')).buildPrompts(labels, set)",
            [labels, about["prompts"]["sets"][name]],
        )
        assert prompts == build_prompts(labels, name)
    tokens = page.evaluate(
        """async (texts) => {
          const { Tokenizer } = await import("./vendor/tokenizers.mjs");
          const [a, b] = await Promise.all(["", "_config"].map((n) => fetch(`model/tokenizer${n}.json`).then((r) => r.json())));
          const tokenizer = new Tokenizer(a, b);
          return texts.map((text) => tokenizer.encode(text).ids);
        }""",
        labels,
    )
    assert tokens == processor.tokenizer(labels, truncation=False)["input_ids"]


def test_nothing_leaves_after_loading_and_the_second_visit_loads_no_model(visit, site):
    url, asked = site
    asked.clear()
    page = visit(url)
    models = [path for path in asked if "onnx" in path or "packed" in path]
    assert len(models) == 4 and any("yunet" in path for path in models)
    asked.clear()
    show(page, EXAMPLES / "average-anger.png", "found")
    ask(page, ["glad", "cross"])
    assert asked == []
    page.reload()
    page.locator("[data-face] [data-label]").first.wait_for()
    assert "/" in asked and not [path for path in asked if "onnx" in path or "packed" in path or "head.bin" in path]


def test_the_policy_stops_what_would_leave(quiet_visit, tmp_path):
    page = quiet_visit
    (tmp_path / "secret").write_text("")
    with serving(tmp_path) as (elsewhere, asked):
        tried = page.evaluate(
            """async (url) => {
              const refused = [];
              document.addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
              const fails = (promise) => promise.then(() => "went", () => "stopped");
              const results = [await fails(fetch(url, { mode: "no-cors" })), navigator.sendBeacon(url, "face") && "queued"];
              for (const kind of ["img", "iframe", "script", "video"]) {
                const element = document.createElement(kind);
                element.src = url + kind;
                document.body.append(element);
              }
              try { new WebSocket(url.replace("http", "ws")); } catch {}
              await new Promise((go) => setTimeout(go, 1000));
              return [results[0], refused];
            }""",
            elsewhere,
        )
        assert tried[0] == "stopped" and {"connect-src", "img-src", "frame-src", "media-src"} <= {*tried[1]}, tried
        assert asked == []


def test_first_use_is_small_and_its_progress_is_told(page, built):
    about = json.loads((built / "model" / "about.json").read_text())
    assert 1e6 < sum(file["bytes"] for file in about["files"].values()) < 12e6
    steps = page.evaluate(
        """async ({ files }) => {
          for (const name of await caches.keys()) await caches.delete(name);
          const steps = [];
          await (await import("./load.js")).loadFiles(files, (done, all) => steps.push(done / all));
          return steps;
        }""",
        about,
    )
    assert len(steps) > 5 and steps == sorted(steps) and steps[-1] == 1


def test_a_damaged_file_is_named(built, browser, tmp_path):
    folder = shutil.copytree(built, tmp_path / "page")
    content = bytearray((folder / "model" / "head.bin").read_bytes())
    content[100] ^= 1
    (folder / "model" / "head.bin").write_bytes(content)
    with serving(folder) as (url, _):
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.locator("#status", has_text="model/head.bin is not the file that this page was made with").wait_for()
        assert page.locator("#loading-text").inner_text() == "The model could not be loaded."
        context.close()


def test_a_damaged_file_in_the_cache_is_fetched_again(visit, site):
    page = visit(site[0])
    damage = """async () => {
      const [name] = await caches.keys(), cache = await caches.open(name);
      const request = (await cache.keys()).find(({ url }) => url.includes("head.bin"));
      await cache.put(request, new Response(new Uint8Array(100)));
      return name;
    }"""
    assert page.evaluate(damage).startswith("expclip /"), "another page of this origin has another cache"
    page.reload()
    page.locator("#status", has_text="found").wait_for()
    assert page.evaluate(FACES)


def test_a_camera_that_nobody_waits_for_any_more_stays_off(page):
    page.evaluate("""() => {
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      window.streams = [];
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        await new Promise((go) => setTimeout(go, 1000));
        const stream = await ask(wanted);
        streams.push(stream);
        return stream;
      };
    }""")
    button = page.get_by_role("button", name="Use the camera")
    button.click()
    button.click()
    page.locator("#status", has_text="The camera is on").wait_for()
    wait_until(page, "streams.length == 2")
    page.get_by_role("button", name="Stop the camera").click()
    live = "streams.filter((stream) => stream.getTracks().some((track) => track.readyState == 'live')).length"
    wait_until(page, f"{live} == 0")


def test_without_a_detector_the_page_says_so(built, visit, tmp_path):
    folder = shutil.copytree(built, tmp_path / "page")
    about = json.loads((folder / "model" / "about.json").read_text())
    about["faces"] = False
    del about["files"]["model/yunet.onnx"]
    (folder / "model" / "about.json").write_text(json.dumps(about))
    with serving(folder) as (url, _):
        page = visit(url)
        assert page.locator("#status").inner_text() == "Read as one face: this page has no face detector."
        assert page.get_by_label("Find the faces").is_disabled()
        assert len(show(page, EXAMPLES / "average-anger.png", "no face detector")) == 1


def test_paste_and_drop(page):
    picture = list((EXAMPLES / "average-anger.png").read_bytes())
    for kind in ("paste", "drop"):
        show(page, GROUP, "5 faces found")
        page.evaluate(
            """([bytes, kind]) => {
              const data = new DataTransfer();
              data.items.add(new File([Uint8Array.from(bytes)], "face.png", { type: "image/png" }));
              const event = kind === "paste" ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true })
                : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
              document.body.dispatchEvent(event);
            }""",
            [picture, kind],
        )
        page.locator("#status", has_text="One face found.").wait_for()


def test_what_people_type_stays_text(page, tmp_path):
    odd = ["<img src=x onerror=alert(1)>", "<b>grumpy</b>", "${1+1}{{value}}", "constructor"]
    [face, *_] = ask(page, odd)
    assert list(face["scores"]) == odd and sum(face["scores"].values()) == pytest.approx(1)
    assert page.locator("[data-label] th").first.inner_text() == odd[0]
    assert page.locator("#faces img, #faces th b").count() == 0
    named = tmp_path / "<b>no picture<b>.png"
    named.write_text("hello")
    page.locator("input[type=file]").set_input_files(named)
    page.locator("#status", has_text="<b>no picture<b>.png is no picture").wait_for()


def test_mistakes_are_explained(page, tmp_path):
    page.get_by_label("Labels", exact=True).fill("sad, glad, sad")
    page.get_by_role("alert").filter(has_text="“sad” is there twice").wait_for()
    page.get_by_label("Labels", exact=True).fill(" , ")
    page.get_by_role("alert").filter(has_text="at least one label").wait_for()
    ask(page, ["sad", "glad"])
    assert page.locator("#labels-error").inner_text() == ""
    Image.new("RGB", (300, 200), "#777").save(tmp_path / "wall.png")
    assert show(page, tmp_path / "wall.png", "No face found") == []
    page.get_by_label("Find the faces").uncheck()
    page.locator("#status", has_text="Read as one face").wait_for()
    assert len(page.evaluate(FACES)) == 1


def test_the_camera(page):
    page.get_by_role("button", name="Use the camera").click()
    wait_until(page, "document.getElementById('boxes').dataset.rate > 0 && document.querySelector('.box')")
    [face] = page.evaluate(FACES)
    assert max(face["scores"], key=face["scores"].get) == "happiness"
    left = page.evaluate(FACES)[0]["box"][0]
    wait_until(page, "left => document.querySelector('[data-face]').dataset.box.split(' ')[0] != left", arg=str(left))
    ask(page, ["bored", "amused"])
    page.get_by_role("button", name="Stop the camera").click()
    page.locator("#status", has_text="The camera is off").wait_for()
    page.get_by_role("button", name="Use the camera").click()
    page.locator("#status", has_text="The camera is on").wait_for()
    show(page, GROUP, "5 faces found")  # a picture ends it
    assert page.get_by_role("button", name="Use the camera").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_and_text_stands_off(visit, site, scheme, width):
    page = visit(site[0], viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.get_by_text("About, and limits").click()
    ask(page, ["w" * 90, "glad"])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not page.evaluate(LOW_CONTRAST.replace("document.querySelector('.gradio-container')", "document.body"))


def test_all_is_reachable_and_named_for_a_keyboard(page):
    page.locator("body").click(position={"x": 2, "y": 2})
    seen = []
    named = FOCUSED.replace("e.title ||", "(e.querySelector('img') || e).alt ||")
    for _ in range(17):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(named))
    for needed in (
        "Choose a picture",
        "Use the camera",
        "average fear",
        "Labels",
        "Prompt set",
        "Find the faces",
        "About, and limits",
    ):
        assert any(needed in name for name in seen), (needed, seen)


# Without a browser


@pytest.mark.parametrize("folder", LOCKS, ids=lambda folder: folder.name)
def test_packages_are_pinned_by_hash_and_name_no_host(folder):
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    lock = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert lock.pop("")["dependencies"] == wanted
    for name, package in lock.items():
        assert package["integrity"].startswith("sha512-") and "resolved" not in package, name
    for name, version in wanted.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    assert "http" not in (folder / "package-lock.json").read_text()


def test_the_card_makes_it_a_static_space():
    data = SpaceCard.load(PAGE / "README.md").data
    assert (data.sdk, data.app_file) == ("static", "index.html") and (PAGE / data.app_file).is_file()
    assert len(data.short_description) <= 60


def test_every_script_is_assembled():
    assert {path.stem for path in PAGE.glob("*.js")} == {*assemble._CODE}


def test_half_the_bytes_and_nearly_the_same_numbers(tmp_path, checkpoint, yunet, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    about = model.write_model(tmp_path / "whole", str(checkpoint), yunet)
    assert about["faces"] and about["image"] == {
        "width": 32,
        "height": 32,
        "rescale": 1 / 255,
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
    }
    monkeypatch.setattr(model, "_LARGEST", 0)
    model.write_model(tmp_path / "half", str(checkpoint), yunet)
    pixels = np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32)
    answers = []
    for name in ("whole", "half"):
        session = onnxruntime.InferenceSession(tmp_path / name / "image.onnx", providers=["CPUExecutionProvider"])
        answers.append(session.run(None, {"pixel_values": pixels})[0])
    assert answers[1] == pytest.approx(answers[0], rel=0.02, abs=0.02) and not np.array_equal(*answers)
    sizes = [(tmp_path / name / "image.onnx").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < sizes[0]


def test_no_detector_is_no_error_but_a_named_one_is(tmp_path, checkpoint, monkeypatch):
    def unreachable():
        raise model.HubError("no answer")

    monkeypatch.setattr(model, "weights_at_hand", lambda: None)
    monkeypatch.setattr(model, "download", unreachable)
    assert not model.write_model(tmp_path / "none", str(checkpoint), None)["faces"]
    assert not (tmp_path / "none" / "yunet.onnx").exists()
    (tmp_path / "other.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match="is not face_detection_yunet"):
        model.write_model(tmp_path / "other", str(checkpoint), tmp_path / "other.onnx")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        model.write_model(tmp_path / "nowhere", str(checkpoint), tmp_path / "nowhere.onnx")


def test_other_preprocessing_is_refused(checkpoint):
    _, processor = load_checkpoint(checkpoint)
    processor.image_processor.do_center_crop = True
    with pytest.raises(ValueError, match="do_center_crop True"):
        model._pixels(processor.image_processor)


def test_without_npm_the_remedy_is_named(tmp_path, monkeypatch):
    from space.browser import vendor

    monkeypatch.setattr(vendor.shutil, "which", lambda name: None)
    with pytest.raises(OSError, match="install Node.js"):
        vendor.write_vendor(tmp_path / "vendor")
