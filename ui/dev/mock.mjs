// A stand-in for the gateway while the dashboard is worked on: made-up answers of /api/v1, the same
// on every run but for the time. `node dev/mock.mjs [none|little|much|keys] [PORT]` also serves
// `dist` under the gateway's content security policy. No test relies on it: those run the gateway.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";

const mode = process.argv[2] ?? "much";
const port = Number(process.argv[3] ?? 4799);
const dist = new URL("../dist/", import.meta.url).pathname;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A number from 0 to 1 that follows from its arguments. */
function dice(...of) {
  let hash = 2166136261;
  for (const char of of.join("/")) hash = Math.imul(hash ^ char.charCodeAt(0), 16777619);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 2246822507);
  hash ^= hash >>> 13;
  return (hash >>> 0) / 4294967296;
}

const CALLS = [
  { call: "extract-invoice", release: 7, rate: 42, bad: 0.031, p50: 840, tokens: [1480, 212], cost: 0.0011, top: "schema", coverage: 0.34, state: "page", alerts: ["error_rate"] },
  { call: "answer-support-ticket", release: 12, rate: 120, bad: 0.006, p50: 1900, tokens: [3200, 410], cost: 0.0042, top: "timeout_first_token", coverage: 0.08, state: "ok", alerts: [], stream: true },
  { call: "classify-email", release: 3, rate: 260, bad: 0.0004, p50: 310, tokens: [420, 9], cost: 0.00006, top: "rate_limited", coverage: 0.71, state: "ok", alerts: [] },
  { call: "summarise-meeting", release: 5, rate: 3, bad: 0.012, p50: 6100, tokens: [18400, 900], cost: null, top: "truncated_length", coverage: null, state: "warn", alerts: ["unpriced"] },
  { call: "translate-listing", release: 2, rate: 0.05, bad: 0, p50: 1200, tokens: [600, 580], cost: 0.0009, top: null, coverage: null, state: "insufficient", alerts: [] },
  { call: "default", release: null, rate: 0.6, bad: 0.02, p50: 700, tokens: [200, 120], cost: 0, top: "upstream_error", coverage: 0, state: "ok", alerts: [] },
  { call: "draft-reply-in-the-style-of-the-customers-account-manager", release: 1, rate: 0, bad: 0, p50: 0, tokens: [0, 0], cost: null, top: null, coverage: null, state: "no_traffic", alerts: [] },
];

const quantiles = (count, p50, spread = 2.4) =>
  count === 0 || p50 === 0 ? null : { count, p50, p95: p50 * spread, p99: p50 * spread * 1.5, max: p50 * spread * 3, mean: p50 * 1.15 };

/** Calls and errors of one call in one stretch. */
function sample(of, start, length) {
  const day = 0.55 + 0.45 * Math.sin(((start % DAY) / DAY) * 2 * Math.PI - 2);
  const calls = Math.round(of.rate * (length / MINUTE) * day * (0.8 + 0.4 * dice(of.call, start)));
  const spike = of.bad > 0.03 && start > Date.now() - 40 * MINUTE ? 3 : of.bad > 0.03 ? 0.3 : 1;
  const errors = Math.min(calls, Math.round(calls * of.bad * spike * (0.4 + 1.2 * dice("e", of.call, start))));
  return { calls, errors };
}

