// What surrounds every page: where one is, whether it is live, help, theme, the way out.
import { useEffect, useRef } from "preact/hooks";
import type { Alerts, Session } from "../api/types";
import { lock, remove } from "../api/client";
import { SHORTCUTS } from "../keys";
import { liveness, pause, start, type Liveness } from "../live";
import { Link, usePlace } from "../router";
import { useQuery } from "../query";
import { shortcuts, theme, type Theme } from "../settings";
import { useStore } from "../store";
import { pageOf } from "../url";

const PAGES = [
  ["board", "/", "Board"],
  ["log", "/log", "Log"],
  ["alerts", "/alerts", "Alerts"],
  ["health", "/health", "Health"],
] as const;

export function Header({ session, inside }: { session: Session | null; inside: boolean }) {
  const { page } = pageOf(usePlace().path);
  const at = page === "call" ? "board" : page === "detail" ? "log" : page;
  return (
    <header class="top">
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <Link class="brand" to="/" aria-label="Backstay, board">
        <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
          <rect width="32" height="32" rx="7" class="brand-ground" />
          <path d="M12 6v18M12 7l13 17M6 26h20" class="brand-lines" />
        </svg>
        Backstay
      </Link>
      {inside && (
        <nav aria-label="Pages">
          {PAGES.map(([key, path, name]) => (
            <Link key={key} to={path} aria-current={key === at ? "page" : "false"}>
              {name}
              {key === "alerts" && <Firing />}
            </Link>
          ))}
        </nav>
      )}
      <div class="tools">
        {inside && <Live />}
        <ThemeButton />
        <HelpButton />
        {inside && session?.required === true && (
          <button
            type="button"
            class="small"
            // Out of reach nobody can be signed out; the sign beside says so.
            onClick={() => void remove("/session").then(lock, () => undefined)}
          >
            Sign out
          </button>
        )}
      </div>
    </header>
  );
}

function Firing() {
  const query = useQuery<Alerts>("alerts", () => "/alerts");
  const firing = (query.data?.firing ?? []).filter((alert) => alert.state === "firing").length;
  if (firing === 0) return null;
  return (
    <span class="badge">
      {firing}
      <span class="hidden"> firing</span>
    </span>
  );
}

const LIVE_WORDS: Record<Liveness, [word: string, title: string]> = {
  connecting: ["connecting", "Asking for live events."],
  live: ["live", "New calls appear by themselves. Press to pause."],
  paused: ["paused", "The page stands still. Press to go on."],
  offline: ["offline", "The connection is lost; trying again."],
};

function Live() {
  const state = useStore(liveness);
  const [word, title] = LIVE_WORDS[state];
  return (
    <>
      <button type="button" class={`small live ${state}`} title={title} onClick={() => (state === "paused" ? start() : pause())}>
        <span class="pulse" aria-hidden="true" />
        {word}
      </button>
      <span class="hidden" role="status">
        {word}
      </span>
    </>
  );
}

const NEXT: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };

function ThemeButton() {
  const chosen = useStore(theme);
  return (
    <button type="button" class="small icon" title={`Theme: ${chosen}`} aria-label={`Theme: ${chosen}. Change to ${NEXT[chosen]}`} onClick={() => theme.set(NEXT[chosen])}>
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
        {chosen === "light" ? (
          <>
            <circle cx="8" cy="8" r="3" class="solid" />
            <path d="M8 1v2M8 13v2M1 8h2M13 8h2M3 3l1.5 1.5M11.5 11.5L13 13M13 3l-1.5 1.5M4.5 11.5L3 13" />
          </>
        ) : chosen === "dark" ? (
          <path class="solid" d="M13.5 10A6 6 0 0 1 6 2.5a6 6 0 1 0 7.5 7.5z" />
        ) : (
          <>
            <circle cx="8" cy="8" r="6" />
            <path class="solid" d="M8 2a6 6 0 0 1 0 12z" />
          </>
        )}
      </svg>
    </button>
  );
}

const HELP_ID = "help";

export function openHelp(): void {
  const dialog = document.getElementById(HELP_ID);
  if (dialog instanceof HTMLDialogElement && !dialog.open) dialog.showModal();
}

function HelpButton() {
  return (
    <button type="button" class="small icon" title="Keyboard (?)" aria-label="Keyboard shortcuts" onClick={openHelp}>
      <span aria-hidden="true">?</span>
    </button>
  );
}

export function Help() {
  const on = useStore(shortcuts);
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    const outside = (event: MouseEvent) => {
      if (event.target === element) element?.close();
    };
    element?.addEventListener("click", outside);
    return () => element?.removeEventListener("click", outside);
  }, []);
  return (
    <dialog id={HELP_ID} ref={dialog} aria-labelledby="help-title">
      <form method="dialog">
        <h2 id="help-title">Keyboard</h2>
        <dl class="shortcuts">
          {SHORTCUTS.map(([keys, does]) => (
            <div key={keys}>
              <dt>
                {keys.split(/[ ,]+/).map((key) => (
                  <kbd key={key}>{key}</kbd>
                ))}
              </dt>
              <dd>{does}</dd>
            </div>
          ))}
        </dl>
        <label class="check">
          <input type="checkbox" checked={on} onChange={(event) => shortcuts.set(event.currentTarget.checked)} />
          Use single-key shortcuts
        </label>
        <button class="primary">Close</button>
      </form>
    </dialog>
  );
}
