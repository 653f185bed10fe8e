// The rows of the log as they come: older ones below, new ones on top, and what is missing in between.
// Pure functions; an id is the time of its call, so that ids are in the order of calls.
import type { LogList, LogRow } from "./api/types";

/** Calls older than `next` and newer than `until` that are not here. */
export interface Gap {
  next: string;
  until: string;
}

export interface Rows {
  rows: LogRow[];
  /** Where older ones go on; `null` at the end of the log. */
  next: string | null;
  gaps: Gap[];
}

/** Both lists, newest first; what is in `newer` wins. */
export function merged(newer: LogRow[], older: LogRow[]): LogRow[] {
  const rows = new Map(older.map((row) => [row.id, row]));
  for (const row of newer) rows.set(row.id, row);
  return [...rows.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
}

/** Whether a page ends above `known`: there may be calls between the two. */
export function apart(page: LogList, known: string): boolean {
  return page.next !== null && page.next > known;
}

/**
 * The newest calls on top of those that are here already, `most` in all. As far down as the page reaches
 * it says what there is: what it leaves out is no answer to the question any more, as when a consumer was
 * heard of meanwhile.
 */
export function onTop(old: Rows, got: LogList, most: number): Rows {
  const newest = old.rows[0]?.id;
  if (newest === undefined) return { rows: got.rows, next: got.next, gaps: [] };
  const gap = got.next !== null && apart(got, newest) ? [{ next: got.next, until: newest }] : [];
  const below = old.rows.filter((row) => got.next !== null && row.id < got.next);
  const rows = merged(got.rows, below).slice(0, most);
  const last = rows.at(-1)?.id ?? newest;
  return { rows, next: old.next, gaps: [...gap, ...old.gaps].filter((each) => each.until >= last) };
}

/** One more page of what is missing; the gap is smaller, or gone. */
export function filled(old: Rows, gap: Gap, got: LogList): Rows {
  const rest = got.next !== null && apart(got, gap.until) ? [{ next: got.next, until: gap.until }] : [];
  return {
    rows: merged(got.rows, old.rows),
    next: old.next,
    gaps: old.gaps.flatMap((each) => (each.until === gap.until ? rest : [each])),
  };
}
