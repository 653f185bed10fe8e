// Whether what is shown is what is: what the stream of events says, and when to ask again.
import { store } from "./store";
import type { Said } from "./stream";
import { listen } from "./windows";

export type Liveness = "connecting" | "live" | "paused" | "offline";

export const liveness = store<Liveness>("connecting");

/** Counts up whenever there may be something new. */
export const ticks = store(0);

/** Counts up whenever an alert has changed. */
export const alertTicks = store(0);

/**
 * Asked once more so long after the last news: they are told as soon as a call has ended, but an answer
 * that the server gave to another window stands for a second, and the sums over calls come after it.
 */
const SETTLED_MS = 1_200;
/** Asked again even if nothing has happened: windows move on, alerts resolve. */
const IDLE_MS = 15_000;

let leave: (() => void) | null = null;
let wanted = false;
let settled: ReturnType<typeof setTimeout> | undefined;

const tick = () => ticks.set(ticks.get() + 1);

function hear(said: Said): void {
  if (said === "alert") alertTicks.set(alertTicks.get() + 1);
  if (said === "open") liveness.set("live");
  if (said === "lost") liveness.set("offline");
  // Also when it is lost: a page that cannot be read any more should say so, and a lost session be noticed.
  tick();
  clearTimeout(settled);
  settled = setTimeout(tick, SETTLED_MS);
}

function open(): void {
  close();
  leave = listen(hear);
}

function close(): void {
  clearTimeout(settled);
  leave?.();
  leave = null;
}

/** Begins to listen. */
export function start(): void {
  if (wanted) return;
  wanted = true;
  liveness.set("connecting");
  if (!document.hidden) open();
}

/** Stops: the user wants the page to stand still. */
export function pause(): void {
  wanted = false;
  close();
  liveness.set("paused");
}

/** Stops without a word: nobody is signed in. */
export function stop(): void {
  wanted = false;
  close();
  liveness.set("connecting");
}

/** A page that nobody sees listens to nothing, and leaves the stream to those that are looked at. */
function seen(): void {
  if (!wanted) return;
  if (document.hidden) {
    close();
    return;
  }
  if (leave !== null) return;
  open();
  tick(); // what is shown is as old as the last look
}

setInterval(() => {
  if (wanted && !document.hidden) tick();
}, IDLE_MS);
document.addEventListener("visibilitychange", seen);
// A page that is left, but kept for the button back, or brought back by it.
window.addEventListener("pagehide", close);
window.addEventListener("pageshow", seen);
