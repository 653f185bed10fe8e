// The one door to the server: /api/v1, JSON, and what is wrong in words.
import { stop } from "../live";
import { store } from "../store";

/** What the server said instead of an answer. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly body: unknown = null,
  ) {
    super(message);
  }
}

/** Nobody answers, or not in time. */
export class Unreachable extends Error {}

const LIMIT_MS = 20_000;

/** Whether the server wants a key: then the page asks for one, wherever one is. */
export const locked = store(false);

/** Shuts the page until somebody signs in. */
export function lock(): void {
  stop();
  locked.set(true);
}

function complaint(body: unknown): string | null {
  if (typeof body !== "object" || body === null || !("error" in body)) return null;
  const { error } = body;
  if (typeof error !== "object" || error === null || !("message" in error)) return null;
  return typeof error.message === "string" ? error.message : null;
}

async function request(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<unknown> {
  const limit = AbortSignal.timeout(LIMIT_MS);
  const init: RequestInit = {
    method,
    headers: { accept: "application/json" },
    credentials: "same-origin",
    cache: "no-store",
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  };
  if (method !== "GET") init.headers = { ...init.headers, "content-type": "application/json", "x-backstay-csrf": "1" };
  if (body !== undefined) init.body = JSON.stringify(body);
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable(limit.aborted ? "Backstay does not answer." : "Backstay cannot be reached.");
  }
  const text = await response.text();
  let answer: unknown = null;
  try {
    answer = text === "" ? null : JSON.parse(text);
  } catch {
    throw new ApiError(response.status, `Not an answer of Backstay's API (status ${response.status}).`);
  }
  if (response.ok) return answer;
  if (response.status === 401 && path !== "/session") lock();
  throw new ApiError(response.status, complaint(answer) ?? `Status ${response.status}.`, answer);
}

/** The shapes are those of `types.ts`; server and dashboard are built from one description. */
export const get = <T>(path: string, signal?: AbortSignal) => request("GET", path, undefined, signal) as Promise<T>;
export const post = <T>(path: string, body: unknown) => request("POST", path, body) as Promise<T>;
export const remove = (path: string) => request("DELETE", path);
