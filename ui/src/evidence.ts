// What an alert is made of: the calls in the log, and how its rule stands now. Pure.
import type { Alert, RuleCall, RuleView } from "./api/types";

export interface Evidence {
  /** Filters of the log's address. */
  filters: Record<string, string | number | null>;
  text: string;
}

const HOUR = 3_600_000;

/** Rules that calls make hold by failing. What a target refused, another one may have answered. */
const OF_FAILURES = ["error_rate", "burn_rate", "quality"];

/** The calls behind an alert, from an hour before it began, which is how far rules look back, until it was over. */
export function evidence(alert: Pick<Alert, "rule" | "detail" | "call" | "target" | "started_ms" | "resolved_ms">, now: number): Evidence {
  const { call, target, started_ms: began } = alert;
  const until = alert.resolved_ms ?? now;
  if (alert.rule === "quality" && alert.detail === "consumer") {
    return { filters: { call, verdict: "useless", since: began - HOUR, until }, text: "calls of no use since an hour before" };
  }
  if (alert.rule === "coverage") {
    // Calls are judged when they are one to two hours old.
    return { filters: { call, verdict: "unheard", since: began - 2 * HOUR, until: until - HOUR }, text: "calls not heard of that were judged" };
  }
  const filters = { call, target, since: began - HOUR, until };
  if (OF_FAILURES.includes(alert.rule)) return { filters: { ...filters, failed: 1 }, text: "failed calls since an hour before" };
  return { filters, text: "calls since an hour before" };
}

/** How the rule of an alert that is not over stands now, if it has been looked at since. */
export function standing(alert: Pick<Alert, "rule" | "call" | "target" | "detail" | "release" | "resolved_ms">, rules: RuleView[]): RuleCall | null {
  if (alert.resolved_ms !== null) return null;
  const stands = rules.find((rule) => rule.rule === alert.rule)?.calls ?? [];
  const isIts = (stand: RuleCall) => stand.call === alert.call && stand.target === alert.target && stand.detail === alert.detail;
  // An alert names the release of most of its calls, also where its rule does not tell releases apart.
  return stands.find((stand) => isIts(stand) && (stand.release === null || stand.release === alert.release)) ?? null;
}
