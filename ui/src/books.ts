// The books of the log: what became of each record. Pure.

/** Reports that have no call to stand with: who sent them was late or mistaken, Backstay lost nothing. */
const UNPLACED: Record<string, string> = {
  expired: "the day of the call is not kept any more.",
  unmatched: "no call of the last days has the id that was named.",
};

/** What was shed, with what was lost told from what could not be placed. */
export function books(shed: Record<string, number>) {
  const reasons = Object.entries(shed)
    .filter(([, records]) => records > 0)
    .map(([reason, records]) => ({ reason, records, why: UNPLACED[reason] }));
  return {
    shed: reasons.reduce((sum, { records }) => sum + records, 0),
    lost: reasons.filter(({ why }) => why === undefined),
    unplaced: reasons.filter(({ why }) => why !== undefined),
  };
}
