import { describe, expect, test } from "vitest";
import * as format from "./format";

/** Narrow spaces as plain ones, so that the expectations can be read. */
const plain = (text: string) => text.replaceAll("\u202f", " ");

describe("figures", () => {
  test.each([
    [null, "–"],
    [0, "0"],
    [1.25, "1.3"],
    [42, "42"],
    [9_999, "9,999"],
    [10_000, "10 k"],
    [12_345, "12.3 k"],
    [999_499, "999 k"],
    [999_500, "1 M"],
    [1_000_000, "1 M"],
    [12_345_678_901, "12.3 G"],
    [2_500_000_000_000, "2.5 T"],
  ])("count %s", (value, shown) => expect(plain(format.count(value))).toBe(shown));

  test.each([
    [null, "–"],
    [0, "0 %"],
    [0.000_01, "< 0.01 %"],
    [0.0234, "2.3 %"],
    [0.02, "2 %"],
    [0.5, "50 %"],
    [0.987, "98.7 %"],
    [0.9987, "99.8 %"],
    [0.999_99, "> 99.9 %"],
    [1, "100 %"],
    [-0.31, "−31 %"],
    [-12, "−1,200 %"],
  ])("percent %s", (value, shown) => expect(plain(format.percent(value))).toBe(shown));

  test.each([
    [null, "–"],
    [0, "0 ms"],
    [0.123, "0.12 ms"],
    [8.25, "8.25 ms"],
    [812, "812 ms"],
    [999.6, "1 s"],
    [1_234, "1.23 s"],
    [12_340, "12.3 s"],
    [65_000, "1 min 5 s"],
    [3_600_000, "1 h"],
    [90_061_000, "1 d 1 h"],
    [-1_500, "−1.50 s"],
  ])("duration %s", (value, shown) => expect(plain(format.duration(value))).toBe(shown));

  test.each([
    [null, "unknown"],
    [0, "$0"],
    [0.000_000_1, "< $0.000001"],
    [0.000_42, "$0.00042"],
    [0.123_4, "$0.12"],
    [1.5, "$1.50"],
    [12_345.6, "$12,346"],
  ])("money %s", (value, shown) => expect(plain(format.money(value))).toBe(shown));

  test("a cost that is not known is never nothing", () => {
    expect(plain(format.costs({ cost_usd: 0, unpriced: 3, free: 0 }))).toBe("unknown");
    expect(plain(format.costs({ cost_usd: null, unpriced: 3, free: 0 }))).toBe("unknown");
    expect(plain(format.costs({ cost_usd: 1.2, unpriced: 3, free: 0 }))).toBe("≥ $1.20");
    expect(plain(format.costs({ cost_usd: 1.2, unpriced: 0, free: 0 }))).toBe("$1.20");
    expect(plain(format.costs({ cost_usd: 0, unpriced: 0, free: 99 }))).toBe("free");
    expect(plain(format.costs({ cost_usd: 0, unpriced: 0, free: 0 }))).toBe("$0");
    expect(plain(format.costs({ cost_usd: 0, unpriced: 3, free: 9 }))).toBe("unknown");
    expect(plain(format.costs({ cost_usd: null, unpriced: 0, free: 0 }))).toBe("–");
    expect(format.cost({ state: "unknown", usd: null })).toBe("unknown");
    expect(format.cost({ state: "free", usd: 0 })).toBe("free");
    expect(format.cost({ state: "priced", usd: 0.5 })).toBe("$0.50");
    expect(format.cost({ state: null, usd: null })).toBe("–");
  });

  test("a share of errors leaves out calls that say nothing of the model", () => {
    expect(format.errorShare({ calls: 10, errors: 2, neutral: 6 })).toBe(0.5);
    expect(format.errorShare({ calls: 3, errors: 0, neutral: 3 })).toBeNull();
    expect(format.errorShare({ calls: 0, errors: 0, neutral: 0 })).toBeNull();
  });

  test("every duration and count is shorter than a column", () => {
    for (let size = 1e-6; size < 1e13; size *= 1.37) {
      expect(format.duration(size).length).toBeLessThan(14);
      expect(format.count(size).length).toBeLessThan(9);
      expect(format.percent(size / 1e13)).not.toMatch(/^0.%/);
    }
  });
});

describe("times", () => {
  const now = 1_795_435_261_000;
  test.each([
    [0, "now"],
    [45_000, "45 s ago"],
    [150_000, "2 min ago"],
    [7_300_000, "2 h ago"],
    [200_000_000, "2 d ago"],
    [-90_000, "in 1 min"],
  ])("%s ms before", (before, shown) => expect(plain(format.relative(now - before, now))).toBe(shown));

  test("absolute times are of the browser's zone", () => {
    expect(format.absolute(new Date(2026, 10, 6, 9, 5, 7).getTime())).toBe("2026-11-06 09:05:07");
    expect(format.day(new Date(2026, 10, 6).getTime())).toBe("6 Nov");
    expect(format.clock(new Date(2026, 10, 6, 9, 5, 7).getTime(), false)).toBe("09:05");
  });
});

test("a release next to its call is its number", () => {
  expect(format.shortRelease("extract-invoice@7", "extract-invoice")).toBe("@7");
  expect(format.shortRelease("other@7", "extract-invoice")).toBe("other@7");
});

test("units of rules", () => {
  expect(plain(format.inUnit(0.031, "share"))).toBe("3.1 %");
  expect(plain(format.inUnit(1_500, "ms"))).toBe("1.50 s");
  expect(plain(format.inUnit(3, "count"))).toBe("3");
  expect(plain(format.inUnit(14.4321, "burn_rate"))).toBe("14 burn rate");
  expect(format.inUnit(14.4321, "times")).toBe("14.4×");
  expect(plain(format.inUnit(8.257, "sigma"))).toBe("8.26 σ");
  expect(plain(format.inUnit(3, "calls"))).toBe("3 calls");
  expect(format.inUnit(null, "ms")).toBe("–");
});
