import { expect, test } from "vitest";
import { evidence } from "./evidence";
import { address, logQuery } from "./url";

const NOW = 1_795_651_200_000;
const MINUTE = 60_000;
const alert = { rule: "error_rate", detail: null as string | null, call: "a", started_ms: NOW - 10 * MINUTE, resolved_ms: null as number | null };
/** What the log is asked for behind the link. */
const asked = (of: typeof alert) => {
  const query = logQuery(new URL(address("/log", evidence(of, NOW).filters), "http://x").searchParams, NOW);
  const back = (name: string) => (NOW - Number(query.get(name))) / MINUTE;
  return { call: query.get("call"), verdict: query.get("verdict"), failed: query.get("failed"), since: back("since_ms"), until: back("until_ms") };
};

test("failures are shown as failed calls, until the alert was over", () => {
  expect(asked(alert)).toEqual({ call: "a", verdict: null, failed: "true", since: 15, until: 0 });
  expect(asked({ ...alert, rule: "quality", detail: "parsed", resolved_ms: NOW - 2 * MINUTE })).toMatchObject({ failed: "true", until: 2 });
});

test("what consumers said is shown as they said it", () => {
  expect(asked({ ...alert, rule: "quality", detail: "consumer" })).toEqual({ call: "a", verdict: "useless", failed: null, since: 70, until: 0 });
});

test("what was not heard of is of the hour that was judged", () => {
  expect(asked({ ...alert, rule: "coverage" })).toEqual({ call: "a", verdict: "unheard", failed: null, since: 130, until: 60 });
});
