"use strict";
// A plain list of batches and workers, live.
const stands = new Map();
let sequence = 0;

function fill(id, rows) {
  const body = document.getElementById(id);
  body.replaceChildren(...rows.map((cells) => {
    const tr = document.createElement("tr");
    for (const cell of cells) {
      const td = document.createElement("td");
      td.textContent = cell;
      tr.append(td);
    }
    return tr;
  }));
}

async function loadField() {
  const field = await (await fetch("/api/v1/field")).json();
  stands.clear();
  for (const s of field.stands) stands.set(s[0], s);
  sequence = field.sequence;
}

async function onTick(event) {
  const tick = JSON.parse(event.data);
  if (tick.sequence !== sequence + 1) await loadField();
  sequence = tick.sequence;
  for (const s of tick.stands) stands.set(s[0], s);
  for (const number of tick.gone) stands.delete(number);
  const o = tick.overview;
  document.getElementById("state").textContent =
    `${o.workers} workers, ${o.slots} slots, ${o.queued} queued, ${o.running} running, ${o.rate_per_s.toFixed(1)}/s` + (o.note ? `: ${o.note}` : "");
  fill("batches", tick.batches.map((b) => [b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8] + b[9] + b[10] + b[11] + b[12]]));
  fill("workers", [...stands.values()].slice(0, 200).map((s) => [s[1], s[2], s[3], s[4], s[5] + s[6], s[7]]));
}

const stream = new EventSource("/api/v1/stream");
stream.addEventListener("tick", onTick);
stream.onerror = () => { document.getElementById("state").textContent = "the connection is lost; trying again"; };
