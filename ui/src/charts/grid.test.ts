import { expect, test } from "vitest";
import type { Point } from "../api/types";
import { classes, grid, largest, stacked, values } from "./grid";

const point = (start_ms: number, calls: number) => ({ start_ms, calls }) as Point;

test("left out stretches are there, as empty ones", () => {
  const laid = grid([point(120, 5), point(240, 7)], 60, 300, 60);
  expect(laid.at).toEqual([60, 120, 180, 240]);
  expect(values(laid, (each) => each.calls)).toEqual([null, 5, null, 7]);
  expect(values(laid, (each) => each.calls, 0)).toEqual([0, 5, 0, 7]);
});

test("a time that does not begin on the grid is rounded down to it", () => {
  const laid = grid([point(120, 5)], 100, 190, 60);
  expect(laid.at).toEqual([60, 120, 180]);
  expect(grid([], 0, 120, 60).at).toEqual([0, 60]);
});

test("no step makes endless work", () => {
  expect(grid([], 0, 1e12, 0).at.length).toBeLessThanOrEqual(2_001);
});

test("classes are sorted, and the rest is kept together", () => {
  const totals = { ok: 100, repaired: 4, empty: 2, schema: 9, timeout_idle: 2, refused: 0 };
  expect(classes(totals, 5)).toEqual({ names: ["schema", "empty", "timeout_idle"], rest: [] });
  expect(classes(totals, 2)).toEqual({ names: ["schema"], rest: ["empty", "timeout_idle"] });
});

test("stacks add up", () => {
  expect(stacked([[1, null, 2], [3, 4, null]])).toEqual([[1, 0, 2], [4, 4, 2]]);
  expect(largest([[1, null], [5, 2]], 9)).toBe(5);
  expect(largest([[null]], 9)).toBe(9);
});
