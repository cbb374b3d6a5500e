// @ts-check
// Tiers, clusters, and how clients are identified.
import { call } from "../api/api.js";
import { bitBar } from "../bits/bar.js";
import { fill, h } from "../draw/dom.js";
import { editableList } from "../kinds/kindpage.js";
import { objectForm } from "../forms/objectform.js";
import { button, card, head, hidden } from "../draw/parts.js";
import { may } from "../api/rights.js";

/** @type {import("../frame/pages.js").Show} */
export async function show(view, context) {
  const tiers = editableList(context, { kind: "tier", nothing: "No tiers yet" });
  const clusters = editableList(context, {
    kind: "cluster",
    nothing: "No clusters yet",
    cells: { layout: null, classes: null },
    more: [{ title: "Carries", cell: carried }],
    form: { initial: NEW_CLUSTER, decorate: bitBar },
  });
  const classify = h("div");
  fill(
    view,
    head("Tiers and clusters", { lead: "What an address can carry, and how clients are identified." }),
    card("Tiers", tiers.place, {
      flush: true,
      end: may("write", "tier") && button("New tier", tiers.add, { small: true, name: "plus" }),
    }),
    may("read", "cluster")
      ? card("Clusters", clusters.place, {
          flush: true,
          end: may("write", "cluster") && button("New cluster", clusters.add, { small: true, name: "plus" }),
        })
      : card("Clusters", hidden("clusters")),
    card("How clients are identified", may("read", "classify") ? classify : hidden("how clients are identified")),
  );
  await Promise.all([
    tiers.show(),
    may("read", "cluster") && clusters.show(),
    may("read", "classify") && identification(classify, context.signal),
  ]);
}

/** What a new cluster begins with. */
export const NEW_CLUSTER = {
  layout: [
    ["tier", 4],
    ["client", 20],
    ["expiry", 7],
    ["nonce", 6],
  ],
  tag_bits: 24,
};

/**
 * What the addresses of a cluster carry.
 * @param {import("../api/api.js").Schemas["ClusterShown"] | import("../api/api.js").Schemas["ClassClusterShown"]} cluster
 */
function carried(cluster) {
  const parts =
    "layout" in cluster
      ? [...cluster.layout.map((/** @type {[string, number]} */ part) => part.join(" ")), `tag ${cluster.tag_bits}`]
      : Object.entries(cluster.classes).map(([tier, hosts]) => `${tier}: ${hosts.join(" ")}`);
  return h("span.soft", parts.join(", "));
}

/**
 * @param {HTMLElement} place
 * @param {AbortSignal} signal
 */
async function identification(place, signal) {
  const held = await call("GET", "classify", { signal });
  const made = await objectForm("classify", held, { readonly: !may("write", "classify") });
  fill(place, made.element);
}
