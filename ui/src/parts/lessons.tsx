// How to get something to see: snippets with this server's own address.
import { oneOf } from "../url";
import { setParams, usePlace } from "../router";
import { Snippet } from "./Copy";

const KINDS = ["curl", "python", "typescript"] as const;
const NAMES = { curl: "curl", python: "Python", typescript: "TypeScript" };

function snippet(kind: (typeof KINDS)[number], base: string, call: string): string {
  switch (kind) {
    case "curl":
      return [
        `curl -s ${base}/v1/chat/completions \\`,
        `  -H 'content-type: application/json' \\`,
        `  -H "authorization: Bearer $BACKSTAY_KEY" \\`,
        `  -d '{"model": "${call}", "messages": [{"role": "user", "content": "Hello"}]}'`,
      ].join("\n");
    case "python":
      return [
        "import os",
        "from openai import OpenAI",
        "",
        `client = OpenAI(base_url="${base}/v1", api_key=os.environ.get("BACKSTAY_KEY", "any"), max_retries=0)`,
        "answer = client.chat.completions.create(",
        `    model="${call}", messages=[{"role": "user", "content": "Hello"}]`,
        ")",
      ].join("\n");
    case "typescript":
      return [
        `import OpenAI from "openai";`,
        "",
        `const client = new OpenAI({ baseURL: "${base}/v1", apiKey: process.env.BACKSTAY_KEY ?? "any", maxRetries: 0 });`,
        "const answer = await client.chat.completions.create({",
        `  model: "${call}", messages: [{ role: "user", content: "Hello" }],`,
        "});",
      ].join("\n");
  }
}

/** Make a call: in the language of one's choice. */
export function FirstCall({ call }: { call: string }) {
  const { params } = usePlace();
  const kind = oneOf(params.get("snippet"), KINDS, "curl");
  return (
    <div class="lesson">
      <div class="segments" role="group" aria-label="Language">
        {KINDS.map((each) => (
          <button
            type="button"
            key={each}
            aria-pressed={each === kind}
            onClick={() => setParams({ snippet: each === "curl" ? null : each }, { replace: true })}
          >
            {NAMES[each]}
          </button>
        ))}
      </div>
      <Snippet text={snippet(kind, window.location.origin, call)} what={`${NAMES[kind]} that makes a call`} />
      <p class="muted">
        Without keys configured, any key does. This page changes by itself when the call is over.
      </p>
    </div>
  );
}

/** Report what an answer was worth. */
export function FirstReport({ id }: { id: string }) {
  const text = [
    `curl -s ${window.location.origin}/v1/outcomes \\`,
    `  -H 'content-type: application/json' \\`,
    `  -H "authorization: Bearer $BACKSTAY_KEY" \\`,
    `  -d '{"call_id": "${id}", "ok": true}'`,
  ].join("\n");
  return <Snippet text={text} what="curl that reports what an answer was worth" />;
}