function boardCall(of, since, window, now) {
  const step = window / 60;
  const spark = Array.from({ length: 60 }, (_, at) => {
    const start = Math.floor((since + at * step) / 1000) * 1000;
    return { start_ms: start, ...sample(of, start, step) };
  });
  const calls = spark.reduce((sum, point) => sum + point.calls, 0);
  const errors = spark.reduce((sum, point) => sum + point.errors, 0);
  const five = sample(of, Math.floor(now / MINUTE) * MINUTE, 5 * MINUTE);
  const heard = of.coverage === null ? 0 : Math.round(calls * of.coverage);
  const unpriced = of.cost === null ? calls : 0;
  const rate = calls > 0 ? errors / calls : null;
  return {
    call: of.call, configured: of.release !== null, state: calls === 0 ? "no_traffic" : of.state, alerts: of.alerts,
    release: of.release === null ? null : `${of.call}@${of.release}`,
    releases: of.release === null ? [] : [`${of.call}@${of.release}`, ...(of.release > 5 ? [`${of.call}@${of.release - 1}`] : [])],
    calls, errors, neutral: Math.round(calls * 0.001), error_rate: rate, max_error_rate: 0.02, budget_left: rate === null ? null : 1 - rate / 0.02,
    five_minutes: { ...five, error_rate: five.calls > 0 ? five.errors / five.calls : null, state: five.calls < 20 ? "insufficient" : five.errors / five.calls > 0.02 ? "over" : "ok" },
    latency: quantiles(calls, of.p50), first_token: of.stream ? quantiles(calls, of.p50 / 4) : null,
    tokens_in: quantiles(calls, of.tokens[0], 1.8), tokens_out: quantiles(calls, of.tokens[1], 2.1),
    cost_usd: of.cost === null ? null : calls * of.cost, unpriced, free: of.cost === 0 ? calls : 0,
    cost_per_ok_usd: of.cost && calls > errors ? (calls * of.cost) / (calls - errors) : null,
    degraded: Math.round(errors / 2), coverage: calls > 0 ? of.coverage : null, useful: Math.round(heard * 0.93), useless: heard - Math.round(heard * 0.93),
    top_failure: errors > 0 ? of.top : null, spark,
  };
}

function shown() {
  if (mode === "none") return [];
  if (mode === "little") return CALLS.slice(4, 5).map((of) => ({ ...of, rate: 0.2 }));
  return CALLS;
}

const WINDOWS = { "5m": 5 * MINUTE, "1h": HOUR, "24h": DAY, "7d": 7 * DAY };

function board(query) {
  const now = Date.now();
  const window = WINDOWS[query.get("window") ?? "1h"];
  const calls = shown().map((of) => boardCall(of, now - window, window, now));
  const sum = (key) => calls.reduce((total, row) => total + (row[key] ?? 0), 0);
  return {
    at_ms: now, since_ms: now - window, window_ms: window, calls,
    totals: { calls: sum("calls"), errors: sum("errors"), cost_usd: calls.length > 0 ? sum("cost_usd") : null, unpriced: sum("unpriced"), neutral: sum("neutral"), free: sum("free") },
    health: mode === "much" ? { state: "warn", problems: ["12 records were given up because the queue was full."] } : { state: "ok", problems: [] },
  };
}

const CLASSES = ["schema", "timeout_first_token", "rate_limited", "upstream_error", "empty", "malformed", "truncated_length", "overloaded", "refused"];

function sums(of, calls, errors, at) {
  const outcomes = { ok: Math.max(0, calls - errors - Math.round(calls * 0.004)), repaired: Math.round(calls * 0.004) };
  let left = errors;
  [of.top ?? "schema", ...CLASSES].forEach((name, index) => {
    const some = Math.min(left, index === 0 ? Math.round(errors * 0.6) : Math.round(errors * 0.12 * dice(name, at)));
    if (some > 0) outcomes[name] = (outcomes[name] ?? 0) + some;
    left -= some;
  });
  if (left > 0) outcomes[of.top ?? "schema"] = (outcomes[of.top ?? "schema"] ?? 0) + left;
  const lost = (names) => names.reduce((sum, name) => sum + (outcomes[name] ?? 0), 0);
  const delivered = calls - lost(["timeout_first_token", "rate_limited", "upstream_error", "overloaded", "empty"]);
  const complete = delivered - lost(["truncated_length", "refused"]);
  const parsed = complete - lost(["malformed"]);
  const valid = parsed - lost(["schema"]);
  const heard = Math.round(calls * (of.coverage ?? 0));
  const slow = of.p50 * (0.9 + 0.25 * dice("l", of.call, at));
  const heat = [];
  for (let octave = -1; octave < 3; octave += 0.25) {
    const low = slow * 2 ** octave;
    const some = Math.round(calls * 0.25 * Math.exp(-((octave - 0.05) ** 2) * (octave > 0 ? 1.6 : 5)) * (0.6 + 0.8 * dice("h", at, octave)));
    if (some > 0) heat.push([low, low * 2 ** 0.25, some]);
  }
  const [input, output] = of.tokens;
  return {
    calls, errors, neutral: Math.round(calls * 0.001), error_rate: calls > 0 ? errors / calls : null,
    degraded: { stale: Math.round(errors * 0.3), static: 0, message: Math.round(errors * 0.2) }, outcomes,
    ladder: { called: calls, delivered, complete, parsed, schema_valid: valid, checks_passed: valid, useful: Math.round(heard * 0.93), useless: heard - Math.round(heard * 0.93) },
    latency: quantiles(calls, slow), latency_heat: heat, first_token: of.stream ? quantiles(calls, slow / 4) : null,
    tokens_in: quantiles(calls, input * (0.95 + 0.1 * dice("i", at)), 1.6), tokens_out: quantiles(calls, output * (0.9 + 0.2 * dice("o", at)), 2.1),
    tokens: { input: calls * input * 0.6, cache_read: calls * input * 0.4, cache_write: 0, input_media: 0, output: calls * output * 0.8, reasoning: calls * output * 0.2, output_media: 0 },
    estimated: Math.round(calls * 0.002), cost_usd: of.cost === null ? null : of.cost * calls, unpriced: of.cost === null ? calls : 0, free: of.cost === 0 ? calls : 0, attempts: Math.round(calls * 1.06),
  };
}

