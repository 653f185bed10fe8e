// The address as the only state of a page: what is looked at, over which time, sorted how.
// Pure functions of a path and its parameters.

export const WINDOWS = ["5m", "1h", "24h", "7d"] as const;
export type BoardWindow = (typeof WINDOWS)[number];

export const RANGES = ["1h", "6h", "24h", "7d", "30d"] as const;
export type Range = (typeof RANGES)[number];

export const RANGE_WORDS: Record<Range, string> = { "1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 d", "30d": "30 d" };

const UNITS: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `24h` in milliseconds. */
export function rangeMs(range: string): number {
  const match = /^(\d{1,4})([mhd])$/.exec(range);
  return match ? Number(match[1]) * (UNITS[match[2] ?? ""] ?? 0) : 0;
}

/** One of `allowed`, or `otherwise`: an address can hold anything. */
export function oneOf<T extends string>(value: string | null, allowed: readonly T[], otherwise: T): T {
  return allowed.find((each) => each === value) ?? otherwise;
}

/** A time in milliseconds that makes sense, or nothing. */
export function time(value: string | null): number | null {
  if (value === null || !/^\d{1,16}$/.test(value)) return null;
  const at = Number(value);
  return at > 0 && at < 8.64e15 ? at : null;
}

/** What a page shows of time: the last so-and-so long, which moves on, or a fixed stretch. */
export type Span = { range: Range } | { since: number; until: number };

export function spanOf(params: URLSearchParams): Span {
  const since = time(params.get("since"));
  const until = time(params.get("until"));
  if (since !== null && until !== null && since < until) return { since, until };
  return { range: oneOf(params.get("range"), RANGES, "24h") };
}

/** The two ends of a span. */
export function ends(span: Span, now: number): { since: number; until: number } {
  return "range" in span ? { since: now - rangeMs(span.range), until: now } : span;
}

/** A copy of `params` with changes; an absent or empty value takes its parameter away. */
export function withParams(
  params: URLSearchParams,
  changes: Record<string, string | number | boolean | null | undefined>,
): URLSearchParams {
  const changed = new URLSearchParams(params);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "" || value === false) changed.delete(name);
    else changed.set(name, value === true ? "1" : String(value));
  }
  changed.sort();
  return changed;
}

/** A path and its parameters as one address. */
export function address(path: string, params: URLSearchParams | Record<string, string | number | null | undefined>): string {
  const all = params instanceof URLSearchParams ? params : withParams(new URLSearchParams(), params);
  const query = all.toString();
  return query === "" ? path : `${path}?${query}`;
}

/** The filters of the log that an address may hold, as the API names them. */
export const LOG_FILTERS = ["call", "release", "target", "outcome", "failed", "degraded", "verdict", "unit", "q"] as const;

/** What the log is asked for: the filters, and the time if it is limited. */
export function logQuery(params: URLSearchParams, now: number): URLSearchParams {
  const query = new URLSearchParams();
  for (const name of LOG_FILTERS) {
    const value = params.get(name);
    if (value) query.set(name, name === "failed" || name === "degraded" ? "true" : value);
  }
  if (params.has("since") || params.has("range")) {
    const { since, until } = ends(spanOf(params), now);
    query.set("since_ms", String(since));
    if (!params.has("range")) query.set("until_ms", String(until));
  }
  return query;
}

/** The longest time for which the end of a span that moves on stands still. */
const LONGEST_STEP_MS = 30_000;

/**
 * The end of a span that moves on, a little ahead: all who look within one step ask the same question,
 * which the server answers once. A step is less than a point on a chart is wide.
 */
export function settled(span: Span, now: number): number {
  if (!("range" in span)) return now;
  const step = Math.min(Math.max(rangeMs(span.range) / 3_600, 1_000), LONGEST_STEP_MS);
  return Math.ceil(now / step) * step;
}

export type Page =
  | { page: "board" }
  | { page: "call"; call: string }
  | { page: "log" }
  | { page: "detail"; id: string }
  | { page: "alerts" }
  | { page: "health" }
  | { page: "unknown" };

/** Which page a path names. */
export function pageOf(path: string): Page {
  const [first = "", second = "", ...rest] = path.replace(/^\/+|\/+$/g, "").split("/");
  if (rest.length > 0) return { page: "unknown" };
  let name: string;
  try {
    name = decodeURIComponent(second);
  } catch {
    return { page: "unknown" };
  }
  if (first === "calls" && name !== "") return { page: "call", call: name };
  if (first === "log") return name === "" ? { page: "log" } : { page: "detail", id: name };
  if (name !== "") return { page: "unknown" };
  switch (first) {
    case "":
      return { page: "board" };
    case "alerts":
    case "health":
      return { page: first };
    default:
      return { page: "unknown" };
  }
}
