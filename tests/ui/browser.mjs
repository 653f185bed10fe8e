// Chromium for the tests of the dashboard: pages that tell of every error, calls to make, and axe.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
/** Longer than any page takes on a busy machine. */
const LIMIT = 30_000;

/** A variable that the lane sets. */
export function given(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set: run \`cargo xtask test --only ui-browser\``);
  return value;
}

export const launch = () => chromium.launch({ executablePath: given("BACKSTAY_CHROMIUM"), args: FLAGS });

/**
 * A page of a new profile. `page.trouble` collects console errors, exceptions and requests to other
 * places; `page.expect` has patterns of trouble that a test brings about itself.
 */
export async function open(browser, base, { width = 1280, scheme = "light" } = {}) {
  const context = await browser.newContext({
    baseURL: base,
    colorScheme: scheme,
    viewport: { width, height: 844 },
    permissions: ["clipboard-read", "clipboard-write"],
  });
  return tab(context, base);
}

/** One more page of the same browser, with its connections and its session. */
export async function tab(context, base) {
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT);
  page.trouble = [];
  page.expect = [];
  const note = (text) => {
    if (!page.expect.some((pattern) => pattern.test(text))) page.trouble.push(text);
  };
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) note(`console: ${message.text()} ${message.location().url}`);
  });
  page.on("pageerror", (error) => note(`exception: ${error.message}`));
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== base && protocol !== "data:") note(`request to another place: ${request.url()}`);
  });
  return page;
}

/** Ends a page, and fails if anything was wrong on it. */
export async function close(page) {
  const { trouble } = page;
  await page.context().close();
  assert.deepEqual(trouble, []);
}

/** Does something on a page of its own. */
export async function visit(browser, base, options, visitor) {
  const page = await open(browser, base, options);
  try {
    await visitor(page);
  } catch (error) {
    if (page.trouble.length > 0) error.message += `\nand on the page: ${page.trouble.join("\n")}`;
    await page.context().close();
    throw error;
  }
  await close(page);
}

/** Fails if axe finds anything that breaks WCAG 2 AA or its best practices. */
export async function accessible(page, where) {
  await page.evaluate(AXE); // over the debugger, so that the content security policy stays in force
  const violations = await page.evaluate(async () => {
    const found = await window.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    });
    return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html.slice(0, 160)} (${node.failureSummary})`).join("\n")}`);
  });
  assert.deepEqual(violations, [], where);
}

/** Fails if the page as a whole can be moved sideways. */
export async function narrow(page, where) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(over <= 0, `${where} is ${over} px too wide`);
}

/** Waits until something holds on the page. */
export async function until(page, what, holds, argument) {
  try {
    await page.waitForFunction(holds, argument, { timeout: LIMIT });
  } catch (error) {
    throw new Error(`${what}: ${error.message}\nthe page says: ${(await page.innerText("body")).slice(0, 2_000)}`);
  }
}

/** Puts a page behind others, or before them: playwright tells every page that it is seen. */
export const hide = (page, hidden) =>
  page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    Object.defineProperty(document, "visibilityState", { configurable: true, get: () => (hidden ? "hidden" : "visible") });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);

/** Makes a call as an application does; returns its id. */
export async function call(base, model, { key, stream = false } = {}) {
  const response = await fetch(`${base}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) },
    body: JSON.stringify({ model, stream, messages: [{ role: "user", content: "Hello" }] }),
  });
  await response.text();
  const id = response.headers.get("x-backstay-call-id");
  assert.ok(id, `status ${response.status} without a call id`);
  return id;
}

/** Waits until a call is in the log; it is stored some hundredths of a second after its answer. */
export async function stored(base, id) {
  const end = Date.now() + LIMIT;
  for (;;) {
    const response = await fetch(`${base}/api/v1/log/${id}`);
    if (response.ok) return response.json();
    assert.ok(response.status === 404 && Date.now() < end, `${id} is not in the log: status ${response.status}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
