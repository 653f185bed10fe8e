// Tables that become cards where the screen is narrow. Roles are spelt out, because a table that
// is laid out as blocks loses its own.
import type { ComponentChildren, JSX } from "preact";
import { setParams } from "../router";

export type Direction = "asc" | "desc";

export interface Column {
  key: string;
  title: string;
  number?: boolean;
  /** How it is sorted at first; not at all if absent. */
  sorts?: Direction;
  explains?: string;
}

export function Table(props: {
  label: string;
  columns: Column[];
  sort?: { key: string; direction: Direction };
  children: ComponentChildren;
  class?: string;
}) {
  const { label, columns, sort, children } = props;
  return (
    <table class={`cards ${props.class ?? ""}`} role="table" aria-label={label}>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <Head column={column} sort={sort} key={column.key} />
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">{children}</tbody>
    </table>
  );
}

function Head({ column, sort }: { column: Column; sort: { key: string; direction: Direction } | undefined }) {
  const { key, title, number = false, sorts, explains } = column;
  const sorted = sort?.key === key ? sort.direction : null;
  const turned: Direction = sorted === "asc" ? "desc" : "asc";
  const attributes = sorted === null ? {} : { "aria-sort": sorted === "asc" ? ("ascending" as const) : ("descending" as const) };
  return (
    <th role="columnheader" scope="col" class={number ? "number" : ""} {...attributes} {...(explains === undefined ? {} : { title: explains })}>
      {sorts === undefined ? (
        title
      ) : (
        <button
          type="button"
          class="sort"
          onClick={() => setParams({ sort: key, dir: sorted === null ? sorts : turned }, { replace: true })}
        >
          {title}
          <span aria-hidden="true" class="arrow">
            {sorted === "asc" ? "▲" : sorted === "desc" ? "▼" : ""}
          </span>
        </button>
      )}
    </th>
  );
}

type CellProps = Omit<JSX.IntrinsicElements["td"], "name" | "class"> & { name: string; number?: boolean; class?: string; children?: ComponentChildren };

/** A cell; `name` stands before it on a card. */
export function Cell({ name, number = false, children, class: extra = "", ...rest }: CellProps) {
  return (
    <td role="cell" data-name={name} class={`${number ? "number" : ""} ${extra}`} {...rest}>
      {children}
    </td>
  );
}

export function Row({ children, class: extra = "" }: { children: ComponentChildren; class?: string }) {
  return (
    <tr role="row" class={extra}>
      {children}
    </tr>
  );
}
