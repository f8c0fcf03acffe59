// The control tower's page in a real browser, against real clusters. Prints a line for each test, and `N passed, N failed`.
// usage: node tests/browser/run.mjs [WORD]    only tests whose name has WORD; B=build folder, CHROMIUM=browser,
//        SHOTS=folder writes the pictures of the documentation instead
import { chromium } from "playwright-core";
import { strict as assert } from "node:assert";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Cluster, until } from "./cluster.mjs";
import { Stub } from "./stub.mjs";
import { shots } from "./shots.mjs";

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const BIN = path.resolve(ROOT, process.env.B ?? "build", "bin");
const FOREVER = ["--", "sh", "-c", "exec tail -f /dev/null"];
const WAIT = { timeout: Number(process.env.PATIENCE ?? 60) * 1000 };

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--disable-gpu", ...(process.getuid() === 0 ? ["--no-sandbox"] : [])] });
const tests = [];
let said = [];
const test = (name, run) => tests.push({ name, run });

// A page that must stay without errors: scripts that fail, and whatever the security policy stops.
async function open(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.said = said = [];
  page.on("pageerror", (error) => page.said.push(error.message));
  page.on("console", (m) => { if (m.type() === "error" && !/net::ERR_|Failed to load resource/.test(m.text())) page.said.push(m.text()); });
  page.setDefaultTimeout(WAIT.timeout);
  await page.goto(url);
  await page.locator('#link[data-state="live"]').waitFor();
  return page;
}

const row = (page, batch) => page.locator(`tr[data-batch="${batch}"]`);
const text = (page, selector) => page.locator(selector).innerText();

test("planes appear, and land", async ({ cluster }) => {
  const page = await open(cluster.url);
  await page.locator("#field[data-stands='2']").waitFor();
  assert.equal(await page.locator("#field").getAttribute("data-mode"), "planes");
  const batch = await cluster.cli("submit", "--name", "first flight", "--timeout", "1h", "--range", "1-6", "--", "sh", "-c", `while [ ! -e ${cluster.dir}/land ]; do sleep 0.1; done`);
  await until("six planes", async () => (await page.locator("#field").getAttribute("data-planes")) === "6");
  assert.equal(await page.locator("#planes li").count(), 6);
  assert.match(await page.locator("#planes li").first().innerText(), new RegExp(`^${batch}/\\d on w[12], running for .*, 100% fuel$`));
  assert.match(await page.locator("#field").getAttribute("aria-label"), /2 workers with 8 slots, 6 planes in flight/);
  await row(page, batch).waitFor();
  writeFileSync(`${cluster.dir}/land`, "");
  await row(page, batch).locator(".badge", { hasText: "complete" }).waitFor();
  assert.match(await row(page, batch).locator(".counts").innerText(), /^100%\s+6\/6/);
  await until("an empty sky", async () => (await page.locator("#field").getAttribute("data-planes")) === "0");
  return page;
});

test("a deadline counts down, and diverts", async ({ cluster }) => {
  const page = await open(cluster.url), batch = await cluster.cli("submit", "--deadline", "6s", "--grace", "100ms", "--range", "1-3", ...FOREVER);
  const cell = row(page, batch).locator(".deadline");
  const seconds = async () => parseFloat(await cell.innerText());
  const first = await until("a countdown", seconds);
  await until("less of it", async () => (await seconds()) < first - 0.5);
  await row(page, batch).locator(".tag", { hasText: "3 late" }).waitFor();
  await row(page, batch).locator(".badge", { hasText: "complete" }).waitFor();
  assert.equal((await cluster.status(batch)).deadline_exceeded, 3);
  return page;
});

