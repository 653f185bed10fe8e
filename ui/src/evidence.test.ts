import { expect, test } from "vitest";
import type { RuleCall, RuleView } from "./api/types";
import { evidence, standing } from "./evidence";
import { address, logQuery } from "./url";

const NOW = 1_795_651_200_000;
const MINUTE = 60_000;
const alert = { rule: "error_rate", detail: null as string | null, call: "a", target: null as string | null, started_ms: NOW - 10 * MINUTE, resolved_ms: null as number | null };
/** What the log is asked for behind the link. */
const asked = (of: typeof alert) => {
  const query = logQuery(new URL(address("/log", evidence(of, NOW).filters), "http://x").searchParams, NOW);
  const back = (name: string) => (NOW - Number(query.get(name))) / MINUTE;
  return { call: query.get("call"), verdict: query.get("verdict"), failed: query.get("failed"), target: query.get("target"), since: back("since_ms"), until: back("until_ms") };
};

test("failures are shown as failed calls, until the alert was over", () => {
  expect(asked(alert)).toEqual({ call: "a", verdict: null, failed: "true", target: null, since: 70, until: 0 });
  expect(asked({ ...alert, rule: "quality", detail: "parsed", resolved_ms: NOW - 2 * MINUTE })).toMatchObject({ failed: "true", until: 2 });
});

test("what consumers said is shown as they said it", () => {
  expect(asked({ ...alert, rule: "quality", detail: "consumer" })).toEqual({ call: "a", verdict: "useless", failed: null, target: null, since: 70, until: 0 });
});

test("what was not heard of is of the hour that was judged", () => {
  expect(asked({ ...alert, rule: "coverage" })).toEqual({ call: "a", verdict: "unheard", failed: null, target: null, since: 130, until: 60 });
});

test("what is slow, long or without a price has not failed, nor has what another target answered", () => {
  for (const rule of ["latency_budget", "first_token", "tokens_out", "no_traffic"]) {
    expect(asked({ ...alert, rule })).toMatchObject({ call: "a", failed: null, since: 70 });
  }
  expect(asked({ ...alert, rule: "unpriced", target: "up/new" })).toMatchObject({ target: "up/new", failed: null });
  expect(asked({ ...alert, rule: "credentials", target: "up/new" })).toMatchObject({ target: "up/new", failed: null });
});

test("a rule stands now as it does for the alert's own call, release and part", () => {
  const stand = (more: Partial<RuleCall>): RuleCall =>
    ({ call: "a", release: null, target: null, detail: null, state: "firing", since_ms: null, value: 0, threshold: 0, unit: "share", arithmetic: "", ...more });
  const rule = (name: string, calls: RuleCall[]) => ({ rule: name, title: name, calls }) as unknown as RuleView;
  const rules = [
    rule("quality", [stand({ detail: "complete" }), stand({ call: "b", detail: "parsed" }), stand({ detail: "parsed", arithmetic: "now" })]),
    rule("tokens_in", [stand({ release: "a@1" }), stand({ release: "a@2", arithmetic: "second" })]),
  ];
  const quality = { ...alert, rule: "quality", detail: "parsed", release: "a@7" };
  expect(standing(quality, rules)?.arithmetic).toBe("now");
  expect(standing({ ...quality, resolved_ms: NOW }, rules)).toBeNull();
  expect(standing({ ...quality, rule: "shed" }, rules)).toBeNull();
  expect(standing({ ...quality, rule: "tokens_in", detail: null, release: "a@2" }, rules)?.arithmetic).toBe("second");
});
