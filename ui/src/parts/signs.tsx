// Signs of states: always a shape and a word, so that no state is told by colour alone.
import type { CallState, RuleState, Severity } from "../api/types";
import { words } from "../format";

export type Tone = "good" | "warn" | "bad" | "quiet" | "unsure";

/** The shape of a tone: disc with tick, triangle, octagon, ring, half ring. */
export function Shape({ tone }: { tone: Tone }) {
  return (
    <svg class={`shape ${tone}`} viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
      {tone === "good" && (
        <>
          <circle cx="8" cy="8" r="7" />
          <path class="inner" d="M4.8 8.3l2.2 2.2 4.2-4.6" />
        </>
      )}
      {tone === "warn" && (
        <>
          <path d="M8 1.2l7 13H1z" />
          <path class="inner" d="M8 6v4M8 12v.4" />
        </>
      )}
      {tone === "bad" && (
        <>
          <path d="M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1z" />
          <path class="inner" d="M5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8" />
        </>
      )}
      {tone === "quiet" && <circle class="hollow" cx="8" cy="8" r="6" />}
      {tone === "unsure" && (
        <>
          <circle class="hollow" cx="8" cy="8" r="6" />
          <path d="M8 2a6 6 0 0 1 0 12z" />
        </>
      )}
    </svg>
  );
}

export function Sign({ tone, children, title }: { tone: Tone; children: string; title?: string }) {
  return (
    <span class={`sign ${tone}`} {...(title === undefined ? {} : { title })}>
      <Shape tone={tone} />
      {children}
    </span>
  );
}

const CALL_STATES: Record<CallState, [Tone, string, string]> = {
  ok: ["good", "ok", "No alert is firing."],
  warn: ["warn", "warning", "An alert is firing: somebody should look during the day."],
  page: ["bad", "page", "An alert is firing: somebody should look now."],
  no_traffic: ["quiet", "no traffic", "No calls in this window."],
  insufficient: ["unsure", "few calls", "Too few calls to judge."],
};

export function CallSign({ state, alerts }: { state: CallState; alerts: string[] }) {
  const [tone, word, explains] = CALL_STATES[state] ?? ["unsure", words(state), ""];
  return (
    <Sign tone={tone} title={alerts.length > 0 ? `${explains} ${alerts.map(words).join(", ")}` : explains}>
      {word}
    </Sign>
  );
}

export const callOrder = (state: CallState) => ["page", "warn", "insufficient", "ok", "no_traffic"].indexOf(state);

const RULE_STATES: Record<RuleState, [Tone, string]> = {
  ok: ["good", "ok"],
  pending: ["warn", "pending"],
  firing: ["bad", "firing"],
  insufficient: ["unsure", "few calls"],
  learning: ["unsure", "learning"],
  off: ["quiet", "off"],
};

export function RuleSign({ state }: { state: RuleState }) {
  const [tone, word] = RULE_STATES[state] ?? ["unsure", words(state)];
  return <Sign tone={tone}>{word}</Sign>;
}

/** A failed call is red however it was covered up; what was mended is worth a look. */
export function outcomeTone(outcome: string): Tone {
  switch (outcome) {
    case "ok":
      return "good";
    case "repaired":
      return "warn";
    case "cancelled":
    case "bad_request":
      return "quiet";
    default:
      return "bad";
  }
}

export function OutcomeSign({ outcome, code }: { outcome: string; code: string }) {
  return <Sign tone={outcomeTone(outcome)}>{words(code)}</Sign>;
}

export function SeveritySign({ severity, over }: { severity: Severity; over: boolean }) {
  if (over) return <Sign tone="good">resolved</Sign>;
  return <Sign tone={severity === "page" ? "bad" : "warn"}>{severity === "page" ? "page" : "warning"}</Sign>;
}