function callPage(name, query) {
  const of = shown().find((each) => each.call === name);
  if (!of) return null;
  const until = Number(query.get("until_ms") ?? Date.now());
  const since = Number(query.get("since_ms") ?? until - DAY);
  const span = until - since;
  const step = [MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, DAY].find((each) => span / each <= 300) ?? DAY;
  const series = [];
  let [calls, errors] = [0, 0];
  for (let start = Math.floor(since / step) * step; start < until; start += step) {
    const point = sample(of, start, step);
    if (point.calls === 0 || (of.call === "summarise-meeting" && dice("gap", Math.floor(start / (6 * step))) < 0.2)) continue;
    series.push({ start_ms: start, ...sums(of, point.calls, point.errors, start) });
    calls += point.calls;
    errors += point.errors;
  }
  const totals = sums(of, calls, errors, 0);
  totals.outcomes = series.reduce((all, point) => {
    for (const [key, value] of Object.entries(point.outcomes)) all[key] = (all[key] ?? 0) + value;
    return all;
  }, {});
  const release = of.release === null ? null : `${of.call}@${of.release}`;
  const releases = calls === 0 ? [] : [{ release, first_ms: Math.max(since, until - span * 0.3), last_ms: until - 3_000, calls: Math.round(calls * 0.3), errors, error_rate: errors / Math.max(1, calls * 0.3) }];
  if (of.release > 5) releases.push({ release: `${of.call}@${of.release - 1}`, first_ms: since, last_ms: until - span * 0.29, calls: Math.round(calls * 0.7), errors: 3, error_rate: 3 / Math.max(1, calls * 0.7) });
  const band = (median) => (calls > 300 ? { median, low: median * 0.5, high: median * 1.95, calls: 20_000 } : null);
  return {
    call: name, configured: of.release !== null, release, since_ms: since, until_ms: until, step_ms: step, level: step >= DAY ? "day" : step >= HOUR ? "hour" : "minute",
    settings: { max_error_rate: 0.02, deadline_ms: 20_000, route: ["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"], latency_p95_ms: of.call === "extract-invoice" ? 2500 : null },
    releases, totals, series,
    by_target: calls === 0 ? [] : [
      { target: "openai/gpt-5-mini", calls: Math.round(calls * 0.94), errors, neutral: 0, unpriced: of.cost === null ? Math.round(calls * 0.94) : 0, free: of.cost === 0 ? Math.round(calls * 0.94) : 0, latency: quantiles(calls, of.p50), cost_usd: of.cost === null ? null : of.cost * calls * 0.9 },
      { target: "anthropic/claude-haiku-4-5", calls: Math.round(calls * 0.06), errors: 0, neutral: 0, unpriced: of.cost === null ? Math.round(calls * 0.06) : 0, free: of.cost === 0 ? Math.round(calls * 0.06) : 0, latency: quantiles(calls, of.p50 * 1.4), cost_usd: of.cost === null ? null : of.cost * calls * 0.1 },
    ],
    bands: { tokens_in: band(of.tokens[0]), tokens_out: band(of.tokens[1]) },
  };
}

const hex = (value, width) => Math.floor(value).toString(16).padStart(width, "0").slice(-width);
const began = Date.now();

