// One stream of events for all windows of a browser: it has only some six connections to one server,
// and a stream holds one as long as its window is open. The window that holds the lock listens and
// passes on what it hears; the others wait for the lock, and when it goes, the next one takes over.
import { stream, type Hear, type Said, type Stream } from "./stream";

/** The name of the lock and of the channel. */
const NAME = "backstay events";

/** Between windows: what was said, who wants to know how the stream is, and the answer to that. */
type Message = { said: Said } | { asked: true } | { state: Said };

/** Listens until the function that it returns is called. */
export function listen(hear: Hear): () => void {
  // Only a secure context has locks: https, or this machine. Elsewhere each window listens for itself.
  const locks: LockManager | undefined = navigator.locks;
  const channel = locks === undefined ? null : channelOf();
  return locks === undefined || channel === null ? stream(hear).close : together(locks, channel, hear);
}

/** The channel; none where the browser keeps no data and forbids it. */
function channelOf(): BroadcastChannel | null {
  try {
    return new BroadcastChannel(NAME);
  } catch {
    return null;
  }
}

function together(locks: LockManager, channel: BroadcastChannel, hear: Hear): () => void {
  const left = new AbortController();
  /** How the stream is, as far as this window has heard. */
  let state: Said | null = null;
  /** The stream, where this window leads. */
  let own: Stream | null = null;
  const tell = (message: Message) => channel.postMessage(message);
  const heard = (said: Said) => {
    if (said === "open" || said === "lost") state = said;
    hear(said);
  };
  const asked = () => {
    // Whoever comes new has just reached the server: there is no reason to wait any longer.
    if (state === "lost") own?.retry();
    else if (state !== null) tell({ state });
  };

  channel.onmessage = ({ data }: MessageEvent<Message>) => {
    if ("asked" in data) {
      if (own !== null) asked();
    } else if (own !== null) {
      return; // the last words of a window that led before
    } else if ("said" in data) {
      heard(data.said);
    } else if (state === null) {
      heard(data.state);
    }
  };

  const alone = (pass: Hear) => {
    // What was heard of the stream of another window says nothing of this one.
    state = null;
    own = stream(pass);
    left.signal.addEventListener("abort", own.close, { once: true });
  };
  const lead = () =>
    new Promise<void>((release) => {
      if (left.signal.aborted) return release();
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
