// Choices that live in the address.
import type { ComponentChildren } from "preact";
import { setParams } from "../router";

/** A few alternatives next to each other. */
export function Segments<T extends string>(props: {
  label: string;
  name: string;
  all: readonly T[];
  chosen: T | null;
  otherwise: T | null;
  clear?: Record<string, null>;
  words?: Partial<Record<T, string>>;
}) {
  const { label, name, all, chosen, otherwise, clear = {}, words = {} } = props;
  return (
    <div class="segments" role="group" aria-label={label}>
      {all.map((each) => (
        <button
          type="button"
          key={each}
          aria-pressed={each === chosen}
          onClick={() => setParams({ ...clear, [name]: each === otherwise ? null : each })}
        >
          {(words as Partial<Record<string, string>>)[each] ?? each}
        </button>
      ))}
    </div>
  );
}

/** One of many, or any. */
export function Choice(props: { label: string; name: string; value: string | null; all: [value: string, text: string][]; any: string }) {
  const { label, name, value, all, any } = props;
  const known = value === null || value === "" || all.some(([each]) => each === value);
  return (
    <label class="field">
      <span>{label}</span>
      <select value={value ?? ""} onChange={(event) => setParams({ [name]: event.currentTarget.value })}>
        <option value="">{any}</option>
        {!known && <option value={value}>{value}</option>}
        {all.map(([each, text]) => (
          <option value={each} key={each}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Text that filters; the page's shortcut `/` leads here. */
export function FilterBox(props: { label: string; name: string; value: string; placeholder: string; hidden?: boolean; onInput?: (value: string) => void }) {
  const { label, name, value, placeholder } = props;
  return (
    <label class="field grow">
      <span>{label}</span>
      <input
        type="search"
        data-filter=""
        value={value}
        placeholder={placeholder}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => {
          const text = event.currentTarget.value;
          if (props.onInput) props.onInput(text);
          else setParams({ [name]: text }, { replace: true });
        }}
      />
    </label>
  );
}

export function Toggle({ label, name, on }: { label: string; name: string; on: boolean }) {
  return (
    <button type="button" class="toggle" aria-pressed={on} onClick={() => setParams({ [name]: !on })}>
      {label}
    </button>
  );
}

/** A named figure. */
export function Figure({ name, children, note, title }: { name: string; children: ComponentChildren; note?: ComponentChildren; title?: string }) {
  return (
    <div class="figure" {...(title === undefined ? {} : { title })}>
      <dt>{name}</dt>
      <dd>
        {children}
        {note !== undefined && note !== null && <small>{note}</small>}
      </dd>
    </div>
  );
}
