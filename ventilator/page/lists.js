"use strict";
// Tables: batches, the slowest, failures, workers. Rows are kept from tick to tick; only what differs is written.
import { $, VERDICTS, VERDICT_SIGNS, VERDICT_WORDS, attribute, clean, cleanLines, count, el, rate, reconcile, say, show, time } from "/words.js";

const BATCHES_MOST = 60, WORKERS_MOST = 100;

export function settled(b) { return VERDICTS.reduce((n, v) => n + b[v], 0); }

function button(text, label, onclick, extra = "") {
  return el("button", { type: "button", class: `small ${extra}`, "aria-label": label, title: label, onclick: (e) => { e.stopPropagation(); onclick(); } }, text);
}

// ---- batches ----

function makeBatch(act) {
  return (b) => {
    const tr = el("tr", { "data-batch": b.batch, tabindex: "0" });
    const p = (tr.parts = {
      id: el("code", {}), name: el("span", { class: "name" }), state: el("span", { class: "badge" }), note: el("div", { class: "row-note" }),
      bar: el("div", { class: "progress", role: "img" }), counts: el("div", { class: "counts" }), rate: el("td", { class: "num" }), eta: el("td", { class: "num" }), deadline: el("td", { class: "num deadline" }), segments: {},
      cancel: button("Cancel", `Cancel batch ${b.batch}`, () => act.cancel(tr.batch), "danger"), extend: button("Extend", `Extend the deadline of batch ${b.batch}`, () => act.extend(tr.batch)),
      why: button("Why?", `Explain batch ${b.batch}`, () => act.explain(tr.batch)),
    });
    for (const v of [...VERDICTS, "flying"]) p.bar.append((p.segments[v] = el("span", { class: `seg c-${v}` })));
    tr.append(el("th", { scope: "row" }, el("div", { class: "who" }, p.id, p.state), p.name), el("td", { class: "progress-cell" }, p.bar, p.counts, p.note), p.rate, p.eta, p.deadline, el("td", { class: "acts" }, p.why, p.extend, p.cancel));
    tr.addEventListener("click", () => act.select(tr.batch));
    tr.addEventListener("keydown", (e) => { if (e.key === "Enter" && e.target === tr) act.select(tr.batch); });
    return tr;
  };
}

function updateBatch(tr, b) {
  const p = tr.parts, done = settled(b), open = b.state !== "complete";
  tr.batch = b;
  say(p.id, b.batch);
  say(p.name, clean(b.name));
  say(p.state, b.state);
  attribute(p.state, "data-state", b.state);
  say(p.note, open && b.note ? clean(b.note) : "");
  const whole = Math.max(1, b.total), percent = b.total > 0 ? Math.floor((100 * done) / b.total) : 0;
  for (const v of VERDICTS) p.segments[v].style.width = `${(100 * b[v]) / whole}%`;
  p.segments.flying.style.width = `${(100 * Math.min(b.running, b.total - done)) / whole}%`;
  attribute(p.bar, "aria-label", `${percent}% of ${b.total} tasks have ended: ${VERDICTS.filter((v) => b[v] > 0).map((v) => `${b[v]} ${v.replace("_", " ")}`).join(", ") || "none yet"}; ${b.running} at workers`);
  const bad = VERDICTS.slice(1).filter((v) => b[v] > 0);
  const text = `${percent}%  ${count(done)}/${count(b.total)}${b.state === "open" ? "+" : ""}`;
  if (p.counts.said !== text + bad.map((v) => b[v]).join()) {
    p.counts.said = text + bad.map((v) => b[v]).join();
    p.counts.replaceChildren(text, ...bad.map((v) => el("span", { class: `tag c-${v}`, title: VERDICT_WORDS[v] }, `${VERDICT_SIGNS[v]} ${count(b[v])} ${v === "deadline_exceeded" ? "late" : v}`)));
  }
  say(p.rate, open ? rate(b.rate_per_s) : "–");
  say(p.eta, open ? (b.state === "cancelling" ? "ending" : time(b.eta_ms)) : "done");
  p.cancel.hidden = p.extend.hidden = !open;
}

