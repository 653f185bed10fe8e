import { expect, test } from "vitest";
import { books } from "./books";

const names = (of: { reason: string }[]) => of.map(({ reason }) => reason);

test("a report that could not be placed is no loss", () => {
  const told = books({ queue_full: 0, closed: 0, expired: 2, unmatched: 3 });
  expect(told.shed).toBe(5);
  expect(told.lost).toEqual([]);
  expect(names(told.unplaced)).toEqual(["expired", "unmatched"]);
});

test("whatever else was shed is lost, also for a reason of a later version", () => {
  const told = books({ queue_full: 7, closed: 1, unmatched: 2, new_reason: 4 });
  expect(told.shed).toBe(14);
  expect(names(told.lost)).toEqual(["queue_full", "closed", "new_reason"]);
  expect(names(told.unplaced)).toEqual(["unmatched"]);
});
