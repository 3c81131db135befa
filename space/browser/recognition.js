// Face crops and labels in, probabilities out: the two towers of CLIP, the head, and class prototypes.

import { buildPrompts } from "./prompts.js";
import { resize } from "./pixels.js";

const TEXTS = 128; // a pass of the text tower
const CROPS = 64; // a pass of the image tower

export class Recognizer {
  // `about` is model/about.json; `head` the matrix (at most D, D) that stands for the projection head, row by row, or null.
  constructor(ort, { image, text, tokenizer, head, about }) {
    Object.assign(this, { ort, image, text, tokenizer, head, about });
    this.kept = new Map();
  }

  // Images (face crops) -> CLIP's embedding of each, not normalised, without the head.
  async embed(crops) {
    const { width, height, mean, std, rescale } = this.about.image;
    const embeddings = [];
    for (let start = 0; start < crops.length; start += CROPS) {
      const batch = crops.slice(start, start + CROPS);
      const plane = width * height;
      const values = new Float32Array(batch.length * 3 * plane);
      batch.forEach((crop, n) => {
        const { data } = resize(crop, width, height, "bilinear");
        for (let channel = 0; channel < 3; channel++) {
          const at = (3 * n + channel) * plane;
          for (let i = 0; i < plane; i++) values[at + i] = (data[4 * i + channel] * rescale - mean[channel]) / std[channel];
        }
      });
      const tensor = new this.ort.Tensor("float32", values, [batch.length, 3, height, width]);
      embeddings.push(...rowsOf((await this.image.run({ pixel_values: tensor })).image_embeds));
    }
    return embeddings;
  }

  // The prototype of each label: the mean of its prompts' normalised embeddings, with the head and without, not normalised again.
  // With `alone`, also those of the references that each label is scored against by itself, and which these are: of a label with a
  // contrast only the contrast's other side.
  prototypes(labels, set, alone = false) {
    const key = JSON.stringify([set, alone, labels]);
    if (!this.kept.has(key)) {
      if (this.kept.size >= 64) this.kept.delete(this.kept.keys().next().value);
      const made = this.makePrototypes(labels, set, alone);
      made.catch(() => this.kept.delete(key));
      this.kept.set(key, made);
    }
    return this.kept.get(key);
  }

  async makePrototypes(labels, set, alone) {
    const sides = labels.map((label) => alone && Object.hasOwn(this.about.contrasts, label) && this.about.contrasts[label]);
    const sentences = (words) => buildPrompts(words, this.about.prompts.sets[set]);
    const groups = labels.map((label, i) => (sides[i] ? [sides[i][0]] : sentences([label])[0]));
    if (alone) groups.push(...sentences(this.about.references.labels), ...sides.filter(Boolean).map(([, other]) => [other]));
    const texts = groups.flat();
    const embeddings = [];
    for (let start = 0; start < texts.length; start += TEXTS) {
      embeddings.push(...(await this.embedTexts(texts.slice(start, start + TEXTS))));
    }
    const compared = (rows) => {
      let start = 0;
      const means = groups.map(({ length }) => meanOf(rows.slice(start, (start += length))));
      const [own, references] = [means.slice(0, labels.length), means.slice(labels.length)];
      return { own, references, against: alone && this.against(own, references, sides) };
    };
    return {
      plain: compared(embeddings.map(normalise)),
      head: this.head && compared(embeddings.map((row) => normalise(this.throughHead(row)))),
    };
  }

  // Which references each label is scored against: its contrast's other side, or else the common ones, but not those that mean the
  // label itself, around the common ones' own mean.
  against(own, references, sides) {
    const common = references.slice(0, this.about.references.labels.length);
    const mean = meanOf(common);
    const around = (row) => normalise(row.map((x, i) => x - mean[i]));
    const others = common.map(around);
    let next = common.length;
    return own.map((label, i) => {
      if (sides[i]) return [next++];
      return others.flatMap((other, j) => (dot(around(label), other) > this.about.references.near ? [] : [j]));
    });
  }

  async embedTexts(texts) {
    const { longest, end } = this.about.text;
    const ids = texts.map((text) => {
      const found = this.tokenizer.encode(text).ids;
      return found.length > longest ? [...found.slice(0, longest - 1), end] : found;
    });
    const length = Math.max(...ids.map((row) => row.length));
    // CLIP reads from left to right and stops at the end token, so what fills up a row behind it changes nothing
    const tokens = new BigInt64Array(ids.length * length).fill(BigInt(end));
    ids.forEach((row, n) => row.forEach((id, i) => (tokens[n * length + i] = BigInt(id))));
    const tensor = new this.ort.Tensor("int64", tokens, [ids.length, length]);
    return rowsOf((await this.text.run({ input_ids: tensor })).text_embeds);
  }

  // One embedding and the labels' prototypes -> {head, plain}: a probability for each label, `head` null for a model without one.
  probabilities(embedding, { plain, head }) {
    const score = (row, { own, references, against }) => {
      const unit = normalise(row);
      const [logits, others] = [own, references].map((rows) => rows.map((each) => this.about.scale * dot(unit, each)));
      if (!against) return softmax(logits);
      return logits.map((logit, i) => softmax([logit, ...against[i].map((j) => others[j])])[0]);
    };
    return { plain: score(embedding, plain), head: head && score(this.throughHead(embedding), head) };
  }

  // W = Q R with Q orthonormal, so R gives the same cosines as W and is no larger than CLIP's space.
  throughHead(row) {
    const rows = this.head.length / row.length;
    return Float64Array.from({ length: rows }, (_, i) => dot(this.head.subarray(i * row.length, (i + 1) * row.length), row));
  }
}

function rowsOf({ data, dims: [count, width] }) {
  return Array.from({ length: count }, (_, i) => Float64Array.from(data.subarray(i * width, (i + 1) * width)));
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function normalise(row) {
  const length = Math.sqrt(dot(row, row));
  return row.map((x) => x / length);
}

function meanOf(rows) {
  return rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
}

function softmax(logits) {
  const top = Math.max(...logits);
  const powers = logits.map((x) => Math.exp(x - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  const probabilities = powers.map((x) => x / sum);
  // Else a damaged model would answer with bars of no length
  if (!probabilities.every(Number.isFinite)) throw new Error("The model answers with numbers that are not finite");
  return probabilities;
}
