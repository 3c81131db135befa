"""``python -m tests.benchmarks.browser --data PARQUET``: the page without a server beside face-api.js, in one run of Chromium.

Face crops with labels come in. For each of the two leave accuracy (WAR, and UAR over seven classes and over the common ones) and milliseconds a face on the same
crops, and the camera's frames a second with one face in view (Chromium plays it). Both run in wasm, with the threads they choose.
Nothing of the data is kept.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import io
import json
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from modeling_expclip import MINI
from modeling_expclip.prompts import LABEL_SETS
from space.browser.assemble import assemble
from space.browser.vendor import npm_packages
from tests.benchmarks.results import record

PACKAGES = Path(__file__).parent / "browser_packages"
CLASSES = LABEL_SETS["rafdb"]
# What face-api.js calls them, in the same order
THEIRS = ("happy", "sad", "neutral", "angry", "surprised", "disgusted", "fearful")
SECONDS = 10  # of camera

OURS = """async (count) => {
  const { start } = await import("./start.js");
  const { readPixels } = await import("./pixels.js");
  const { recognizer, about } = await start(() => {});
  const prototypes = await recognizer.prototypes(about.labels, about.prompts.default);
  const answers = [], times = [];
  for (let i = 0; i < count; i++) {
    const bitmap = await createImageBitmap(await (await fetch(`crops/${i}.png`)).blob());
    const begin = performance.now(); // theirs reads the pixels within its call
    const image = readPixels(bitmap, bitmap.width, bitmap.height);
    const [embedding] = await recognizer.embed([image]);
    const { head } = recognizer.probabilities(embedding, prototypes);
    times.push(performance.now() - begin);
    answers.push(head.indexOf(Math.max(...head)));
  }
  return { answers, times };
}"""

LOAD_THEIRS = """async () => {
  const api = await import("./rival/face-api.esm.js");
  api.tf.setWasmPaths(new URL("rival/", document.baseURI).href);
  await api.tf.setBackend("wasm");
  await api.tf.ready();
  await api.nets.tinyFaceDetector.loadFromUri("rival/model");
  await api.nets.faceExpressionNet.loadFromUri("rival/model");
  globalThis.api = api;
  return api.tf.getBackend();
}"""

THEIR_FACES = """async ([count, names]) => {
  const answers = [], times = [];
  for (let i = 0; i < count; i++) {
    const bitmap = await createImageBitmap(await (await fetch(`crops/${i}.png`)).blob());
    const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    const begin = performance.now();
    const scores = await api.nets.faceExpressionNet.predictExpressions(canvas);
    times.push(performance.now() - begin);
    const values = names.map((name) => scores[name]);
    answers.push(values.indexOf(Math.max(...values)));
  }
  return { answers, times };
}"""

THEIR_CAMERA = """async (seconds) => {
  const video = document.createElement("video");
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 } } });
  await video.play();
  const look = () => api.detectSingleFace(video, new api.TinyFaceDetectorOptions()).withFaceExpressions();
  await look();
  let frames = 0, found = 0;
  const begin = performance.now();
  while (performance.now() - begin < seconds * 1000) {
    await new Promise(requestAnimationFrame);
    found += (await look()) ? 1 : 0;
    frames++;
  }
  return { rate: (frames * 1000) / (performance.now() - begin), found: found / frames };
}"""


def crops(path: str, limit: int) -> tuple[list[Image.Image], np.ndarray]:
    """Images and their classes, by position in CLASSES; other classes are left out."""
    table = pq.read_table(path, columns=["image", "label"])
    names = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    rows = [row for row in table.to_pylist() if names[row["label"]] in CLASSES][:limit]
    images = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in rows]
    return images, np.array([CLASSES.index(names[row["label"]]) for row in rows])


def write_camera(face: Image.Image, path: Path) -> None:
    """One second of 640 x 480 with a face that moves, in the raw format that Chromium plays over and over."""
    with path.open("wb") as film:
        film.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for number in range(30):
            frame = Image.new("L", (640, 480), 110)
            frame.paste(face.convert("L").resize((260, 260)), (120 + 4 * min(number, 30 - number), 100))
            film.write(b"FRAME\n" + frame.tobytes() + b"\x80" * (2 * 320 * 240))


class _Files(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


def rates(answers: list[int], truth: np.ndarray) -> tuple[float, float, float]:
    """WAR, UAR, and UAR of the classes of at least 30 faces, in percent."""
    right = np.asarray(answers) == truth
    recalls = [(right[truth == label].mean(), (truth == label).sum()) for label in np.unique(truth)]
    return tuple(
        100 * float(np.mean(each)) for each in (right, [r for r, _ in recalls], [r for r, n in recalls if n >= 30])
    )


def measure(folder: Path, count: int) -> dict[str, dict]:
    """Ours and theirs: the answers and milliseconds of each crop, and the camera's rate."""
    from playwright.sync_api import sync_playwright

    handler = functools.partial(_Files, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        fake.append(f"--use-file-for-fake-video-capture={folder / 'camera.y4m'}")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", *fake])
        context = browser.new_context(permissions=["camera"])
        ours, theirs = context.new_page(), context.new_page()
        theirs.goto(f"{url}rival/empty.html")
        backend = theirs.evaluate(LOAD_THEIRS.replace('"./rival/', '"./').replace('"rival/', '"./'))
        if backend != "wasm":
            raise RuntimeError(f"face-api.js runs on {backend}, expected wasm")
        found = {"theirs": theirs.evaluate(THEIR_FACES.replace("crops/", "../crops/"), [count, THEIRS])}
        found["theirs"] |= theirs.evaluate(THEIR_CAMERA, SECONDS)
        theirs.close()
        ours.goto(url)
        ours.locator("[data-face]").first.wait_for()
        found["ours"] = ours.evaluate(OURS, count)
        ours.bring_to_front()
        ours.get_by_role("button", name="Use the camera").click()
        ours.locator("#boxes[data-rate] .box").wait_for()
        ours.wait_for_timeout(SECONDS * 1000)
        found["ours"]["rate"] = float(ours.locator("#boxes").get_attribute("data-rate"))
        found["ours"]["found"] = ours.locator("[data-face]").count()
        browser.close()
        server.shutdown()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="Parquet of face crops with a column label")
    parser.add_argument("--faces", type=int, default=10_000, help="at most so many")
    parser.add_argument("--model", default=MINI)
    options = parser.parse_args()
    images, truth = crops(options.data, options.faces)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "page"
        about = assemble(folder, options.model)
        if not about["faces"]:
            parser.error("the camera's rate needs a face detector: name YuNet's file in EXPCLIP_YUNET")
        (folder / "crops").mkdir()
        for number, image in enumerate(images):
            image.save(folder / "crops" / f"{number}.png")
        write_camera(next(image for image in images if min(image.size) >= 120), folder / "camera.y4m")
        packages = Path(temporary) / "packages"
        packages.mkdir()
        modules = npm_packages(PACKAGES, packages)
        shutil.copytree(modules / "@vladmandic/face-api" / "model", folder / "rival" / "model")
        shutil.copy(modules / "@vladmandic/face-api" / "dist" / "face-api.esm.js", folder / "rival")
        for file in (modules / "@tensorflow/tfjs-backend-wasm" / "dist").glob("*.wasm"):
            shutil.copy(file, folder / "rival")
        (folder / "rival" / "empty.html").write_text("<!doctype html><title>face-api.js</title>")
        found = measure(folder, len(images))
    rows = []
    for who, name in (("ours", about["name"]), ("theirs", "face-api.js 1.7.15")):
        war, uar, common = rates(found[who]["answers"], truth)
        rows += [
            (f"{name}, WAR", war, "%", "", len(images)),
            (f"{name}, UAR", uar, "%", "", len(images)),
            (f"{name}, UAR of classes of 30 faces and more", common, "%", "", len(images)),
            (f"{name}, a face crop, median", float(np.median(found[who]["times"])), "ms", "", len(images)),
            (f"{name}, camera with one face", found[who]["rate"], "frames/s", ">= 10" if who == "ours" else "", 1),
        ]
        if not found[who]["found"]:
            print(f"{name} found no face in the camera's picture")
    record("the page without a server and face-api.js, Chromium, wasm", rows)


if __name__ == "__main__":
    main()
