// A few calls, one of each kind: what the pages say of them, and how one gets about.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, given, launch, stored, until, visit } from "./browser.mjs";
import { loaded, sound } from "./pages.mjs";

const base = given("BACKSTAY_URL_LITTLE");
const ids = {};
let browser;

/** Tells what the consumer of a call found. */
const said = (id, ok, reason) =>
  fetch(`${base}/v1/outcomes`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ call_id: id, ok, reason }),
  });

before(async () => {
  browser = await launch();
  for (let time = 0; time < 3; time += 1) ids.greet = await call(base, "greet");
  ids.stream = await call(base, "greet", { stream: true });
  ids.schema = await call(base, "extract-invoice");
  ids.quote = await call(base, "quote");
  await said(ids.greet, false, "It greeted nobody.");
  for (const id of Object.values(ids)) await stored(base, id);
});
after(() => browser.close());

test("pages with a few calls", (t) =>
  sound(t, browser, base, [
    ["/calls/greet", "greet"],
    ["/calls/extract-invoice?latency=lines", "extract-invoice"],
    ["/log?verdict=useless", "Log"],
    [`/log/${ids.schema}`, ids.schema],
    [`/log/${ids.stream}`, ids.stream],
  ]));

test("the board counts", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/", "Board");
    await until(page, "six calls are counted", () => document.querySelector(".figure dd")?.firstChild?.textContent === "6");
    const row = page.getByRole("row").filter({ has: page.getByRole("link", { name: "extract-invoice" }) });
    assert.match(await row.innerText(), /100.%/);
    assert.match(await row.innerText(), /schema/);
    await page.getByRole("searchbox", { name: "Filter calls" }).fill("quo");
    await until(page, "one call is left", () => document.querySelectorAll("tbody tr").length === 1);
    assert.match(page.url(), /q=quo/);
    await page.reload();
    await until(page, "the filter is kept", () => document.querySelectorAll("tbody tr").length === 1);
  }));

test("columns sort", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/", "Board");
    await page.getByRole("button", { name: "Call", exact: true }).click();
    await until(page, "it is in the address", () => location.search.includes("sort=call"));
    const names = () => page.locator("tbody .row-link").allInnerTexts();
    const up = await names();
    assert.deepEqual(up, [...up].sort());
    assert.equal(await page.locator("th[aria-sort=ascending]").innerText(), "Call\n▲");
    await page.getByRole("button", { name: "Call", exact: true }).click();
    await until(page, "it is turned", () => location.search.includes("dir=desc"));
    assert.deepEqual(await names(), up.reverse());
  }));

test("the address holds the state, and back and forward work", () =>
  visit(browser, base, {}, async (page) => {
    const pressed = (name) => page.getByRole("button", { name, exact: true, pressed: true }).waitFor();
    await loaded(page, "/", "Board");
    await page.getByRole("button", { name: "24 h" }).click();
    await pressed("24 h");
    assert.match(page.url(), /window=24h/);
    await page.getByRole("link", { name: "greet", exact: true }).click();
    await until(page, "the call is shown", () => document.querySelector("h1")?.textContent.includes("greet"));
    await page.getByRole("button", { name: "7 d" }).click();
    await pressed("7 d");
    await page.goBack();
    await pressed("24 h");
    await page.goBack();
    await until(page, "the board is back", () => document.querySelector("h1")?.textContent === "Board");
    await pressed("24 h");
    await page.goForward();
    await until(page, "the call is back", () => document.querySelector("h1")?.textContent.includes("greet"));
  }));

test("the page of a call tells its ladder, its failures and its charts", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/calls/extract-invoice", "extract-invoice");
    await until(page, "the ladder stands", () => /Schema-valid/.test(document.body.innerText));
    assert.match(await page.innerText(".ladder li:nth-child(5)"), /Schema-valid\s+0.%\s+−1/);
    assert.ok((await page.locator(".chart canvas").count()) >= 4);
    const table = page.locator(".as-table").first();
    await table.locator("summary").click();
    await table.getByRole("row").nth(1).waitFor();
    await page.getByRole("button", { name: "Quantiles" }).click();
    await until(page, "it is in the address", () => location.search.includes("latency=lines"));
    await page.getByRole("link", { name: "schema", exact: true }).click();
    await until(page, "the log shows that call", (id) => location.search.includes("outcome=schema") && document.querySelector(`a[href='/log/${id}']`) !== null, ids.schema);
  }));

