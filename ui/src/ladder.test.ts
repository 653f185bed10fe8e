import { expect, test } from "vitest";
import { steps, verdicts, worst } from "./ladder";

const ladder = {
  called: 200,
  delivered: 190,
  complete: 188,
  parsed: 180,
  schema_valid: 150,
  checks_passed: 150,
  useful: 30,
  useless: 10,
};

test("every lost call is lost at exactly one rung", () => {
  const rungs = steps(ladder);
  expect(rungs.map((step) => step.lost)).toEqual([0, 10, 2, 8, 30, 0]);
  expect(rungs.reduce((sum, step) => sum + step.lost, 0)).toBe(ladder.called - ladder.checks_passed);
  expect(rungs.map((step) => step.share)).toEqual([1, 0.95, 0.94, 0.9, 0.75, 0.75]);
  expect(worst(rungs)?.key).toBe("schema_valid");
});

test("without calls there are no shares and no worst rung", () => {
  const none = { called: 0, delivered: 0, complete: 0, parsed: 0, schema_valid: 0, checks_passed: 0, useful: 0, useless: 0 };
  expect(steps(none).every((step) => step.share === null && step.lost === 0)).toBe(true);
  expect(worst(steps(none))).toBeNull();
  expect(verdicts(none)).toEqual({ heard: 0, useful: 0, share: null, coverage: null });
});

test("silence of consumers is no verdict", () => {
  expect(verdicts(ladder)).toEqual({ heard: 40, useful: 30, share: 0.75, coverage: 0.2 });
});
