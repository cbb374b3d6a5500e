// @ts-check
// DNS groups: which clients query which DNS servers.
import { kindPage } from "../kinds/kindpage.js";

/** @type {import("../frame/pages.js").Show} */
export function show(view, context) {
  return kindPage(view, context, {
    kind: "dns_group",
    lead: "The servers of its tier's group are in the enrolment of a client. Listeners of a node file belong to a group.",
    nothing: "No DNS groups yet",
  });
}
