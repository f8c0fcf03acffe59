"use strict";
// Talks to the ventilator: questions, actions, and the stream with its reconnects.

async function answer(response) {
  let body = null;
  try { body = await response.json(); } catch { /* Not JSON: the status has to do. */ }
  if (!response.ok) throw new Error(body?.error ?? `the ventilator answers ${response.status}`);
  return body;
}

export async function get(path) {
  return answer(await fetch(`/api/v1/${path}`, { signal: AbortSignal.timeout(10000), cache: "no-store" }));
}

// X-Tarmac is what no page of another site can send.
export async function post(path, body) {
  return answer(await fetch(`/api/v1/${path}`, {
    method: "POST", signal: AbortSignal.timeout(60000),
    headers: { "Content-Type": "application/json", "X-Tarmac": "1" }, body: JSON.stringify(body),
  }));
}

const SILENCE = 4000;    // of a stream that ticks once a second
const PATIENCE = 20000;  // with one that has only been opened

// Keeps a stream open. `on` has hello(data), tick(data), live(), lost(since), and refused() when it does not come back.
export class Stream {
  constructor(on) {
    this.on = on;
    this.heard = performance.now();
    this.isLive = false;
    this.pause = 500;
    this.open();
    setInterval(() => this.look(), 500);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.look(); });
  }

  open() {
    const source = new EventSource("/api/v1/stream");
    this.source = source;
    this.opened = performance.now();
    source.addEventListener("hello", (e) => { if (source === this.source) this.on.hello(JSON.parse(e.data)); });
    source.addEventListener("tick", (e) => {
      if (source !== this.source) return;
      this.heard = performance.now();
      this.pause = 500;
      if (!this.isLive) { this.isLive = true; this.on.live(); }
      this.on.tick(JSON.parse(e.data));
    });
    source.onerror = () => { if (source === this.source) this.lose(); };
  }

  lose() {
    this.source.close();
    this.source = null;
    if (this.isLive) { this.isLive = false; this.on.lost(this.heard); }
    clearTimeout(this.again);
    this.again = setTimeout(() => this.open(), this.pause);
    if (this.pause > 1000) this.on.refused();
    this.pause = Math.min(this.pause * 1.6, 5000);
  }

  // A connection that stands, and says nothing, is lost as well. But a page that stood still itself (a busy machine, a hidden tab) first
  // reads what has come meanwhile.
  look() {
    const now = performance.now(), stood = now - (this.looked ?? now);
    this.looked = now;
    if (stood < 2000 && this.source && now - this.heard > SILENCE && now - this.opened > (this.isLive ? SILENCE : PATIENCE)) this.lose();
  }
}
