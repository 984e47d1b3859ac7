// The page's own script: tables that sort by a click, and the runs in motion. It asks no network.
"use strict";

// Tables

// What a cell is sorted by: its number, else its text.
function valueOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
}

// Numbers stand before text and text before nothing, whichever way a column is sorted.
function rank(value) {
  if (typeof value === "number") return 0;
  return value === "" ? 2 : 1;
}

function compare(a, b) {
  return rank(a) === 0 ? a - b : a.localeCompare(b, "en", { numeric: true });
}

function sortBy(table, heading) {
  const column = heading.cellIndex;
  const down = heading.getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  rows.sort((one, other) => {
    const a = valueOf(one, column);
    const b = valueOf(other, column);
    if (rank(a) !== rank(b)) return rank(a) - rank(b);
    return down ? compare(b, a) : compare(a, b);
  });
  body.append(...rows);
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table.sorts")) {
  for (const heading of table.tHead.rows[0].cells) {
    heading.querySelector("button").addEventListener("click", () => sortBy(table, heading));
  }
}

// Runs in motion

const block = document.getElementById("motions");
const motions = block ? JSON.parse(block.textContent) : [];
const find = (id) => document.getElementById(id);
let current = 0; // which of the runs
let playing = null; // the timer while it plays

// Three digits of a number.
function short(value) {
  const small = value !== 0 && Math.abs(value) < 1e-3;
  return small ? value.toExponential(2) : Number(value.toPrecision(3)).toString();
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

// A square drawing of the plane from `low` to `high`, as large as it is on the screen.
function paper(canvas, low, high) {
  const side = Math.round((canvas.clientWidth || 400) * (window.devicePixelRatio || 1));
  if (canvas.width !== side) canvas.width = canvas.height = side;
  canvas.dataset.low = JSON.stringify(low); // what is drawn, for whoever reads the picture
  canvas.dataset.high = JSON.stringify(high);
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, side, side);
  const at = ([x, y]) => [
    ((x - low[0]) / (high[0] - low[0])) * side,
    (1 - (y - low[1]) / (high[1] - low[1])) * side,
  ];
  return { pen, at, side, unit: side / 400 };
}

function dot({ pen, at, unit }, point, radius) {
  const [x, y] = at(point);
  pen.beginPath();
  pen.arc(x, y, radius * unit, 0, 2 * Math.PI);
  pen.fill();
}

function line({ pen, at }, points) {
  pen.beginPath();
  let down = false; // whether the pen is on the paper: a null lifts it
  for (const point of points) {
    const there = point[0] !== null;
    if (there) pen[down ? "lineTo" : "moveTo"](...at(point));
    down = there;
  }
  pen.stroke();
}

function drawSupport(sheet, motion, scaled) {
  const { pen, unit } = sheet;
  pen.fillStyle = pen.strokeStyle = colour("support");
  pen.lineWidth = 1.5 * unit;
  const xy = motion.support.xy.map((point) => (point[0] === null ? point : scaled(point)));
  if (motion.support.kind === "line") line(sheet, xy);
  else for (const point of xy) dot(sheet, point, motion.support.kind === "atoms" ? 5 : 0.8);
}

function ticks({ pen, side, unit }, low, high, names) {
  pen.fillStyle = colour("faint");
  pen.font = `${11 * unit}px system-ui, sans-serif`;
  const said = (value) => Number(value.toPrecision(2)).toString();
  pen.textAlign = "left";
  pen.fillText(said(low[0]), 4 * unit, side - 4 * unit);
  pen.fillText(said(high[1]), 4 * unit, 12 * unit);
  pen.fillText(names[1], 4 * unit, side / 2);
  pen.textAlign = "right";
  pen.fillText(said(high[0]), side - 4 * unit, side - 4 * unit);
  pen.textAlign = "center";
  pen.fillText(names[0], side / 2, side - 4 * unit);
}

// The states at a level: as they are, in a window that shrinks with sigma, or in the chart
// x / sqrt(1 + sigma^2 / s^2), in which they always fit into the window of the law.
function drawParticles(motion, level) {
  const sigma = motion.sigma[level];
  const growth = Math.sqrt(1 + (sigma / motion.spread) ** 2);
  const raw = find("chart").value === "x";
  const o = motion.origin;
  const zoom = raw ? growth : 1;
  const low = motion.low.map((value, n) => o[n] + (value - o[n]) * zoom);
  const high = motion.high.map((value, n) => o[n] + (value - o[n]) * zoom);
  const inChart = (k) => {
    const factor = raw ? 1 : Math.sqrt(1 + (motion.sigma[k] / motion.spread) ** 2);
    return (point) => point.map((value, n) => o[n] + (value - o[n]) / factor);
  };
  const sheet = paper(find("particles"), low, high);
  drawSupport(sheet, motion, (point) => point);
  const { pen, unit } = sheet;
  if (find("tails").checked && level > 0) {
    pen.strokeStyle = colour("state");
    pen.lineWidth = 0.6 * unit;
    pen.globalAlpha = 0.35;
    for (let n = 0; n < motion.x[0].length; n += 1) {
      line(sheet, motion.x.slice(0, level + 1).map((states, k) => inChart(k)(states[n])));
    }
    pen.globalAlpha = 1;
  }
  if (find("estimates").checked && level < motion.denoised.length) {
    pen.fillStyle = colour("estimate");
    for (const point of motion.denoised[level]) dot(sheet, point, 2);
  }
  pen.fillStyle = colour("state");
  for (const point of motion.x[level]) dot(sheet, inChart(level)(point), 2.6);
  ticks(sheet, low, high, motion.axes);
}

