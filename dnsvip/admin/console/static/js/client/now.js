// @ts-check
// A client as it is now: its addresses at each service and where they lead, what it has used, its flows.
import { at, get } from "../api/api.js";
import { colourOf } from "../draw/colours.js";
import { h } from "../draw/dom.js";
import { dispatchers } from "../api/fleet.js";
import { bytes, count, duration, whole } from "../draw/format.js";
import { live } from "../api/live.js";
import { button, card, copyable, empty, filled, hidden, label, tag } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { link } from "../frame/router.js";
import { table } from "../lists/table.js";
import { when } from "../draw/times.js";

/** @typedef {import("../api/api.js").Schemas["ClientShown"]} Client */
/** @typedef {import("../api/api.js").Schemas["ClientAddress"]} Address */
/** @typedef {{ state: string, items: Address[], next: string | null }} Addresses */
/** @typedef {{ bytes: number, packets: number, flows: number, drops: number, nodes: { seen_at: number }[] }} Usage */
/** @typedef {{ items: any[], flows: number, whole: boolean, error: string | null }} Flows */
/** @typedef {import("../draw/dom.js").Child} Child */

const FLOWS = 8;

/**
 * The cards of a client.
 * @param {Client} client
 * @param {AbortSignal} signal
 */
export function cardsOf(client, signal) {
  return [addressesCard(client, signal), usageCard(client, signal), flowsCard(client, signal)];
}

/**
 * A card that is read anew by a button.
 * @param {string} title
 * @param {string} id
 * @param {() => Promise<Child>} load
 * @param {AbortSignal} signal
 */
function readCard(title, id, load, signal) {
  const place = h("div");
  const run = filled(place, load, signal);
  run();
  const again = button("Read again", run, { small: true, label: `Read again: ${title}` });
  return card(title, place, { flush: true, end: again, id });
}

/**
 * @param {Client} client
 * @param {AbortSignal} signal
 */
function addressesCard(client, signal) {
  const title = "Its addresses now";
  if (!may("read", "explain")) return card(title, hidden("how requesters are identified"));
  const load = async () => {
    /** @type {Addresses} */
    const { state, items, next } = await get(`${at("clients", client.name)}/addresses`, { signal });
    if (state !== "enabled")
      return empty(`It is ${state}`, "It is answered as anonymous, and its former addresses are rejected.");
    if (!items.length) return empty("No services that this token may see");
    const more = next ? h("p.soft.card-note", "There are more services; Explain answers for any of them.") : null;
    return [
      h(
        "ul.addresses",
        items.map((item) => addressOf(client, item)),
      ),
      more,
    ];
  };
  return readCard(title, "addresses", load, signal);
}

/**
 * @param {Client} client
 * @param {Address} item
 */
function addressOf(client, item) {
  const known = identityOf(client, item.service);
  return h(
    "li",
    { dataset: { key: `${item.service} ${item.cluster}` } },
    h(
      "div.row.spread",
      h("span", h("strong", item.service), " ", h("span.faint", `in ${item.cluster ?? "no cluster"}`)),
      known ? h("a", { href: link("explain", known) }, "Explain") : null,
    ),
    h("div.mono.address-line", copyable(item.address, `Copy the address at ${item.service}`)),
    h(
      "div.row",
      may("read", "decode") && item.address.includes(":")
        ? h("a", { href: link("address", { address: item.address }) }, "Take apart")
        : null,
      h("span.soft", validity(item)),
    ),
    h("div.row.decides", decides(item)),
    item.servers.length ? shares(item) : null,
  );
}

/** @param {Address} item */
function validity({ why, fresh, expires_at, ttl }) {
  if (why.startsWith("the plain")) return why;
  if (fresh) return "a new one for each answer";
  if (!expires_at) return `TTL ${duration(ttl)}`;
  return [`opens flows for ${duration(expires_at - Date.now() / 1000)}, until `, when(expires_at)];
}

/**
 * Which rule sends its flows where.
 * @param {Address} item
 */
function decides({ accepted, reason, tier, rule, when: conditions, pool, cluster }) {
  if (!accepted) return tag(`rejected as ${reason}`, "bad");
  const by =
    rule === "client"
      ? "its own pool or servers decide"
      : rule
        ? `rule ${rule} of ${cluster} decides: ${conditions}`
        : `tier ${tier} decides`;
  return [
    tier ? label(tier) : null,
    pool ? h("span", "to pool ", h("strong", pool)) : tag("to no pool", "warn"),
    h("span.faint", by),
  ];
}

