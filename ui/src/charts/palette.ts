// Colours of what is painted: read from the style sheet, so that both themes are in one place.
import { repaint } from "../settings";

const known = new Map<string, string>();
repaint.watch(() => known.clear());

/** The colour that the style sheet gives to `--name`. */
export function colour(name: string): string {
  let value = known.get(name);
  if (value === undefined) {
    value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim() || "#888";
    known.set(name, value);
  }
  return value;
}

/** Eight hues that people with any colour vision tell apart (after Okabe and Ito). */
export const HUES = ["hue-1", "hue-2", "hue-3", "hue-4", "hue-5", "hue-6", "hue-7", "hue-8"] as const;

export const hue = (index: number): string => HUES[index % HUES.length] ?? HUES[0];
