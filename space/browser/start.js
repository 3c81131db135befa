// From the folder's files to a detector and a recognizer: ONNX Runtime on the graphics card where there is WebGPU, else in wasm.

import { Tokenizer } from "./vendor/tokenizers.mjs";
import { FaceDetector } from "./faces.js";
import { loadFiles, unzip } from "./load.js";
import { Recognizer } from "./recognition.js";

// -> {about, recognizer, detector or null, device: "webgpu" or "wasm"}
export async function start(told) {
  const answer = await fetch("model/about.json", { cache: "no-cache" });
  if (!answer.ok) throw new Error(`model/about.json could not be loaded: the server answered ${answer.status}`);
  const about = await answer.json();
  const device = (await hasWebGPU()) ? "webgpu" : "wasm";
  const runtime = about.runtimes[device];
  const files = await loadFiles({ ...about.files, [runtime.binary]: runtime }, told);
  const ort = await import(`./${runtime.module}`);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = { mjs: new URL(runtime.glue, document.baseURI).href };
  ort.env.wasm.wasmBinary = await unzip(files[runtime.binary]);
  // Threads share memory, which browsers allow to isolated pages only. Half of the cores, for the page and the camera need some too, but
  // two where there are two: a face then takes three quarters of the time.
  const cores = navigator.hardwareConcurrency;
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(cores, 4, Math.max(2, Math.ceil(cores / 2))) : 1;
  const open = (name, executionProviders) => ort.InferenceSession.create(files[name], { executionProviders, logSeverityLevel: 3 });
  const towers = device === "webgpu" ? ["webgpu", "wasm"] : ["wasm"];
  const json = (name) => JSON.parse(new TextDecoder().decode(files[name]));
  const recognizer = new Recognizer(ort, {
    image: await open("model/image.onnx", towers),
    text: await open("model/text.onnx", towers),
    tokenizer: new Tokenizer(json("model/tokenizer.json"), json("model/tokenizer_config.json")),
    head: about.head ? new Float32Array(files["model/head.bin"].buffer) : null,
    about,
  });
  // Photos have many sizes, for each of which a graphics card would be programmed anew
  const detector = about.faces ? new FaceDetector(ort, await open("model/yunet.onnx", ["wasm"])) : null;
  return { about, recognizer, detector, device };
}

// One that the processor plays does not count: wasm is faster.
async function hasWebGPU() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !adapter.info.isFallbackAdapter;
}
