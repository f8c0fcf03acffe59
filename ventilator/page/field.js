"use strict";
// The field: batches queue on the apron, workers are stands, running attempts are planes that go round their fuel, the sink is the
// runway. What moves is drawn in each frame; all else lies in a picture of its own that is made anew when something has changed.
import { count, rate, time, clean } from "/words.js";
import { place, bestLayout } from "/stands.js";
import { Flights } from "/flights.js";

const TURN = 9000;            // ms for a round of a plane without a bound
const ICONS = 80;             // planes of one batch on the apron

// The same silhouette as the page's mark: nose to the right, about 24 long.
export const PLANE = new Path2D("M12 0c0 .9-1.200 1.500-2.500 1.500H5L.2 8.500h-1.900L.6 1.500h-4.100l-1.800 2.200h-1.500L-5.800 0l-1-3.700h1.500l1.800 2.200H.6l-2.300-7H.2L5-1.500h4.500C10.800-1.500 12-.9 12 0z");

export class Field {
  constructor(canvas, tip, onWorker) {
    this.canvas = canvas;
    this.tip = tip;
    this.onWorker = onWorker;
    this.pen = canvas.getContext("2d");
    this.base = document.createElement("canvas");
    this.stands = new Map();
    this.planes = new Map();          // by key, with the slot that each keeps
    this.batches = [];
    this.overview = null;
    this.chosen = null;
    this.stale = false;
    this.tickAt = performance.now();
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.flights = new Flights(this);
    this.readColours();
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    canvas.addEventListener("pointermove", (e) => this.onPointer(e));
    canvas.addEventListener("pointerleave", () => this.showTip(null));
    canvas.addEventListener("click", (e) => { const c = this.cellAt(e.offsetX, e.offsetY); if (c) this.onWorker(c.stand.number); });
    canvas.addEventListener("keydown", (e) => this.onKey(e));
    canvas.addEventListener("blur", () => { this.chosen = null; this.showTip(null); this.dirty = true; });
    this.resize();
    const frame = (now) => { this.draw(now); requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    this.colour = {};
    for (const name of ["bg", "panel", "line", "fg", "dim", "asphalt", "paint", "apron", "ok", "failed", "late", "cancelled", "lost", "rejected", "flying", "idle", "card"])
      this.colour[name] = style.getPropertyValue(`--${name}`).trim();
    this.colour.deadline_exceeded = this.colour.late;
    this.dirty = true;
  }

  resize() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    const scale = Math.min(devicePixelRatio || 1, 2);
    this.w = Math.max(280, Math.floor(box.width));
    this.h = Math.max(240, Math.floor(box.height));
    for (const c of [this.canvas, this.base]) { c.width = this.w * scale; c.height = this.h * scale; }
    this.scale = scale;
    this.narrow = this.w < 640;
    const runway = this.narrow ? 58 : 70, apron = this.narrow ? 96 : Math.min(270, Math.max(170, this.w * 0.2));
    this.runway = { x: 12, y: this.h - runway - 10, w: this.w - 24, h: runway };
    this.apron = this.narrow ? { x: 12, y: 10, w: this.w - 24, h: apron } : { x: 12, y: 10, w: apron, h: this.h - runway - 34 };
    this.sky = this.narrow ? { x: 12, y: apron + 22, w: this.w - 24, h: this.h - runway - apron - 44 }
                           : { x: apron + 30, y: 10, w: this.w - apron - 42, h: this.h - runway - 34 };
    this.layOut();
  }

  layOut() {
    this.cells = bestLayout([...this.stands.values()], this.sky);
    this.byNumber = new Map(this.cells.list.map((c) => [c.stand.number, c]));
    this.canvas.dataset.mode = this.cells.mode;
    this.dirty = true;
  }

  // ---- what is known ----

  setStands(stands) {
    this.stands = stands;
    this.layOut();
  }

  // `changed` is whether stands came or went, or another number of slots.
  tick(tick, batches, changed) {
    this.batches = batches.filter((b) => b.queued > 0 && b.state !== "complete");
    this.overview = tick.overview;
    this.tickAt = performance.now();
    if (changed) this.layOut();
    this.dirty = true;
    this.takePlanes(tick);
    this.describe(tick);
  }

