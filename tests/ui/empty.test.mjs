// A gateway that has seen no call: each page says what to do.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { given, launch, until, visit } from "./browser.mjs";
import { loaded, sound } from "./pages.mjs";

const base = given("BACKSTAY_URL_EMPTY");
let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

test("pages without data", (t) => sound(t, browser, base, [["/calls/greet", "greet"]]));

test("the board names the calls of the project, and says how to make one", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/", "Board");
    for (const call of ["greet", "extract-invoice", "quote", "idle-call"]) {
      assert.equal(await page.getByRole("link", { name: call, exact: true }).count(), 1, call);
    }
    assert.match(await page.innerText("main"), /No traffic in this window/);
    const snippet = await page.innerText(".snippet code");
    assert.ok(snippet.includes(`${base}/v1/chat/completions`), snippet);
    await page.getByRole("button", { name: /^Copy/ }).first().click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), snippet.trimEnd());
    await page.getByRole("button", { name: "Python" }).click();
    await until(page, "the snippet is Python", () => document.querySelector(".snippet code")?.textContent.includes("from openai import OpenAI"));
    assert.match(page.url(), /snippet=python/);
  }));

test("empty pages teach", () =>
  visit(browser, base, {}, async (page) => {
    for (const [path, heading, words] of [
      ["/log", "Log", /Every call leaves one line here/],
      ["/calls/greet", "greet", /No calls in this time/],
      ["/alerts", "Alerts", /backstay alerts test/],
      ["/alerts?tab=history", "Alerts", /No alert so far/],
      ["/alerts?tab=silences", "Alerts", /Nothing is silenced/],
      ["/health", "Health", /nothing was lost/],
    ]) {
      await loaded(page, path, heading);
      assert.match(await page.innerText("main"), words, path);
    }
  }));

test("what does not exist is said", () =>
  visit(browser, base, {}, async (page) => {
    page.expect.push(/status of 404/);
    await page.goto("/log/0199ffff-0000-7000-8000-000000000000");
    await until(page, "the call is not found", () => /could not be loaded/.test(document.body.innerText));
    await page.goto("/calls/no-such-call");
    await until(page, "the call is not found", () => /could not be loaded/.test(document.body.innerText));
  }));

test("nothing is fetched from elsewhere, and the policy is strict", async () => {
  const response = await fetch(base);
  const policy = response.headers.get("content-security-policy") ?? "";
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /script-src 'self'(;|$)/);
  assert.match(policy, /style-src 'self'(;|$)/);
  assert.doesNotMatch(policy, /unsafe/);
  assert.match(await response.text(), /<script type="module"[^>]* src="\/assets\//);
});

test("the first paint comes within a second", () =>
  visit(browser, base, {}, async (page) => {
    const paints = [];
    for (let time = 0; time < 3; time += 1) {
      await loaded(page, "/", "Board");
      paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Infinity));
    }
    assert.ok(Math.min(...paints) < 1_000, `first paints after ${paints.map(Math.round).join(", ")} ms`);
  }));
