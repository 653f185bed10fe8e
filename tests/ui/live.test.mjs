// Pages that are open while something happens.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, given, hide, launch, stored, tab, until, visit } from "./browser.mjs";
import { loaded } from "./pages.mjs";

const base = given("BACKSTAY_URL_LIVE");
let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const live = (page) => until(page, "the page is live", () => document.querySelector(".live.live") !== null);
const counted = (page, calls) =>
  until(page, `${calls} calls are counted`, (calls) => document.querySelector(".figure dd")?.firstChild?.textContent === calls, String(calls));

test("a call appears on the board by itself", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/", "Board");
    await live(page);
    await counted(page, 0);
    await call(base, "greet");
    await counted(page, 1);
    await call(base, "greet");
    await counted(page, 2);
  }));

test("a followed log shows new calls on top", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/log?follow=1", "Log");
    await live(page);
    const id = await call(base, "quote");
    await until(page, "the call is on top", (id) => document.querySelector("tbody tr a")?.getAttribute("href") === `/log/${id}`, id);
  }));

test("a page of a call moves on", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/calls/extract-invoice", "extract-invoice");
    await until(page, "there are no calls yet", () => /No calls in this time/.test(document.body.innerText));
    await live(page);
    await call(base, "extract-invoice");
    await until(page, "the ladder stands", () => document.querySelector(".ladder") !== null);
  }));

test("a paused page stands still", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/", "Board");
    await live(page);
    const before = await page.innerText(".figure dd >> nth=0");
    await page.getByRole("button", { name: "live" }).click();
    await page.getByRole("button", { name: "paused" }).waitFor();
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    await call(base, "greet");
    // A second page is the clock: when it has seen the call, the first would have seen it as well.
    await visit(browser, base, {}, async (other) => {
      await loaded(other, "/", "Board");
      await counted(other, Number(before) + 1);
    });
    assert.deepEqual(asked, []);
    assert.equal(await page.innerText(".figure dd >> nth=0"), before);
    await page.getByRole("button", { name: "paused" }).click();
    await counted(page, Number(before) + 1);
  }));

test("a lost connection is said, and taken up again", () =>
  visit(browser, base, {}, async (page) => {
    page.expect.push(/ERR_INTERNET_DISCONNECTED|ERR_NETWORK_CHANGED|ERR_INCOMPLETE_CHUNKED_ENCODING/);
    await loaded(page, "/", "Board");
    await live(page);
    // Going offline may end a stream that is open, or leave it: the page has to ask anew.
    await page.getByRole("button", { name: "live" }).click();
    await page.getByRole("button", { name: "paused" }).waitFor();
    await page.context().setOffline(true);
    await page.getByRole("button", { name: "paused" }).click();
    await page.getByRole("button", { name: "offline" }).waitFor();
    await until(page, "old data is called old", () => /What you see is of/.test(document.body.innerText));
    await page.context().setOffline(false);
    await live(page);
    await until(page, "nothing is called old", () => !/What you see is of/.test(document.body.innerText));
  }));

test("tabs that nobody sees keep no connection from the one that is looked at", () =>
  visit(browser, base, {}, async (first) => {
    const pages = [first];
    await loaded(first, "/", "Board");
    await live(first);
    const before = Number(await first.innerText(".figure dd >> nth=0"));
    // A browser has six connections to one server, and each stream of events holds one.
    while (pages.length < 8) {
      await hide(pages.at(-1), true);
      const page = await tab(first.context(), base);
      pages.push(page);
      await loaded(page, "/", "Board");
      await live(page);
    }
    await call(base, "greet");
    await counted(pages.at(-1), before + 1);
    await hide(pages.at(-1), true);
    await hide(first, false);
    await counted(first, before + 1);
    await call(base, "greet");
    await counted(first, before + 2);
    for (const page of pages) assert.deepEqual(page.trouble, []);
  }));

/** Counts the streams of events that pages begin. */
function streams(pages) {
  const begun = new Map();
  const watch = (page) => page.on("request", (request) => new URL(request.url()).pathname === "/api/v1/events" && begun.set(page, (begun.get(page) ?? 0) + 1));
  for (const page of pages) watch(page);
  return { begun, watch };
}

