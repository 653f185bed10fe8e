// Pages that are open while something happens.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, given, launch, until, visit } from "./browser.mjs";
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
    // Going offline does not end a stream that is open: the page has to ask anew.
    await page.context().setOffline(true);
    await page.getByRole("button", { name: "live" }).click();
    await page.getByRole("button", { name: "paused" }).click();
    await page.getByRole("button", { name: "offline" }).waitFor();
    await until(page, "old data is called old", () => /What you see is of/.test(document.body.innerText));
    await page.context().setOffline(false);
    await live(page);
    await until(page, "nothing is called old", () => !/What you see is of/.test(document.body.innerText));
  }));
