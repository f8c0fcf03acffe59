"use strict";
// Three plots over time, as SVG: throughput, how long tasks run, and what flies and waits.
import { $, count, el, rate, say, time } from "/words.js";

const NS = "http://www.w3.org/2000/svg", W = 600, H = 120, MOST = 300;

const PLOTS = [
  { id: "rate", title: "Throughput", unit: rate, lines: [{ key: "rate_per_s", name: "recorded", colour: "ok", fill: true }] },
  { id: "flying", title: "In flight", unit: count, lines: [{ key: "running", name: "in flight", colour: "flying", fill: true }] },
  { id: "queued", title: "Queued", unit: count, lines: [{ key: "queued", name: "queued", colour: "idle", fill: true }] },
  { id: "run", title: "Run time", unit: time, lines: [{ key: "p50_ms", name: "p50", colour: "flying" }, { key: "p90_ms", name: "p90", colour: "late" }, { key: "p99_ms", name: "p99", colour: "failed" }] },
];
const KEYS = ["rate_per_s", "running", "queued", "p50_ms", "p90_ms", "p99_ms"];

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(NS, tag);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  node.append(...children);
  return node;
}

// A round number at or above the largest value.
function ceiling(values) {
  const most = Math.max(0, ...values.filter((v) => v !== null));
  if (most <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 4, 5, 7.5, 10].find((f) => f * unit >= most) * unit;
}

function path(values, top, closed) {
  let d = "", open = false, first = 0;
  const x = (i) => ((i + MOST - values.length) / (MOST - 1)) * W, y = (v) => H - 4 - (v / top) * (H - 12);
  values.forEach((v, i) => {
    if (v === null) { if (open && closed) d += `L${x(i - 1).toFixed(1)} ${H}L${x(first).toFixed(1)} ${H}Z`; open = false; return; }
    if (!open) first = i;
    d += `${open ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
    open = true;
  });
  if (open && closed) d += `L${W} ${H}L${x(first).toFixed(1)} ${H}Z`;
  return d;
}

export class Plots {
  constructor(parent) {
    this.series = null;
    this.plots = PLOTS.map((spec) => this.make(parent, spec));
  }

  make(parent, spec) {
    const plot = { spec, now: el("strong"), top: el("span", { class: "top-label dim" }), lines: [], tip: el("span", { class: "plot-tip", hidden: true }), cursor: svg("line", { class: "cursor", y1: 0, y2: H, x1: -9, x2: -9 }) };
    plot.svg = svg("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img" });
    plot.svg.append(svg("line", { class: "grid", x1: 0, x2: W, y1: 8, y2: 8 }), svg("line", { class: "grid", x1: 0, x2: W, y1: H / 2 + 2, y2: H / 2 + 2 }), svg("line", { class: "axis", x1: 0, x2: W, y1: H - 4, y2: H - 4 }));
    for (const line of spec.lines) {
      const nodes = { line, area: line.fill ? svg("path", { class: `area c-${line.colour}` }) : null, stroke: svg("path", { class: `stroke c-${line.colour}` }) };
      if (nodes.area) plot.svg.append(nodes.area);
      plot.svg.append(nodes.stroke);
      plot.lines.push(nodes);
    }
    plot.svg.append(plot.cursor);
    const box = el("div", { class: "plot-box" }, plot.top, plot.tip);
    box.append(plot.svg);
    const keys = spec.lines.length > 1 ? el("span", { class: "plot-keys" }, ...spec.lines.map((l) => el("span", { class: `key c-${l.colour}` }, l.name))) : "";
    parent.append(el("figure", { class: "plot", id: `plot-${spec.id}` }, el("figcaption", {}, el("span", {}, spec.title), keys, plot.now), box));
    box.addEventListener("pointermove", (e) => this.point(plot, e.offsetX / box.clientWidth));
    box.addEventListener("pointerleave", () => { plot.tip.hidden = true; plot.cursor.setAttribute("x1", -9); plot.cursor.setAttribute("x2", -9); });
    return plot;
  }

  set(series) {
    this.series = series ? Object.fromEntries(KEYS.map((k) => [k, (series[k] ?? []).slice(-MOST)])) : null;
    this.step = series?.step_ms ?? 1000;
    this.draw();
  }

  // One more second, without asking for everything again.
  add(point) {
    if (!this.series || this.step !== 1000) return;
    for (const k of KEYS) {
      this.series[k].push(point[k] ?? null);
      if (this.series[k].length > MOST) this.series[k].shift();
    }
    this.draw();
  }

  draw() {
    for (const plot of this.plots) {
      const values = plot.spec.lines.map((l) => this.series?.[l.key] ?? []), top = ceiling(values.flat());
      plot.lines.forEach((nodes, i) => {
        nodes.stroke.setAttribute("d", path(values[i], top, false));
        nodes.area?.setAttribute("d", path(values[i], top, true));
      });
      plot.topValue = top;
      const last = values.map((v) => v.at(-1) ?? null), known = last.some((v) => v !== null), ever = values.flat().some((v) => v !== null);
      say(plot.top, ever ? plot.spec.unit(top) : "");
      say(plot.now, known ? plot.spec.unit(last.at(-1)) : "–");
      plot.svg.setAttribute("aria-label", `${plot.spec.title} over the last ${Math.round((MOST * this.step) / 60000)} minutes, now ${known ? plot.spec.lines.map((l, i) => `${l.name} ${plot.spec.unit(last[i])}`).join(", ") : "unknown"}, at most ${plot.spec.unit(top)}`);
    }
  }

  point(plot, at) {
    const n = this.series?.[plot.spec.lines[0].key].length ?? 0, i = Math.round(at * (MOST - 1)) - (MOST - n);
    plot.tip.hidden = i < 0 || i >= n;
    if (plot.tip.hidden) return;
    const x = at * W;
    plot.cursor.setAttribute("x1", x);
    plot.cursor.setAttribute("x2", x);
    say(plot.tip, `${time((n - 1 - i) * this.step)} ago: ${plot.spec.lines.map((l) => `${plot.spec.lines.length > 1 ? `${l.name} ` : ""}${plot.spec.unit(this.series[l.key][i])}`).join(", ")}`);
    plot.tip.style.left = at > 0.5 ? "auto" : `${at * 100}%`;
    plot.tip.style.right = at > 0.5 ? `${(1 - at) * 100}%` : "auto";
  }
}

export function wireSpan(onSpan) {
  for (const span of ["fine", "coarse"])
    $(`span-${span}`).addEventListener("click", () => {
      for (const s of ["fine", "coarse"]) $(`span-${s}`).setAttribute("aria-pressed", String(s === span));
      onSpan(span);
    });
}
