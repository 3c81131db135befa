// node face_api.cjs FOLDER: what face-api.js' expression net says of the crops in FOLDER (see toolkits.py).
// The packages are found from the working directory, which has the node_modules.
const fs = require("fs");
const path = require("path");

const resolve = (name) => require.resolve(name, { paths: [process.cwd()] });
const wasm = path.dirname(resolve("@tensorflow/tfjs-backend-wasm"));
const faceApi = require(resolve("@vladmandic/face-api/dist/face-api.node-wasm.js"));

async function main(folder) {
  require(resolve("@tensorflow/tfjs-backend-wasm")).setWasmPaths(wasm + path.sep);
  await faceApi.tf.setBackend("wasm");
  await faceApi.tf.ready();
  const net = faceApi.nets.faceExpressionNet;
  await net.loadFromDisk(path.join(path.dirname(resolve("@vladmandic/face-api/package.json")), "model"));
  const pixels = fs.readFileSync(path.join(folder, "crops.rgb"));
  const answers = [];
  let start = 0;
  for (const [width, height] of JSON.parse(fs.readFileSync(path.join(folder, "sizes.json")))) {
    const end = start + width * height * 3;
    const face = faceApi.tf.tensor3d(pixels.subarray(start, end), [height, width, 3], "int32");
    answers.push({ ...(await net.predictExpressions(face)) });
    face.dispose();
    start = end;
  }
  fs.writeFileSync(path.join(folder, "answers.json"), JSON.stringify(answers));
}

main(process.argv[2]);
