// Whether what is shown is what is: the stream of events, and when to ask again.
import { store } from "./store";

export type Liveness = "connecting" | "live" | "paused" | "offline";

export const liveness = store<Liveness>("connecting");

/** Counts up whenever there may be something new. */
export const ticks = store(0);

/** Counts up whenever an alert has changed. */
export const alertTicks = store(0);

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;
/** Asked again even if nothing has happened: windows move on, alerts resolve. */
const IDLE_MS = 15_000;

let source: EventSource | null = null;
let retry: ReturnType<typeof setTimeout> | undefined;
let retryMs = FIRST_RETRY_MS;
let wanted = false;

const tick = () => ticks.set(ticks.get() + 1);

function open(): void {
  close();
  const events = new EventSource("/api/v1/events");
  source = events;
  events.onopen = () => {
    retryMs = FIRST_RETRY_MS;
    liveness.set("live");
    tick();
  };
  events.addEventListener("tick", tick);
  events.addEventListener("alert", () => {
    alertTicks.set(alertTicks.get() + 1);
    tick();
  });
  events.onerror = () => {
    if (source !== events) return;
    close();
    if (!wanted) return;
    liveness.set("offline");
    tick(); // a page that cannot be read any more should say so, and a lost session be noticed
    retry = setTimeout(open, retryMs * (0.75 + Math.random() / 2));
    retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
  };
}

function close(): void {
  clearTimeout(retry);
  source?.close();
  source = null;
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

/**
 * A page that nobody sees listens to nothing: a browser has only some six connections to one server,
 * and the streams of a few forgotten tabs would take them all from the one that is looked at.
 */
function seen(): void {
  if (!wanted) return;
  if (document.hidden) {
    close();
    return;
  }
  if (source !== null) return;
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
window.addEventListener("online", () => {
  if (wanted && source === null && !document.hidden) open();
});