/** The n-th call before now; the same for as long as the mock runs. */
function logRow(n) {
  const at = began - n * 1_700 - Math.floor(dice("at", n) * 900);
  const all = shown().filter((of) => of.rate > 0);
  const of = all[Math.floor(dice("c", n) ** 2 * all.length)] ?? CALLS[0];
  const failed = dice("f", n) < 0.14;
  const code = failed ? CLASSES[Math.floor(dice("k", n) * CLASSES.length)] : dice("r", n) < 0.05 ? "repaired" : "ok";
  const input = Math.round(of.tokens[0] * (0.8 + 0.4 * dice("ti", n)));
  const output = Math.round(of.tokens[1] * (0.6 + 0.9 * dice("to", n)));
  const usage = failed && code !== "schema" ? null : { input, output, cache_read: Math.round(input * 0.4), cache_write: 0, input_media: 0, reasoning: 0, output_media: 0, estimated: dice("es", n) < 0.03 };
  return {
    id: `${hex(at / 65536, 8)}-${hex(at, 4)}-7${hex(n, 3)}-8${hex(dice(n) * 4096, 3)}-${hex(dice("x", n) * 2 ** 46, 12)}`,
    at_ms: at, call: of.call, release: of.release === null ? null : `${of.call}@${of.release}`, variant: of.release === null ? "direct" : "stable",
    outcome: code.replace(/_(first_token|length|headers|stream)$/, ""), outcome_code: code, degraded: failed && dice("d", n) < 0.4 ? "stale" : "none",
    message: failed ? { schema: "the answer of openai/gpt-5-mini violates the schema at `$.total`: \"42,50\" is not of type \"number\"", timeout_first_token: "openai/gpt-5-mini sent no first token within 8 s" }[code] ?? "openai/gpt-5-mini failed, and the budget of 3 attempts is spent" : null,
    stream: Boolean(of.stream), latency_ms: of.p50 * (0.5 + 1.9 * dice("l", n) ** 3), first_token_ms: of.stream ? of.p50 / 4 : null, usage,
    cost: usage === null ? { state: null, usd: null } : of.cost === null ? { state: "unknown", usd: null } : of.cost === 0 ? { state: "free", usd: 0 } : { state: "priced", usd: of.cost },
    model: "gpt-5-mini-2026-08-07", target: code === "rate_limited" ? "anthropic/claude-haiku-4-5" : "openai/gpt-5-mini", unit: null,
    attempts: failed || code === "repaired" ? 2 + Math.floor(dice("n", n) * 2) : 1, consumer_ok: dice("v", n) < 0.2 ? dice("w", n) < 0.9 : null, seq: 1_000_000 - n,
  };
}

const LOG_SIZE = { none: 0, little: 7, much: 1_000_000, keys: 200 }[mode] ?? 0;
let fresh = [];

function log(query) {
  const limit = Number(query.get("limit") ?? 50);
  const rows = [];
  let n = 0;
  const before = query.get("before");
  const fits = (row) =>
    (!query.get("call") || row.call === query.get("call")) && (!query.get("release") || row.release === query.get("release")) &&
    (!query.get("target") || row.target === query.get("target")) && (!query.get("outcome") || [row.outcome, row.outcome_code].includes(query.get("outcome"))) &&
    (query.get("failed") !== "true" || (row.outcome !== "ok" && row.outcome !== "repaired")) && (query.get("degraded") !== "true" || row.degraded !== "none") &&
    (!query.get("verdict") || row.consumer_ok === { useful: true, useless: false, unheard: null }[query.get("verdict")]) &&
    (!query.get("since_ms") || row.at_ms >= Number(query.get("since_ms"))) && (!query.get("until_ms") || row.at_ms < Number(query.get("until_ms"))) &&
    (!query.get("q") || row.id.startsWith(query.get("q")));
  if (!before) rows.push(...fresh.filter(fits).slice(0, limit));
  let last = null;
  for (; n < LOG_SIZE && n < 20_000 && rows.length < limit; n += 1) {
    const row = logRow(n);
    if (before && row.id >= before) continue;
    last = row.id;
    if (fits(row)) rows.push(row);
  }
  return { rows, next: n < LOG_SIZE && n < 20_000 ? last : null };
}

