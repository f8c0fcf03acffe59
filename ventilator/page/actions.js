"use strict";
// What a person can do. Everything that changes something asks first, and the safe answer has the focus.
import { $, attribute, clean, count, el, parseTime, say, show, time } from "/words.js";
import { get, post } from "/api.js";

const dialog = $("dialog");
let opener = null;

export function toast(text, bad = false) {
  const node = el("p", { class: bad ? "toast bad" : "toast" }, text);
  $("toasts").append(node);
  setTimeout(() => node.remove(), 8000);
}

function open(title, body, buttons) {
  opener = document.activeElement;
  say($("dialog-title"), title);
  $("dialog-body").replaceChildren(...body);
  $("dialog-buttons").replaceChildren(...buttons);
  show($("dialog-error"), false);
  if (!dialog.open) dialog.showModal();
}
dialog.addEventListener("close", () => opener?.focus?.());
dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });

function closer(text, focus) {
  const b = el("button", { type: "button", onclick: () => dialog.close() }, text);
  if (focus) queueMicrotask(() => b.focus());
  return b;
}

function fail(error) {
  say($("dialog-error"), clean(error.name === "TimeoutError" || error instanceof TypeError ? "The ventilator does not answer. Nothing is known of what became of this; look again when it is back." : error.message));
  show($("dialog-error"), true);
}

// A question with one button that does it. `read` gives the body, or throws what is wrong with it.
function ask(title, body, verb, danger, path, read, done) {
  const go = el("button", { type: "button", class: danger ? "danger solid" : "solid", id: "dialog-do" }, verb);
  go.addEventListener("click", async () => {
    go.disabled = true;
    show($("dialog-error"), false);
    try {
      toast(done(await post(path, read())));
      dialog.close();
    } catch (error) { fail(error); }
    go.disabled = false;
  });
  open(title, body, [closer("Keep as it is", !body.some((n) => n.querySelector?.("input[autofocus]"))), go]);
}

function titled(b) { return b.name ? `${b.batch} “${clean(b.name)}”` : b.batch; }