test("dragging over a chart looks closer", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/calls/greet", "greet");
    const box = await page.locator(".chart .u-over").first().boundingBox();
    await page.mouse.move(box.x + box.width * 0.3, box.y + box.height / 2);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.6, box.y + box.height / 2, { steps: 5 });
    await page.mouse.up();
    await until(page, "the stretch is in the address", () => /since=\d+/.test(location.search) && /until=\d+/.test(location.search));
    const { searchParams } = new URL(page.url());
    const hours = (Number(searchParams.get("until")) - Number(searchParams.get("since"))) / 3_600_000;
    assert.ok(Math.abs(hours - 24 * 0.3) < 0.5, `${hours} hours`);
    await page.getByRole("button", { name: "Back to live" }).click();
    await until(page, "it is live again", () => !location.search.includes("since="));
  }));

test("the log filters", () =>
  visit(browser, base, {}, async (page) => {
    const rows = () => page.locator("tbody tr").count();
    await loaded(page, "/log", "Log");
    await until(page, "six calls are listed", () => document.querySelectorAll("tbody tr").length === 6);
    await page.getByRole("button", { name: "Failed" }).click();
    await until(page, "two are left", () => document.querySelectorAll("tbody tr").length === 2);
    assert.match(page.url(), /failed=1/);
    await page.getByRole("button", { name: "Degraded" }).click();
    await until(page, "one is left", () => document.querySelectorAll("tbody tr").length === 1);
    assert.match(await page.innerText("tbody"), /answered message/);
    await page.reload();
    await until(page, "the filters are kept", () => document.querySelectorAll("tbody tr").length === 1);
    await loaded(page, "/log?call=greet", "Log");
    await until(page, "four are of that call", () => document.querySelectorAll("tbody tr").length === 4);
    await page.getByLabel("Outcome").selectOption("timeout");
    await until(page, "none is like this", () => /No call is like this/.test(document.body.innerText));
    assert.equal(await rows(), 0);
    await page.getByRole("button", { name: "Show all" }).click();
    await until(page, "all are back", () => document.querySelectorAll("tbody tr").length === 6);
    await page.getByRole("searchbox", { name: "Id" }).fill(ids.quote);
    await until(page, "one has that id", () => document.querySelectorAll("tbody tr").length === 1);
  }));

test("the consumer's rung leads to what the consumers said", () =>
  visit(browser, base, {}, async (page) => {
    page.expect.push(/status of 400/);
    const listed = () => page.locator("tbody .row-link").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
    const rows = (many) => until(page, `${many} are listed`, (many) => document.querySelectorAll("tbody tr").length === many, many);
    await loaded(page, "/calls/greet", "greet");
    await page.getByRole("link", { name: "of no use", exact: true }).click();
    await until(page, "the log is asked", () => /call=greet/.test(location.search) && /verdict=useless/.test(location.search));
    await rows(1);
    assert.deepEqual(await listed(), [`/log/${ids.greet}`]);
    assert.match(await page.innerText("tbody"), /of no use/);
    const consumer = page.getByRole("combobox", { name: "Consumer" });
    assert.equal(await consumer.inputValue(), "useless");
    await consumer.focus();
    await page.keyboard.type("not");
    await until(page, "the keyboard reaches it", () => /verdict=unheard/.test(location.search));
    await rows(3);
    assert.ok(!(await listed()).includes(`/log/${ids.greet}`));
    await page.goBack();
    await rows(1);
    await page.goForward();
    await rows(3);
    await page.getByRole("button", { name: "Follow" }).click();
    await page.getByRole("button", { name: "Following" }).waitFor();
    await said(ids.stream, true, "It greeted.");
    await rows(2);
    assert.ok(!(await listed()).includes(`/log/${ids.stream}`), "it was heard of meanwhile");
    await loaded(page, "/log?verdict=loud", "Log");
    await until(page, "a wrong address says what is right", () => /`?verdict`? has to be/.test(document.body.innerText));
  }));

