// What holds for every page, whatever it shows.
import assert from "node:assert/strict";
import { accessible, narrow, until, visit } from "./browser.mjs";

/** Each page at its address, and words that are on it once it has been loaded. */
export const PAGES = [
  ["/", "Board"],
  ["/log", "Log"],
  ["/alerts", "Alerts"],
  ["/alerts?tab=rules", "Alerts"],
  ["/alerts?tab=history", "Alerts"],
  ["/alerts?tab=silences", "Alerts"],
  ["/health", "Health"],
];

/** Goes to a page and waits until nothing is loading on it. */
export async function loaded(page, path, heading) {
  await page.goto(path);
  await until(page, `${path} is loaded`, (heading) =>
    document.querySelector("main h1")?.textContent?.includes(heading) && document.querySelector(".loading") === null, heading);
}

/** Every page, wide and narrow, light and dark: no error, nothing too wide, nothing inaccessible. */
export async function sound(test, browser, base, more = []) {
  for (const [path, heading] of [...PAGES, ...more]) {
    await test.test(`${path} is sound`, async () => {
      for (const width of [1280, 390]) {
        for (const scheme of ["light", "dark"]) {
          const where = `${path} at ${width} px, ${scheme}`;
          await visit(browser, base, { width, scheme }, async (page) => {
            await loaded(page, path, heading);
            await narrow(page, where);
            await accessible(page, where);
            const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
            const bright = Number(/\d+/.exec(ground)?.[0]) > 128;
            assert.equal(bright, scheme === "light", `${where}: the ground is ${ground}`);
          });
        }
      }
    });
  }
}
