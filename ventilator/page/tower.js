"use strict";
// The control tower: keeps what is known, asks for what the stream doesn't bring, and hands it to what shows it.
import { $, VERDICTS, VERDICT_SIGNS, VERDICT_WORDS, attribute, clean, count, el, rate, reconcile, say, show, time } from "/words.js";
import { Stream, get } from "/api.js";
import { Field } from "/field.js";
import { Plots, wireSpan } from "/plots.js";
import { countDown, showBatches, showFailures, showSlow, showWorkers } from "/lists.js";
import * as actions from "/actions.js";

const known = { epoch: null, sequence: null, stands: new Map(), batches: new Map(), slow: { attempts: [], suspects: 0 }, failures: [], overview: null, landed: 0 };
const view = { filter: "", complete: true, workerFilter: "", selected: null, span: "fine" };
let first = true, waitingTicks = null, failuresStale = true, lostAt = null, seconds = 0;

const act = {
  cancel: actions.cancelBatch, cancelTask: actions.cancelTask, extend: actions.extend, drain: actions.drain, explain: actions.explain, worker: actions.worker,
  select: (b) => select(view.selected === b.batch ? null : b.batch),
};
const field = new Field($("field"), $("field-tip"), (number) => { const s = known.stands.get(number); if (s) actions.worker(s); });
const plots = new Plots($("plots"));
const nextTheme = actions.wireTheme(() => field.readColours());

// ---- what comes ----

function stand([number, name, state, slots, waiting, running, stopping, landing, worst]) {
  return { number, name, state, slots: Math.max(1, slots), waiting, running, stopping, landing, worst };
}

async function loadField() {
  waitingTicks = [];
  try {
    const answer = await get("field");
    known.stands = new Map(answer.stands.map((s) => [s[0], stand(s)]));
    known.sequence = answer.sequence;
    field.setStands(known.stands);
  } catch { /* The next jump asks again. */ known.sequence = null; }
  const ticks = waitingTicks;
  waitingTicks = null;
  for (const tick of ticks) if (known.sequence === null || tick.sequence > known.sequence) takeTick(tick);
  showWorkers(known.stands, view, act);
}

function takeBatches(list) {
  const at = performance.now();
  for (const b of list) known.batches.set(b.batch, { ...known.batches.get(b.batch), ...b, at });
}

const COLUMNS = ["number", "batch", "name", "state", "total", "queued", "running", ...VERDICTS, "rate_per_s", "eta_ms", "deadline_left_ms"];
function rowOf(cells) {
  const b = Object.fromEntries(COLUMNS.map((key, i) => [key, cells[i]])), whole = known.batches.get(b.batch)?.name;
  if (whole !== undefined) delete b.name;      // the stream cuts names
  return b;
}

// All of the newest: at the start, and now and then for those that were purged.
async function loadBatches() {
  try {
    const answer = await get("batches"), here = new Set(answer.batches.map((b) => b.batch)), oldest = answer.batches[0]?.number ?? 0;
    for (const [id, b] of known.batches) if (!here.has(id) && (b.number >= oldest || b.state === "complete")) known.batches.delete(id);
    takeBatches(answer.batches);
    draw();
  } catch { /* Lost connections are the stream's to tell. */ }
}

// From the oldest open one on: notes, ends, and those that came and went between two ticks. The more that is, the less often.
async function refreshBatches(seconds) {
  let from = Infinity, last = 0;
  for (const b of known.batches.values()) {
    if (b.state !== "complete") from = Math.min(from, b.number);
    last = Math.max(last, b.number);
  }
  from = Math.min(from, last + 1);
  let n = 0;
  for (const b of known.batches.values()) n += b.number >= from;
  if (seconds % Math.max(3, Math.ceil(n * 0.15)) !== 0) return;
  try {
    const answer = await get(`batches?after=${from - 1}&most=256`);
    takeBatches(answer.batches);
    draw();
    if (answer.more) loadBatches();
  } catch { /* As above. */ }
}

async function loadFresh(number) {
  try { takeBatches((await get(`batches?after=${number - 1}&most=8`)).batches); draw(); } catch { /* As above. */ }
}

async function loadHistory() {
  const of = view.selected, query = of ? `?batch=${encodeURIComponent(of)}` : "";
  try {
    const h = await get(`history${query}`);
    if (of === view.selected) plots.set(h[view.span]);
  } catch { if (of === view.selected && of) plots.set(null); }
}

async function loadSlow() {
  try { known.slow = await get(`slowest?most=${view.selected ? 64 : 12}`); showSlow(known.slow, view, act); } catch { /* As above. */ }
}

async function loadFailures() {
  const of = view.selected;
  try {
    known.failures = (await get(`failures${of ? `?batch=${encodeURIComponent(of)}` : ""}`)).failures;
    if (of === view.selected) showFailures(known.failures, view, act);
  } catch { failuresStale = true; }
}

