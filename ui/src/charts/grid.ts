// The points of a call laid on an even grid of time, so that empty stretches show as empty. Pure.
import type { Point } from "../api/types";

export interface Grid {
  /** Where each stretch begins, in milliseconds. */
  at: number[];
  /** The point of each stretch, if there were calls. */
  points: (Point | null)[];
  step: number;
}

/** No screen shows more stretches than this. */
const MOST = 2_000;

export function grid(series: Point[], since: number, until: number, step: number): Grid {
  const width = Math.max(step, Math.ceil((until - since) / MOST), 1);
  const byStart = new Map(series.map((point) => [point.start_ms, point]));
  const anchor = series[0]?.start_ms ?? 0;
  const first = anchor + Math.floor((since - anchor) / width) * width;
  const at: number[] = [];
  const points: (Point | null)[] = [];
  for (let start = first; start < until; start += width) {
    at.push(start);
    points.push(byStart.get(start) ?? null);
  }
  return { at, points, step: width };
}

/** One value of each point; `otherwise` where there were no calls. */
export function values(
  of: Grid,
  read: (point: Point) => number | null | undefined,
  otherwise: number | null = null,
): (number | null)[] {
  return of.points.map((point) => (point === null ? otherwise : (read(point) ?? null)));
}

/** The failure classes of a time, the most frequent first; the rest past `most` in one. */
export function classes(totals: Record<string, number>, most: number): { names: string[]; rest: string[] } {
  const failures = Object.entries(totals)
    .filter(([name, calls]) => name !== "ok" && name !== "repaired" && calls > 0)
    .sort(([a, x], [b, y]) => y - x || a.localeCompare(b))
    .map(([name]) => name);
  return failures.length <= most
    ? { names: failures, rest: [] }
    : { names: failures.slice(0, most - 1), rest: failures.slice(most - 1) };
}

/** Each series on top of those before it. */
export function stacked(series: (number | null)[][]): number[][] {
  const sums: number[][] = [];
  series.forEach((values, index) => {
    const below = sums[index - 1];
    sums.push(values.map((value, at) => (value ?? 0) + (below?.[at] ?? 0)));
  });
  return sums;
}

/** The largest of the values, or `otherwise`. */
export function largest(series: (number | null)[][], otherwise: number): number {
  let most = -Infinity;
  for (const values of series) for (const value of values) if (value !== null && value > most) most = value;
  return Number.isFinite(most) ? most : otherwise;
}
