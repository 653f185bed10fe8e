// What the client of a call was left with, and what its consumer said. Pure.
import type { LogRow } from "./api/types";

/** What a consumer can have said last, as the log's filter names it, and in words. */
export const VERDICTS: [value: string, text: string][] = [
  ["useless", "of no use"],
  ["useful", "of use"],
  ["unheard", "not heard"],
];

/** Outcomes that leave the client with an answer of the model: the protocols have words for a refusal. */
const ANSWERED = ["ok", "repaired", "refused", "content_filter"];

/** Why there never was an answer; nothing, if there was one. */
export function unanswered({ outcome, degraded }: Pick<LogRow, "outcome" | "degraded">): string | undefined {
  if (degraded !== "none" || ANSWERED.includes(outcome)) return undefined;
  return outcome === "cancelled" ? "The client went away before there was one." : "The client got an error.";
}
