// @ts-check
// Audit: who changed what, newest first, with the old and new values.
import { query as asQuery } from "../api.js";
import { fill, h } from "../dom.js";
import * as form from "../form.js";
import { ago, moment } from "../format.js";
import { WORDS, changes, from } from "../history.js";
import { paged } from "../lists.js";
import { card, empty, head, label, tag } from "../parts.js";
import { link, note } from "../router.js";

const KINDS = [
  "client",
  "tier",
  "pool",
  "cluster",
  "zone",
  "service",
  "dns_group",
  "tsig",
  "dns_token",
  "classify",
  "key",
  "token",
  "cookies",
];
/** @type {Record<string, string>} */
const COLOURS = { "+": "good", "~": "info", "-": "bad" };
/** @type {Record<string, string>} */
const PAGE = { client: "clients", zone: "zones", dns_group: "dnsgroups", tsig: "tsig", dns_token: "dnstokens" };
const WAIT_MS = 250;

/** @type {import("../pages.js").Show} */
export async function show(view, { query, signal }) {
  const kind = form.choice(query.kind ?? "", [["", "Any kind"], ...KINDS], { "aria-label": "Kind" });
  const name = form.text(query.name ?? "", {
    type: "search",
    placeholder: "Name of the object",
    "aria-label": "Name of the object",
  });
  const actor = form.text(query.actor ?? "", {
    type: "search",
    placeholder: "Actor, such as token first",
    "aria-label": "Actor",
  });
  const source = form.text(query.source ?? "", {
    type: "search",
    placeholder: "Source address",
    "aria-label": "Source address",
  });
  const action = form.choice(query.action ?? "", [["", "Any action"], ...Object.entries(WORDS)], {
    "aria-label": "Action",
  });
  const place = h("div");
  fill(
    view,
    head("Audit", { lead: "Every change with its old and new values. Secrets are left out." }),
    card("", [h("div.filters", { role: "search", "aria-label": "Audit" }, kind, name, actor, source, action), place], {
      flush: true,
    }),
  );
  const pages = paged(
    place,
    "audit",
    (items) => (items.length ? h("ol.history.audit", items.map(entry)) : empty("Nothing matches")),
    signal,
  );
  const search = () => {
    const wanted = {
      kind: kind.value,
      name: name.value.trim(),
      actor: actor.value.trim(),
      source: source.value.trim(),
      action: action.value,
    };
    note("audit", wanted);
    return pages.show(asQuery({ limit: "50", ...wanted }));
  };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  [kind, action].forEach((each) => each.addEventListener("change", search));
  [name, actor, source].forEach((each) =>
    each.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(search, WAIT_MS);
    }),
  );
  await search();
}

/** @param {import("../history.js").Row} row */
function entry(row) {
  const page = PAGE[row.kind];
  const name = page ? h("a", { href: link([page, row.name]) }, row.name) : row.name;
  return h(
    "li",
    h(
      "div.row",
      tag(WORDS[row.action] ?? row.action, COLOURS[row.action] ?? ""),
      h("span.faint", row.kind),
      h("strong", name),
      h("span.soft", `by ${row.actor}`, from(row)),
      h(
        "span.faint.push",
        h("time", { datetime: new Date(row.at * 1000).toISOString(), title: moment(row.at) }, ago(row.at)),
        " · ",
        label(`generation ${row.generation}`),
      ),
    ),
    changes(row),
  );
}
