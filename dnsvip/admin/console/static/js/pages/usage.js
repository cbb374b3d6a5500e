// @ts-check
// Usage: what each client has used at all dispatchers, sorted by any column.
import { query as asQuery } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import { ago, whole } from "../draw/format.js";
import { paged } from "../lists/lists.js";
import { card, empty, head } from "../draw/parts.js";
import { link, note } from "../frame/router.js";
import { table } from "../lists/table.js";

/** @typedef {import("../api/api.js").Schemas["InAll"]} Used */

/** @type {{ title: string, sort: "packets" | "bytes" | "flows" | "drops" }[]} */
const AMOUNTS = [
  { title: "Packets", sort: "packets" },
  { title: "Bytes", sort: "bytes" },
  { title: "Flows", sort: "flows" },
  { title: "Drops", sort: "drops" },
];

/** @type {import("../lists/table.js").Column<Used>[]} */
const COLUMNS = [
  {
    title: "Client",
    sort: "name",
    cell: (row) => h("a.lead", { href: link(["clients", row.name]) }, row.name),
  },
  ...AMOUNTS.map(({ title, sort }) => ({
    title,
    sort,
    number: true,
    cell: (/** @type {Used} */ row) => whole(row[sort]),
  })),
  { title: "Last", cell: (row) => ago(row.seen_at), extra: true },
];

/** @type {import("../frame/pages.js").Show} */
export async function show(view, { query, signal }) {
  let by = query.sort ?? "-bytes";
  const place = h("div");
  const lead =
    "What clients sent, summed over all dispatchers: forwarded packets and bytes, opened flows, dropped packets.";
  fill(view, head("Usage", { lead }), card("", [place], { flush: true }));
  const turn = (/** @type {string} */ wanted) => {
    by = wanted;
    note("usage", { sort: by });
    return pages.show(asQuery({ limit: "50", sort: by }));
  };
  const draw = (/** @type {Used[]} */ items) =>
    items.length
      ? table("Usage", COLUMNS, items, { sorting: { by: () => by, turn } })
      : empty("No client has used anything yet");
  const pages = paged(place, "usage", draw, signal);
  await turn(by);
}