export function showBatches(batches, view, act) {
  const filter = view.filter.toLowerCase();
  let list = batches.filter((b) => (view.complete || b.state !== "complete") && (!filter || `${b.batch} ${b.name} ${b.state} ${b.handler ?? ""}`.toLowerCase().includes(filter)));
  list.sort((a, b) => (a.state === "complete") - (b.state === "complete") || b.number - a.number);
  const all = list.length;
  list = list.slice(0, BATCHES_MOST);
  act.makeBatch ??= makeBatch(act);
  reconcile($("batches"), list, (b) => b.batch, act.makeBatch, (tr, b) => { updateBatch(tr, b); attribute(tr, "aria-selected", String(view.selected === b.batch)); });
  say($("batches-count"), all > list.length ? `${list.length} of ${all} shown` : all > 0 ? `${all}` : "");
  show($("batches-none"), all === 0);
  countDown(performance.now());
}

// Several times a second: a deadline that stands still is not believed.
export function countDown(now) {
  for (const tr of $("batches").children) {
    const b = tr.batch, cell = tr.parts.deadline;
    if (b.deadline_left_ms === null || b.deadline_left_ms === undefined || b.state === "complete") { say(cell, "–"); attribute(cell, "data-level", ""); continue; }
    const left = b.deadline_left_ms - (now - b.at);
    say(cell, left > 0 ? time(left) : "passed");
    attribute(cell, "data-level", left <= 0 ? "over" : left < 15000 ? "bad" : left < 60000 || (b.eta_ms !== null && b.eta_ms > left) ? "warn" : "");
    attribute(cell, "title", b.eta_ms !== null && b.eta_ms > left ? "At this rate it will not make it" : "");
  }
}

// ---- the slowest ----

function makeSlow(act) {
  return () => {
    const tr = el("tr", {}), p = (tr.parts = { task: el("code", {}), mark: el("span", { class: "badge", "data-state": "suspect" }, "stuck?"), worker: el("td", {}), age: el("td", { class: "num" }), fuel: el("td", {}), bar: el("div", { class: "progress thin", role: "img" }), left: el("span", { class: "dim" }), used: el("span", { class: "seg" }) });
    p.bar.append(p.used);
    p.fuel.append(p.bar, p.left);
    tr.append(el("th", { scope: "row" }, p.task, " ", p.mark), p.worker, p.age, p.fuel, el("td", { class: "acts" }, button("Why?", "Explain this task", () => act.explain({ batch: tr.a.batch }, tr.a.index)), button("Cancel", "Cancel this task", () => act.cancelTask(tr.a), "danger")));
    return tr;
  };
}

function updateSlow(tr, a) {
  const p = tr.parts;
  tr.a = a;
  say(p.task, `${a.batch}/${a.index}`);
  show(p.mark, a.suspect);
  attribute(p.mark, "title", clean(a.reason ?? "runs much longer than the others"));
  say(p.worker, clean(a.worker));
  say(p.age, time(a.age_ms));
  const left = a.budget_ms ? Math.max(0, a.left_ms / a.budget_ms) : null;
  show(p.bar, left !== null);
  if (left !== null) {
    p.used.style.width = `${100 * left}%`;
    attribute(p.used, "class", `seg ${left < 0.1 ? "c-failed" : left < 0.25 ? "c-deadline_exceeded" : "c-flying"}`);
    attribute(p.bar, "aria-label", `${Math.round(100 * left)}% of its time is left`);
  }
  say(p.left, left === null ? "no bound" : `${time(a.left_ms)} left`);
}

export function showSlow(answer, view, act) {
  const list = answer.attempts.filter((a) => !view.selected || a.batch === view.selected);
  act.makeSlow ??= makeSlow(act);
  reconcile($("slow"), list, (a) => `${a.batch}/${a.index}#${a.attempt}`, act.makeSlow, updateSlow);
  show($("slow-none"), list.length === 0);
  const suspects = answer.suspects ?? 0;
  say($("slow-count"), [answer.median_ms ? `median ${time(answer.median_ms)}` : "", suspects > 0 ? `${suspects} stuck suspect${suspects === 1 ? "" : "s"}` : ""].filter(Boolean).join(", "));
}

// ---- failures ----

