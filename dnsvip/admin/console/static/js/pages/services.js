// @ts-check
// Services: the names whose addresses are synthesized per client.
import { h } from "../draw/dom.js";
import { kindPage } from "../kinds/kindpage.js";
import { link } from "../frame/router.js";

/** @type {import("../frame/pages.js").Show} */
export function show(view, context) {
  return kindPage(view, context, {
    kind: "service",
    lead: "At these names every client is answered with an address of its own, or with the plain address.",
    nothing: "No services yet",
    form: {
      narrow: { cluster: (cluster) => "layout" in cluster, cluster4: (cluster) => !("layout" in cluster) },
    },
    more: [{ title: "", cell: (service) => h("a", { href: link("explain", { qname: service.name }) }, "Explain") }],
  });
}
