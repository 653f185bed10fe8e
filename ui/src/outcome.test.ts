import { expect, test } from "vitest";
import { unanswered } from "./outcome";

test("a client that was answered got no error", () => {
  for (const outcome of ["ok", "repaired", "refused", "content_filter"]) expect(unanswered({ outcome, degraded: "none" })).toBeUndefined();
  expect(unanswered({ outcome: "timeout", degraded: "stale" })).toBeUndefined();
});

test("one that was not is told from one that left", () => {
  for (const outcome of ["timeout", "schema", "budget", "a_later_one"]) expect(unanswered({ outcome, degraded: "none" })).toMatch(/an error/);
  expect(unanswered({ outcome: "cancelled", degraded: "none" })).toMatch(/went away/);
});