  takePlanes(tick) {
    const old = this.planes, all = tick.planes_total <= tick.planes.length;
    const come = [], gone = [];
    this.planes = new Map();
    for (const [batch, index, attempt, worker, phase, age, left, budget] of tick.planes) {
      const key = `${batch}/${index}#${attempt}`, before = old.get(key);
      old.delete(key);
      const plane = { key, batch, index, worker, phase, age, left, budget, slot: before?.worker === worker ? before.slot : -1 };
      this.planes.set(key, plane);
      if (!before) come.push(plane);
    }
    for (const plane of old.values()) gone.push(plane);
    this.seatPlanes();
    this.flights.schedule(tick, come, all ? gone : [], this.w);
  }

  // Each plane has a place at its stand, and keeps it.
  seatPlanes() {
    const taken = new Map();
    for (const p of this.planes.values()) {
      if (!taken.has(p.worker)) taken.set(p.worker, new Set());
      if (p.slot >= 0 && !taken.get(p.worker).has(p.slot)) taken.get(p.worker).add(p.slot);
      else p.slot = -1;
    }
    for (const p of this.planes.values()) {
      const set = taken.get(p.worker);
      for (let s = 0; p.slot < 0; s++) if (!set.has(s)) { set.add(s); p.slot = s; }
    }
    this.taken = taken;
  }

  describe(tick) {
    const o = tick.overview, c = this.canvas;
    c.dataset.stands = this.stands.size;
    c.dataset.planes = tick.planes_total;
    c.setAttribute("aria-label", `The field: ${o.workers} workers with ${o.slots} slots, ${o.running} planes in flight, ${o.queued} queued on the apron, ` +
      `${o.landing} on approach, ${rate(o.rate_per_s)} recorded by the sink${o.sink_present ? "" : "; the runway is closed: no sink"}`);
  }

  // ---- pointing ----

  cellAt(x, y) { return this.cells.list.find((c) => x >= c.x && x < c.x + c.w && y >= c.y && y < c.y + c.h) ?? null; }

  onPointer(e) { this.showTip(this.cellAt(e.offsetX, e.offsetY), e.offsetX, e.offsetY); }

  showTip(cell, x, y) {
    this.tip.hidden = !cell;
    if (!cell) return;
    const s = cell.stand;
    const lines = [`${clean(s.name)}: ${s.state}`, `${s.running} of ${s.slots} slots in flight`, `${s.waiting} waiting, ${s.landing} on approach`];
    if (s.stopping) lines.push(`${s.stopping} told to end`);
    if (s.worst !== null) lines.push(`worst fuel: ${Math.max(0, 100 - Math.round(s.worst / 10))}% left`);
    const flying = [...this.planes.values()].filter((p) => p.worker === s.number).slice(0, 4);
    for (const p of flying) lines.push(`${p.batch}/${p.index}: ${time(p.age)}${p.left === null ? "" : `, ${time(p.left)} left`}`);
    this.tip.textContent = lines.join("\n");
    x ??= cell.x + cell.w / 2;
    y ??= cell.y + cell.h;
    this.tip.style.left = `${Math.min(x + 14, this.w - 210)}px`;
    this.tip.style.top = `${y > this.h * 0.6 ? y - 30 - 18 * lines.length : y + 14}px`;
  }

