// Clients: the list with its search, and one client to look at and change (client.js).
import { get, query as asQuery } from "../api.js";
import { fill, h } from "../dom.js";
import { whole } from "../format.js";
import { choice, text } from "../form.js";
import { live } from "../live.js";
import { paged } from "../lists.js";
import { card, empty, head, label, table, tag } from "../parts.js";
import { may } from "../rights.js";
import { link, note } from "../router.js";
import { showClient, showNew } from "../client.js";

const STATES = [["", "Any state"], "enabled", "disabled", "revoked"];
const WAIT_MS = 250;
const LENGTH = matchMedia("(max-width: 620px)").matches ? "25" : "50";

export async function show(view, context) {
  const [name] = context.parts;
  if (name === undefined) return showList(view, context);
  return name === "new" && context.query.make === "1" ? showNew(view, context) : showClient(view, context, name);
}

async function showList(view, { query, signal }) {
  const tiers = may("read", "tier") ? await tierNames(signal) : [];
  const wanted = { q: "", tier: "", state: "", match: "", sort: "name", limit: LENGTH, ...query };
  const find = text(wanted.q, { type: "search", placeholder: "Name begins with …", "aria-label": "Name begins with" });
  const match = text(wanted.match, {
    type: "search",
    placeholder: "Address, network or key",
    "aria-label": "Known by this address, network or key",
  });
  const tier = choice(wanted.tier, [["", "Any tier"], ...tiers], { "aria-label": "Tier" });
  const state = choice(wanted.state, STATES, { "aria-label": "State" });
  const sort = choice(
    wanted.sort,
    [
      ["name", "By name"],
      ["id", "By id"],
      ["tier", "By tier"],
      ["state", "By state"],
      ["-changed", "Changed last"],
    ],
    { "aria-label": "Order" },
  );
  const limit = choice(
    wanted.limit,
    [
      ["25", "25 a page"],
      ["50", "50 a page"],
      ["100", "100 a page"],
    ],
    { "aria-label": "Length of a page" },
  );
  const place = h("div");
  const total = live().now?.objects?.clients;
  const add = h("a.button.main-action", { href: link(["clients", "new"], { make: "1" }) }, "New client");
  fill(
    view,
    head("Clients", {
      actions: may("write", "client") ? [add] : [],
      lead: total === undefined ? null : `${whole(total)} known. Whoever is none of them is answered as anonymous.`,
    }),
    card(
      "",
      [h("div.filters", { role: "search", "aria-label": "Clients" }, find, match, tier, state, sort, limit), place],
      { flush: true },
    ),
  );
  const columns = columnsOf(signal);
  const pages = paged(
    place,
    "clients",
    (items) =>
      items.length
        ? table("Clients", columns, items, {
            to: (client) => ["clients", client.name],
            sorting: { by: wanted.sort, turn },
          })
        : empty(
            "No client fits",
            "Look for the beginning of a name, or for an address or network that a client is known by.",
          ),
    signal,
  );
  const search = () => {
    Object.assign(wanted, {
      q: find.value.trim(),
      match: match.value.trim(),
      tier: tier.value,
      state: state.value,
      sort: sort.value,
      limit: limit.value,
    });
    note(
      "clients",
      Object.fromEntries(
        Object.entries(wanted).filter(([key, value]) => value !== { sort: "name", limit: LENGTH }[key]),
      ),
    );
    return pages.show(asQuery({ ...wanted, sort: wanted.sort === "name" ? "" : wanted.sort }));
  };
  function turn(by) {
    sort.value = by;
    if (sort.value !== by) {
      sort.append(h("option", { value: by }, `By ${by.replace("-", "")}, downwards`));
      sort.value = by;
    }
    search();
  }
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(search, WAIT_MS);
  };
  [find, match].forEach((each) => each.addEventListener("input", later));
  [tier, state, sort, limit].forEach((each) => each.addEventListener("change", search));
  await search();
}

function columnsOf() {
  return [
    {
      title: "Name",
      sort: "name",
      cell: (client) => h("a.lead", { href: link(["clients", client.name]) }, client.name),
    },
    { title: "Id", sort: "id", number: true, extra: true, cell: (client) => client.id },
    { title: "Tier", sort: "tier", cell: (client) => label(client.tier) },
    { title: "State", sort: "state", cell: (client) => tag(client.state) },
    { title: "Known by", cell: (client) => known(client.match) },
    {
      title: "Proof",
      extra: true,
      cell: (client) => h("span.soft", client.proof.required ? `required, ${client.proof.bind}` : client.proof.bind),
    },
  ];
}

function known(matches) {
  const shown = matches
    .slice(0, 2)
    .map((entry) => Object.entries(entry)[0])
    .map(([step, value]) => h("span.known", h("span.faint", step), " ", h("span.mono", value)));
  return h("div.knowns", shown, matches.length > 2 ? h("span.faint", `and ${matches.length - 2} more`) : null);
}

/** The names of the tiers. */
async function tierNames(signal) {
  const { items } = await get("tiers?limit=1000", { signal });
  return items.map((tier) => tier.name);
}
