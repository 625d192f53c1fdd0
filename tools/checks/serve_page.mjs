// Tries the page of a running `wikigpt serve` in a browser, and takes pictures of it.
//
//     wikigpt serve runs/001 [--api-key KEY]
//     npm install playwright-core
//     [WIKIGPT_API_KEY=KEY] node tools/checks/serve_page.mjs http://127.0.0.1:8080 FOLDER_FOR_PICTURES [/usr/bin/chromium]
//
// Narrow and wide, light and dark: text is written and stopped, tokens are pointed at and walked through, an error is shown,
// nothing moves while the text comes, and nothing is wider than the window. A classifier's page is tried by its tab. Where the server
// wants a key, the page asks for it; a page of another site, and one that calls itself by another name, get nothing.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";

// From where it is run, so that the package need not be installed here.
const { chromium } = createRequire(`${process.cwd()}/`)("playwright-core");
const [address, folder, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });

const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath, args });
const key = process.env.WIKIGPT_API_KEY;
const headers = key ? { Authorization: `Bearer ${key}` } : {};
const model = (await (await fetch(`${address}/v1/models`, { headers })).json()).data[0];
await elsewhere();

for (const [name, width, height, colorScheme] of [["narrow", 360, 740, "light"], ["narrow-dark", 360, 740, "dark"],
  ["wide", 1280, 800, "light"], ["wide-dark", 1280, 800, "dark"]]) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  const problems = [];
  const abroad = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => request.url().startsWith(address) || request.url().startsWith("data:") || abroad.push(request.url()));
  await page.goto(address);
  const picture = (what) => page.screenshot({ path: `${folder}/${name}-${what}.png`, fullPage: true });
  if (key) await unlock(page, picture);
  await page.waitForFunction(() => document.getElementById("about").textContent.includes("context"));
  await picture("empty");
  if (model.labels) await classify(page, picture);
  else await write(page, picture);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(wider <= 0, `${name}: ${wider} pixels wider than the window`);
  const expected = ["400 (Bad Request)", ...(key ? ["401 (Unauthorized)"] : [])];
  const unexpected = problems.filter((problem) => !expected.some((part) => problem.includes(part)));
  assert.deepEqual(unexpected, [], name);
  assert.deepEqual(abroad, [], `${name}: asked elsewhere`);
  await context.close();
  console.log(`${name}: as it should be`);
}
await browser.close();

/** The key is asked for, a wrong one is told, and the right one is kept as long as the tab is there. */
async function unlock(page, picture) {
  await page.waitForSelector("#unlock:not([hidden])");
  assert.ok(await page.isHidden("#ask") && await page.isHidden("#wrong-key"));
  assert.equal(await page.evaluate(() => document.activeElement.id), "key");
  await picture("locked");
  await page.fill("#key", `${key}x`);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#wrong-key:not([hidden])");
  assert.match(await page.textContent("#wrong-key"), /not the server’s/);
  await picture("wrong-key");
  await page.fill("#key", "ключ");
  await page.click("#open");
  assert.ok(await page.isVisible("#unlock"), "a key that no header holds is sent");
  await page.fill("#key", key);
  await page.click("#open");
  await page.waitForSelector("#unlock", { state: "hidden" });
  await page.reload();
  await page.waitForFunction(() => document.getElementById("about").textContent.includes("context"));
  assert.ok(await page.isHidden("#unlock"), "the key is forgotten");
}

/** What a page of another site gets: nothing it can read, and nothing is done for it. */
async function elsewhere() {
  const stranger = createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end("<title>elsewhere</title>"));
  await new Promise((go) => stranger.listen(0, "127.0.0.1", go));
  const context = await browser.newContext();
  const page = await context.newPage();
  const statuses = [];
  page.on("response", (answer) => answer.url().startsWith(address) && statuses.push(answer.status()));
  await page.goto(`http://localhost:${stranger.address().port}/`);
  for (const type of ["text/plain", "application/json"]) {
    const read = await page.evaluate(async ([url, type]) => {
      const ask = { method: "POST", headers: { "Content-Type": type }, body: "{}" };
      await fetch(url, { ...ask, mode: "no-cors" }).catch(() => {});
      return fetch(url, ask).then((answer) => answer.text(), () => null);
    }, [`${address}/v1/completions`, type]);
    assert.equal(read, null, "another site reads an answer");
  }
  assert.ok(statuses.length >= 2 && statuses.every((status) => status === 403), `${statuses}`);
  await context.close();
  stranger.close();

  // A name that its owner has made to stand for this machine.
  const { port } = new URL(address);
  const rebound = await chromium.launch({ executablePath, args: [...args, `--host-resolver-rules=MAP evil.example 127.0.0.1`] });
  const trap = await rebound.newPage();
  const answer = await trap.goto(`http://evil.example:${port}/v1/models`);
  assert.equal(answer.status(), 421);
  assert.match(await answer.text(), /does not answer for the host/);
  await rebound.close();
  console.log("elsewhere: nothing");
}