// While its journal is being read, a ventilator has no epoch yet.
function takeEpoch(epoch, program) {
  if (epoch === 0 || epoch === known.epoch) return;
  if (known.epoch !== null) {
    actions.toast("The ventilator has started anew; nothing of the queue is lost.");
    loadBatches();
    loadField();
  }
  known.epoch = epoch;
  say($("footer"), `${program}, epoch ${epoch}`);
}

function onHello() {
  first = true;
  loadField();
  loadBatches();
  loadHistory();
  loadSlow();
  loadFailures();
}

function onTick(tick) {
  if (waitingTicks) { waitingTicks.push(tick); return; }
  if (!first && tick.sequence !== known.sequence + 1) { loadField(); }
  takeTick(tick);
}

function takeTick(tick) {
  let changed = false;
  tick.first = first;
  first = false;
  known.sequence = tick.sequence;
  known.overview = tick.overview;
  takeEpoch(tick.overview.epoch, tick.overview.program);
  for (const row of tick.stands) {
    const s = stand(row), before = known.stands.get(s.number);
    changed ||= !before || before.slots !== s.slots;
    if (before) Object.assign(before, s); else known.stands.set(s.number, s);
  }
  for (const number of tick.gone) changed = known.stands.delete(number) || changed;
  const fresh = tick.batches.filter((row) => !known.batches.has(row[1])).map((row) => row[0]);
  takeBatches(tick.batches.map(rowOf));
  if (fresh.length > 0 && !tick.first) loadFresh(Math.min(...fresh));
  if (VERDICTS.slice(1).some((v) => tick.landed[v] > 0)) failuresStale = true;
  field.tick(tick, [...known.batches.values()], changed);
  if (!view.selected && view.span === "fine" && !tick.first) addPoint(tick);
  showPlanes(tick);
  draw();
  every();
}

function addPoint({ overview: o, landed }) {
  plots.add({ rate_per_s: VERDICTS.reduce((n, v) => n + landed[v], 0), running: o.running, queued: o.queued, p50_ms: o.run_ms?.p50 ?? null, p90_ms: o.run_ms?.p90 ?? null, p99_ms: o.run_ms?.p99 ?? null });
}

// What the stream doesn't bring is asked for now and then: a few KiB a second at most, and nothing while nobody looks.
function every() {
  seconds++;
  if (document.hidden) return;
  if (seconds % 120 === 0) loadBatches(); else refreshBatches(seconds);
  if (seconds % 3 === 0) loadSlow();
  if (seconds % 3 === 1 && failuresStale) { failuresStale = false; loadFailures(); }
  if (seconds % 20 === 0 || (view.selected && seconds % 5 === 2)) loadHistory();
}

// ---- what is shown ----

const NUMBERS = [
  ["In flight", (o) => `${count(o.running + o.stopping)}`, (o) => `of ${count(o.slots)} slots, ${count(o.workers)} worker${o.workers === 1 ? "" : "s"}`],
  ["On the apron", (o) => count(o.queued), (o) => `of ${count(o.open_batches)} batch${o.open_batches === 1 ? "" : "es"}, ${count(o.waiting)} at gates`],
  ["Landing rate", (o) => rate(o.rate_per_s), (o) => `${count(o.recorded)} recorded so far`],
  ["Run time", (o) => (o.run_ms ? time(o.run_ms.p50) : "–"), (o) => (o.run_ms ? `p90 ${time(o.run_ms.p90)}, p99 ${time(o.run_ms.p99)}` : "nothing landed lately")],
  ["Wait", (o) => (o.wait_ms ? time(o.wait_ms.p50) : "–"), (o) => (o.wait_ms ? `p99 ${time(o.wait_ms.p99)}` : "from admission to start")],
  ["Commit", (o) => (o.commit_ms ? time(o.commit_ms.p99) : "–"), () => "p99 until it is on disk"],
];
const numberNodes = NUMBERS.map(([title, value, detail]) => {
  const node = { value, detail, dd: el("strong"), small: el("span", { class: "dim" }) };
  $("numbers").append(el("div", {}, el("dt", {}, title), el("dd", {}, node.dd, node.small)));
  return node;
});

function notes(o) {
  const all = [];
  if (!o.sink_present) all.push("No sink is connected: nothing can be recorded, and new batches don't start.");
  if (o.sink_full) all.push("The sink's disk is full: results wait until there is room.");
  if (o.journal_full) all.push("The ventilator's disk is full: nothing new is taken in.");
  if (o.draining) all.push("The ventilator is draining.");
  if (o.recovering > 0) all.push(`${o.recovering} batch${o.recovering === 1 ? " is" : "es are"} recovering.`);
  if (o.note && all.length === 0) all.push(clean(o.note));
  return all.join(" ");
}

function draw() {
  const o = known.overview;
  if (o) {
    for (const n of numberNodes) { say(n.dd, n.value(o)); say(n.small, n.detail(o)); }
    const note = notes(o);
    say($("note"), note);
    show($("note"), note !== "");
    document.title = o.queued + o.running > 0 ? `${count(o.running)} in flight, ${count(o.queued)} queued: Tarmac` : "Tarmac control tower";
  }
  showBatches([...known.batches.values()], view, act);
  showWorkers(known.stands, view, act);
}