function detail(id) {
  let row = fresh.find((each) => each.id.startsWith(id));
  for (let n = 0; row === undefined && n < Math.min(LOG_SIZE, 20_000); n += 1) {
    const each = logRow(n);
    if (each.id.startsWith(id)) row = each;
  }
  if (row === undefined) return null;
  const failed = row.outcome !== "ok" && row.outcome !== "repaired";
  const each = row.latency_ms / row.attempts;
  const attempts = Array.from({ length: row.attempts }, (_, at) => {
    const bad = failed || at + 1 < row.attempts;
    return {
      target: at < 2 ? "openai/gpt-5-mini" : "anthropic/claude-haiku-4-5", kind: ["first", row.outcome_code === "schema" || row.outcome === "repaired" ? "repair" : "retry", "fallback"][at] ?? "retry",
      failure: bad ? (row.outcome === "repaired" ? "schema" : row.outcome_code) : null, message: bad ? "the answer violates the schema at `$.lines[1].sum`: \"17,50\" is not of type \"number\"" : null,
      started_ms: at * each * 1.02 + 0.4, took_ms: each * 0.92, first_token_ms: row.stream ? each * 0.4 : null, status: row.outcome_code === "rate_limited" ? 429 : 200,
      retry_after_ms: row.outcome_code === "rate_limited" ? 2000 : null, usage: row.usage, cost: row.cost,
    };
  });
  const answer = { total: 42.5, currency: "EUR", lines: [{ text: "Rope, 12 mm", sum: 25 }, { text: "Shackle", sum: 17.5 }] };
  const violated = row.outcome_code === "schema" || row.outcome === "repaired";
  return {
    row,
    record: {
      attempts, violation: violated ? { path: "$.lines[1].sum", rule: "type", reason: "\"17,50\" is not of type \"number\"" } : null,
      request: JSON.stringify({ model: row.call, messages: [{ role: "user", content: "Invoice 2026-118 of [redacted:email], two lines. Return the lines and the total." }], temperature: 0 }),
      answer: failed && row.degraded === "none" ? null : JSON.stringify(answer),
      rejected: violated ? JSON.stringify({ ...answer, lines: [answer.lines[0], { text: "Shackle", sum: "17,50" }] }) : null,
      upstream_id: "chatcmpl-9f2c71", fingerprint: "fp_41c9", finish: failed ? null : "stop", trace_id: "4bf92f3577b34da6a3ce929d0e0e4736", unit: "user-17", protocol: "openai", overhead_ms: 0.31,
    },
    reports: row.consumer_ok === null ? [] : [{ ok: row.consumer_ok, score: 0.8, reason: row.consumer_ok ? null : "The total did not match the sum of the lines.", expected: row.consumer_ok ? null : { total: 42.5 }, reported_ms: row.at_ms + 65_000 }],
  };
}

const RULES = [
  ["error_rate", "Error rate", "More calls fail than the budget allows: the exact binomial tail over 5 minutes or 1 hour.", "page", "share"],
  ["latency_budget", "Latency over the budget", "Too many calls are slower than the budget says.", "warn", "ms"],
  ["tokens_out", "Answers of unusual length", "A cumulative sum of the robust deviation of log tokens passes its limit.", "warn", "cusum"],
  ["quality", "Quality", "More answers than usual stop at one rung of the ladder.", "warn", "share"],
  ["no_traffic", "No traffic", "There were calls, and now there are none.", "warn", "calls"],
  ["unpriced", "Unpriced model", "Calls cost nobody knows what.", "warn", "count"],
  ["shed", "Records given up", "Records of calls were given up.", "page", "count"],
];

function alert(rule, severity, call, ago, more = {}) {
  const now = Date.now();
  return {
    id: `0199ab12-0000-7000-8000-00000000000${more.n ?? 1}`, rule, call, release: call && `${call}@7`, variant: "stable", target: null, detail: null, severity, state: "firing",
    started_ms: now - ago, fired_ms: now - ago + 20_000, resolved_ms: null, summary: `${call}: 9.3 % of calls failed in the last 5 minutes; 2 % are allowed`,
    arithmetic: "19 of 204 calls failed in 5 min (9.3 %); P(X ≥ 19 | n = 204, p = 0.02) = 1.7e-8 ≤ 0.001", top_failure: "schema", value: 0.093, threshold: 0.02,
    samples: mode === "none" ? [] : [logRow(3).id, logRow(9).id, logRow(14).id], link: "/alerts?id=…", silenced_by: null, ...more.over,
  };
}