async function write(page, picture) {
  const boxes = () => page.evaluate(() => ["ask", "text", "detail"].map((id) => {
    const { x, y, width, height } = document.getElementById(id).getBoundingClientRect();
    return [x, y + scrollY, width, height];
  }));
  const before = await boxes();
  await page.fill("#prompt", "The river é ");
  await page.fill("#max_tokens", "80");
  await page.fill("#seed", "7");
  await page.focus("#prompt");
  await page.keyboard.press("Control+Enter");
  await page.waitForFunction(() => document.querySelectorAll("#text span").length > 5);
  assert.deepEqual(await boxes(), before, "the layout moves");
  await page.waitForFunction(() => !document.getElementById("go").disabled);
  assert.match(await page.textContent("#speed"), /\d+ \+ \d+ tokens/);
  const text = await page.textContent("#text");
  assert.ok(text.startsWith("The river é "), text);
  await picture("written");

  // What is pointed at shows what else there might have been, and what was looked at.
  const tokens = page.locator("#text span:not(.prompt)");
  await tokens.nth(10).hover();
  assert.ok(await page.locator("#detail .bars code").count() >= 10);
  const sum = await page.evaluate(() => [...document.querySelectorAll("#detail .bars b")].map((b) => parseFloat(b.textContent.replace("<", ""))).reduce((a, b) => a + b));
  assert.ok(sum > 0 && sum <= 100.5, `probabilities sum to ${sum}`);
  const shaded = await page.evaluate(() => [...document.querySelectorAll("#text span")].filter((span) => span.style.background).length);
  assert.ok(shaded > 0, "nothing is shaded");
  await picture("pointed");
  await page.focus("#text");
  await page.mouse.move(0, 0);
  await page.keyboard.press("Home");
  assert.match(await page.textContent("#detail"), /The first token/);
  await page.keyboard.press("ArrowRight");
  assert.ok(await page.locator("#detail .bars code").count() >= 10);
  await page.uncheck("#shade");
  assert.equal(await page.evaluate(() => [...document.querySelectorAll("#text span")].filter((span) => span.style.background).length), 0);
  await page.check("#shade");

  // The same seed writes the same again.
  await page.click("#go");
  await page.waitForFunction(() => !document.getElementById("go").disabled);
  assert.equal(await page.textContent("#text"), text);

  // A long text is stopped, and its slot is free again.
  await page.fill("#max_tokens", "4000");
  await page.click("#go");
  await page.waitForFunction(() => document.querySelectorAll("#text span").length > 40);
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => document.getElementById("state").textContent === "Stopped.");
  for (let tries = 0; (await (await fetch(`${address}/healthz`)).json()).busy > 0; tries++) {
    assert.ok(tries < 100, "the slot stays taken");
    await page.waitForTimeout(50);
  }

  // An error is told.
  await page.fill("#prompt", "x".repeat(60_000));
  await page.fill("#max_tokens", "10");
  await page.click("#go");
  await page.waitForSelector("#wrong:not([hidden])");
  assert.match(await page.textContent("#wrong"), /tokens: at most/);
  assert.deepEqual(await boxes(), before, "the layout moves for an error");
  await page.fill("#prompt", "x");
  await picture("error");
  await page.click("#tab-classify");
  assert.ok(await page.isVisible("#no-classify"));
  await page.keyboard.press("ArrowLeft");
  assert.ok(await page.isVisible("#ask"));
}

async function classify(page, picture) {
  assert.ok(await page.isVisible("#judge"), "the classifier's tab is not open");
  await page.click("#label");
  assert.match(await page.textContent("#wrong-label"), /first/);
  await page.fill("#texts", "so good 1\n\nnot at all what was hoped for, and much longer than the others are\nbad");
  await page.focus("#texts");
  await page.keyboard.press("Control+Enter");
  await page.waitForSelector(".labelled");
  assert.equal(await page.locator(".labelled").count(), 3);
  assert.ok(await page.isHidden("#wrong-label"));
  await picture("labelled");
}