export function cancelBatch(b) {
  const reason = el("input", { type: "text", maxlength: "200", id: "cancel-reason" });
  ask(`Cancel batch ${titled(b)}?`, [
    el("p", {}, `${count(b.queued)} queued and ${count(b.running)} running tasks will be diverted. What has ended stays as it is. This can't be taken back.`),
    el("label", {}, "Reason, for the records ", reason),
  ], "Cancel the batch", true, `batches/${encodeURIComponent(b.batch)}/cancel`, () => ({ reason: reason.value || "cancelled in the control tower" }),
  (r) => `${r.batch}: ${count(r.queued)} queued and ${count(r.running)} running tasks cancelled${r.unreachable ? `, ${count(r.unreachable)} on workers that can't be reached` : ""}.`);
}

export function cancelTask(a) {
  ask(`Cancel task ${a.batch}/${a.index}?`, [el("p", {}, `It has run for ${time(a.age_ms)} on ${clean(a.worker)}. It is told to stop, then killed after its grace.`)],
    "Cancel the task", true, `batches/${encodeURIComponent(a.batch)}/cancel`, () => ({ reason: "cancelled in the control tower", tasks: [[a.index, 1]] }), (r) => `Task ${r.batch}/${a.index} is cancelled.`);
}

export function extend(b) {
  const input = el("input", { type: "text", id: "extend-time", size: "10", placeholder: "10m", autocomplete: "off", autofocus: true });
  const quick = ["5m", "15m", "1h", "6h"].map((t) => el("button", { type: "button", class: "chip", onclick: () => { input.value = t; input.focus(); } }, t));
  const left = b.deadline_left_ms ?? null;
  ask(`Move the deadline of batch ${titled(b)}?`, [
    el("p", {}, left === null ? "It has no deadline now; this gives it one." : `It has ${time(left - (performance.now() - b.at))} left. The new time counts from now, and may be shorter.`),
    el("label", {}, "New time from now ", input), el("p", { class: "quick" }, ...quick),
  ], "Move the deadline", false, `batches/${encodeURIComponent(b.batch)}/extend`, () => {
    const ms = parseTime(input.value);
    if (ms === null) throw new Error(`“${input.value}” is no time; write a number and ms, s, m, h or d, such as 10m or 1h30m`);
    return { deadline_ms: ms };
  }, (r) => `${r.batch} has ${time(r.deadline_left_ms)} from now.`);
  input.addEventListener("keydown", (e) => { if (e.key === "Enter") $("dialog-do").click(); });
  queueMicrotask(() => input.focus());
}

export function drain(s) {
  ask(`Drain worker ${clean(s.name)}?`, [el("p", {}, `It gives back the ${count(s.waiting)} tasks that wait there, finishes the ${count(s.running)} that run, and leaves. It takes nothing new.`)],
    "Drain the worker", true, `workers/${encodeURIComponent(s.name)}/drain`, () => ({}), (r) => `${clean(r.worker)} is draining.`);
}

export async function explain(b, index) {
  const what = index === undefined ? titled(b) : `${b.batch}/${index}`, list = el("ul", { class: "story", id: "story" }, el("li", {}, "asking …"));
  const task = el("input", { type: "text", inputmode: "numeric", size: "8", id: "story-task", placeholder: "index from 0" });
  task.addEventListener("keydown", (e) => { if (e.key === "Enter" && /^\d+$/.test(task.value.trim())) explain(b, task.value.trim()); });
  open(`The story of ${what}`, [list, el("label", {}, index === undefined ? "One of its tasks " : "Another task ", task)], [closer("Close", true)]);
  try {
    const r = await get(`explain/${encodeURIComponent(b.batch)}${index === undefined ? "" : `/${index}`}`);
    list.replaceChildren(...r.lines.map((line) => el("li", {}, clean(line))));
    if (r.recorded) list.append(el("li", {}, "It has ended, and the sink has its record: ventilator explain tells the rest."));
  } catch (error) { list.replaceChildren(); fail(error); }
}

export async function worker(s) {
  const box = el("div", {}, "asking …"), b = [closer("Close", true)];
  if (s.state !== "draining") b.unshift(el("button", { type: "button", onclick: () => { dialog.close(); drain(s); } }, "Drain …"));
  open(`Worker ${clean(s.name)}`, [box], b);
  try {
    const w = await get(`workers/${encodeURIComponent(s.name)}`);
    const facts = [["State", w.state], ["Address", w.address], ["Slots", `${w.running + w.stopping} of ${w.slots} in flight`], ["Holds", `${w.held}, at most ${w.window}`], ["Landed here", count(w.finished)], ["A task takes", time(w.service_ms)],
      ["Round trip", time(w.round_trip_ms)], ["Last heard", `${time(w.silent_ms)} ago`], ["Handlers", [...w.handlers.map(clean), w.commands ? "(commands)" : ""].filter(Boolean).join(", ") || "none"], ["Labels", Object.entries(w.labels).map(([k, v]) => `${clean(k)}=${clean(v)}`).join(", ") || "none"]];
    box.replaceChildren(el("dl", { class: "facts" }, ...facts.flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, v ?? "–")])),
      el("ul", { class: "story" }, ...w.attempts.slice(0, 12).map((a) => el("li", {}, `${a.batch}/${a.index}: ${a.phase}, ${time(a.age_ms)}${a.left_ms === null ? "" : `, ${time(a.left_ms)} left`}`))));
  } catch (error) { box.replaceChildren(); fail(error); }
}

export function help() {
  const keys = [["j, k", "next, previous batch"], ["Enter", "plots and failures of the chosen batch only"], ["x", "why does the chosen batch not run?"], ["e", "move its deadline"], ["c", "cancel it"], ["/", "filter"], ["t", "light, dark, or as the system"], ["Esc", "all batches again"], ["?", "this page"]];
  open("The control tower", [
    el("p", {}, "Tasks wait on the apron, take off to a slot of a worker (its stand), fly, and land on the runway: the sink, which records how they ended. Around each plane is its fuel: how much of its time is left. One that runs out of time, or is cancelled, diverts."),
    el("dl", { class: "facts keys" }, ...keys.flatMap(([k, v]) => [el("dt", {}, el("kbd", {}, k)), el("dd", {}, v)])),
    el("p", { class: "dim" }, "On the field, the arrow keys choose a worker, Enter opens it. The same is told by ventilator watch in a terminal, and as JSON under /api/v1/."),
  ], [closer("Close", true)]);
}

// light → dark → as the system has it
export function wireTheme(changed) {
  const names = ["auto", "light", "dark"];
  let at = 0;
  try { at = Math.max(0, names.indexOf(localStorage.getItem("tarmac-theme") ?? "auto")); } catch { /* No storage: the page forgets. */ }
  const apply = () => {
    attribute(document.documentElement, "data-theme", names[at]);
    say($("theme"), `Theme: ${names[at]}`);
    try { localStorage.setItem("tarmac-theme", names[at]); } catch { /* The same. */ }
    changed();
  };
  const next = () => { at = (at + 1) % names.length; apply(); };
  $("theme").addEventListener("click", next);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  apply();
  return next;
}
