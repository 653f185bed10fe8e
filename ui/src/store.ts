// A value that components watch.
import { useEffect, useState } from "preact/hooks";

export interface Store<T> {
  get(): T;
  set(value: T): void;
  watch(watcher: () => void): () => void;
}

export function store<T>(initial: T): Store<T> {
  let value = initial;
  const watchers = new Set<() => void>();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const watcher of [...watchers]) watcher();
    },
    watch(watcher) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  };
}

/** The value of a store; the component is drawn again when it changes. */
export function useStore<T>(of: Store<T>): T {
  const [value, update] = useState(of.get());
  useEffect(() => {
    update(of.get());
    return of.watch(() => update(of.get()));
  }, [of]);
  return value;
}