test("a cancel asks first, and then cancels", async ({ cluster }) => {
  const page = await open(cluster.url), batch = await cluster.cli("submit", "--name", "doomed", "--range", "1-20", ...FOREVER);
  const cancel = row(page, batch).getByRole("button", { name: `Cancel batch ${batch}` });
  await cancel.click();
  await page.getByRole("heading", { name: `Cancel batch ${batch} “doomed”?` }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Keep as it is");
  await page.keyboard.press("Enter");
  await page.locator("#dialog").waitFor({ state: "hidden" });
  assert.equal((await cluster.status(batch)).state, "sealed");
  await cancel.click();
  await page.getByRole("button", { name: "Cancel the batch" }).click();
  await page.locator(".toast", { hasText: `${batch}: ` }).waitFor();
  await row(page, batch).locator(".badge", { hasText: "complete" }).waitFor();
  assert.equal((await cluster.status(batch)).cancelled, 20);
  return page;
});

test("a task is cancelled, a deadline moved, a worker drained", async ({ cluster }) => {
  const page = await open(cluster.url), batch = await cluster.cli("submit", "--deadline", "10m", "--range", "1-2", ...FOREVER);
  await page.getByRole("button", { name: "Cancel this task" }).first().click();
  await page.getByRole("button", { name: "Cancel the task" }).click();
  await until("one cancelled task", async () => (await cluster.status(batch)).cancelled === 1);
  await row(page, batch).getByRole("button", { name: /^Extend/ }).click();
  await page.locator("#extend-time").fill("soon");
  await page.getByRole("button", { name: "Move the deadline" }).click();
  await page.locator("#dialog-error", { hasText: "“soon” is no time" }).waitFor();
  await page.locator("#extend-time").fill("2h 30m");
  await page.keyboard.press("Enter");
  await page.locator("#dialog").waitFor({ state: "hidden" });
  assert.ok((await cluster.status(batch)).deadline_left_ms > 8000000);
  await page.getByRole("button", { name: "Drain worker w2" }).click();
  await page.getByRole("button", { name: "Drain the worker" }).click();
  await page.locator(".toast", { hasText: "w2 is draining" }).waitFor();
  await page.locator("#workers tr", { hasText: "w2" }).locator(".badge", { hasText: "draining" }).or(page.locator("#workers-count", { hasText: /^1$/ })).first().waitFor();
  await cluster.cli("cancel", batch);
  return page;
});

test("failures are told, whatever they are called", async ({ cluster }) => {
  const page = await open(cluster.url), evil = "<img src=x onerror=\"document.title='owned'\">\u202e";
  const batch = await cluster.cli("submit", "--name", evil, "--range", "1-2", "--", "sh", "-c", "printf '<script>alert(1)</script> no such shard\\n' >&2; exit 3");
  await row(page, batch).locator(".tag", { hasText: "2 failed" }).waitFor();
  await row(page, batch).locator(".name").getByText(evil.replace("\u202e", "\ufffd"), { exact: true }).waitFor();
  const failure = page.locator(".failure", { hasText: `${batch}/` }).first();
  await failure.waitFor();
  await failure.locator("summary").click();
  assert.match(await failure.innerText(), /exit code 3/);
  assert.match(await failure.locator("pre").innerText(), /<script>alert\(1\)<\/script> no such shard/);
  await failure.getByRole("button", { name: "Explain this task" }).click();
  await page.locator("#story li", { hasText: `batch ${batch} is complete` }).waitFor();
  await page.keyboard.press("Escape");
  assert.doesNotMatch(await page.title(), /owned/);
  return page;
});

test("what waits says why", async ({ cluster }) => {
  const page = await open(cluster.url), batch = await cluster.cli("submit", "--require", "gpu=yes", "--range", "1-5", "--", "true");
  await row(page, batch).locator(".row-note", { hasText: "no present worker has the required label gpu=yes" }).waitFor();
  await row(page, batch).getByRole("button", { name: /^Explain/ }).click();
  await page.locator("#story li", { hasText: "gpu" }).first().waitFor();
  await page.keyboard.press("Escape");
  await cluster.cli("cancel", batch);
  return page;
});

test("a restart of the ventilator is told, and survived", async ({ cluster }) => {
  const page = await open(cluster.url), batch = await cluster.cli("submit", "--name", "kept", "--range", "1-2", ...FOREVER);
  await row(page, batch).waitFor();
  await cluster.kill("ventilator", "SIGKILL");
  await page.locator('#link[data-state="lost"]', { hasText: "no contact for" }).waitFor();
  assert.match(await text(page, "#lost"), /reconnects by itself/);
  assert.ok(await page.evaluate(() => document.body.classList.contains("stale")));
  await row(page, batch).waitFor();              // what was known is still shown
  await row(page, batch).getByRole("button", { name: /^Cancel/ }).click();
  await page.getByRole("button", { name: "Cancel the batch" }).click();
  await page.locator("#dialog-error", { hasText: "does not answer" }).waitFor();
  await page.keyboard.press("Escape");
  await cluster.startVentilator();
  await page.locator('#link[data-state="live"]').waitFor();
  await page.locator("#lost").waitFor({ state: "hidden" });
  assert.ok(!(await page.evaluate(() => document.body.classList.contains("stale"))));
  await row(page, batch).waitFor();
  await page.locator("#footer", { hasText: "epoch 2" }).waitFor();
  await cluster.cli("cancel", batch);
  await row(page, batch).locator(".badge", { hasText: "complete" }).waitFor();
  return page;
});

test("keys, themes, labels", async ({ cluster }) => {
  const batch = await cluster.cli("submit", "--name", "by key", "--range", "1-2", ...FOREVER);
  const page = await open(cluster.url, { colorScheme: "dark" });
  await row(page, batch).waitFor();
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await page.keyboard.press("t");
  assert.equal(await page.locator("html").getAttribute("data-theme"), "light");
  assert.notEqual(await ground(), dark);
  await page.keyboard.press("?");
  await page.getByRole("heading", { name: "The control tower", exact: true }).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.locator("#unselect").waitFor();
  await page.keyboard.press("x");
  await page.locator("#story li", { hasText: "2 tasks" }).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await page.locator("#unselect").waitFor({ state: "hidden" });
  await page.keyboard.press("/");
  await page.keyboard.type("nothing like it");
  await page.locator("#batches-none").waitFor();
  await page.locator("#filter").fill("");
  await page.locator("#field").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await page.locator("#field-tip", { hasText: "w2" }).waitFor();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Worker w2" }).waitFor();
  await page.keyboard.press("Escape");
  const unnamed = await page.evaluate(() => [...document.querySelectorAll("button, input, canvas, svg[role=img], [role=img]")].filter((n) =>
    !n.closest("[hidden]") && !(n.getAttribute("aria-label") || n.textContent.trim() || n.labels?.length || n.title)).map((n) => n.outerHTML.slice(0, 100)));
  assert.deepEqual(unnamed, []);
  await cluster.cli("cancel", batch);
  return page;
});

test("a narrow screen has everything, and nothing beside it", async ({ cluster }) => {
  const batch = await cluster.cli("submit", "--name", "a name that is much too long for a screen as narrow as this one is", "--range", "1-2", ...FOREVER);
  const page = await open(cluster.url, { viewport: { width: 360, height: 740 } });
  await row(page, batch).waitFor();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is wider than the screen");
  await row(page, batch).getByRole("button", { name: /^Cancel/ }).click();
  await page.getByRole("button", { name: "Cancel the batch" }).click();
  await row(page, batch).locator(".badge", { hasText: "complete" }).waitFor();
  return page;
});

test("500 workers with 64 slots and 10,000,000 tasks stay smooth", async () => {
  const stub = await new Stub(path.join(ROOT, "ventilator/page"), 500, 64, 10000000).up();
  try {
    const page = await open(stub.url);
    await page.locator("#field[data-mode='tiles'][data-stands='500']").waitFor();
    const frames = await page.evaluate(() => new Promise((done) => {
      const times = [];
      let last = performance.now();
      const end = last + 6000;
      const frame = (now) => { times.push(now - last); last = now; if (times.length < 150 && (now < end || times.length < 12)) requestAnimationFrame(frame); else done(times.slice(5)); };
      requestAnimationFrame(frame);
    }));
    frames.sort((a, b) => a - b);
    const at = (p) => frames[Math.floor((frames.length - 1) * p)];
    console.log(`# time of a frame, 500 x 64: median ${at(0.5).toFixed(1)} ms, 95% ${at(0.95).toFixed(1)} ms, worst ${at(1).toFixed(1)} ms`);
    assert.ok(at(0.5) < 500, `the median frame takes ${at(0.5)} ms`);
    const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
    assert.ok(nodes < 4000, `the page has ${nodes} elements; it must not grow with the workers`);
    return page;
  } finally { await stub.down(); }
});

async function runOne({ name, run }) {
  const own = /500 workers/.test(name), since = performance.now(), cluster = own ? null : new Cluster(BIN);
  try {
    await cluster?.up();
    const page = await run({ cluster });
    assert.deepEqual(page.said, [], "the page has complained");
    console.log(`ok - browser/${name} (${Math.round((performance.now() - since) / 1000)} s)`);
    return true;
  } catch (error) {
    console.log(`not ok - browser/${name}\n${`${error.stack}\nthe page has complained: ${said.join("; ") || "no"}\n${cluster?.logs() ?? ""}`.replace(/^/gm, "# ")}`);
    return false;
  } finally {
    for (const context of browser.contexts()) await context.close();
    await cluster?.down();
  }
}

if (process.env.SHOTS) {
  await shots(browser, BIN, path.join(ROOT, "ventilator/page"), process.env.SHOTS);
} else {
  let passed = 0, failed = 0;
  for (const one of tests.filter((t) => t.name.includes(process.argv[2] ?? ""))) (await runOne(one)) ? passed++ : failed++;
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
}
await browser.close();
