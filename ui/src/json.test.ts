import { expect, test } from "vitest";
import { keysOf, lines } from "./json";

const marked = (text: string, path: string) =>
  lines(text, path)
    .lines.filter((line) => line.marked)
    .map((line) => line.text.trim());

test("paths", () => {
  expect(keysOf("$")).toEqual([]);
  expect(keysOf("$.a.b[2]['c d']")).toEqual(["a", "b", 2, "c d"]);
  expect(keysOf("$['it\\'s']")).toEqual(["it's"]);
  expect(keysOf("a.b")).toBeNull();
  expect(keysOf("$..a")).toBeNull();
});

test("JSON is laid out as JSON.stringify does it", () => {
  const value = { a: [1, { b: null }, []], "c d": {}, e: "x\ny" };
  const laid = lines(JSON.stringify(value)).lines.map((line) => line.text);
  expect(laid.join("\n")).toBe(JSON.stringify(value, null, 2));
});

test("the offending place is marked, and only it", () => {
  const text = '{"total": "12", "items": [{"sum": 1}, {"sum": {"x": 2}}]}';
  expect(marked(text, "$.total")).toEqual(['"total": "12",']);
  expect(marked(text, "$.items[1].sum")).toEqual(['"sum": {', '"x": 2', "}"]);
  expect(marked(text, "$").length).toBe(lines(text).lines.length);
  expect(marked(text, "$.missing")).toEqual([]);
  expect(lines(text, "$.missing").found).toBe(false);
  expect(lines(text, "$.items[0]").found).toBe(true);
});

test("what is no JSON stays as it is", () => {
  const { lines: out, json, found } = lines("Sure!\n{", "$.a");
  expect([json, found]).toEqual([false, false]);
  expect(out.map((line) => line.text)).toEqual(["Sure!", "{"]);
});
