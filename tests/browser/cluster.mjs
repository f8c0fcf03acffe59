// A ventilator, a sink and workers of a test's own: sockets and data in a folder that goes with them.
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, openSync, closeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

const PATIENCE = 60000;
const run = promisify(execFile);

export async function until(what, look, bound = PATIENCE) {
  const end = performance.now() + bound;
  let last;
  for (;;) {
    try { last = await look(); if (last) return last; } catch (error) { last = error; }
    if (performance.now() > end) throw new Error(`waited ${bound / 1000} s for ${what}; last: ${last}`);
    await new Promise((go) => setTimeout(go, 60));
  }
}

export class Cluster {
  constructor(bin) {
    this.bin = bin;
    this.dir = mkdtempSync(path.join(tmpdir(), "tarmac-browser-"));
    this.processes = new Map();
    this.http = "127.0.0.1:0";
  }

  env() {
    const env = Object.fromEntries(Object.entries(process.env).filter(([k]) => !k.startsWith("TARMAC_")));
    return { ...env, TARMAC_VENTILATOR: `ipc://${this.dir}/c` };
  }

  async start(name, program, args) {
    const log = path.join(this.dir, `${name}.log`), fd = openSync(log, "a");
    const before = readFileSync(log, "utf8").length;    // of an earlier one of this name
    const child = spawn(path.join(this.bin, program), args, { stdio: ["ignore", fd, fd], env: this.env() });
    closeSync(fd);
    child.ended = new Promise((go) => child.on("exit", (code, signal) => { child.over = code ?? signal; go(); }));
    this.processes.set(name, child);
    return until(`the ready line of ${name}`, () => {
      if (child.over !== undefined) throw new Error(`${name} ended with ${child.over}`);
      return /^ready.*$/m.exec(readFileSync(log, "utf8").slice(before))?.[0];
    });
  }

  async startVentilator() {
    const d = this.dir;
    const ready = await this.start("ventilator", "ventilator", ["serve", "--data", `${d}/v`, "--listen", `ipc://${d}/c`, "--workers-listen", `ipc://${d}/w`, "--lanes", `ipc://${d}/l-`,
      "--http", this.http, "--shutdown-timeout", "2s"]);
    this.url = /http=(http\S+)/.exec(ready)[1];
    this.http = new URL(this.url).host;      // the same again after a restart
  }

  async startSink() {
    const d = this.dir;
    await this.start("sink", "sink", ["--ventilator", `ipc://${d}/w`, "--data", `${d}/s`, "--results-listen", `ipc://${d}/r`, "--query-listen", `ipc://${d}/q`]);
  }

  async startWorker(name, slots) {
    await this.start(name, "worker", ["--ventilator", `ipc://${this.dir}/w`, "--sink", `ipc://${this.dir}/r`, "--name", name, "--slots", String(slots), "--allow-commands", "--shutdown-timeout", "1s"]);
  }

  async up(workers = 2, slots = 4) {
    await this.startVentilator();
    await this.startSink();
    for (let i = 1; i <= workers; i++) await this.startWorker(`w${i}`, slots);
    return this;
  }

  async cli(...args) {
    const asked = run(path.join(this.bin, "ventilator"), args, { env: this.env(), timeout: PATIENCE });
    asked.child.stdin.end();
    return (await asked).stdout.trim();
  }
  async status(batch) { return JSON.parse(await this.cli("status", batch, "--json")); }

  async kill(name, signal) {
    const child = this.processes.get(name);
    this.processes.delete(name);
    child.kill(signal);
    await child.ended;
  }

  logs() {
    return [...this.processes.keys()].map((name) => `---- ${name}\n${readFileSync(path.join(this.dir, `${name}.log`), "utf8").slice(-3000)}`).join("\n");
  }

  async down() {
    const all = [...this.processes.values()];
    for (const child of all) if (child.over === undefined) child.kill("SIGTERM");
    const force = setTimeout(() => { for (const child of all) if (child.over === undefined) child.kill("SIGKILL"); }, 20000);
    await Promise.all(all.map((child) => child.ended));
    clearTimeout(force);
    rmSync(this.dir, { recursive: true, force: true });
  }
}
