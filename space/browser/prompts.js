// Labels and the sentences that CLIP reads for them. The sentences come from the library, in model/about.json.

const MOST_LABELS = 100;
const LONGEST_LABEL = 200; // characters

// "a, b" or a line each -> labels as typed. Throws an Error that says what is wrong.
export function parseLabels(text) {
  const labels = text.split(/[,\n]/).map((label) => label.trim()).filter(Boolean);
  if (!labels.length) throw new Error("Type at least one label, such as: bored, amused");
  if (labels.length > MOST_LABELS) throw new Error(`There are ${labels.length} labels; at most ${MOST_LABELS} are compared`);
  const long = labels.find((label) => label.length > LONGEST_LABEL);
  if (long !== undefined) throw new Error(`The label “${long.slice(0, 40)}…” is longer than ${LONGEST_LABEL} characters`);
  const repeated = labels.find((label, i) => labels.indexOf(label) !== i);
  if (repeated !== undefined) throw new Error(`The label “${repeated}” is there twice; labels must differ`);
  return labels;
}

// The prompts of each label. The paper's own classes have sentences of their own; any other label is its own noun and adjective.
export function buildPrompts(labels, { templates, classes }) {
  return labels.map(
    (label) =>
      (Object.hasOwn(classes, label) && classes[label]) ||
      templates.map((template) => template.replaceAll(/\{(noun|adjective)\}/g, () => label)),
  );
}