test("windows that are all seen share one stream, which outlives the one that listens", () =>
  visit(browser, base, {}, async (first) => {
    // No window looks of its own accord, as it does now and then: what it knows it has been told.
    await first.context().addInitScript(() => {
      const own = window.setInterval;
      window.setInterval = (work, ms, ...rest) => (ms >= 15_000 ? 0 : own(work, ms, ...rest));
    });
    const { begun, watch } = streams([first]);
    await loaded(first, "/", "Board");
    await live(first);
    const before = Number(await first.innerText(".figure dd >> nth=0"));
    const others = [];
    // With a stream each, six would take all connections to the server, and the seventh would not load.
    while (others.length < 7) {
      const page = await tab(first.context(), base);
      watch(page);
      others.push(page);
      await loaded(page, "/", "Board");
      await live(page);
    }
    assert.deepEqual([...begun.values()], [1]);
    await call(base, "greet");
    for (const page of [first, ...others]) await counted(page, before + 1);
    assert.deepEqual([...begun.values()], [1]);

    await others[0].getByRole("button", { name: "live" }).click();
    await others[0].getByRole("button", { name: "paused" }).waitFor();
    await first.close();
    await call(base, "greet");
    for (const page of others.slice(1)) await counted(page, before + 2);
    assert.equal(await others[0].innerText(".figure dd >> nth=0"), String(before + 1), "it stands still");
    await hide(others[1], true);
    await call(base, "greet");
    for (const page of others.slice(2)) await counted(page, before + 3);
    assert.deepEqual([...begun.entries()].map(([page, times]) => [[first, ...others].indexOf(page), times]), [[0, 1], [2, 1], [3, 1]]);
    for (const page of others) assert.deepEqual(page.trouble, []);
  }));

test("where a browser has no locks each window listens for itself", () =>
  visit(browser, base, {}, async (page) => {
    // As on http from another machine, which is no secure context.
    await page.context().addInitScript(() => Object.defineProperty(Navigator.prototype, "locks", { get: () => undefined }));
    const other = await tab(page.context(), base);
    const { begun } = streams([page, other]);
    for (const each of [page, other]) {
      await loaded(each, "/", "Board");
      await live(each);
    }
    const before = Number(await other.innerText(".figure dd >> nth=0"));
    await call(base, "greet");
    for (const each of [page, other]) await counted(each, before + 1);
    assert.deepEqual([...begun.values()], [1, 1]);
    assert.deepEqual(other.trouble, []);
  }));

test("a followed log says what it left out, and loads it", () =>
  visit(browser, base, {}, async (page) => {
    const known = await call(base, "quote");
    await stored(base, known);
    await loaded(page, "/log?follow=1", "Log");
    await live(page);
    await until(page, "the call is there", (id) => document.querySelector(`tbody a[href="/log/${id}"]`) !== null, known);
    await page.getByRole("button", { name: "live" }).click();
    await page.getByRole("button", { name: "paused" }).waitFor();
    const ids = [];
    for (let round = 0; round < 26; round += 1) ids.push(...(await Promise.all(Array.from({ length: 10 }, () => call(base, "quote")))));
    for (const id of ids) await stored(base, id);
    await page.getByRole("button", { name: "paused" }).click();
    await until(page, "the gap is told", () => document.querySelector("tbody .missed") !== null);
    await until(page, "all are shown", () => {
      const load = document.querySelector("tbody .missed button");
      if (load !== null && !load.disabled) load.click();
      return load === null;
    });
    const shown = new Set(await page.locator("tbody .row-link").evaluateAll((links) => links.map((link) => link.getAttribute("href"))));
    assert.deepEqual(ids.filter((id) => !shown.has(`/log/${id}`)), []);
  }));

test("rows of another question do not stand in for an answer", () =>
  visit(browser, base, {}, async (page) => {
    page.expect.push(/status of 503/);
    await stored(base, await call(base, "quote"));
    await loaded(page, "/log", "Log");
    await until(page, "there are rows", () => document.querySelector("tbody tr") !== null);
    await page.route(/\/api\/v1\/log\?.*failed=true/, (route) => route.fulfill({ status: 503, json: { error: { message: "Not now." } } }));
    await page.getByRole("button", { name: "Failed" }).click();
    await until(page, "the error stands alone", () => /Not now\./.test(document.body.innerText) && document.querySelector("tbody tr") === null);
    await page.unroute(/\/api\/v1\/log\?.*failed=true/);
    const again = page.waitForRequest(/\/api\/v1\/log\?/);
    await page.getByRole("button", { name: "Try again" }).click();
    const asked = new URL((await again).url()).searchParams;
    assert.equal(asked.get("failed"), "true");
    assert.equal(asked.get("before"), null);
    await until(page, "it is answered", () => document.querySelector(".notice.bad") === null);
  }));

test("a link to an alert that is gone says so", () =>
  visit(browser, base, {}, async (page) => {
    page.expect.push(/status of 404/);
    await loaded(page, "/alerts?id=0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3", "Alerts");
    await until(page, "it is told", () => /not known/.test(document.querySelector(".notice.warn")?.textContent ?? ""));
  }));
