// Where the log shows the calls that made an alert. Pure.
import type { Alert } from "./api/types";

export interface Evidence {
  /** Filters of the log's address. */
  filters: Record<string, string | number | null>;
  text: string;
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** The calls behind an alert, from a little before it began until it was over. */
export function evidence(alert: Pick<Alert, "rule" | "detail" | "call" | "started_ms" | "resolved_ms">, now: number): Evidence {
  const { call, started_ms: began } = alert;
  const until = alert.resolved_ms ?? now;
  if (alert.rule === "quality" && alert.detail === "consumer") {
    // A verdict counts where its call does, which is up to an hour ago.
    return { filters: { call, verdict: "useless", since: began - HOUR, until }, text: "all calls of no use since then" };
  }
  if (alert.rule === "coverage") {
    // Calls are judged when they are one to two hours old.
    return { filters: { call, verdict: "unheard", since: began - 2 * HOUR, until: until - HOUR }, text: "all calls not heard of since then" };
  }
  return { filters: { call, failed: 1, since: began - 5 * MINUTE, until }, text: "all failed calls since then" };
}
