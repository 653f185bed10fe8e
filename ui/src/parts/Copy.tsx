// Text to take away: a block or a word with a button that copies it.
import { useEffect, useState } from "preact/hooks";

async function write(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return byHand(text); // without TLS browsers have no clipboard but on the machine itself
  }
}

function byHand(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.setAttribute("readonly", "");
  area.className = "hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

export function CopyButton({ text, what, word = "Copy" }: { text: string; what: string; word?: string }) {
  const [said, say] = useState<"copied" | "not copied" | null>(null);
  useEffect(() => {
    if (said === null) return undefined;
    const timer = setTimeout(() => say(null), 2_000);
    return () => clearTimeout(timer);
  }, [said]);
  return (
    <button type="button" class="small" onClick={() => void write(text).then((done) => say(done ? "copied" : "not copied"))}>
      <span aria-live="polite">{said ?? word}</span>
      <span class="hidden"> {what}</span>
    </button>
  );
}

/** A command or a snippet of code. */
export function Snippet({ text, what }: { text: string; what: string }) {
  return (
    <div class="snippet">
      <pre tabIndex={0} role="region" aria-label={what}>
        <code>{text}</code>
      </pre>
      <CopyButton text={text} what={what} />
    </div>
  );
}
