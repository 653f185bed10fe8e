import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Said } from "./stream";
import { listen } from "./windows";

/** Connections to the server that are open, the oldest first. */
let streams: Stream[] = [];
class Stream extends EventTarget {
  onopen: () => void = () => undefined;
  onerror: () => void = () => undefined;
  constructor() {
    super();
    streams.push(this);
  }
  close() {
    streams = streams.filter((each) => each !== this);
  }
}

/** Locks of one name, as browsers give them: one after the other, and not to those who gave up. */
class Locks {
  private waiting: (() => void)[] = [];
  private held = false;
  async request(_: string, { signal }: { signal: AbortSignal }, work: () => Promise<void>) {
    if (this.held) {
      await new Promise<void>((turn, fail) => {
        this.waiting.push(turn);
        signal.addEventListener("abort", () => {
          this.waiting = this.waiting.filter((each) => each !== turn);
          fail(signal.reason);
        });
      });
    }
    this.held = true;
    await work();
    this.held = false;
    this.waiting.shift()?.();
  }
}

/** A window: what it has heard, and its end. */
function opened() {
  const heard: Said[] = [];
  const leave = listen((said) => heard.push(said));
  ends.push(leave);
  return { heard, leave };
}
let ends: (() => void)[] = [];
const say = (said: string) => streams[0]?.dispatchEvent(new Event(said));
const hears = (heard: Said[], all: Said[]) => vi.waitFor(() => expect(heard).toEqual(all));

beforeEach(() => {
  vi.stubGlobal("EventSource", Stream);
  vi.stubGlobal("window", new EventTarget());
  vi.stubGlobal("navigator", { locks: new Locks() });
});
afterEach(() => {
  for (const leave of ends) leave();
  ends = [];
  expect(streams).toEqual([]);
  vi.unstubAllGlobals();
});

test("windows share one stream, and one that comes later learns how it is", async () => {
  const [first, second] = [opened(), opened()];
  expect(streams).toHaveLength(1);
  streams[0]?.onopen();
  say("tick");
  await hears(second.heard, ["open", "tick"]);
  expect(first.heard).toEqual(["open", "tick"]);
  const third = opened();
  await hears(third.heard, ["open"]);
  say("alert");
  await hears(third.heard, ["open", "alert"]);
  await hears(second.heard, ["open", "tick", "alert"]);
  expect(streams).toHaveLength(1);
});

test("the next one takes over when the one that listens goes, and those who left do not", async () => {
  const [first, second, third] = [opened(), opened(), opened()];
  streams[0]?.onopen();
  await hears(third.heard, ["open"]);
  second.leave();
  first.leave();
  await vi.waitFor(() => expect(streams).toHaveLength(1));
  streams[0]?.onopen();
  await hears(third.heard, ["open", "open"]);
  expect(first.heard).toEqual(["open"]);
});

test("a stream that is lost is lost for all", async () => {
  const [first, second] = [opened(), opened()];
  streams[0]?.onopen();
  await hears(second.heard, ["open"]);
  streams[0]?.onerror();
  await hears(second.heard, ["open", "lost"]);
  expect(first.heard).toEqual(["open", "lost"]);
  expect(streams).toEqual([]);
  // It has just reached the server, so there is no waiting any longer.
  const late = opened();
  await vi.waitFor(() => expect(streams).toHaveLength(1));
  streams[0]?.onopen();
  await hears(late.heard, ["open"]);
});

test("a window that takes over does not say of the old stream that it is open", async () => {
  const [first, second] = [opened(), opened()];
  streams[0]?.onopen();
  await hears(second.heard, ["open"]);
  first.leave();
  await vi.waitFor(() => expect(streams).toHaveLength(1));
  const late = opened();
  say("tick");
  await hears(late.heard, ["tick"]);
});

test("without locks each window has a stream of its own", () => {
  vi.stubGlobal("navigator", {});
  opened();
  opened();
  expect(streams).toHaveLength(2);
});

test("a browser that forbids locks is no reason to hear nothing", async () => {
  vi.stubGlobal("navigator", { locks: { request: () => Promise.reject(new Error("SecurityError")) } });
  const { heard } = opened();
  await vi.waitFor(() => expect(streams).toHaveLength(1));
  streams[0]?.onopen();
  expect(heard).toEqual(["open"]);
});

test("nor is one that forbids what windows talk over", () => {
  vi.stubGlobal("BroadcastChannel", class {
    constructor() {
      throw new Error("SecurityError");
    }
  });
  opened();
  expect(streams).toHaveLength(1);
});
