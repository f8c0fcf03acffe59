// The pictures of the documentation, of a cluster that has something to do.
import { execFileSync } from "node:child_process";
import path from "node:path";
import { Cluster } from "./cluster.mjs";
import { Stub } from "./stub.mjs";

const WORK = [
  ["--name", "thumbnails", "--timeout", "9s", "--weight", "3", "--deadline", "10m", "--range", "1-2000", "--", "bash", "-c", "sleep $((RANDOM%4)).$((RANDOM%9))"],
  ["--name", "embeddings", "--timeout", "60s", "--range", "1-6", "--", "sleep", "50"],
  ["--name", "nightly-index", "--deadline", "4m", "--timeout", "5s", "--range", "1-900", "--", "bash", "-c", 'case $((RANDOM%9)) in 0) echo "cannot open shard-$0: no such file" >&2; exit 3;; 1) sleep 9;; *) sleep 2.$((RANDOM%9));; esac'],
  ["--name", "needs a gpu", "--require", "gpu=yes", "--range", "1-50", "--", "true"],
];

async function shoot(browser, url, file, options, whole, then) {
  const context = await browser.newContext(options), page = await context.newPage();
  await page.goto(url);
  await page.locator('#link[data-state="live"]').waitFor();
  await page.waitForTimeout(5300);
  await then?.(page);
  await page.screenshot({ path: file, fullPage: whole });
  await context.close();
  execFileSync("convert", [file, "-dither", "None", "-colors", "112", "-define", "png:compression-level=9", "-strip", `PNG8:${file}`]);
}

export async function shots(browser, bin, pages, folder) {
  const cluster = await new Cluster(bin).up(0), stub = await new Stub(pages, 500, 64, 10000000).up();
  const wide = { viewport: { width: 1280, height: 860 } }, narrow = { viewport: { width: 390, height: 844 } };
  try {
    for (let i = 1; i <= 6; i++) await cluster.startWorker(`berlin-${i}`, 4 + 2 * (i % 2));
    for (const work of WORK) await cluster.cli("submit", ...work);
    await new Promise((go) => setTimeout(go, 50000));
    await shoot(browser, cluster.url, path.join(folder, "tower-dark.png"), { ...wide, colorScheme: "dark" });
    await shoot(browser, cluster.url, path.join(folder, "tower-light.png"), { ...wide, colorScheme: "light" }, false, (page) => page.evaluate(() => window.scrollTo(0, 0)));
    await shoot(browser, cluster.url, path.join(folder, "tower-narrow.png"), { ...narrow, colorScheme: "dark" });
    await shoot(browser, stub.url, path.join(folder, "tower-500.png"), { ...wide, colorScheme: "dark" });
  } finally {
    await stub.down();
    await cluster.down();
  }
}
