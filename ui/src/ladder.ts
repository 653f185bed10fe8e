// The outcome ladder as rows to draw: how many calls stood on each rung, and where they were lost.
import type { Ladder } from "./api/types";

export interface Step {
  key: string;
  title: string;
  explains: string;
  calls: number;
  /** Of all calls that say something of the model. */
  share: number | null;
  /** Calls that stood one rung lower and did not get here. */
  lost: number;
}

const STEPS = [
  ["called", "Called", "Calls that say something of the model: neither wrong requests nor clients that went away."],
  ["delivered", "Delivered", "Something of the answer arrived."],
  ["complete", "Complete", "All of it arrived."],
  ["parsed", "Parsed", "It is JSON, where JSON is promised."],
  ["schema_valid", "Schema-valid", "It satisfies the schema, where there is one."],
  ["checks_passed", "Checks passed", "It passes the call's own checks."],
] as const satisfies readonly (readonly [keyof Ladder, string, string])[];

/** The rungs up to the checks, from the ground up. */
export function steps(ladder: Ladder): Step[] {
  let below = ladder.called;
  return STEPS.map(([key, title, explains]) => {
    const calls = ladder[key];
    const lost = Math.max(0, below - calls);
    below = calls;
    return { key, title, explains, calls, share: ladder.called > 0 ? calls / ladder.called : null, lost };
  });
}

/** What the consumers said: the top of the ladder, known only as far as they speak. */
export function verdicts(ladder: Ladder): { heard: number; useful: number; share: number | null; coverage: number | null } {
  const heard = ladder.useful + ladder.useless;
  return {
    heard,
    useful: ladder.useful,
    share: heard > 0 ? ladder.useful / heard : null,
    coverage: ladder.called > 0 ? Math.min(1, heard / ladder.called) : null,
  };
}

/** The rung at which most calls are lost. */
export function worst(rungs: Step[]): Step | null {
  return rungs.reduce<Step | null>((worst, step) => (step.lost > (worst?.lost ?? 0) ? step : worst), null);
}
