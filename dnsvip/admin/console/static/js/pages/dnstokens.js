// @ts-check
// DNS tokens: what identifies clients over encrypted DNS. The site has digests of them alone.
import { objectPage } from "../objectpage.js";

/** @type {import("../pages.js").Show} */
export function show(view, context) {
  return objectPage(view, context, {
    kind: "dns_token",
    lead: "A query over encrypted DNS with a token identifies the client that refers to it. Only digests are kept.",
    nothing: "No DNS tokens yet",
    removal: "This is refused while a client refers to it. Queries with it are refused from then on.",
  });
}
