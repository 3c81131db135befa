// Pixels as Pillow makes them. An image is {width, height, data}, data RGBA bytes; the model was trained on Pillow's resizing,
// and a canvas resizes otherwise in every browser.

const BITS = 22; // Pillow's fixed point: weights are integers of 1 / 2^22

const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  box: { reach: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
};

// Reads a drawable (an ImageBitmap, a video) of the given size. What is transparent lies on white.
export function readPixels(drawable, width, height, canvas = document.createElement("canvas")) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height }); // else it would be made anew
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(drawable, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

// For each pixel of one side: where its sources begin, and their weights. `length` is the part of the side that is read.
function weigh(filter, side, length, wanted) {
  const scale = length / wanted;
  const stretch = Math.max(scale, 1); // antialias: shrinking widens the filter
  const reach = FILTERS[filter].reach * stretch;
  return Array.from({ length: wanted }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(side, Math.trunc(centre + reach + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) weights.push(FILTERS[filter].weight((x - centre + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: Int32Array.from(weights, (w) => Math.floor((w / sum) * (1 << BITS) + 0.5)) };
  });
}

// Image.resize(size, filter), byte for byte. Only the first `columns` by `rows` (which may be fractions) are read.
export function resize(image, width, height, filter, columns = image.width, rows = image.height) {
  if (columns === width && rows === height) return image;
  const across = weigh(filter, image.width, columns, width);
  const down = weigh(filter, image.height, rows, height);
  const half = 1 << (BITS - 1);
  const narrow = new Uint8Array(width * image.height * 4);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < width; x++) {
      const { first, weights } = across[x];
      let r = half, g = half, b = half;
      for (let k = 0, at = (y * image.width + first) * 4; k < weights.length; k++, at += 4) {
        const weight = weights[k];
        r += image.data[at] * weight;
        g += image.data[at + 1] * weight;
        b += image.data[at + 2] * weight;
      }
      const to = (y * width + x) * 4;
      narrow[to] = Math.min(255, r >> BITS);
      narrow[to + 1] = Math.min(255, g >> BITS);
      narrow[to + 2] = Math.min(255, b >> BITS);
    }
  }
  const data = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let y = 0; y < height; y++) {
    const { first, weights } = down[y];
    for (let x = 0; x < width; x++) {
      let r = half, g = half, b = half;
      for (let k = 0, at = (first * width + x) * 4; k < weights.length; k++, at += width * 4) {
        const weight = weights[k];
        r += narrow[at] * weight;
        g += narrow[at + 1] * weight;
        b += narrow[at + 2] * weight;
      }
      const to = (y * width + x) * 4;
      data[to] = r >> BITS;
      data[to + 1] = g >> BITS;
      data[to + 2] = b >> BITS;
    }
  }
  return { width, height, data };
}

// Image.resize(size, BOX, reducing_gap=2), as faces are looked for in large photos: whole blocks of pixels first, then the rest.
export function shrink(image, width, height) {
  const across = Math.trunc(image.width / width / 2) || 1;
  const down = Math.trunc(image.height / height / 2) || 1;
  if (image.width % width === 0 && image.height % height === 0) return reduce(image, image.width / width, image.height / height);
  if (across === 1 && down === 1) return resize(image, width, height, "box");
  return resize(reduce(image, across, down), width, height, "box", image.width / across, image.height / down);
}

function reduce(image, across, down) {
  const width = Math.ceil(image.width / across);
  const height = Math.ceil(image.height / down);
  const data = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let y = 0; y < height; y++) {
    const bottom = Math.min(image.height, (y + 1) * down);
    for (let x = 0; x < width; x++) {
      const right = Math.min(image.width, (x + 1) * across);
      let r = 0, g = 0, b = 0;
      for (let j = y * down; j < bottom; j++) {
        for (let i = x * across, at = (j * image.width + i) * 4; i < right; i++, at += 4) {
          r += image.data[at];
          g += image.data[at + 1];
          b += image.data[at + 2];
        }
      }
      const count = (bottom - y * down) * (right - x * across);
      const to = (y * width + x) * 4;
      data[to] = Math.floor(r / count + 0.5);
      data[to + 1] = Math.floor(g / count + 0.5);
      data[to + 2] = Math.floor(b / count + 0.5);
    }
  }
  return { width, height, data };
}

// Python's round: halves go to the even neighbour.
export function round(x) {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

// A square around the middle of a box (x0, y0, x1, y1). What lies outside the image repeats its edge.
export function cropSquare(image, [x0, y0, x1, y1]) {
  const side = Math.max(1, x1 - x0, y1 - y0);
  const reach = Math.ceil(side / 2) + 1;
  const [middleX, middleY] = [(x0 + x1) / 2, (y0 + y1) / 2];
  const [originX, originY] = [Math.floor(middleX) - reach, Math.floor(middleY) - reach];
  const left = originX + round(middleX - originX - side / 2);
  const top = originY + round(middleY - originY - side / 2);
  const data = new Uint8ClampedArray(side * side * 4);
  const source = new Uint32Array(image.data.buffer, image.data.byteOffset, image.width * image.height);
  const target = new Uint32Array(data.buffer);
  for (let y = 0; y < side; y++) {
    const row = Math.min(image.height - 1, Math.max(0, top + y)) * image.width;
    for (let x = 0; x < side; x++) {
      target[y * side + x] = source[row + Math.min(image.width - 1, Math.max(0, left + x))];
    }
  }
  return { width: side, height: side, data };
}
