// What a page has asked for: the answer, whether it is old, and asking again when something happens.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get } from "./api/client";
import { liveness, ticks } from "./live";

export interface Query<T> {
  data: T | null;
  error: Error | null;
  /** When `data` came, by the browser's clock. */
  at: number;
  loading: boolean;
  /** `data` belongs to an earlier question: the answer to the present one is on its way. */
  previous: boolean;
  again(): void;
}

/** The shortest time between two questions; a slow server is asked more rarely. */
const PAUSE_MS = 2_000;
const PAUSE_FACTOR = 4;

interface State<T> {
  key: string | null;
  data: T | null;
  error: Error | null;
  at: number;
  loading: boolean;
}

/**
 * Asks for `path()` now, when `key` changes, and on ticks. `key` names the question; the path may
 * hold the time of asking. `null` asks nothing.
 */
export function useQuery<T>(key: string | null, path: () => string, { live = true } = {}): Query<T> {
  const [state, setState] = useState<State<T>>({ key: null, data: null, error: null, at: 0, loading: key !== null });
  const latest = useRef(path);
  latest.current = path;
  const ask = useRef<() => void>(() => undefined);

  useEffect(() => {
    if (key === null) return undefined;
    const abort = new AbortController();
    let busy = false;
    let again = false;
    let notBefore = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const run = async () => {
      clearTimeout(timer);
      timer = undefined;
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      again = false;
      setState((before) => ({ ...before, loading: true }));
      const began = performance.now();
      try {
        const data = await get<T>(latest.current(), abort.signal);
        if (abort.signal.aborted) return;
        setState({ key, data, error: null, at: Date.now(), loading: false });
      } catch (error) {
        if (abort.signal.aborted) return;
        const told = error instanceof Error ? error : new Error(String(error));
        const gone = told instanceof ApiError && told.status < 500;
        setState((before) => ({
          ...before,
          key,
          data: before.key === key && !gone ? before.data : null,
          error: told,
          loading: false,
        }));
      } finally {
        busy = false;
        const ended = performance.now();
        notBefore = ended + Math.max(PAUSE_MS, (ended - began) * PAUSE_FACTOR);
        if (again) soon();
      }
    };
    const soon = () => {
      if (document.hidden || timer !== undefined || abort.signal.aborted) return;
      timer = setTimeout(
        () => {
          timer = undefined;
          // Paused in the meantime: a page that stands still asks nothing.
          if (liveness.get() !== "paused") void run();
        },
        Math.max(0, notBefore - performance.now()),
      );
    };
    ask.current = () => void run();
    void run();
    const unwatch = live ? ticks.watch(soon) : () => undefined;
    return () => {
      unwatch();
      clearTimeout(timer);
      abort.abort();
    };
  }, [key, live]);

  return {
    data: state.data,
    error: state.error,
    at: state.at,
    loading: state.loading,
    previous: state.data !== null && state.key !== key,
    again: () => ask.current(),
  };
}

/** Whether shown data may be behind, and why; `null` while it is fresh. */
export function staleness(query: Query<unknown>): string | null {
  if (query.data === null) return null;
  if (query.error !== null) return query.error.message;
  return liveness.get() === "offline" ? "The connection is lost." : null;
}
