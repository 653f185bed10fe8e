import { expect, test } from "vitest";
import { address, ends, logQuery, oneOf, pageOf, rangeMs, settled, spanOf, time, withParams } from "./url";

const params = (text: string) => new URLSearchParams(text);

test("ranges", () => {
  expect(rangeMs("5m")).toBe(300_000);
  expect(rangeMs("30d")).toBe(2_592_000_000);
  expect(rangeMs("soon")).toBe(0);
  expect(oneOf("9y", ["1h", "24h"], "24h")).toBe("24h");
  expect(oneOf("1h", ["1h", "24h"], "24h")).toBe("1h");
});

test("times that make no sense are none", () => {
  expect(time("1795435261000")).toBe(1_795_435_261_000);
  for (const bad of [null, "", "x", "-5", "0", "1e3", "99999999999999999"]) expect(time(bad)).toBeNull();
});

test("a fixed stretch wins over a range, unless it is upside down", () => {
  expect(spanOf(params("since=1000&until=2000&range=1h"))).toEqual({ since: 1000, until: 2000 });
  expect(spanOf(params("since=2000&until=1000&range=1h"))).toEqual({ range: "1h" });
  expect(spanOf(params(""))).toEqual({ range: "24h" });
  expect(ends({ range: "1h" }, 5_000_000)).toEqual({ since: 1_400_000, until: 5_000_000 });
});

test("parameters come and go, in one order", () => {
  const changed = withParams(params("b=1&a=2"), { b: null, c: 3, d: "", e: false, f: true });
  expect(changed.toString()).toBe("a=2&c=3&f=1");
  expect(address("/log", changed)).toBe("/log?a=2&c=3&f=1");
  expect(address("/log", { call: null })).toBe("/log");
  expect(address("/log", { call: "a b&c" })).toBe("/log?call=a+b%26c");
});

test("the log is asked for what the address holds, and nothing else", () => {
  const query = logQuery(params("call=hello&failed=1&follow=1&x=y&since=1000&until=2000"), 9_000);
  expect(query.toString()).toBe("call=hello&failed=true&since_ms=1000&until_ms=2000");
  expect(logQuery(params("verdict=useless&call=hello"), 9_000).toString()).toBe("call=hello&verdict=useless");
  expect(logQuery(params("range=1h"), 3_601_000).toString()).toBe("since_ms=1000");
  expect(logQuery(params(""), 9_000).toString()).toBe("");
});

test("paths name pages", () => {
  expect(pageOf("/")).toEqual({ page: "board" });
  expect(pageOf("/calls/extract-invoice")).toEqual({ page: "call", call: "extract-invoice" });
  expect(pageOf("/calls/a%2Fb/")).toEqual({ page: "call", call: "a/b" });
  expect(pageOf("/log")).toEqual({ page: "log" });
  expect(pageOf("/log/019abc")).toEqual({ page: "detail", id: "019abc" });
  expect(pageOf("/alerts")).toEqual({ page: "alerts" });
  for (const path of ["/calls", "/calls/a/b", "/log/%E0%A4%A", "/alerts/x", "/elsewhere"]) {
    expect(pageOf(path)).toEqual({ page: "unknown" });
  }
});

test("who looks within one step asks the same question", () => {
  const now = 1_795_435_261_234;
  expect(settled({ range: "1h" }, now)).toBe(1_795_435_262_000);
  for (const range of ["1h", "6h", "24h", "7d", "30d"] as const) {
    const step = Math.min(rangeMs(range) / 3_600, 30_000);
    const end = settled({ range }, now);
    expect(end % 1_000).toBe(0);
    expect(end - now).toBeGreaterThanOrEqual(0);
    expect(end - now).toBeLessThan(step);
    expect(settled({ range }, end - step + 1)).toBe(end);
    expect(settled({ range }, end)).toBe(end);
  }
  expect(settled({ since: 1, until: 2 }, now)).toBe(now);
});
