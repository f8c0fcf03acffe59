"use strict";
// Where the stands are and how they look: with planes when there is room, with a square for each slot when there is less, as tiles that
// fill when there are hundreds.
import { clean } from "/words.js";

const GAP = 8;

function slotGrid(w, h, n, most) {
  let best = { d: 0, cols: 1 };
  for (let cols = 1; cols <= n; cols++) {
    const d = Math.min(most, w / cols, h / Math.ceil(n / cols));
    if (d > best.d) best = { d, cols };
    if (w / cols < best.d) break;
  }
  return best;
}

export function bestLayout(stands, sky) {
  stands.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const n = stands.length;
  if (n === 0) return { mode: "none", list: [], cols: 1 };
  const gap = n > 150 ? 3 : n > 40 ? 5 : GAP;
  let best = null;
  for (let cols = 1; cols <= n; cols++) {
    const rows = Math.ceil(n / cols);
    const w = Math.min(460, (sky.w - gap * (cols - 1)) / cols), h = Math.min(260, (sky.h - gap * (rows - 1)) / rows);
    if (w < 3 || h < 3) continue;
    const score = Math.min(w, h * 1.7);
    if (!best || score > best.score) best = { score, cols, rows, w, h };
  }
  best ??= { cols: Math.ceil(Math.sqrt(n)), rows: Math.ceil(Math.sqrt(n)), w: 4, h: 4 };
  const slots = Math.max(1, ...stands.map((s) => s.slots));
  const planes = slotGrid(best.w - 14, best.h - 44, slots, 92), squares = slotGrid(best.w - 10, best.h - 24, slots, 16);
  const mode = planes.d >= 21 ? "planes" : squares.d >= 4 && best.w >= 40 ? "slots" : "tiles";
  const x0 = sky.x + (sky.w - best.cols * best.w - gap * (best.cols - 1)) / 2, y0 = sky.y + Math.max(0, (sky.h - best.rows * best.h - gap * (best.rows - 1)) / 2);
  const list = stands.map((stand, i) => {
    const cell = { stand, x: x0 + (i % best.cols) * (best.w + gap), y: y0 + Math.floor(i / best.cols) * (best.h + gap), w: best.w, h: best.h };
    if (mode === "planes") cell.spots = spotsOf(cell, planes);
    cell.grid = squares;
    return cell;
  });
  return { mode, list, cols: best.cols };
}

function spotsOf(cell, grid) {
  const spots = [], rows = Math.ceil(cell.stand.slots / grid.cols);
  const cols = Math.min(grid.cols, cell.stand.slots), step = Math.min((cell.w - 14) / cols, grid.d * 1.4), down = Math.min((cell.h - 44) / rows, grid.d * 1.15);
  const x = cell.x + cell.w / 2 - (step * (cols - 1)) / 2, y = cell.y + 25 + (cell.h - 44) / 2 - (down * (rows - 1)) / 2;
  for (let i = 0; i < cell.stand.slots; i++)
    spots.push({ x: x + (i % cols) * step, y: y + Math.floor(i / cols) * down, r: grid.d * 0.31 });
  return spots;
}

const BAD = new Set(["silent", "cut_off", "away"]);

function outline(field, pen, cell, radius) {
  const c = field.colour, s = cell.stand, bad = BAD.has(s.state);
  pen.beginPath();
  pen.roundRect(cell.x, cell.y, cell.w, cell.h, radius);
  pen.fillStyle = c.card;
  pen.fill();
  const chosen = field.chosen === s.number;
  if (!chosen && !bad && s.state === "ready" && cell.w < 30) return;
  pen.lineWidth = chosen ? 3 : bad ? 2 : 1;
  pen.strokeStyle = chosen ? c.fg : bad ? c.failed : s.state === "ready" ? c.line : c.late;
  pen.setLineDash(s.state === "ready" || chosen ? [] : [4, 3]);
  pen.stroke();
  pen.setLineDash([]);
}

export function place(field, pen, cell) {
  const mode = field.cells.mode;
  outline(field, pen, cell, mode === "tiles" ? Math.min(4, cell.w / 6) : 10);
  if (mode === "tiles") return tile(field, pen, cell);
  head(field, pen, cell);
  if (mode === "planes") parking(field, pen, cell);
  else squares(field, pen, cell);
}

function head(field, pen, cell) {
  const s = cell.stand, c = field.colour, small = cell.h < 60 ? 10 : 12;
  const right = s.state === "ready" ? `${s.running + s.stopping}/${s.slots}` : s.state.replace("_", " ");
  field.text(pen, right, cell.x + cell.w - 7, cell.y + small + 4, small, BAD.has(s.state) ? c.failed : s.state === "ready" ? c.dim : c.fg, "right", 600);
  const most = cell.w - 18 - pen.measureText(right).width;
  if (most > 14) field.text(pen, clean(s.name), cell.x + 7, cell.y + small + 4, small, c.fg, "left", 600, most);
  if (field.cells.mode !== "planes" || cell.h < 88) return;
  const notes = [];
  if (s.waiting > 0) notes.push(`${s.waiting} at the gate`);
  if (s.landing > 0) notes.push(`${s.landing} on approach`);
  if (notes.length > 0) field.text(pen, notes.join(", "), cell.x + cell.w / 2, cell.y + cell.h - 5, 10, c.dim, "center", 500, cell.w - 10);
}

// The marks on which nothing stands: a plane that flies covers its own.
function parking(field, pen, cell) {
  pen.strokeStyle = field.colour.line;
  pen.lineWidth = 1.5;
  pen.setLineDash([2, 4]);
  for (const spot of cell.spots) {
    pen.beginPath();
    pen.arc(spot.x, spot.y, spot.r, 0, 2 * Math.PI);
    pen.stroke();
  }
  pen.setLineDash([]);
}

function shade(field, s) {
  return BAD.has(s.state) ? field.colour.lost : s.stopping > 0 && s.running === 0 ? field.colour.cancelled : field.colour.flying;
}

// The one that is lowest on fuel, when it is low: a mark, not a stand in flames.
function low(field, s) {
  return s.worst !== null && s.worst > 750 && s.running > 0 && !BAD.has(s.state) ? field.fuelColour(s.worst / 1000) : null;
}

function squares(field, pen, cell) {
  const s = cell.stand, g = cell.grid, gap = g.d > 7 ? 2 : 1;
  const x = cell.x + (cell.w - g.cols * g.d) / 2, y = cell.y + 19;
  for (let i = 0; i < s.slots; i++) {
    pen.fillStyle = i < s.running ? (i === 0 && low(field, s)) || shade(field, s) : i < s.running + s.stopping ? field.colour.cancelled : field.colour.line;
    pen.fillRect(x + (i % g.cols) * g.d, y + Math.floor(i / g.cols) * g.d, g.d - gap, g.d - gap);
  }
}

function tile(field, pen, cell) {
  const s = cell.stand, part = Math.min(1, (s.running + s.stopping) / s.slots);
  pen.fillStyle = shade(field, s);
  const h = (cell.h - 2) * part;
  pen.fillRect(cell.x + 1, cell.y + cell.h - 1 - h, cell.w - 2, h);
  const mark = low(field, s);
  if (mark) {
    pen.fillStyle = mark;
    pen.fillRect(cell.x + cell.w * 0.62, cell.y + 1, cell.w * 0.38 - 1, cell.h - 2);
  }
  if (BAD.has(s.state)) field.text(pen, "!", cell.x + cell.w / 2, cell.y + cell.h / 2 + 5, Math.min(14, cell.h), field.colour.failed, "center", 800);
}
