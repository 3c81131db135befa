// Outlines over the picture and, for each face, a table of bars. Tools read data-face, data-label and data-probability.

const KINDS = ["head", "plain"];

// `faces` with boxes in pixels of `picture` (a canvas); `rows` one {head, plain} a face, each a probability a label.
// With `alone`, a label whose bar is below one half does not fit.
export function showFaces(faces, { labels, rows, alone }, picture) {
  outline(faces, picture);
  const place = document.getElementById("faces");
  const shown = JSON.stringify(labels);
  if (place.dataset.labels !== shown) place.replaceChildren();
  place.dataset.labels = shown;
  while (place.children.length > faces.length) place.lastElementChild.remove();
  while (place.children.length < faces.length) place.append(makeCard(place.children.length, labels, Boolean(rows[0].head)));
  faces.forEach((face, i) => fill(place.children[i], face, labels, rows[i], alone));
}

function outline(faces, picture) {
  const boxes = document.getElementById("boxes");
  const found = faces.filter(({ whole }) => !whole);
  while (boxes.children.length > found.length) boxes.lastElementChild.remove();
  while (boxes.children.length < found.length) {
    const box = element("div", "box");
    box.append(element("span", "", String(boxes.children.length)));
    boxes.append(box);
  }
  found.forEach(({ box: [x0, y0, x1, y1] }, i) => {
    const { style } = boxes.children[i];
    style.left = `${(100 * x0) / picture.width}%`;
    style.top = `${(100 * y0) / picture.height}%`;
    style.width = `${(100 * (x1 - x0)) / picture.width}%`;
    style.height = `${(100 * (y1 - y0)) / picture.height}%`;
  });
}

// Made once, then filled with every frame of the camera
function makeCard(number, labels, withHead) {
  const card = element("article", "card");
  card.dataset.face = String(number);
  const table = element("table");
  table.append(element("caption"));
  const body = element("tbody");
  for (const label of labels) {
    const row = element("tr");
    const name = element("th", "", label);
    name.scope = "row";
    const cell = element("td");
    row.dataset.label = label;
    for (const kind of withHead ? KINDS : ["plain"]) {
      const line = element("div", `line ${kind}`);
      const track = element("span", "track");
      track.append(element("i"));
      line.append(track, element("b"));
      cell.append(line);
    }
    row.append(name, cell);
    body.append(row);
  }
  table.append(body);
  card.append(table);
  return card;
}

function fill(card, face, labels, row, alone) {
  const main = row.head ?? row.plain;
  const most = Math.max(...main);
  const best = alone && most < 0.5 ? -1 : main.indexOf(most);
  card.dataset.box = face.box.join(" ");
  const who = face.whole ? "The picture" : `Face ${card.dataset.face}`;
  card.querySelector("caption").textContent = `${who}: apparent expression ${labels[best] ?? "none of these"}`;
  [...card.querySelectorAll("tr")].forEach((line, i) => {
    line.dataset.probability = String(main[i]);
    if (row.head) line.dataset.probabilityWithoutHead = String(row.plain[i]);
    line.classList.toggle("best", i === best);
    for (const kind of KINDS) {
      const bar = line.querySelector(`.${kind}`);
      if (!bar) continue;
      bar.querySelector("i").style.width = `${100 * row[kind][i]}%`;
      bar.querySelector("b").textContent = `${(100 * row[kind][i]).toFixed(1)} %`;
    }
  });
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
