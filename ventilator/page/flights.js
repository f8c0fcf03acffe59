"use strict";
// Planes between apron, stands and runway. One that is known by name flies to and from its own slot; the others come from the counts of a
// tick, at most MOST at a time, whatever the load: then one of them stands for many.

// On the asphalt, which is dark in both themes.
const ON_RUNWAY = { ok: "#3ddcb0", failed: "#ff9455", rejected: "#f0e442" };
const MOST = 70, PER_TICK = 26, FLY = 750, ROLL = 950;

export class Flights {
  constructor(field) {
    this.field = field;
    this.list = [];
    this.expected = new Map();       // named planes on their way to their slot, by key: until when
  }

  coming(key, now) {
    const until = this.expected.get(key);
    if (until === undefined) return false;
    if (now < until) return true;
    this.expected.delete(key);
    return false;
  }

  schedule(tick, come, gone) {
    const now = performance.now(), landed = { ...tick.landed };
    let takeoffs = tick.takeoffs;
    if (tick.first || this.field.stale || this.field.calm.matches || document.hidden) return;
    if (come.length <= 40)
      for (const plane of come) { this.take(plane, now); takeoffs--; }
    const verdicts = Object.keys(landed).filter((v) => landed[v] > 0 && v !== "ok").concat("ok");
    for (const plane of gone) {
      const verdict = verdicts.find((v) => landed[v] > 0);
      if (!verdict) break;
      landed[verdict]--;
      this.leave(this.from(plane), verdict, now + Math.random() * 500, true);
    }
    this.others(Math.min(PER_TICK, takeoffs), now, (at, when) => this.add({ kind: "take", from: this.gate(null), to: at, start: when }));
    const sum = verdicts.reduce((n, v) => n + landed[v], 0);
    for (const verdict of verdicts) {
      // In proportion, but what did not end well is never left out.
      const n = sum <= PER_TICK ? landed[verdict] : landed[verdict] > 0 ? Math.max(1, Math.round((PER_TICK * landed[verdict]) / sum)) : 0;
      this.others(n, now, (at, when) => this.leave(at, verdict, when));
    }
  }

  add(flight) { if (this.list.length < MOST) this.list.push({ ...flight, narrow: this.field.narrow }); }

  // Those that nobody named start from any stand that has something to do, spread over the second until the next tick.
  others(n, now, go) {
    const cells = this.field.cells.list;
    for (let i = 0; i < n && cells.length > 0; i++) {
      const cell = cells[Math.floor(Math.random() * cells.length)];
      const spot = cell.spots?.[Math.floor(Math.random() * cell.spots.length)] ?? { x: cell.x + cell.w / 2, y: cell.y + cell.h / 2 };
      go(spot, now + (i / n) * 950 + Math.random() * 40);
    }
  }

  gate(batch) {
    const a = this.field.apron, rows = [...(this.field.rows?.values() ?? [])];
    const y = this.field.rows?.get(batch) ?? rows[Math.floor(Math.random() * rows.length)] ?? a.y + Math.min(60, a.h / 2);
    if (this.field.narrow) return { x: a.x + 24 + Math.random() * (a.w - 48), y: a.y + a.h - 10 };
    return { x: a.x + a.w - 18, y };
  }

  from(plane) { return this.field.spot(plane.worker, plane.slot) ?? this.field.middle(plane.worker) ?? { x: this.field.w / 2, y: this.field.h / 2 }; }

  take(plane, now) {
    if (plane.age > 2500) return;
    const start = now + Math.random() * 500;
    this.expected.set(plane.key, start + FLY);
    this.add({ kind: "take", from: this.gate(plane.batch), to: this.from(plane), start });
  }

  leave(from, verdict, start, named = false) {
    const r = this.field.runway, f = this.field;
    if (verdict === "ok" || verdict === "failed" || verdict === "rejected")
      this.add({ kind: "land", named, verdict, from, to: { x: r.x + Math.max(70, r.w * 0.1), y: r.y + r.h / 2 + 9 }, start });
    else if (verdict === "lost")
      this.add({ kind: "lose", named, verdict, from, to: from, start });
    else
      this.add({ kind: "divert", named, verdict, from, to: { x: f.w + 30, y: Math.max(20, from.y - 90) }, start });
  }

  draw(pen, now, still) {
    if (still) { this.list.length = 0; return; }
    this.list = this.list.filter((flight) => this.drawOne(pen, flight, now));
  }

