import { describe, expect, test } from "vitest";
import type { LogList, LogRow } from "./api/types";
import { filled, merged, onTop, type Rows } from "./rows";

const id = (n: number) => `019ac${String(n).padStart(6, "0")}`;
/** Calls `from` down to `to`. */
const rows = (from: number, to: number) => Array.from({ length: from - to + 1 }, (_, at) => ({ id: id(from - at) }) as LogRow);
const page = (from: number, to: number): LogList => ({ rows: rows(from, to), next: id(to) });
const numbers = (of: LogRow[]) => of.map((row) => Number(row.id.slice(5)));
const all = (from: number, to: number) => numbers(rows(from, to));

test("a row that is known is not there twice, and its new state wins", () => {
  const later = { ...rows(2, 2)[0], outcome: "ok" } as LogRow;
  const both = merged([later], rows(3, 1));
  expect(numbers(both)).toEqual([3, 2, 1]);
  expect(both[1]).toBe(later);
});

describe("following", () => {
  const known: Rows = { rows: rows(10, 1), next: null, gaps: [] };

  test("new calls that reach down to the known ones leave no gap", () => {
    const got = onTop(known, page(12, 8), 100);
    expect(numbers(got.rows)).toEqual(all(12, 1));
    expect(got.gaps).toEqual([]);
  });

  test("what is no answer any more goes, as far as the page reaches", () => {
    const got = onTop(known, { rows: [...rows(12, 10), ...rows(7, 6)], next: id(6) }, 100);
    expect(numbers(got.rows)).toEqual([12, 11, 10, 7, 6, 5, 4, 3, 2, 1]);
    expect(onTop(known, { rows: rows(4, 4), next: null }, 100).rows).toEqual(rows(4, 4));
    expect(onTop(known, { rows: [], next: id(5) }, 100).rows).toEqual(rows(4, 1));
  });

  test("more new calls than a page leave a gap, which pages fill", () => {
    let got = onTop(known, page(30, 26), 100);
    expect(got.gaps).toEqual([{ next: id(26), until: id(10) }]);
    for (let steps = 0; got.gaps[0] !== undefined; steps += 1) {
      expect(steps).toBeLessThan(10);
      const below = Number(got.gaps[0].next.slice(5)) - 1;
      got = filled(got, got.gaps[0], page(below, below - 4));
    }
    expect(numbers(got.rows)).toEqual(all(30, 1));
    expect(got.next).toBeNull();
  });

  test("two bursts leave two gaps, and one is filled without the other", () => {
    const twice = onTop(onTop(known, page(30, 26), 100), page(60, 56), 100);
    expect(twice.gaps).toEqual([
      { next: id(56), until: id(30) },
      { next: id(26), until: id(10) },
    ]);
    const [first, second] = twice.gaps;
    expect(filled(twice, second!, page(25, 9)).gaps).toEqual([first]);
  });

  test("a gap below the last row that is kept is not told of", () => {
    const got = onTop(onTop(known, page(30, 26), 100), page(60, 30), 31);
    expect(got.rows).toHaveLength(31);
    expect(got.gaps).toEqual([]);
  });

  test("the first page of all is no gap", () => {
    const got = onTop({ rows: [], next: null, gaps: [] }, page(9, 5), 100);
    expect(got).toEqual({ rows: rows(9, 5), next: id(5), gaps: [] });
  });
});
