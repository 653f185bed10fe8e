// The keyboard: going to a page, to the filter, from row to row.
import { navigate } from "./router";
import { shortcuts } from "./settings";

export const SHORTCUTS: [keys: string, does: string][] = [
  ["/", "go to the filter"],
  ["g b", "go to the board"],
  ["g l", "go to the log"],
  ["g a", "go to alerts"],
  ["g h", "go to Backstay's health"],
  ["j, k", "next and previous row"],
  ["?", "this help"],
];

const PAGES: Record<string, string> = { b: "/", l: "/log", a: "/alerts", h: "/health" };
const PREFIX_MS = 1_500;

function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(?:INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

function step(by: 1 | -1): void {
  const rows = [...document.querySelectorAll<HTMLElement>("[data-row]")];
  const at = rows.findIndex((row) => row === document.activeElement);
  const next = at === -1 ? (by === 1 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
  rows[next]?.focus();
}

/** Listens for shortcuts; `help` opens their list. */
export function listen(help: () => void): void {
  let prefix = -Infinity;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && typing(event.target)) (event.target as HTMLElement).blur();
    if (!shortcuts.get() || event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
    const page = event.timeStamp - prefix < PREFIX_MS ? PAGES[event.key] : undefined;
    prefix = -Infinity;
    if (page !== undefined) {
      navigate(page);
      document.getElementById("main")?.focus();
    } else if (event.key === "g") {
      prefix = event.timeStamp;
      return;
    } else if (event.key === "/") {
      document.querySelector<HTMLElement>("[data-filter]")?.focus();
    } else if (event.key === "?") {
      help();
    } else if (event.key === "j" || event.key === "k") {
      step(event.key === "j" ? 1 : -1);
    } else {
      return;
    }
    event.preventDefault();
  });
}
