// A gateway with keys: nothing is seen without one.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, call, given, launch, narrow, until, visit } from "./browser.mjs";
import { loaded } from "./pages.mjs";

const base = given("BACKSTAY_URL_WITH_KEYS");
const key = given("BACKSTAY_TEST_KEY");
let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

async function signIn(page) {
  await page.getByLabel("API key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
}

const door = (page) => until(page, "the door", () => document.querySelector("h1")?.textContent === "Sign in");

test("every page has the door before it, and opens behind it", () =>
  visit(browser, base, {}, async (page) => {
    await page.goto("/log?failed=1");
    await door(page);
    await signIn(page);
    await until(page, "the page that one wanted", () => document.querySelector("h1")?.textContent === "Log");
    assert.match(page.url(), /\/log\?failed=1$/);
    await call(base, "quote", { key });
    await loaded(page, "/", "Board");
    await until(page, "the call is counted", () => document.querySelector(".figure dd")?.firstChild?.textContent === "1");
    assert.equal(await page.evaluate(() => document.cookie), "", "no script reads the session");
    assert.deepEqual(await page.evaluate(() => Object.values({ ...localStorage, ...sessionStorage })), []);
  }));

test("a wrong key is refused in words", () =>
  visit(browser, base, {}, async (page) => {
    page.expect.push(/status of 401/);
    await page.goto("/");
    await page.getByLabel("API key").fill("bsk_00000000_wrong");
    await page.getByRole("button", { name: "Sign in" }).click();
    await until(page, "it is said", () => document.querySelector("#said")?.textContent !== "");
    await door(page);
    await accessible(page, "sign-in with an error");
  }));

test("signing out shuts the door, also for other pages that are open", () =>
  visit(browser, base, {}, async (page) => {
    page.expect.push(/status of 401/);
    await page.goto("/");
    await signIn(page);
    await until(page, "the board", () => document.querySelector("h1")?.textContent === "Board");
    const other = await page.context().newPage();
    await other.goto(`${base}/health`);
    await until(other, "the other page is open", () => document.querySelector("h1")?.textContent === "Health");
    await page.getByRole("button", { name: "Sign out" }).click();
    await door(page);
    await other.getByRole("link", { name: "Log" }).click();
    await door(other);
    await page.goto("/");
    await door(page);
  }));

for (const width of [1280, 390]) {
  for (const scheme of ["light", "dark"]) {
    test(`the door is sound at ${width} px, ${scheme}`, () =>
      visit(browser, base, { width, scheme }, async (page) => {
        await loaded(page, "/", "Sign in");
        await narrow(page, "sign-in");
        await accessible(page, "sign-in");
      }));
  }
}
