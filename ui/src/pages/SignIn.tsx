// The door: a key, if keys are configured. It stands where the page would; the address stays.
import { useState } from "preact/hooks";
import { get, locked, post } from "../api/client";
import type { Session } from "../api/types";

export function SignInPage({ entered }: { entered: (session: Session) => void }) {
  const [key, setKey] = useState("");
  const [said, say] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    say(null);
    try {
      await post("/session", { key: key.trim() });
      setKey("");
      entered(await get<Session>("/session"));
      locked.set(false);
    } catch (error) {
      say(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <main id="main" tabIndex={-1} class="sign-in">
      <form class="panel" onSubmit={(event) => void submit(event)}>
        <h1>Sign in</h1>
        <p class="muted">This gateway is used with API keys. Any of them opens the dashboard; it is exchanged for a cookie and not kept here.</p>
        <label class="field">
          <span>API key</span>
          <input
            type="password"
            required
            value={key}
            placeholder="bsk_…"
            autocomplete="current-password"
            spellcheck={false}
            autofocus
            aria-describedby="said"
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </label>
        <p id="said" role="alert" class="over">
          {said}
        </p>
        <button type="submit" class="primary" disabled={busy}>
          Sign in
        </button>
        <p class="muted">
          A new key is made on the gateway's machine: <code>backstay keys create NAME</code>
        </p>
      </form>
    </main>
  );
}
