// @ts-check
// Clients: the list with its search, and one client with what can be done to it.
import { END_FLOWS, actionsOf } from "../client/actions.js";
import { cardsOf } from "../client/now.js";
import { h } from "../draw/dom.js";
import { whole } from "../draw/format.js";
import { live } from "../api/live.js";
import { objectPage } from "../kinds/objectpage.js";
import { label, tag } from "../draw/parts.js";
import { mayGive } from "../api/rights.js";

/** @type {import("../frame/pages.js").Show} */
export function show(view, context) {
  const { objects, narrowed } = live().now ?? { objects: {}, narrowed: [] };
  const total = narrowed.includes("clients") ? undefined : objects.clients;
  return objectPage(view, context, {
    kind: "client",
    lead: total === undefined ? null : `${whole(total)} known. Everyone else is answered as anonymous.`,
    nothing: "No clients yet",
    removal: "It becomes unknown and is answered as anonymous. Do not reuse its ID.",
    also: END_FLOWS,
    form: {
      narrow: { tier: (tier) => mayGive(tier.name) },
      omit: ["state", "end_flows", "key_generation"],
      initial: { match: [], attributes: {} },
    },
    actions: actionsOf,
    under: (client) =>
      h(
        "div.row.under-head",
        tag(client.state),
        label(client.tier),
        h("span.faint", `ID ${client.id}, key generation ${client.key_generation}`),
      ),
    beside: cardsOf,
  });
}
