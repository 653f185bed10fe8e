// The door: a key, if keys are configured.
import { useEffect, useState } from "preact/hooks";
import { get, post } from "../api/client";
import type { Session } from "../api/types";
import { navigate, usePlace } from "../router";
import { returnPath } from "../url";

export function SignInPage({ entered }: { entered: (session: Session) => void }) {
  const { params } = usePlace();
  const [key, setKey] = useState("");
  const [said, say] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const to = returnPath(params.get("to"));
  const enter = async () => {
    const session = await get<Session>("/session");
    if (session.required && !session.signed_in) return;
    entered(session);
    navigate(to, { replace: true });
  };
  useEffect(() => {
    void enter().catch(() => undefined); // the form says what is wrong when it is sent
  }, []);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    say(null);
    try {
      await post("/session", { key: key.trim() });
      setKey("");
      await enter();
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
