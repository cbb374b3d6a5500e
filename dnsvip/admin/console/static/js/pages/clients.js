// @ts-check
// Clients: the list with its search, and one client with what can be done to it.
import { END_FLOWS, actionsOf } from "../clientactions.js";
import { get } from "../api.js";
import { h } from "../dom.js";
import { whole } from "../format.js";
import { live } from "../live.js";
import { objectPage } from "../objectpage.js";
import { card, filled, hidden, label, tag } from "../parts.js";
import { may, mayGive } from "../rights.js";
import { link } from "../router.js";

/** @type {import("../pages.js").Show} */
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
    beside: (client, signal) => card("What it is answered", answerOf(client, signal)),
  });
}

/**
 * @param {import("../api.js").Schemas["ClientShown"]} client
 * @param {AbortSignal} signal
 */
function answerOf(client, signal) {
  const place = h("div");
  const load = async () => {
    if (!may("read", "explain") || !may("read", "service"))
      return hidden(may("read", "explain") ? "the services that it is answered at" : "how requesters are identified");
    const service = (await get("services?limit=1", { signal })).items[0];
    const known = client.match.flatMap((/** @type {Record<string, string>} */ entry) => Object.entries(entry));
    const match = known.find((/** @type {string[]} */ [step]) => ["source", "ecs", "tsig"].includes(step ?? ""));
    const explain = (/** @type {Record<string, string>} */ query) =>
      h("a.button.small", { href: link("explain", query) }, "Explain the answer");
    if (!service || !match)
      return [h("p.soft", "Nothing that identifies it can be tried here."), h("p.below-top", explain({}))];
    const [step, value] = match;
    const query = { qname: service.name, source: "127.0.0.1", [step]: step === "source" ? value.split("/")[0] : value };
    const at = ["At ", h("strong", service.name), " an address that carries its tier and ID, identified by "];
    return [h("p.soft", at, h("span.mono", value), "."), h("p.below-top", explain(query))];
  };
  filled(place, load, signal)();
  return place;
}
