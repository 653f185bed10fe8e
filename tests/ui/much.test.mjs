// A million calls of thirty days.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { given, launch, until, visit } from "./browser.mjs";
import { loaded, sound } from "./pages.mjs";

const base = given("BACKSTAY_URL_MUCH");
let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

test("pages with a million calls", (t) =>
  sound(t, browser, base, [
    ["/?window=7d", "Board"],
    ["/calls/extract-invoice?range=30d", "extract-invoice"],
    ["/log?failed=1", "Log"],
  ]));

test("the whole month is counted, on charts of few points", () =>
  visit(browser, base, {}, async (page) => {
    const answered = page.waitForResponse((response) => response.url().includes("/api/v1/calls/extract-invoice"));
    await page.goto("/calls/extract-invoice?range=30d");
    const data = await (await answered).json();
    assert.ok(data.totals.calls > 100_000, `${data.totals.calls} calls`);
    assert.ok(data.series.length <= 320, `${data.series.length} points`);
    await until(page, "the charts stand", () => document.querySelectorAll(".chart canvas").length >= 5);
    await until(page, "the count is shown in short", () => /\d\u202fk/.test(document.querySelector(".figure dd")?.textContent ?? ""));
    assert.ok(data.releases.length > 1, "several releases in a month");
    await page.getByRole("combobox", { name: "Release" }).selectOption(data.releases[0].release);
    await until(page, "one release is left", () => location.search.includes("release="));
  }));

test("the log goes on as one scrolls", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/log", "Log");
    await until(page, "the first rows", () => document.querySelectorAll("tbody tr").length >= 50);
    for (const rows of [100, 150]) {
      await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight));
      await until(page, `${rows} rows`, (rows) => document.querySelectorAll("tbody tr").length >= rows, rows);
    }
    const ids = await page.locator("tbody .row-link").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
    assert.equal(new Set(ids).size, ids.length, "no row twice");
    assert.deepEqual(ids, [...ids].sort().reverse(), "newest first");
  }));

test("a rare outcome is found far back", () =>
  visit(browser, base, {}, async (page) => {
    await page.goto("/log?outcome=refused");
    await until(page, "a refused call is listed", () => /refused/.test(document.querySelector("tbody tr")?.textContent ?? ""));
    await page.locator("tbody .row-link").first().click();
    await until(page, "it is shown whole", () => document.querySelector(".waterfall") !== null);
  }));
