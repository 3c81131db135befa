// The page: a picture or the camera and labels come in, outlines and bars go out. All that people type or choose is written as text.

import { FRAME, PHOTO } from "./faces.js";
import { cropSquare, readPixels } from "./pixels.js";
import { parseLabels } from "./prompts.js";
import { showFaces } from "./results.js";
import { start } from "./start.js";

const MOST_PIXELS = 50e6;

const $ = (id) => document.getElementById(id);
const picture = $("picture");
const say = (text) => ($("status").textContent = text);

let page; // what start() gives
let source; // {image: pixels, name} of the picture that is shown
let found; // {faces: [{box, score}], embeddings} in it
let stopCamera = null;
let turn = 0; // counts pictures and questions, so that an answer that comes late is dropped

// Pictures

async function showFile(file, name = file.name) {
  endCamera();
  const mine = ++turn;
  say("Reading the picture…");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    if (mine === turn) say(`${name || "This file"} is no picture that this browser can read.`);
    return;
  }
  if (mine !== turn) return bitmap.close();
  if (bitmap.width * bitmap.height > MOST_PIXELS) {
    bitmap.close();
    say(`${name || "This picture"} has more than 50 million pixels; make it smaller.`);
    return;
  }
  source = { image: readPixels(bitmap, bitmap.width, bitmap.height, picture), name };
  bitmap.close();
  $("stage").hidden = false;
  $("loading").hidden = true;
  await readPicture();
}

// Finds and embeds the faces of the picture, then compares them with the labels.
async function readPicture() {
  const mine = ++turn;
  picture.setAttribute("aria-label", source.name ? `The picture ${source.name}` : "The picture");
  clearFaces();
  say("Reading the picture…");
  await nextFrame();
  const seen = await look(source.image, PHOTO);
  if (mine !== turn) return;
  found = seen;
  await reply();
}

async function look(image, how) {
  const wanted = page.detector && $("find").checked;
  const faces = wanted ? await page.detector.find(image, how) : [{ box: [0, 0, image.width, image.height], whole: true }];
  const crops = faces.map(({ box, whole }) => (whole ? image : cropSquare(image, box)));
  return { faces, embeddings: await page.recognizer.embed(crops) };
}

async function reply() {
  if (await compare()) say(describe(found.faces));
}

// Shows the labels' bars for the faces that were found; true when it did.
async function compare() {
  if (!found) return false;
  const mine = ++turn;
  const answer = await score(found);
  if (!answer || mine !== turn) return false;
  showFaces(found.faces, answer, picture);
  return true;
}

// The labels' probabilities for each face; null, and a message, where the labels are none.
async function score({ embeddings }) {
  let labels;
  try {
    labels = parseLabels($("labels").value);
    $("labels-error").textContent = "";
  } catch (error) {
    $("labels-error").textContent = error.message;
    return null;
  }
  const alone = $("alone").checked;
  const prototypes = await page.recognizer.prototypes(labels, $("prompts").value, alone);
  return { labels, alone, rows: embeddings.map((embedding) => page.recognizer.probabilities(embedding, prototypes)) };
}

function describe(faces) {
  if (!page.detector) return "Read as one face: this page has no face detector.";
  if (!$("find").checked) return "Read as one face.";
  if (!faces.length) return "No face found. If the picture is one face, switch “Find the faces” off.";
  return faces.length === 1 ? "One face found." : `${faces.length} faces found.`;
}

function clearFaces() {
  found = null;
  showFaces([], { labels: [], rows: [] }, picture);
}

// The camera

async function startCamera() {
  const mine = ++turn; // whoever chooses a picture, or clicks again, before the browser has its permission wants no camera
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } } });
  } catch (error) {
    say(
      error.name === "NotAllowedError"
        ? "The browser was not allowed to use the camera."
        : "No camera can be used here.",
    );
    return;
  }
  if (mine !== turn) {
    for (const track of stream.getTracks()) track.stop();
    return;
  }
  turn++;
  source = null;
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.srcObject = stream;
  let running = true;
  stopCamera = () => {
    running = false;
    for (const track of stream.getTracks()) track.stop();
  };
  $("camera").setAttribute("aria-pressed", "true");
  $("camera").textContent = "Stop the camera";
  await video.play();
  $("stage").hidden = false;
  $("loading").hidden = true;
  picture.setAttribute("aria-label", "The camera's picture");
  say("The camera is on. Its pictures stay on this device.");
  const times = [];
  while (running) {
    await nextFrame();
    if (!running) return;
    const image = readPixels(video, video.videoWidth, video.videoHeight, picture);
    const seen = await look(image, FRAME);
    const answer = await score(seen);
    if (!running) return;
    if (answer) {
      found = seen;
      showFaces(seen.faces, answer, picture);
    }
    times.push(performance.now());
    if (times.length > 30) times.shift();
    const rate = ((times.length - 1) * 1000) / (times.at(-1) - times[0]);
    $("boxes").dataset.rate = rate.toFixed(1);
  }
}

