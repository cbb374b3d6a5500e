// @ts-check
// The one way to draw a list: a table of columns, whose rows are keyed by the object that they show.
import { h } from "../draw/dom.js";
import { icon } from "../draw/icons.js";
import { go } from "../frame/router.js";

/** @typedef {import("../draw/dom.js").Child} Child */

/**
 * A column; `sort` is what the API sorts by for it, an `extra` one is not shown on a phone, a `quiet` one has its title for
 * screen readers.
 * @template T
 * @typedef {{ title: string, cell: (row: T) => Child, number?: boolean, sort?: string, extra?: boolean, quiet?: boolean }} Column
 */

/**
 * How a table is sorted now, and how to sort it anew; `by` is asked at each click, as the list may still be on its way.
 * @typedef {{ by: () => string, turn: (by: string) => unknown }} Sorting
 */

/**
 * A table. `to(row)`: where a row leads; `key(row)`: what it is the row of.
 * @template T
 * @param {string} caption
 * @param {Column<T>[]} columns
 * @param {T[]} rows
 * @param {{ to?: (row: T) => string[], key?: (row: T) => string, sorting?: Sorting }} [more]
 */
export function table(caption, columns, rows, { to, key, sorting } = {}) {
  const header = columns.map((column) =>
    h("th", { scope: "col", class: kindOf(column), "aria-sort": sortedBy(column, sorting) }, titleOf(column, sorting)),
  );
  const body = rows.map((row) =>
    h(
      "tr",
      { ...(to ? leading(to(row)) : {}), "data-key": key?.(row) ?? /** @type {any} */ (row)?.name },
      columns.map((column) =>
        h("td", { class: kindOf(column), dataset: { label: column.title } }, column.cell(row) || null),
      ),
    ),
  );
  return h(
    "div.table-box",
    { tabindex: "0", role: "region", "aria-label": caption },
    h("table.stacking", h("caption.sr-only", caption), h("thead", h("tr", header)), h("tbody", body)),
  );
}

/** @param {Column<any>} column */
function kindOf({ number, extra }) {
  return [number ? "number" : "", extra ? "wide-only" : ""].join(" ").trim();
}

/**
 * @param {Column<any>} column
 * @param {Sorting} [sorting]
 */
function titleOf(column, sorting) {
  if (!column.title || column.quiet) return h("span.sr-only", column.title || "Actions");
  const { sort } = column;
  if (!sort || !sorting) return column.title;
  const by = sorting.by();
  const down = by === `-${sort}`;
  const arrow = by === sort ? icon("up", 13) : down ? icon("down", 13) : null;
  return h(
    "button",
    { type: "button", onclick: () => sorting.turn(sorting.by() === sort ? `-${sort}` : sort) },
    column.title,
    arrow,
  );
}

/**
 * @param {Column<any>} column
 * @param {Sorting} [sorting]
 */
function sortedBy(column, sorting) {
  if (!column.sort || !sorting) return null;
  const by = sorting.by();
  return by === column.sort ? "ascending" : by === `-${column.sort}` ? "descending" : "none";
}

/** @param {string[]} place */
function leading(place) {
  const onclick = (/** @type {MouseEvent} */ event) => {
    const control = event.target instanceof Element && event.target.closest("a, button, input, select");
    if (!control && !String(getSelection())) go(place);
  };
  return { "data-go": "", onclick };
}