/** @param {Address} item */
function shares({ servers }) {
  return h(
    "ul.share-bar",
    { "aria-label": "Shares of new flows" },
    servers.map(({ server, share }) =>
      h(
        `li.s${colourOf(server)}`,
        { style: { flexGrow: String(Math.max(share, 0.02)) }, title: `${server} ${Math.round(share * 100)} %` },
        h("span", `${server} ${Math.round(share * 100)} %`),
      ),
    ),
  );
}

/**
 * A question that identifies the client, for the page that explains; null where nothing of it can be tried.
 * @param {Client} client
 * @param {string} qname
 */
function identityOf(client, qname) {
  const known = client.match.flatMap((/** @type {Record<string, string>} */ entry) => Object.entries(entry));
  const match = known.find((/** @type {string[]} */ [step]) => ["source", "ecs", "tsig", "token"].includes(step ?? ""));
  if (!match) return null;
  const [step, value] = match;
  return { qname, source: "127.0.0.1", [step]: step === "source" ? value.split("/")[0] : value };
}

/**
 * @param {Client} client
 * @param {AbortSignal} signal
 */
function usageCard(client, signal) {
  const load = async () => {
    /** @type {Usage} */
    const used = await get(`${at("clients", client.name)}/usage`, { signal });
    if (!used.nodes.length) return empty("Nothing used yet", "Dispatchers report what clients use every few seconds.");
    const seen = Math.max(...used.nodes.map((node) => node.seen_at));
    return [
      h(
        "dl.used",
        used_("Bytes", bytes(used.bytes)),
        used_("Packets", whole(used.packets)),
        used_("Flows", whole(used.flows)),
        used_("Dropped", whole(used.drops), used.drops ? "warn-text" : ""),
      ),
      h("p.faint.card-note", `At ${count(used.nodes.length, "dispatcher")}; last `, when(seen), "."),
    ];
  };
  return readCard("What it has used", "usage", load, signal);
}

/**
 * @param {string} term
 * @param {string} value
 */
function used_(term, value, kind = "") {
  return h("div", h("dt", term), h("dd", { class: kind }, value));
}

/**
 * @param {Client} client
 * @param {AbortSignal} signal
 */
function flowsCard(client, signal) {
  const title = "Its flows";
  if (!may("read", "status")) return card(title, hidden("the flows of dispatchers"));
  const load = async () => {
    /** @type {Flows} */
    const found = await get(`${at("clients", client.name)}/flows?limit=${FLOWS}`, { signal });
    const { now } = live();
    const others = now ? dispatchers(now).length - (found.error === "none" ? 0 : 1) : 0;
    const beyond =
      others > 0
        ? `${count(others, "other dispatcher")} of the site ${others === 1 ? "is" : "are"} not asked; use dnsvip flows there.`
        : "";
    if (found.error === "none")
      return empty("No dispatcher on this machine", beyond || "Flows are known where packets pass.");
    if (found.error) return empty("The dispatcher does not tell", `${found.error}.`);
    if (!found.flows && found.whole) return empty("No flows at this machine’s dispatcher", beyond);
    const shown =
      found.items.length < found.flows
        ? `${found.items.length} of ${whole(found.flows)} flows`
        : count(found.flows, "flow");
    const part = found.whole ? "" : "The table is large: only a part of it was looked at.";
    return [
      table("Flows", FLOW_COLUMNS, found.items, {
        key: (flow) => `${flow.source} ${flow.source_port} ${flow.vip} ${flow.port}`,
      }),
      h("p.faint.card-note", [`${shown} at this machine’s dispatcher.`, part, beyond].filter(Boolean).join(" ")),
    ];
  };
  return readCard(title, "flows", load, signal);
}

/** @type {import("../lists/table.js").Column<any>[]} */
const FLOW_COLUMNS = [
  {
    title: "From",
    cell: (flow) => [
      h("span.mono.wrap", flow.source),
      h("div.faint", `${flow.protocol} port ${flow.source_port} to ${flow.port}`),
    ],
  },
  { title: "Server", cell: (flow) => (flow.server ? `${flow.pool}/${flow.server}` : h("span.faint", "gone")) },
  {
    title: "State",
    cell: (flow) => [flow.state, h("div.faint", flow.idle ? `idle ${duration(flow.idle)}` : "active")],
  },
];
