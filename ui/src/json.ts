// Answers for people: JSON laid out in lines, with the offending place marked. Pure.

export interface Line {
  text: string;
  marked: boolean;
}

/** The keys of a JSONPath as Backstay writes it: `$.items[2]['a b']`; `null` if it is something else. */
export function keysOf(path: string): (string | number)[] | null {
  if (!path.startsWith("$")) return null;
  const keys: (string | number)[] = [];
  let rest = path.slice(1);
  while (rest !== "") {
    const match = /^(?:\.([^.[\]]+)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\])/.exec(rest);
    if (!match) return null;
    const [whole, name, index, single, double] = match;
    keys.push(index !== undefined ? Number(index) : (name ?? (single ?? double ?? "").replace(/\\(.)/g, "$1")));
    rest = rest.slice(whole.length);
  }
  return keys;
}

/** `text` in lines; if it is JSON, laid out, and what is at `path` marked. */
export function lines(text: string, path: string | null = null): { lines: Line[]; json: boolean; found: boolean } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { lines: text.split("\n").map((line) => ({ text: line, marked: false })), json: false, found: false };
  }
  const keys = path === null ? null : keysOf(path);
  const out: Line[] = [];
  const found = write(out, value, "", "", "", keys);
  return { lines: out, json: true, found };
}

/** Writes a value; `keys` lead to the marked place inside of it, `null` leads nowhere. */
function write(
  out: Line[],
  value: unknown,
  indent: string,
  before: string,
  after: string,
  keys: (string | number)[] | null,
): boolean {
  const marked = keys !== null && keys.length === 0;
  const put = (text: string) => out.push({ text: indent + text, marked });
  if (value === null || typeof value !== "object" || Object.keys(value).length === 0) {
    put(before + JSON.stringify(value) + after);
    return marked;
  }
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const entries = Object.entries(value);
  put(before + open);
  let found = marked;
  entries.forEach(([key, item], at) => {
    const name = Array.isArray(value) ? "" : `${JSON.stringify(key)}: `;
    const comma = at + 1 < entries.length ? "," : "";
    const here = keys !== null && keys.length > 0 && String(keys[0]) === key;
    const inner = marked ? [] : here ? keys.slice(1) : null;
    found = write(out, item, indent + "  ", name, comma, inner) || found;
  });
  put(close + after);
  return found;
}
