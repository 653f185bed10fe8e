// The address bar as a store, and links that change it without loading a page.
import type { ComponentChildren, JSX } from "preact";
import { address, withParams } from "./url";
import { store, useStore } from "./store";

export interface Place {
  path: string;
  params: URLSearchParams;
  href: string;
}

function here(): Place {
  const { pathname, search } = window.location;
  return { path: pathname, params: new URLSearchParams(search), href: pathname + search };
}

const place = store<Place>(here());
window.addEventListener("popstate", () => place.set(here()));

export const usePlace = () => useStore(place);
export const currentPlace = () => place.get();

/** Goes to an address of the dashboard; `replace` leaves no step to go back to. */
export function navigate(to: string, { replace = false } = {}): void {
  const before = place.get();
  if (to === before.href) return;
  window.history[replace ? "replaceState" : "pushState"](null, "", to);
  place.set(here());
  if (place.get().path !== before.path) window.scrollTo(0, 0);
}

/** Changes parameters of the page that is shown. */
export function setParams(
  changes: Record<string, string | number | boolean | null | undefined>,
  options: { replace?: boolean } = {},
): void {
  const { path, params } = currentPlace();
  navigate(address(path, withParams(params, changes)), options);
}

type LinkProps = Omit<JSX.IntrinsicElements["a"], "href"> & { to: string; children?: ComponentChildren };

export function Link({ to, children, onClick, ...rest }: LinkProps) {
  return (
    <a
      {...rest}
      href={to}
      onClick={(event) => {
        onClick?.(event);
        const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
        if (!plain || event.defaultPrevented) return;
        event.preventDefault();
        navigate(to);
      }}
    >
      {children}
    </a>
  );
}