const firing = () =>
  mode !== "much" ? [] : [
    alert("error_rate", "page", "extract-invoice", 31 * MINUTE),
    alert("unpriced", "warn", "summarise-meeting", 5 * HOUR, { n: 2, over: { summary: "summarise-meeting: 181 calls of the last hour have no price", arithmetic: "181 of 181 calls to local/qwen-3 unpriced in 1 h; none allowed", top_failure: null, target: "local/qwen-3", release: null } }),
  ];

const alerts = () => ({
  firing: firing(),
  rules: RULES.map(([rule, title, explains, severity, unit]) => ({
    rule, title, explains, severity,
    calls: shown().filter((of) => of.rate > 0 && (rule !== "shed")).map((of, at) => {
      const state = of.alerts.includes(rule) ? "firing" : rule === "latency_budget" && at === 1 ? "pending" : of.state === "insufficient" ? "insufficient" : rule === "tokens_out" && at > 2 ? "learning" : "ok";
      const value = { share: of.bad, ms: of.p50 * 2.4, cusum: 1.3 + at, calls: of.rate * 5, count: of.cost === null ? 181 : 0 }[unit];
      const threshold = { share: 0.02, ms: 4500, cusum: 8, calls: 1, count: 0 }[unit];
      return { call: of.call, release: null, target: null, detail: null, state, since_ms: state === "ok" ? null : Date.now() - 31 * MINUTE, value: state === "insufficient" ? null : value, threshold, unit, arithmetic: state === "insufficient" ? "12 calls in 1 h; 50 are needed" : `measured over 5 min and 1 h; limit ${threshold}` };
    }),
  })),
});

const history = () => ({
  alerts: mode !== "much" ? [] : [...firing(), ...Array.from({ length: 12 }, (_, at) => alert("error_rate", at % 3 ? "warn" : "page", "answer-support-ticket", (at + 1) * 9 * HOUR, { n: 3, over: { id: `0199ab12-0000-7000-8000-0000000001${hex(at, 2)}`, state: "resolved", resolved_ms: Date.now() - (at + 1) * 9 * HOUR + 12 * MINUTE } }))],
  next_ms: null,
});

let silences = mode !== "much" ? [] : [{ id: "s1", call: "translate-listing", rule: "no_traffic", reason: "The importer is being moved; nothing is translated before Thursday.", created_ms: began - 3 * HOUR, expires_ms: began + 2 * DAY, by: "anna" }];

const health = () => ({
  version: "0.1.0", started_ms: began - 3 * DAY, uptime_ms: Date.now() - began + 3 * DAY, draining: false,
  summary: mode === "much" ? { state: "warn", problems: ["12 records were given up because the queue was full.", "The breaker of openai/gpt-5-mini is open for extract-invoice."] } : { state: "ok", problems: [] },
  project: { state: "ok", problem: null, calls: shown().length },
  records: { received: LOG_SIZE, stored: Math.max(0, LOG_SIZE - (mode === "much" ? 15 : 0)), pending: mode === "much" ? 3 : 0, shed: mode === "much" ? { queue_full: 12 } : {}, bodies_shed: 0, replayed: 41, unreadable: 0, spool_errors: 0, store_errors: 0, store_error: null },
  rollups: { behind: 0, error: null }, alerting: { last_look_ms: Date.now() - 4_000, problem: null }, notifications: { pending: 0, failed: mode === "much" ? 1 : 0, receivers: mode !== "much" ? [] : [{ name: "ops-webhook", last_ok_ms: Date.now() - 30 * MINUTE, last_failed_ms: null, last_error: null, pending: 0, failed: 0 }, { name: "pager", last_ok_ms: null, last_failed_ms: Date.now() - 29 * MINUTE, pending: 0, failed: 1, last_error: "events.pagerduty.com answered with status 403" }] },
  under_way: mode === "much" ? 17 : 0, limits: { max_in_flight: 512 },
  targets: mode === "none" ? [] : [
    { target: "openai/gpt-5-mini", breakers: [{ call: "extract-invoice", state: mode === "much" ? "open" : "closed" }, { call: "classify-email", state: "closed" }], hold: null },
    { target: "anthropic/claude-haiku-4-5", breakers: [{ call: "extract-invoice", state: "half_open" }], hold: { class: "rate_limited", until_ms: Date.now() + 21_000 } },
  ],
  overhead: mode === "none" ? null : quantiles(10_000, 0.21, 1.9), otlp: mode === "much" ? { enabled: true, exported: 48_211, dropped: 0 } : null,
});

