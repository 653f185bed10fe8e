// The stream of events: one connection to the server, taken up again whenever it is lost.

/** What a listener hears: the stream begins, is lost, or tells that something is new. */
export type Said = "open" | "lost" | "tick" | "alert";
export type Hear = (said: Said) => void;

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;

export interface Stream {
  /** Ends it. */
  close(): void;
  /** Does not wait any longer if it is lost. */
  retry(): void;
}

/** Listens until it is closed. */
export function stream(hear: Hear): Stream {
  let source: EventSource | null = null;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let retryMs = FIRST_RETRY_MS;

  const close = () => {
    clearTimeout(retry);
    source?.close();
    source = null;
  };
  const open = () => {
    close();
    const events = new EventSource("/api/v1/events");
    source = events;
    events.onopen = () => {
      retryMs = FIRST_RETRY_MS;
      hear("open");
    };
    events.addEventListener("tick", () => hear("tick"));
    events.addEventListener("alert", () => hear("alert"));
    events.onerror = () => {
      if (source !== events) return;
      close();
      retry = setTimeout(open, retryMs * (0.75 + Math.random() / 2));
      retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
      hear("lost");
    };
  };
  const lost = () => {
    if (source === null) open();
  };

  window.addEventListener("online", lost);
  open();
  return {
    close() {
      window.removeEventListener("online", lost);
      close();
    },
    retry: lost,
  };
}
