// Labels and the sentences that CLIP reads for them. The sentences come from the library, in model/about.json.

// "a, b" or a line each -> labels as typed. Throws an Error that says what is wrong.
export function parseLabels(text) {
  const labels = text.split(/[,\n]/).map((label) => label.trim()).filter(Boolean);
  if (!labels.length) throw new Error("Type at least one label, such as: bored, amused");
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
