// A ventilator as the page sees it, with as many workers and tasks as a test wants: the page's own files, and made-up answers in
// the shapes of docs/http.md. Only for what no machine of ours could really run.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import path from "node:path";

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css" };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export class Stub {
  constructor(page, workers, slots, queued) {
    Object.assign(this, { page, workers, slots, queued, sequence: 0, recorded: 0, streams: new Set() });
    this.server = createServer((request, response) => this.answer(request, response));
  }

  async up() {
    await new Promise((go) => this.server.listen(0, "127.0.0.1", go));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    this.timer = setInterval(() => this.tick(), 1000);
    return this;
  }

  async down() {
    clearInterval(this.timer);
    for (const s of this.streams) s.end();
    this.server.closeAllConnections();
    await new Promise((go) => this.server.close(go));
  }

  stand(i) {
    const state = i % 97 === 5 ? "silent" : i % 61 === 3 ? "draining" : "ready", running = Math.floor(this.slots * (0.55 + 0.45 * Math.sin(i * 7.3 + this.sequence / 3) ** 2));
    return [i + 1, `node-${String(i + 1).padStart(3, "0")}`, state, this.slots, 12, state === "silent" ? 0 : running, 0, i % 5, i % 3 ? Math.floor(500 + 480 * Math.sin(i * 1.7 + this.sequence / 9)) : null];
  }

  overview() {
    const q = { p50: 12.1, p90: 31.0, p99: 88.4 };
    return { program: "stub", ready: true, draining: false, journal_full: false, sink_full: false, sink_present: true, epoch: 1, uptime_ms: 1000 * this.sequence, sequence: this.sequence, workers: this.workers,
      slots: this.workers * this.slots, desired_slots: 0, recovering: 0, batches: 3, open_batches: 3, queued: this.queued, waiting: 12 * this.workers, running: Math.floor(this.workers * this.slots * 0.8), stopping: 0, landing: 2 * this.workers,
      recorded: this.recorded, retried: 0, duplicates: 0, losses: 0, dispatched: 0, rate_per_s: 41234.5, run_ms: q, wait_ms: q, commit_ms: { p50: 2, p90: 4, p99: 7.5 }, note: null };
  }

  batch(n) {
    const total = [12000000, 800000, 50][n], queued = [this.queued - 400000, 400000, 0][n];
    return { number: n + 1, batch: ["b7k2", "c3d4", "e5f6"][n], name: ["embeddings", "thumbnails", "nightly-index"][n], handler: "run", state: "sealed", total, queued, running: n < 2 ? 12800 : 8, ok: total - queued - 12800 > 0 ? total - queued - 12800 : 30, failed: [4211, 0, 3][n],
      deadline_exceeded: [0, 82, 0][n], cancelled: 0, lost: 0, rejected: 0, retried: 0, duplicates: 0, deadline_left_ms: n === 1 ? 40000 : null, rate_per_s: [40000, 1234, 0.5][n], eta_ms: [243000, 60000, null][n], age_ms: 90000, trace_id: null, note: null };
  }

  tick() {
    this.sequence++;
    this.queued = Math.max(400000, this.queued - 41000);
    this.recorded += 41000;
    const b = [0, 1, 2].map((n) => this.batch(n));
    const rows = b.map((x) => [x.number, x.batch, x.name, x.state, x.total, x.queued, x.running, x.ok, x.failed, x.deadline_exceeded, 0, 0, 0, x.rate_per_s, x.eta_ms, x.deadline_left_ms]);
    const stands = Array.from({ length: Math.min(this.workers, 40) }, (_, i) => this.stand((i + this.sequence * 40) % this.workers));
    const planes = Array.from({ length: 32 }, (_, i) => ["b7k2", 1000 + i, 1, i + 1, "running", 60000 - 500 * i, 60000 + 500 * i, 120000]);
    const data = JSON.stringify({ sequence: this.sequence, overview: this.overview(), landed: { ok: 41000, failed: 14, deadline_exceeded: 2, cancelled: 0, lost: 1, rejected: 0 }, takeoffs: 41100, batches: rows, stands, stands_left: 460, gone: [], planes, planes_total: 25600 });
    for (const s of this.streams) s.write(`event: tick\ndata: ${data}\n\n`);
  }

  json(what) {
    if (what === "field") return { epoch: 1, sequence: this.sequence, stands: Array.from({ length: this.workers }, (_, i) => this.stand(i)) };
    if (what === "batches") return { batches: [0, 1, 2].map((n) => this.batch(n)), more: false, next: 3 };
    if (what === "slowest") return { median_ms: 12, suspects: 1, attempts: [{ batch: "b7k2", number: 1, index: 5, attempt: 1, worker: "node-007", worker_number: 7, handler: "run", phase: "running", age_ms: 90000, left_ms: 30000, budget_ms: 120000, suspect: true, reason: "runs 7500 times longer than the median" }] };
    if (what === "failures") return { failures: [] };
    const wave = (n, f) => Array.from({ length: n }, (_, i) => f(i));
    const series = (step) => ({ step_ms: step, end_ms: 1, rate_per_s: wave(300, (i) => 38000 + 4000 * Math.sin(i / 17)), running: wave(300, (i) => 25000 + 900 * Math.sin(i / 5)), queued: wave(300, (i) => 10000000 + 41000 * (300 - i)), p50_ms: wave(300, () => 12), p90_ms: wave(300, (i) => 30 + 4 * Math.sin(i / 9)), p99_ms: wave(300, (i) => 80 + 30 * Math.sin(i / 23)) });
    return { fine: series(1000), coarse: series(10000) };
  }

  answer(request, response) {
    const name = new URL(request.url, "http://x").pathname;
    if (name === "/api/v1/stream") {
      response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
      response.write(`event: hello\ndata: {"program":"stub","epoch":1,"tick_ms":1000,"sequence":${this.sequence}}\n\n`);
      this.streams.add(response);
      request.on("close", () => this.streams.delete(response));
    } else if (name.startsWith("/api/v1/")) {
      response.writeHead(200, { "Content-Type": "application/json" });
      response.end(JSON.stringify(this.json(name.split("/")[3])));
    } else {
      const file = name === "/" ? "index.html" : path.basename(name);
      response.writeHead(200, { "Content-Type": TYPES[path.extname(file)] ?? "text/plain", "Content-Security-Policy": CSP });
      response.end(readFileSync(path.join(this.page, file)));
    }
  }
}
