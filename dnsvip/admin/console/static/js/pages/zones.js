// @ts-check
// Zones: the list, and one with its zone file, who may transfer it, and its history.
import { objectPage } from "../objectpage.js";

const TEXT = "$TTL 300\n@ IN SOA ns1 hostmaster 1 7200 3600 1209600 300\n@ IN NS ns1\nns1 IN A 192.0.2.53\n";

/** @type {import("../pages.js").Show} */
export function show(view, context) {
  return objectPage(view, context, {
    kind: "zone",
    lead: "Records that are the same for everyone. The addresses of services are synthesized per client and are in no zone.",
    nothing: "No zones yet",
    removal: "Names in it are refused from now on.",
    form: { initial: { text: TEXT } },
  });
}