function reasonOf(f) {
  if (f.reason === "signal") return `signal ${f.signal}`;
  if (f.reason === "exit" || f.reason === "exit_code") return `exit code ${f.code}`;
  if (f.reason === "timeout") return "ran out of its own time";
  if (f.reason === "deadline") return "the batch's deadline came";
  return (f.reason ?? f.verdict).replaceAll("_", " ");
}

function makeFailure(act) {
  return (f) => el("details", { class: "failure" },
    el("summary", {}, el("span", { class: `sign c-${f.verdict}`, title: VERDICT_WORDS[f.verdict] ?? f.verdict }, VERDICT_SIGNS[f.verdict] ?? "?"), el("code", {}, `${f.batch}/${f.index}`), el("span", {}, reasonOf(f)),
      el("span", { class: "dim" }, [f.worker ? `on ${clean(f.worker)}` : "", f.settled ? "" : "will be tried again"].filter(Boolean).join(", ")), el("span", { class: "dim push age" })),
    f.sentence ? el("p", {}, clean(f.sentence)) : "", f.stderr ? el("pre", { tabindex: "0" }, cleanLines(f.stderr)) : el("p", { class: "dim" }, "It has written nothing to standard error."),
    button("Why?", "Explain this task", () => act.explain({ batch: f.batch }, f.index)));
}

export function showFailures(failures, view, act) {
  act.makeFailure ??= makeFailure(act);
  const list = failures.filter((f) => !view.selected || f.batch === view.selected).slice(0, 40);
  reconcile($("failures"), list, (f) => `${f.batch}/${f.index}#${f.attempt}`, act.makeFailure, (node, f) => say(node.querySelector(".age"), `${time(f.age_ms)} ago`));
  show($("failures-none"), list.length === 0);
  say($("failures-count"), list.length > 0 ? `the newest ${list.length}` : "");
}

// ---- workers ----

function makeWorker(act) {
  return (s) => {
    const tr = el("tr", { "data-worker": s.number, tabindex: "-1" }), p = (tr.parts = { name: el("span", {}), state: el("span", { class: "badge" }), bar: el("div", { class: "progress thin", role: "img" }), used: el("span", { class: "seg c-flying" }), stop: el("span", { class: "seg c-cancelled" }), slots: el("span", { class: "dim" }), waiting: el("td", { class: "num" }), landing: el("td", { class: "num" }), drain: button("Drain", `Drain worker ${clean(s.name)}`, () => act.drain(tr.stand)) });
    p.bar.append(p.used, p.stop);
    tr.append(el("th", { scope: "row" }, p.name), el("td", {}, p.state), el("td", { class: "slots" }, p.bar, p.slots), p.waiting, p.landing, el("td", { class: "acts" }, button("Details", `Details of worker ${clean(s.name)}`, () => act.worker(tr.stand)), p.drain));
    return tr;
  };
}

function updateWorker(tr, s) {
  const p = tr.parts;
  tr.stand = s;
  say(p.name, clean(s.name));
  say(p.state, s.state.replace("_", " "));
  attribute(p.state, "data-state", s.state);
  p.used.style.width = `${(100 * Math.min(s.running, s.slots)) / s.slots}%`;
  p.stop.style.width = `${(100 * Math.min(s.stopping, s.slots)) / s.slots}%`;
  attribute(p.bar, "aria-label", `${s.running + s.stopping} of ${s.slots} slots run something`);
  say(p.slots, `${s.running + s.stopping}/${s.slots}`);
  say(p.waiting, count(s.waiting));
  say(p.landing, count(s.landing));
  p.drain.disabled = s.state === "draining";
}

export function showWorkers(stands, view, act) {
  const filter = view.workerFilter.toLowerCase();
  const list = [...stands.values()].filter((s) => !filter || `${s.name} ${s.state}`.toLowerCase().includes(filter));
  const rank = (s) => (s.state === "ready" ? 1 : 0);
  list.sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name, "en", { numeric: true }));
  act.makeWorker ??= makeWorker(act);
  reconcile($("workers"), list.slice(0, WORKERS_MOST), (s) => s.number, act.makeWorker, updateWorker);
  say($("workers-count"), list.length > WORKERS_MOST ? `${WORKERS_MOST} of ${list.length} shown; filter to see others` : list.length > 0 ? `${list.length}` : "");
  show($("workers-none"), stands.size === 0);
}