function arrow(sheet, from, [dx, dy], longest) {
  const length = Math.hypot(dx, dy);
  if (!(length > 0)) return;
  const cut = Math.min(1, longest / length);
  const [x0, y0] = sheet.at(from);
  const [x1, y1] = sheet.at([from[0] + dx * cut, from[1] + dy * cut]);
  const angle = Math.atan2(y1 - y0, x1 - x0);
  const head = Math.min(5 * sheet.unit, 0.6 * Math.hypot(x1 - x0, y1 - y0));
  const { pen } = sheet;
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  for (const turn of [2.6, -2.6]) {
    pen.moveTo(x1, y1);
    pen.lineTo(x1 + head * Math.cos(angle + turn), y1 + head * Math.sin(angle + turn));
  }
  pen.stroke();
}

// The fields D - x at a level, drawn to scale up to one cell of their grid: the exact one below.
function drawFields(motion, level) {
  const { fields } = motion;
  const sheet = paper(find("fields"), motion.low, motion.high);
  drawSupport(sheet, motion, (point) => point);
  const cell = (motion.high[0] - motion.low[0]) / Math.sqrt(fields.grid.length);
  for (const [name, ink, width] of [["exact", "exact", 2.2], ["learned", "estimate", 1.2]]) {
    if (!fields[name]) continue;
    const shown = fields[name][Math.min(level, fields[name].length - 1)];
    sheet.pen.strokeStyle = colour(ink);
    sheet.pen.lineWidth = width * sheet.unit;
    fields.grid.forEach((point, n) => arrow(sheet, point, shown[n], cell));
  }
  ticks(sheet, motion.low, motion.high, motion.axes);
  const apart = fields.apart && fields.apart[Math.min(level, fields.apart.length - 1)];
  find("apart").textContent = apart === undefined ? "" : `, root mean square of |D - D*| / σ here: ${short(apart)}`;
}

function draw() {
  const motion = motions[current];
  const level = Number(find("sigma").value);
  const ofPoints = motion.kind === "points";
  find("level").textContent = `σ = ${short(motion.sigma[level])}, level ${level + 1} of ${motion.sigma.length}`;
  find("sigma").setAttribute("aria-valuetext", find("level").textContent);
  for (const part of document.querySelectorAll(".of-points")) part.hidden = !ofPoints;
  for (const part of document.querySelectorAll(".of-images")) part.hidden = ofPoints;
  if (ofPoints) {
    for (const part of document.querySelectorAll(".of-learned")) part.hidden = !motion.fields.learned;
    for (const part of document.querySelectorAll(".of-exact")) part.hidden = !motion.fields.exact;
    drawParticles(motion, level);
    drawFields(motion, level);
  } else {
    find("states").src = motion.x[level];
    find("denoised").src = motion.denoised[Math.min(level, motion.denoised.length - 1)];
  }
}

// Another run at the level that is nearest to this one's.
function choose(number) {
  const sigma = motions[current].sigma[Number(find("sigma").value)];
  current = number;
  const levels = motions[current].sigma;
  const far = levels.map((value) => Math.abs(Math.log((value + 1e-6) / (sigma + 1e-6))));
  find("sigma").max = levels.length - 1;
  find("sigma").value = far.indexOf(Math.min(...far));
  find("about").textContent = motions[current].about;
  draw();
}

function play() {
  const slider = find("sigma");
  if (playing !== null) {
    clearInterval(playing);
    playing = null;
  } else {
    if (slider.value === slider.max) slider.value = 0;
    playing = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      draw();
      if (slider.value === slider.max) play();
    }, 120);
  }
  find("play").textContent = playing === null ? "play" : "stop";
}

if (motions.length) {
  find("moving").hidden = false;
  find("sigma").max = motions[0].sigma.length - 1;
  find("sigma").value = Math.round(motions[0].sigma.length / 2);
  for (const id of ["sigma", "chart", "tails", "estimates"]) find(id).addEventListener("input", draw);
  find("play").addEventListener("click", play);
  find("which").addEventListener("input", () => choose(find("which").selectedIndex));
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  choose(0);
}
