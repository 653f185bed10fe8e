// What a person has chosen for this browser. A browser that keeps nothing is served all the same.
import { store } from "./store";

export type Theme = "auto" | "light" | "dark";

function read(name: string): string | null {
  try {
    return window.localStorage.getItem(`backstay.${name}`);
  } catch {
    return null;
  }
}

function keep(name: string, value: string): void {
  try {
    window.localStorage.setItem(`backstay.${name}`, value);
  } catch {
    // Private windows may refuse: the choice then lasts as long as the page.
  }
}

const kept = read("theme");
export const theme = store<Theme>(kept === "light" || kept === "dark" ? kept : "auto");

/** Single-key shortcuts can be turned off: they get in the way of speech input. */
export const shortcuts = store(read("shortcuts") !== "off");

/** Counts up when colours have changed, for what is painted and not styled. */
export const repaint = store(0);

function apply(): void {
  const chosen = theme.get();
  if (chosen === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = chosen;
  repaint.set(repaint.get() + 1);
}

theme.watch(() => {
  keep("theme", theme.get());
  apply();
});
shortcuts.watch(() => keep("shortcuts", shortcuts.get() ? "on" : "off"));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
apply();
