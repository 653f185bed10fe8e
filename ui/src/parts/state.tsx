// What stands where data does not: loading, an error, nothing yet, something old.
import type { ComponentChildren } from "preact";
import { absolute, clock, relative } from "../format";
import { useNow } from "../clock";
import { liveness } from "../live";
import { useStore } from "../store";
import { staleness, type Query } from "../query";

/** A time as people say it; the exact one is its title. */
export function Ago({ at, ahead = false }: { at: number; ahead?: boolean }) {
  const now = useNow();
  return (
    <time dateTime={new Date(at).toISOString()} title={absolute(at)}>
      {relative(at, ahead ? now : Math.max(now, at))}
    </time>
  );
}

/** A sentence of the server, whose names of files, keys and calls stand in backticks. */
export function Marked({ text }: { text: string }) {
  return <>{text.split("`").map((part, at) => (at % 2 === 1 ? <code key={at}>{part}</code> : part))}</>;
}

/** Stands in for a page that is being asked for; as high as what is to come, so that nothing jumps. */
export function Loading({ what }: { what: string }) {
  return (
    <div class="loading" role="status">
      <span class="hidden">Loading {what}</span>
      {[0, 1, 2, 3, 4].map((bar) => (
        <span class="bone" key={bar} />
      ))}
    </div>
  );
}

export function Failed({ error, again, children }: { error: Error; again?: () => void; children?: ComponentChildren }) {
  return (
    <div class="notice bad" role="alert">
      <p>
        <b>This could not be loaded.</b> {error.message}
      </p>
      {children}
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Says that what is shown is old, and since when. */
export function Stale({ query }: { query: Query<unknown> }) {
  useStore(liveness);
  const why = staleness(query);
  if (why === null) return null;
  return (
    <p class="notice warn slim" role="status">
      {why} What you see is of {clock(query.at)}.
    </p>
  );
}

/** An answer, or what stands in its place. */
export function Answer<T>({ query, what, children }: { query: Query<T>; what: string; children: (data: T) => ComponentChildren }) {
  if (query.data !== null) {
    return (
      <div class={query.previous ? "answer previous" : "answer"} aria-busy={query.previous}>
        <Stale query={query} />
        {children(query.data)}
      </div>
    );
  }
  if (query.error !== null) return <Failed error={query.error} again={query.again} />;
  return <Loading what={what} />;
}

export function Empty({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="empty">
      <h2>{title}</h2>
      {children}
    </section>
  );
}