const prices = () => ({
  as_of: "2026-11-20", source: "LiteLLM's price table",
  targets: mode === "none" ? [] : [
    { target: "openai/gpt-5-mini", state: "priced", input_usd: 0.25, cache_read_usd: 0.025, cache_write_usd: null, output_usd: 2, origin: "table" },
    { target: "local/qwen-3", state: "unknown", input_usd: null, cache_read_usd: null, cache_write_usd: null, output_usd: null, origin: null },
    { target: "sim/ok", state: "free", input_usd: 0, cache_read_usd: 0, cache_write_usd: 0, output_usd: 0, origin: "simulated" },
  ],
});

let signedIn = mode !== "keys";

function api(method, path, query, body) {
  if (path === "/session") {
    if (method === "GET") return [200, { required: mode === "keys", signed_in: signedIn, version: "0.1.0" }];
    if (method === "DELETE") { signedIn = false; return [204, null]; }
    signedIn = body?.key === "bsk_test";
    return signedIn ? [204, null] : [401, { error: { message: "This key is not valid.", param: "key" } }];
  }
  if (!signedIn) return [401, { error: { message: "A key is needed.", param: null } }];
  if (path === "/board") return [200, board(query)];
  if (path.startsWith("/calls/")) {
    const page = callPage(decodeURIComponent(path.slice(7)), query);
    return page ? [200, page] : [404, { error: { message: "There is no such call.", param: "call" } }];
  }
  if (path === "/log") return [200, log(query)];
  if (path.startsWith("/log/")) {
    const found = detail(path.slice(5));
    return found ? [200, found] : [404, { error: { message: "There is no such call in the log.", param: "id" } }];
  }
  if (path === "/alerts") return [200, alerts()];
  if (path === "/alerts/history") return [200, history()];
  if (path.startsWith("/alerts/")) {
    const found = history().alerts.find((each) => each.id === path.slice(8));
    return found ? [200, found] : [404, { error: { message: "There is no such alert.", param: "id" } }];
  }
  if (path === "/silences" && method === "GET") return [200, { silences }];
  if (path === "/silences") {
    silences = [{ id: `s${silences.length + 1}`, call: body.call, rule: body.rule, reason: body.reason, created_ms: Date.now(), expires_ms: Date.now() + body.minutes * MINUTE, by: "local" }, ...silences];
    return [201, silences[0]];
  }
  if (path.startsWith("/silences/")) { silences = silences.filter((each) => each.id !== path.slice(10)); return [204, null]; }
  if (path === "/health") return [200, health()];
  if (path === "/prices") return [200, prices()];
  return [404, { error: { message: "There is no such path.", param: null } }];
}

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const streams = new Set();

createServer(async (request, response) => {
  const url = new URL(request.url, "http://mock.invalid");
  if (url.pathname === "/api/v1/events") {
    if (!signedIn) return void response.writeHead(401).end();
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.write(": hello\n\n");
    streams.add(response);
    return void request.on("close", () => streams.delete(response));
  }
  if (url.pathname.startsWith("/api/v1/")) {
    let text = "";
    for await (const part of request) text += part;
    const [status, answer] = api(request.method, url.pathname.slice(7), url.searchParams, text === "" ? null : JSON.parse(text));
    return void response.writeHead(status, { "content-type": "application/json" }).end(answer === null ? "" : JSON.stringify(answer));
  }
  const file = normalize(url.pathname).replace(/^(\.\.[/\\])+/, "");
  const name = extname(file) === "" ? "index.html" : file;
  try {
    const bytes = await readFile(join(dist, name));
    response.writeHead(200, { "content-type": TYPES[extname(name)] ?? "application/octet-stream", "content-security-policy": CSP }).end(bytes);
  } catch {
    response.writeHead(404).end();
  }
}).listen(port, "127.0.0.1", () => console.error(`listening on http://127.0.0.1:${port} (${mode})`));

setInterval(() => {
  if (mode === "much") fresh = [{ ...logRow(Math.floor(dice(fresh.length, "new") * 1000)), at_ms: Date.now(), id: `${hex(Date.now() / 65536, 8)}-${hex(Date.now(), 4)}-7000-8000-${hex(fresh.length, 12)}` }, ...fresh].slice(0, 500);
  for (const stream of streams) stream.write(`event: tick\ndata: {"at_ms":${Date.now()},"seq":1}\n\n`);
}, 2_000).unref();