// The same as the canvas, for those who hear the page.
function showPlanes(tick) {
  reconcile($("planes"), tick.planes, (p) => `${p[0]}/${p[1]}#${p[2]}`, () => el("li"), (li, [batch, index, , worker, phase, age, left, budget]) => {
    attribute(li, "data-plane", `${batch}/${index}`);
    say(li, `${batch}/${index} on ${clean(known.stands.get(worker)?.name ?? "a worker")}, ${phase} for ${time(age)}${budget ? `, ${Math.max(0, Math.round((100 * left) / budget))}% fuel` : ""}`);
  });
}

function select(id) {
  view.selected = id;
  say($("unselect"), id ? `batch ${id} ✕` : "");
  attribute($("unselect"), "aria-label", id ? `Only batch ${id}: show all again` : "");
  show($("unselect"), id !== null);
  plots.set(null);
  loadHistory();
  loadFailures();
  loadSlow();
  draw();
}

function move(by) {
  const rows = [...$("batches").children];
  if (rows.length === 0) return;
  const focused = rows.indexOf(document.activeElement?.closest?.("tr")), at = focused >= 0 ? focused : rows.findIndex((r) => r.batch.batch === view.selected);
  rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))].focus();
}

function chosenBatch() {
  return document.activeElement?.closest?.("tr")?.batch ?? known.batches.get(view.selected) ?? null;
}

// ---- live or not ----

function onLive() {
  lostAt = null;
  field.stale = false;
  document.body.classList.remove("stale");
  attribute($("link"), "data-state", "live");
  say($("link-text"), "live");
  show($("lost"), false);
  show($("field-stale"), false);
}

function onLost(since) {
  lostAt = since;
  field.stale = true;
  document.body.classList.add("stale");
  attribute($("link"), "data-state", "lost");
  say($("lost"), "The connection to the ventilator is lost. What you see is what was last known; it reconnects by itself.");
  show($("lost"), true);
  show($("field-stale"), true);
}

setInterval(() => {
  const now = performance.now();
  countDown(now);
  if (lostAt !== null) {
    say($("link-text"), `no contact for ${time(Math.floor((now - lostAt) / 1000) * 1000)}`);
    say($("field-stale"), `not live: as of ${time(Math.floor((now - lostAt) / 1000) * 1000)} ago`);
  }
}, 250);

// ---- keys and the rest ----

$("filter").addEventListener("input", (e) => { view.filter = e.target.value; draw(); });
$("worker-filter").addEventListener("input", (e) => { view.workerFilter = e.target.value; draw(); });
$("show-complete").addEventListener("change", (e) => { view.complete = e.target.checked; draw(); });
$("unselect").addEventListener("click", () => select(null));
$("help").addEventListener("click", actions.help);
wireSpan((span) => { view.span = span; loadHistory(); });

const KEYS = { j: () => move(1), k: () => move(-1), t: nextTheme, "?": actions.help, "/": () => $("filter").focus(), x: () => { const b = chosenBatch(); if (b) actions.explain(b); },
  c: () => { const b = chosenBatch(); if (b && b.state !== "complete") actions.cancelBatch(b); }, e: () => { const b = chosenBatch(); if (b && b.state !== "complete") actions.extend(b); } };
document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || $("dialog").open) return;
  if (e.key === "Escape") { if (e.target.matches("input")) e.target.blur(); else if (view.selected) select(null); return; }
  if (e.target.matches("input, textarea, select")) return;
  const go = KEYS[e.key];
  if (go) { go(); e.preventDefault(); }
});

$("legend").append(...[["flying", "✈", "in flight"], ["late", "✈", "low on fuel"], ["ok", VERDICT_SIGNS.ok, VERDICT_WORDS.ok], ["failed", VERDICT_SIGNS.failed, VERDICT_WORDS.failed],
  ["deadline_exceeded", VERDICT_SIGNS.deadline_exceeded, VERDICT_WORDS.deadline_exceeded], ["cancelled", VERDICT_SIGNS.cancelled, VERDICT_WORDS.cancelled], ["lost", VERDICT_SIGNS.lost, VERDICT_WORDS.lost]]
  .map(([colour, sign, text]) => el("li", {}, el("span", { class: `sign c-${colour}`, "aria-hidden": "true" }, sign), text)));

// A token that is no longer good looks like a connection that never comes: the difference is told.
async function onRefused() {
  const status = await fetch("/api/v1/overview", { signal: AbortSignal.timeout(5000) }).then((r) => r.status, () => 0);
  if (status !== 401) return;
  say($("lost"), "The ventilator wants its token: open this page once as /?token=TOKEN.");
  show($("lost"), true);
}

new Stream({ hello: onHello, tick: onTick, live: onLive, lost: onLost, refused: onRefused });