  onKey(e) {
    const list = this.cells.list, step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.cells.cols, ArrowUp: -this.cells.cols }[e.key];
    if (list.length === 0) return;
    const at = this.chosen === null ? -1 : list.findIndex((c) => c.stand.number === this.chosen);
    if (step !== undefined) {
      const next = list[Math.max(0, Math.min(list.length - 1, at < 0 ? 0 : at + step))];
      this.chosen = next.stand.number;
      this.showTip(next);
      this.dirty = true;
      e.preventDefault();
    } else if (e.key === "Enter" && at >= 0) {
      this.onWorker(this.chosen);
      e.preventDefault();
    }
  }

  // ---- the picture that lies below ----

  text(pen, text, x, y, size, colour, align = "left", weight = 500, most = 0) {
    pen.font = `${weight} ${size}px system-ui, "Segoe UI", "DejaVu Sans", sans-serif`;
    pen.fillStyle = colour;
    pen.textAlign = align;
    if (most > 0 && pen.measureText(text).width > most) {
      while (text.length > 1 && pen.measureText(`${text}…`).width > most) text = text.slice(0, -1);
      text += "…";
    }
    pen.fillText(text, x, y);
  }

  plane(pen, x, y, heading, length, colour, alpha = 1) {
    pen.save();
    pen.translate(x, y);
    pen.rotate(heading);
    pen.scale(length / 24, length / 24);
    pen.globalAlpha = alpha;
    pen.fillStyle = colour;
    pen.fill(PLANE);
    pen.restore();
  }

  // Keeps a plane apart from the tiles that it flies over.
  halo(pen, at, length) {
    pen.save();
    pen.translate(at.x, at.y);
    pen.rotate(at.heading);
    pen.scale(length / 24, length / 24);
    pen.strokeStyle = this.colour.panel;
    pen.lineWidth = 7;
    pen.lineJoin = "round";
    pen.stroke(PLANE);
    pen.restore();
  }

  drawBase() {
    const pen = this.base.getContext("2d");
    pen.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    pen.clearRect(0, 0, this.w, this.h);
    pen.textBaseline = "alphabetic";
    this.drawRunway(pen);
    this.drawApron(pen);
    if (this.cells.list.length === 0)
      this.text(pen, this.overview ? "No workers: nothing can take off" : "Waiting for the first answer", this.sky.x + this.sky.w / 2, this.sky.y + this.sky.h / 2, 15, this.colour.dim, "center");
    for (const cell of this.cells.list) place(this, pen, cell);
    this.dirty = false;
  }

  drawRunway(pen) {
    const r = this.runway, c = this.colour, o = this.overview, mid = r.y + r.h / 2 + 7;
    pen.fillStyle = c.asphalt;
    pen.beginPath();
    pen.roundRect(r.x, r.y + 18, r.w, r.h - 18, 6);
    pen.fill();
    pen.fillStyle = c.paint;
    for (const x of [r.x + 10, r.x + r.w - 34])
      for (let i = 0; i < 4; i++) pen.fillRect(x, r.y + 24 + i * (r.h - 30) / 4, 24, Math.max(2, (r.h - 30) / 4 - 4));
    pen.globalAlpha = 0.55;
    for (let x = r.x + 84; x < r.x + r.w - 84; x += 34) pen.fillRect(x, mid + 1, 18, 2);
    pen.globalAlpha = 1;
    this.text(pen, "09", r.x + 46, mid + 8, 18, c.paint, "left", 700);
    this.text(pen, "27", r.x + r.w - 46, mid + 8, 18, c.paint, "right", 700);
    if (!o) return;
    const open = o.sink_present && !o.sink_full;
    this.text(pen, this.narrow ? "RUNWAY" : "RUNWAY  the sink", r.x + 2, r.y + 11, 11, c.dim, "left", 700);
    const commit = o.commit_ms ? `   commit p99 ${time(o.commit_ms.p99)}` : "";
    this.text(pen, open ? `${rate(o.rate_per_s)} recorded${this.narrow ? "" : commit}` : o.sink_present ? "CLOSED: the sink's disk is full" : "CLOSED: no sink is connected", r.x + r.w - 2, r.y + 11, 12,
      open ? c.fg : c.failed, "right", 700);
    if (open) return;
    pen.strokeStyle = c.failed;
    pen.lineWidth = 5;
    for (const x of [r.x + r.w * 0.3, r.x + r.w * 0.5, r.x + r.w * 0.7]) {
      pen.beginPath();
      pen.moveTo(x - 14, mid - 12); pen.lineTo(x + 14, mid + 14);
      pen.moveTo(x + 14, mid - 12); pen.lineTo(x - 14, mid + 14);
      pen.stroke();
    }
  }

  drawApron(pen) {
    const a = this.apron, c = this.colour, o = this.overview;
    pen.fillStyle = c.apron;
    pen.beginPath();
    pen.roundRect(a.x, a.y, a.w, a.h, 10);
    pen.fill();
    this.text(pen, "APRON", a.x + 12, a.y + 20, 11, c.dim, "left", 700);
    if (o) this.text(pen, `${count(o.queued)} queued`, a.x + a.w - 12, a.y + 20, 12, c.fg, "right", 700);
    const room = Math.max(1, Math.floor((a.h - 30) / 38)), rows = [...this.batches].sort((x, y) => y.queued - x.queued).slice(0, room);
    const height = Math.max(38, Math.min(98, (a.h - 40) / Math.max(1, rows.length)));
    this.rows = new Map();
    rows.forEach((b, i) => {
      const y = a.y + 34 + i * height;
      this.rows.set(b.batch, y + 22);
      this.text(pen, `${clean(b.name) || b.batch}`, a.x + 12, y + 11, 12, c.fg, "left", 500, a.w - 90);
      this.text(pen, count(b.queued), a.x + a.w - 12, y + 11, 12, c.dim, "right", 600);
      const across = Math.floor((a.w - 22) / 14), fit = Math.min(ICONS, across * Math.floor((height - 20) / 15)), n = Math.min(fit, b.queued);
      for (let k = 0; k < n; k++)
        this.plane(pen, a.x + a.w - 18 - (k % across) * 14, y + 23 + Math.floor(k / across) * 15, 0, 12.5, c.idle, b.queued > fit ? Math.max(0.1, 0.95 - (0.9 * k) / fit) : 0.95);
    });
    const hidden = this.batches.length - rows.length;
    if (hidden > 0) this.text(pen, `and ${hidden} more`, a.x + a.w - 12, a.y + a.h - 5, 11, c.dim, "right");
    if (o && this.batches.length === 0) this.text(pen, "empty", a.x + 12, a.y + 46, 12, c.dim);
  }

  // ---- what moves ----

  draw(now) {
    if (document.hidden) return;
    if (this.dirty) this.drawBase();
    const pen = this.pen;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.base, 0, 0);
    pen.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    const since = this.stale ? 0 : now - this.tickAt;
    if (this.cells.mode === "planes") this.drawPlanes(pen, since, now);
    this.flights.draw(pen, now, this.stale || this.calm.matches);
  }

  fuelColour(used) { return used > 0.9 ? this.colour.failed : used > 0.75 ? this.colour.late : this.colour.flying; }

  drawPlanes(pen, since, now) {
    const still = this.calm.matches || this.stale;
    for (const p of this.planes.values()) {
      const spot = this.spot(p.worker, p.slot);
      if (!spot || this.flights.coming(p.key, now)) continue;
      const bounded = p.budget !== null, used = bounded ? Math.min(1, Math.max(0, (p.age + since) / p.budget)) : ((p.age + since) % TURN) / TURN;
      this.drawOne(pen, spot, used, bounded, p.phase, still && !bounded);
    }
    for (const cell of this.cells.list) this.drawUnnamed(pen, cell, now, still);
  }

  // Those that run and were not named: only so many are told of one by one.
  drawUnnamed(pen, cell, now, still) {
    const taken = this.taken?.get(cell.stand.number), named = taken ? taken.size : 0;
    let left = Math.min(cell.stand.running + cell.stand.stopping, cell.stand.slots) - named;
    for (let s = 0; left > 0 && s < cell.stand.slots; s++) {
      if (taken?.has(s)) continue;
      left--;
      const spot = this.spot(cell.stand.number, s);
      if (spot) this.drawOne(pen, spot, still ? 0 : ((now + s * 977) % TURN) / TURN, false, "running", still);
    }
  }

  drawOne(pen, spot, used, bounded, phase, still) {
    const angle = -Math.PI / 2 + used * 2 * Math.PI, r = spot.r, colour = phase === "stopping" ? this.colour.cancelled : bounded ? this.fuelColour(used) : this.colour.flying;
    pen.lineWidth = Math.max(2, r * 0.16);
    pen.lineCap = "round";
    pen.strokeStyle = this.colour.line;
    pen.beginPath();
    pen.arc(spot.x, spot.y, r, 0, 2 * Math.PI);
    pen.stroke();
    if (bounded && used < 1) {
      pen.strokeStyle = colour;
      pen.beginPath();
      pen.arc(spot.x, spot.y, r, angle, 1.5 * Math.PI);
      pen.stroke();
    }
    if (still) this.plane(pen, spot.x, spot.y, -Math.PI / 2, r * 1.5, colour);
    else this.plane(pen, spot.x + r * Math.cos(angle), spot.y + r * Math.sin(angle), angle + Math.PI / 2, Math.max(11, r * 1.25), colour);
  }

  // Where a slot of a worker is, or the middle of its stand.
  spot(worker, slot) {
    const cell = this.byNumber.get(worker);
    return cell?.spots?.[slot] ?? null;
  }
  middle(worker) {
    const cell = this.byNumber.get(worker);
    return cell ? { x: cell.x + cell.w / 2, y: cell.y + cell.h / 2 } : null;
  }
}
