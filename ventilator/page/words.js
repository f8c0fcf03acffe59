"use strict";
// Numbers and times as people read them, and small helpers for elements.

export const VERDICTS = ["ok", "failed", "deadline_exceeded", "cancelled", "lost", "rejected"];
export const VERDICT_WORDS = { ok: "landed", failed: "failed", deadline_exceeded: "diverted: out of time", cancelled: "diverted: cancelled", lost: "lost", rejected: "turned away" };
export const VERDICT_SIGNS = { ok: "✓", failed: "✕", deadline_exceeded: "◷", cancelled: "⊘", lost: "?", rejected: "!" };

export function count(n) {
  if (n === null || n === undefined) return "–";
  if (n < 10000) return n.toLocaleString("en");
  if (n < 1e6) return `${(n / 1e3).toFixed(n < 1e5 ? 1 : 0)}k`;
  if (n < 1e9) return `${(n / 1e6).toFixed(n < 1e8 ? 1 : 0)}M`;
  return `${(n / 1e9).toFixed(1)}G`;
}

export function rate(r) {
  if (r === null || r === undefined) return "–";
  return `${r < 10 && r > 0 ? r.toFixed(1) : count(Math.round(r))}/s`;
}

export function time(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 0) return `−${time(-ms)}`;
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s < 10 ? (Math.floor(ms / 100) / 10).toFixed(1) : s} s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(s % 60).padStart(2, "0")}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${String(Math.floor(s / 60) % 60).padStart(2, "0")}m`;
  return `${Math.floor(s / 86400)}d ${String(Math.floor(s / 3600) % 24).padStart(2, "0")}h`;
}

// "90s", "10m", "1h30m" → ms; null when it is none.
export function parseTime(text) {
  const units = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5 };
  let sum = 0, rest = text.trim().toLowerCase();
  if (rest === "") return null;
  while (rest !== "") {
    const m = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*/.exec(rest);
    if (!m) return null;
    sum += Number(m[1]) * units[m[2]];
    rest = rest.slice(m[0].length);
  }
  return sum > 0 ? Math.round(sum) : null;
}

// Names are anybody's: control characters and those that change the direction of text are replaced.
export function clean(text) {
  return String(text ?? "").replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, "\ufffd");
}
// The same for many lines, whose ends and tabs stay.
export function cleanLines(text) {
  return String(text ?? "").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, "\ufffd");
}

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

// Writes only what differs: a tick that changes nothing costs no layout, and a screen reader hears nothing.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
export function attribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}
export function show(node, yes) {
  if (node.hidden === yes) node.hidden = !yes;
}

// Brings the children of a list into the order of `items`, each with a node of its own that is kept from time to time.
export function reconcile(parent, items, keyOf, make, update) {
  const old = parent.nodesByKey ?? new Map(), now = new Map();
  let at = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    const node = old.get(key) ?? make(item);
    old.delete(key);
    now.set(key, node);
    update(node, item);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  for (const node of old.values()) node.remove();
  parent.nodesByKey = now;
}
