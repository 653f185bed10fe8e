// The time for people: "5 s ago" has to become "6 s ago" by itself.
import { store, useStore } from "./store";

const STEP_MS = 5_000;
const now = store(Date.now());
setInterval(() => {
  if (!document.hidden) now.set(Date.now());
}, STEP_MS);

export const useNow = () => Math.max(useStore(now), 0);