  drawOne(pen, f, now) {
    const t = (now - f.start) / FLY, field = this.field;
    if (t < 0) return this.wait(pen, f);
    if (f.kind === "lose") return this.drawLost(pen, f, t);
    if (t < 1) {
      const colour = f.kind === "take" ? field.colour.flying : field.colour[f.verdict];
      const at = curve(f, ease(t)), down = f.kind === "land" && at.y > field.runway.y + 16;
      if (f.kind === "take" || f.kind === "land") trail(pen, f, t, colour);
      if (field.cells.mode !== "planes") field.halo(pen, at, 15);
      field.plane(pen, at.x, at.y, at.heading, 15 + 3 * Math.sin(Math.PI * t), down ? ON_RUNWAY[f.verdict] : colour, f.kind === "divert" ? 1 - t * 0.3 : 1);
      if (f.kind === "divert" || (f.kind === "land" && f.verdict !== "ok")) field.text(pen, { deadline_exceeded: "◷", cancelled: "⊘", failed: "✕", rejected: "!" }[f.verdict] ?? "", at.x + 9, at.y - 7, 13, colour, "left", 800);
      return true;
    }
    return f.kind === "land" && this.roll(pen, f, (now - f.start - FLY) / ROLL);
  }

  // One that is about to leave still stands where it was.
  wait(pen, f) {
    if (f.kind !== "take" && f.named) this.field.plane(pen, f.from.x, f.from.y, -Math.PI / 2, 18, this.field.colour[f.verdict], 0.8);
    return true;
  }

  roll(pen, f, t) {
    if (t >= 1) return false;
    const r = this.field.runway, far = r.w * 0.62;
    this.field.plane(pen, f.to.x + far * (1 - (1 - t) * (1 - t)), f.to.y, 0, 17, ON_RUNWAY[f.verdict], t > 0.7 ? (1 - t) / 0.3 : 1);
    return true;
  }

  drawLost(pen, f, t) {
    if (t >= 1.4) return false;
    pen.strokeStyle = this.field.colour.lost;
    pen.globalAlpha = Math.max(0, 1 - t / 1.4);
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(f.from.x, f.from.y, 6 + 26 * t, 0, 2 * Math.PI);
    pen.stroke();
    this.field.text(pen, "?", f.from.x, f.from.y + 6, 18, this.field.colour.lost, "center", 800);
    pen.globalAlpha = 1;
    return true;
  }
}

function ease(t) { return t < 0.5 ? 2 * t * t : 1 - (2 - 2 * t) * (1 - t); }

function controls(f) {
  const { from: a, to: b } = f;
  if (f.kind === "take") return [{ x: a.x + 70, y: a.y - 6 }, { x: b.x - 60, y: b.y + 30 }];
  if (f.kind === "land") return [{ x: a.x - 40, y: a.y + 60 }, { x: b.x - 230, y: b.y - 34 }];
  return [{ x: a.x + 60, y: a.y - 10 }, { x: b.x - 120, y: b.y + 10 }];
}

// On a narrow screen there is no room to swing out.
function tight(f) {
  const { from: a, to: b } = f;
  if (f.kind === "take") return [{ x: a.x, y: a.y + 40 }, { x: b.x, y: b.y - 40 }];
  return f.kind === "land" ? [{ x: a.x, y: a.y + 50 }, { x: Math.max(18, b.x - 60), y: b.y - 30 }] : controls(f);
}

function curve(f, t) {
  const [p, q] = f.narrow ? tight(f) : controls(f), { from: a, to: b } = f, u = 1 - t;
  const x = u * u * u * a.x + 3 * u * u * t * p.x + 3 * u * t * t * q.x + t * t * t * b.x;
  const y = u * u * u * a.y + 3 * u * u * t * p.y + 3 * u * t * t * q.y + t * t * t * b.y;
  const dx = u * u * (p.x - a.x) + 2 * u * t * (q.x - p.x) + t * t * (b.x - q.x), dy = u * u * (p.y - a.y) + 2 * u * t * (q.y - p.y) + t * t * (b.y - q.y);
  return { x, y, heading: Math.atan2(dy, dx) };
}

function trail(pen, f, t, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.globalAlpha = 0.28;
  pen.beginPath();
  for (let i = 0; i <= 6; i++) {
    const at = curve(f, ease(Math.max(0, t - 0.16 + (0.16 * i) / 6)));
    if (i === 0) pen.moveTo(at.x, at.y); else pen.lineTo(at.x, at.y);
  }
  pen.stroke();
  pen.globalAlpha = 1;
}
