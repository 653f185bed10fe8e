// One stream of events for all windows of a browser: it has only some six connections to one server,
// and a stream holds one as long as its window is open. The window that holds the lock listens and
// passes on what it hears; the others wait for the lock, and when it goes, the next one takes over.
import { stream, type Hear, type Said } from "./stream";

/** The name of the lock and of the channel. */
const NAME = "backstay events";

/** Between windows: what was said, who wants to know how the stream is, and the answer to that. */
type Message = { said: Said } | { asked: true } | { state: Said };

/** Listens until the function that it returns is called. */
export function listen(hear: Hear): () => void {
  // Only a secure context has locks: https, or this machine. Elsewhere each window listens for itself.
  const locks: LockManager | undefined = navigator.locks;
  if (locks === undefined) return stream(hear);

  const channel = new BroadcastChannel(NAME);
  const left = new AbortController();
  /** How the stream is, as far as this window has heard. */
  let state: Said | null = null;
  let leads = false;
  const tell = (message: Message) => channel.postMessage(message);
  const heard = (said: Said) => {
    if (said === "open" || said === "lost") state = said;
    hear(said);
  };

  channel.onmessage = ({ data }: MessageEvent<Message>) => {
    if ("asked" in data) {
      if (leads && state !== null) tell({ state });
    } else if (leads) {
      return; // the last words of a window that led before
    } else if ("said" in data) {
      heard(data.said);
    } else if (state === null) {
      heard(data.state);
    }
  };

  const alone = (pass: Hear) => left.signal.addEventListener("abort", stream(pass), { once: true });
  const lead = () =>
    new Promise<void>((release) => {
      if (left.signal.aborted) return release();
      leads = true;
      alone((said) => {
        tell({ said });
        heard(said);
      });
      left.signal.addEventListener("abort", () => release(), { once: true });
      return undefined;
    });
  locks.request(NAME, { signal: left.signal }, lead).catch(() => {
    // Left while waiting; or the browser forbids locks here, as it does where it keeps no data.
    if (!left.signal.aborted) alone(heard);
  });
  tell({ asked: true });
  return () => {
    left.abort();
    channel.close();
  };
}