function endCamera() {
  if (!stopCamera) return;
  stopCamera();
  stopCamera = null;
  turn++;
  $("camera").setAttribute("aria-pressed", "false");
  $("camera").textContent = "Use the camera";
}

// The last picture stays, and is compared with the labels as they now are.
function stopByHand() {
  endCamera();
  say("The camera is off.");
  return compare();
}

// A pause in which the page draws and hears its visitor; hidden pages draw nothing, so a timer stands in.
const nextFrame = () =>
  new Promise((go) => {
    const late = setTimeout(go, 100);
    requestAnimationFrame(() => setTimeout(go, (clearTimeout(late), 0)));
  });

// What visitors do

function listen() {
  const guard = (act) => (event) => Promise.resolve(act(event)).catch(fail);
  $("file").addEventListener("change", guard(({ target }) => {
    const [file] = target.files;
    target.value = ""; // the same file may be chosen again
    return file && showFile(file);
  }));
  $("camera").addEventListener("click", guard(() => (stopCamera ? stopByHand() : startCamera())));
  $("find").addEventListener("change", guard(() => source && readPicture()));
  for (const id of ["prompts", "alone"]) $(id).addEventListener("change", guard(replyUnlessLive));
  $("alone").addEventListener("change", () => ($("sets").value = "")); // a set says how it is scored
  let typing;
  $("sets").addEventListener("change", guard(() => {
    const set = page.about.sets[$("sets").value];
    if (!set) return null;
    $("labels").value = set.labels.join(", ");
    $("alone").checked = set.alone;
    return replyUnlessLive();
  }));
  $("labels").addEventListener("input", () => {
    $("sets").value = "";
    clearTimeout(typing);
    if (!stopCamera) typing = setTimeout(guard(replyUnlessLive), 300);
  });
  document.addEventListener("paste", guard(({ clipboardData }) => {
    const file = imageIn(clipboardData);
    return file && showFile(file, "pasted picture");
  }));
  const drop = document.body;
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      $("drop").classList.add("over");
    });
  }
  drop.addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
  drop.addEventListener("drop", guard((event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    const [file] = event.dataTransfer.files;
    return file ? showFile(file) : say("Drop a picture's file; nothing else is read.");
  }));
}

// The camera's next picture is compared with what is chosen then.
const replyUnlessLive = () => (stopCamera ? null : reply());

const imageIn = (data) => [...(data?.files ?? [])].find((file) => file.type.startsWith("image/"));

function fail(error) {
  endCamera();
  console.error(error);
  say(`Something went wrong: ${error.message}`);
}

function addExamples(names) {
  for (const name of names) {
    const button = document.createElement("button");
    const image = document.createElement("img");
    image.src = `examples/${name}`;
    image.alt = name.replace(/\.\w+$/, "").replaceAll("-", " ");
    image.loading = "lazy";
    button.type = "button";
    button.append(image);
    button.addEventListener("click", () => showExample(name).catch(fail));
    $("examples").append(button);
  }
}

async function showExample(name) {
  const answer = await fetch(`examples/${name}`);
  if (!answer.ok) throw new Error(`${name} could not be loaded`);
  await showFile(await answer.blob(), name);
}

// Loading, then the first example

function told(done, all) {
  if ($("progress").hidden) return; // it failed, and other files are still coming
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  $("progress").value = done / all;
  $("loading-text").textContent = done < all ? `Loading the model: ${megabytes(done)} of ${megabytes(all)} MB` : "Starting the model…";
}

try {
  page = await start(told);
  const { about, detector, device } = page;
  for (const name of Object.keys(about.prompts.sets)) $("prompts").add(new Option(name, name, false, name === about.prompts.default));
  for (const name of Object.keys(about.sets)) $("sets").add(new Option(name, name));
  $("labels").value ||= about.labels.join(", ");
  $("legend").hidden = !about.head;
  $("find").disabled = !detector;
  $("find").checked = Boolean(detector);
  $("model").textContent = `Model: ${about.name}. It runs ${device === "webgpu" ? "on the graphics card (WebGPU)" : "in WebAssembly"}.`;
  $("camera").disabled = !navigator.mediaDevices;
  listen();
  addExamples(about.examples);
  document.documentElement.dataset.ready = device;
  await showExample(about.examples[0]);
} catch (error) {
  $("loading-text").textContent = "The model could not be loaded.";
  $("progress").hidden = true;
  fail(error);
}
