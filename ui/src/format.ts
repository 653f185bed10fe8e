// How figures are written, the same everywhere. Pure: the time is an argument.

const THIN = "\u202f"; // a narrow space that does not break, between a figure and its unit

/** What is shown where there is nothing to show. */
export const NONE = "–";

/** A figure with `digits` significant digits and without an exponent. */
function significant(value: number, digits: number): string {
  if (value === 0) return "0";
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  const decimals = Math.max(0, digits - 1 - magnitude);
  return value.toLocaleString("en-US", { minimumFractionDigits: 0, maximumFractionDigits: Math.min(decimals, 12) });
}

/** A number of things: exact up to 9,999, then rounded to three digits. */
export function count(value: number | null | undefined): string {
  if (value == null) return NONE;
  const size = Math.abs(value);
  if (size < 10_000) return value.toLocaleString("en-US", { maximumFractionDigits: size < 10 ? 1 : 0 });
  for (const [unit, scale] of [["k", 1e3], ["M", 1e6], ["G", 1e9]] as const) {
    if (size < scale * 999.5) return significant(Number((value / scale).toPrecision(3)), 3) + THIN + unit;
  }
  return significant(Number((value / 1e12).toPrecision(3)), 3) + THIN + "T";
}

/** A number of things, exactly. */
export function exact(value: number): string {
  return value.toLocaleString("en-US");
}

/** A share, 0 to 1. Something is never shown as nothing, nor almost all as all. */
export function percent(share: number | null | undefined): string {
  if (share == null) return NONE;
  const value = share * 100;
  const size = Math.abs(value);
  const unit = THIN + "%";
  if (size === 0) return "0" + unit;
  if (size < 0.01) return (value < 0 ? "> −0.01" : "< 0.01") + unit;
  if (size < 99.95 && size >= 99) return significant(Math.floor(value * 10) / 10, 3) + unit;
  if (size < 100 && size >= 99.95) return "> 99.9" + unit;
  const shown = significant(Number(value.toPrecision(size < 10 ? 2 : 3)), 3);
  return shown.replace("-", "−") + unit;
}

/** A length of time, given in milliseconds. */
export function duration(ms: number | null | undefined): string {
  if (ms == null) return NONE;
  if (ms < 0) return "−" + duration(-ms);
  if (ms < 1) return ms === 0 ? `0${THIN}ms` : `${significant(Number(ms.toPrecision(2)), 2)}${THIN}ms`;
  if (ms < 999.5) return `${significant(Number(ms.toPrecision(3)), 3)}${THIN}ms`;
  if (ms < 59_995) return `${(ms / 1000).toFixed(ms < 9_995 ? 2 : 1).replace(/\.0+$/, "")}${THIN}s`;
  const seconds = Math.round(ms / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3_600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  return parts
    .slice(first, first + 2)
    .filter(([value]) => value > 0)
    .map(([value, unit]) => `${value}${THIN}${unit}`)
    .join(" ");
}

/** US dollars. `null` is "unknown", never $0. */
export function money(usd: number | null | undefined): string {
  if (usd == null) return "unknown";
  const size = Math.abs(usd);
  const sign = usd < 0 ? "−" : "";
  if (size === 0) return "$0";
  if (size < 0.000_001) return `${sign}< $0.000001`;
  if (size < 0.1) return `${sign}$${significant(Number(size.toPrecision(2)), 2)}`;
  const decimals = size < 1000 ? 2 : 0;
  return sign + "$" + size.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** What calls cost together: `null` if none has a cost that is known, 0 if those are free. */
export interface Cost {
  cost_usd: number | null;
  /** Calls whose cost nobody knows. Calls that failed before they cost anything are not among them. */
  unpriced: number;
  /** Calls that cost nothing. */
  free: number;
}

export type CostKind = "none" | "free" | "unknown" | "known" | "at_least";

/** What is known of a sum of costs. */
export function costKind({ cost_usd: usd, unpriced, free }: Cost): CostKind {
  if (unpriced > 0) return usd === null || usd === 0 ? "unknown" : "at_least";
  return usd === null ? "none" : usd === 0 && free > 0 ? "free" : "known";
}

/** A sum of costs: a lower bound if some calls have no price, and never $0 where nothing is known. */
export function costs(of: Cost): string {
  switch (costKind(of)) {
    case "none":
      return NONE;
    case "free":
    case "unknown":
      return costKind(of);
    case "known":
      return money(of.cost_usd);
    case "at_least":
      return `≥${THIN}${money(of.cost_usd)}`;
  }
}

/** The share of calls that failed, of those that say something of the model. */
export function errorShare({ calls, errors, neutral }: { calls: number; errors: number; neutral: number }): number | null {
  return calls > neutral ? errors / (calls - neutral) : null;
}

/** What one call cost. */
export function cost(of: { state: string | null; usd: number | null } | null): string {
  switch (of?.state) {
    case "priced":
      return money(of.usd);
    case "free":
      return "free";
    case "unknown":
      return "unknown";
    default:
      return NONE;
  }
}

/** How long ago, or in how long, in one unit. */
export function relative(at: number, now: number): string {
  const distance = Math.round((now - at) / 1000);
  const size = Math.abs(distance);
  if (size < 2) return "now";
  const [value, unit] =
    size < 60
      ? [size, "s"]
      : size < 3_600
        ? [Math.floor(size / 60), "min"]
        : size < 86_400
          ? [Math.floor(size / 3_600), "h"]
          : [Math.floor(size / 86_400), "d"];
  const words = `${value}${THIN}${unit}`;
  return distance >= 0 ? `${words} ago` : `in ${words}`;
}

const two = (value: number) => String(value).padStart(2, "0");

/** A date and time of the browser's zone: `2026-11-26 09:05:12`. */
export function absolute(at: number): string {
  const date = new Date(at);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(at)}`;
}

/** The time of day: `09:05:12`. */
export function clock(at: number, seconds = true): string {
  const date = new Date(at);
  const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return seconds ? `${minutes}:${two(date.getSeconds())}` : minutes;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** The day: `26 Nov`. */
export function day(at: number): string {
  const date = new Date(at);
  return `${date.getDate()} ${MONTHS[date.getMonth()]}`;
}

/** A failure class or another name with underscores, for people. */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}

/** A release next to the name of its call: `@7` of `extract-invoice@7`. */
export function shortRelease(release: string, call: string): string {
  return release.startsWith(`${call}@`) ? release.slice(call.length) : release;
}

/** "1 call", "2 calls". */
export function plural(value: number, one: string, many = one + "s"): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A value of a rule in its unit. */
export function inUnit(value: number | null, unit: string): string {
  if (value == null) return NONE;
  switch (unit) {
    case "share":
    case "ratio":
    case "%":
      return percent(value);
    case "ms":
    case "milliseconds":
      return duration(value);
    case "s":
    case "seconds":
      return duration(value * 1000);
    case "usd":
      return money(value);
    case "times":
      return `${significant(Number(value.toPrecision(3)), 3)}×`;
    case "sigma":
      return `${significant(Number(value.toPrecision(3)), 3)}${THIN}σ`;
    case "":
    case "count":
      return count(value);
    default:
      return `${count(Number(value.toPrecision(3)))} ${words(unit)}`;
  }
}