test("a call shows its attempts, and the mistake beside the answer", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, `/log?outcome=schema`, "Log");
    await page.locator(`a[href='/log/${ids.schema}']`).click();
    await until(page, "the call is shown", () => /What is wrong with the answer/.test(document.body.innerText));
    assert.equal(await page.locator(".waterfall .attempt-bar rect").count(), 2);
    assert.match(await page.innerText(".waterfall"), /up\/wrong-type\s+first/);
    assert.match(await page.innerText(".waterfall"), /repair/);
    assert.ok((await page.locator("mark").count()) >= 1, "the place is marked");
    assert.match(await page.innerText(".beside"), /\$\./);
    const command = `backstay show ${ids.schema}`;
    await page.locator(".snippet", { hasText: command }).getByRole("button").click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), command);
    await page.goBack();
    await until(page, "the log is back", () => location.search === "?outcome=schema");
  }));

test("a verdict of the consumer is shown", () =>
  visit(browser, base, {}, async (page) => {
    await page.goto(`/log/${ids.greet}`);
    await until(page, "the report is shown", () => /It greeted nobody/.test(document.body.innerText));
  }));

test("a silence needs a reason and an end, and can be ended", () =>
  visit(browser, base, {}, async (page) => {
    const reason = "The provider is being moved.";
    await loaded(page, "/alerts?tab=silences", "Alerts");
    const form = page.locator("form.silence");
    await form.getByRole("button", { name: "Silence" }).click();
    assert.equal(await form.evaluate((element) => element.checkValidity()), false);
    assert.doesNotMatch(await page.innerText("main"), /Silenced\./);
    await form.getByLabel("For (required)").selectOption("60");
    await form.getByLabel("Reason (required)").fill(reason);
    await form.getByRole("button", { name: "Silence" }).click();
    await until(page, "the silence is listed", (reason) => [...document.querySelectorAll("tbody tr:not(.idle)")].some((row) => row.innerText.includes(reason)), reason);
    await page.getByRole("button", { name: /End now/ }).click();
    await until(page, "it is over", (reason) => ![...document.querySelectorAll("tbody tr:not(.idle)")].some((row) => row.innerText.includes(reason)), reason);
  }));

test("the books of Backstay's health balance", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/health", "Health");
    const terms = (await page.locator(".term b").allInnerTexts()).map((text) => Number(text.replaceAll(",", "")));
    assert.equal(terms.length, 4);
    const [received, stored, pending, shed] = terms;
    assert.ok(received >= 6);
    assert.equal(received, stored + pending + shed);
    assert.equal(await page.innerText(".operator >> nth=0"), "=");
  }));

test("the keyboard reaches everything", () =>
  visit(browser, base, {}, async (page) => {
    await loaded(page, "/", "Board");
    await page.keyboard.press("Tab");
    assert.match(await page.evaluate(() => document.activeElement?.textContent), /Skip to the page/);
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outline, "none", "the focus can be seen");
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement?.matches("[data-filter]")), true);
    await page.keyboard.type("g");
    assert.match(page.url(), /q=g/, "typing into a field is no shortcut");
    await page.keyboard.press("Escape");
    for (const [keys, path] of [["gl", "/log"], ["ga", "/alerts"], ["gh", "/health"], ["gb", "/"]]) {
      for (const key of keys) await page.keyboard.press(key);
      await until(page, `${keys} leads to ${path}`, (path) => location.pathname === path, path);
    }
    await until(page, "the board is shown", () => document.querySelector("[data-row]") !== null);
    await page.keyboard.press("j");
    const first = await page.evaluate(() => document.activeElement?.textContent);
    await page.keyboard.press("j");
    assert.notEqual(await page.evaluate(() => document.activeElement?.textContent), first);
    await page.keyboard.press("k");
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), first);
    await page.keyboard.press("Enter");
    await until(page, "Enter opens the row", (call) => location.pathname === `/calls/${call}`, first);
    await page.keyboard.press("?");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "hidden" });
  }));

test("the theme is chosen and kept", () =>
  visit(browser, base, { scheme: "light" }, async (page) => {
    const dark = () => Number(/\d+/.exec(getComputedStyle(document.body).backgroundColor)[0]) < 128;
    await loaded(page, "/", "Board");
    await page.getByRole("button", { name: /^Theme/ }).click();
    await page.getByRole("button", { name: /^Theme: light/ }).click();
    await until(page, "the ground is dark", dark);
    await page.reload();
    await until(page, "the choice is kept", dark);
    await page.getByRole("button", { name: /^Theme: dark/ }).click();
    await until(page, "the system decides again", () => Number(/\d+/.exec(getComputedStyle(document.body).backgroundColor)[0]) > 128);
  }));
