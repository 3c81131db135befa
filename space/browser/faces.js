// Faces in an image: YuNet's network finds them, boxes in the image's own pixels come out. The same steps as FaceDetector's in
// Python, whose network OpenCV runs.

import { resize, round, shrink } from "./pixels.js";

const SMALL = 256; // each photo is read twice: small, for faces that fill it, and large, for those in the crowd
const LEAST = 33;
const OVERLAP = 0.3; // boxes that overlap more, by intersection over union, are one face
const STRIDES = [8, 16, 32];

export const PHOTO = { longest: 1920, scales: 2, threshold: 0.7 };
export const FRAME = { longest: 320, scales: 1, threshold: 0.7 }; // of the camera: near faces, many times a second

export class FaceDetector {
  constructor(ort, session) {
    this.ort = ort;
    this.session = session;
  }

  // The faces of an image, the largest first: {box: [x0, y0, x1, y1], score}.
  async find(image, { longest, scales, threshold }) {
    const side = Math.max(image.width, image.height);
    const large = Math.min(1, longest / side);
    // Of a frame whole blocks of pixels become one, which is fast
    const chosen = scales === 1 ? [1 / Math.ceil(side / longest)] : side > 1.5 * SMALL ? [SMALL / side, large] : [SMALL / side];
    const found = [];
    for (const scale of chosen) found.push(...(await this.findAt(image, scale, threshold)));
    return suppress(found)
      .map(({ box: [x, y, width, height], score }) => ({
        box: [
          Math.max(0, round(x)),
          Math.max(0, round(y)),
          Math.min(image.width, round(x + width)),
          Math.min(image.height, round(y + height)),
        ],
        score: Math.min(1, score),
      }))
      .filter(({ box: [x0, y0, x1, y1] }) => x1 > x0 && y1 > y0)
      .sort((a, b) => area(b.box) - area(a.box));
  }

  async findAt(image, scale, threshold) {
    const width = Math.max(LEAST, round(image.width * scale));
    const height = Math.max(LEAST, round(image.height * scale));
    const pixels = scale > 1 ? resize(image, width, height, "bilinear") : shrink(image, width, height);
    // As OpenCV pads: black on the right and below, to a multiple of the largest stride
    const [columns, rows] = [Math.ceil(width / 32) * 32, Math.ceil(height / 32) * 32];
    const plane = columns * rows;
    const input = new Float32Array(3 * plane);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0, to = y * columns; x < width; x++, to++, at += 4) {
        input[to] = pixels.data[at + 2];
        input[plane + to] = pixels.data[at + 1];
        input[2 * plane + to] = pixels.data[at];
      }
    }
    const outputs = await this.session.run({ input: new this.ort.Tensor("float32", input, [1, 3, rows, columns]) });
    const found = [];
    for (const stride of STRIDES) {
      const [classes, objects, boxes] = ["cls", "obj", "bbox"].map((name) => outputs[`${name}_${stride}`].data);
      for (let i = 0; i < classes.length; i++) {
        const score = Math.sqrt(clamp(classes[i]) * clamp(objects[i]));
        if (score < threshold) continue;
        const [column, row] = [i % (columns / stride), Math.floor(i / (columns / stride))];
        const [wide, tall] = [Math.exp(boxes[4 * i + 2]) * stride, Math.exp(boxes[4 * i + 3]) * stride];
        const x = (column + boxes[4 * i]) * stride - wide / 2;
        const y = (row + boxes[4 * i + 1]) * stride - tall / 2;
        const [across, down] = [image.width / width, image.height / height];
        found.push({ box: [x * across, y * down, wide * across, tall * down], score });
      }
    }
    return suppress(found);
  }
}

const clamp = (x) => Math.min(1, Math.max(0, x));
const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);

// Of boxes (x, y, width, height) that overlap, the one with the best score.
function suppress(found) {
  const kept = [];
  for (const face of found.sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => overlap(face.box, other.box) <= OVERLAP)) kept.push(face);
  }
  return kept;
}

function overlap([ax, ay, aw, ah], [bx, by, bw, bh]) {
  const width = Math.min(ax + aw, bx + bw) - Math.max(ax, bx);
  const height = Math.min(ay + ah, by + bh) - Math.max(ay, by);
  if (width <= 0 || height <= 0) return 0;
  return (width * height) / (aw * ah + bw * bh - width * height);
}
