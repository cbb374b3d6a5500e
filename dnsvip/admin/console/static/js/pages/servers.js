// @ts-check
// Servers and pools: the state and weight of each server, and draining it with one click that can be undone.
import { get } from "../api.js";
import { summary } from "../cells.js";
import { draw, fill, h, settled } from "../dom.js";
import { dispatchers } from "../fleet.js";
import { number } from "../form.js";
import { whole } from "../format.js";
import { healthOf, healthTag } from "../health.js";
import { editInDialog } from "../kindpage.js";
import { listen, live } from "../live.js";
import { failed } from "../notices.js";
import { button, card, empty, filled, head, label, lasting, tag } from "../parts.js";
import { reconcile } from "../reconcile.js";
import { may } from "../rights.js";
import { description, fieldsOf, named, resolved } from "../schema.js";
import { addServer, change, editServer } from "../serverform.js";
import { table } from "../table.js";

/** @typedef {import("../serverform.js").Server} Server */
/** @typedef {import("../api.js").Schemas["PoolShown"]} Pool */
/** @typedef {() => Promise<void>} Again */

const FORM = { omit: ["servers"] };

/** @type {import("../pages.js").Show} */
export async function show(view, { signal }) {
  const place = h("div.stack");
  const make = button("New pool", () => editInDialog("pool", null, { form: FORM, after: () => again() }), {
    kind: "main-action",
  });
  fill(
    view,
    head("Servers and pools", {
      lead: "Draining keeps a server’s flows and gives it no new ones; down and maint end them.",
      actions: may("write", "pool") ? [make] : [],
    }),
    place,
  );
  const document = await description();
  const load = async () => {
    const { items } = await get("pools?limit=1000", { signal });
    if (!items.length) return empty("No pools yet", "A pool holds servers that do the same work.");
    return items.map((/** @type {any} */ pool) =>
      pool.unreadable ? empty(pool.name, `Cannot be read: ${pool.unreadable}`) : poolCard(document, pool, again),
    );
  };
  const run = filled(place, lasting(load), signal);
  const again = async () => {
    await run();
    showLive(place, live().now);
  };
  await again();
  let generation = live().now?.generation;
  listen(({ now }) => {
    showLive(place, now);
    if (now?.generation && generation && now.generation !== generation) again();
    generation = now?.generation ?? generation;
  }, signal);
}

/**
 * @param {import("../schema.js").Document} document
 * @param {Pool} pool
 * @param {Again} again
 */
function poolCard(document, pool, again) {
  const writable = may("write", "pool");
  const removal = pool.servers.length ? `Its ${pool.servers.length} servers are removed with it. ` : "";
  const how = { form: FORM, after: again, removal: `${removal}This is refused while a tier or a pool refers to it.` };
  const edit = button("", () => editInDialog("pool", pool.name, how), {
    name: "edit",
    small: true,
    kind: "quiet",
    label: `Edit pool ${pool.name}`,
  });
  const add = button("Add server", () => addServer(pool.name, again), { name: "plus", small: true });
  const body = pool.servers.length
    ? table(`Servers of ${pool.name}`, columnsOf(pool, writable, again), pool.servers)
    : empty("No servers in this pool");
  return card(pool.name, [h("div.row.pool-about", about(document, pool)), body], {
    flush: true,
    end: writable ? h("div.row", edit, add) : null,
    id: `pool-${pool.name}`,
  });
}

/**
 * The settings of a pool in a few words.
 * @param {import("../schema.js").Document} document
 * @param {Pool} pool
 */
function about(document, pool) {
  const fields = Object.fromEntries(fieldsOf(document, named(document, "Pool")));
  const check = pool["check"] && summary(document, resolved(document, fields["check"] ?? {}), pool["check"]);
  return [
    label(`${pool["forward"]} forwarding`),
    label(`sticky by ${pool["stickiness"]}`),
    pool["fallback"] ? label(`falls back to ${pool["fallback"]}`) : null,
    check ? label(`checked: ${check}`) : label("not checked", "warn"),
  ];
}

/**
 * @param {Pool} pool
 * @param {boolean} writable
 * @param {Again} again
 * @returns {import("../table.js").Column<Server>[]}
 */
function columnsOf(pool, writable, again) {
  const key = (/** @type {Server} */ server) => `${pool.name}/${server.name}`;
  return [
    { title: "Server", cell: (server) => h("strong", server.name) },
    { title: "Address", cell: (server) => h("span.mono", server.address) },
    { title: "State", cell: (server) => tag(server.state) },
    { title: "Health", cell: (server) => h("span", { dataset: { health: key(server) } }, healthNow(key(server))) },
    {
      title: "Weight",
      number: true,
      cell: (server) => [
        writable ? weight(pool.name, server, again) : whole(server.weight),
        h(
          "div.faint.note",
          { dataset: { weight: key(server), set: String(server.weight) } },
          weightNow(key(server), server.weight),
        ),
      ],
    },
    {
      title: "Packets",
      number: true,
      cell: (server) => h("span", { dataset: { packets: key(server) } }, packetsNow(key(server))),
    },
    ...(writable
      ? [{ title: "", cell: (/** @type {Server} */ server) => h("div.row.nowrap", actions(pool.name, server, again)) }]
      : []),
  ];
}

/**
 * @param {string} pool
 * @param {Server} server
 * @param {Again} again
 */
function actions(pool, server, again) {
  const up = server.state === "up";
  const [word, said] = up ? ["Drain", "is draining"] : ["Bring up", "takes new flows again"];
  const set = () => change(pool, server, { state: up ? "drain" : "up" }, `${server.name} ${said}`, again);
  return [
    button(word, set, { small: true, label: `${word} ${server.name}` }),
    button("", () => editServer(pool, server.name, again), {
      name: "edit",
      small: true,
      kind: "quiet",
      label: `Edit ${server.name}`,
    }),
  ];
}

/**
 * @param {string} pool
 * @param {Server} server
 * @param {Again} again
 */
function weight(pool, server, again) {
  const onchange = async (/** @type {Event} */ event) => {
    const input = /** @type {HTMLInputElement} */ (event.currentTarget);
    try {
      const patch = { weight: Number(input.value) };
      await change(pool, server, patch, `${server.name} has weight ${input.value}`, () => {
        if (Number(input.value) === patch.weight) settled(input);
        return again();
      });
    } catch (problem) {
      draw(input, String(server.weight));
      failed(problem);
    }
  };
  const label = `Weight of ${server.name}`;
  return number(server.weight, { min: "0", max: "1000", step: "1", class: "weight", "aria-label": label, onchange });
}

/** @param {string} key */
function healthNow(key) {
  const { now } = live();
  if (!now) return h("span.faint", "…");
  if (!now.sees_status)
    return h(
      "span.faint",
      { dataset: { hidden: "" }, title: "This token may not see the health of servers." },
      "hidden",
    );
  const server = healthOf(now).get(key);
  const known = dispatchers(now).length || now.dispatcher;
  return [
    healthTag(server, known ? "not checked" : "unknown: no dispatcher reports"),
    server?.notes.length ? h("div.faint.note", server.notes[0]) : null,
  ];
}

/** @param {string} key */
function packetsNow(key) {
  const own = ownRow(key);
  return own ? whole(own.packets ?? 0) : "";
}

/**
 * The weight that this machine's dispatcher selects by, where that is not the weight that was set.
 * @param {string} key
 * @param {number} set
 */
function weightNow(key, set) {
  const weight = ownRow(key)?.weight ?? healthOf(live().now ?? { nodes: [] }).get(key)?.weight ?? set;
  return weight === set ? "" : `now ${whole(weight)}`;
}

/** @param {string} key */
function ownRow(key) {
  const servers = live().now?.dispatcher?.servers ?? [];
  return servers.find((/** @type {any} */ server) => `${server.pool}/${server.name}` === key);
}

/**
 * Health and packets as the dispatchers report them, into the places for them and nowhere else.
 * @param {HTMLElement} place
 * @param {any} now
 */
function showLive(place, now) {
  if (!now) return;
  for (const each of /** @type {NodeListOf<HTMLElement>} */ (place.querySelectorAll("[data-health]")))
    reconcile(each, healthNow(each.dataset["health"] ?? ""));
  for (const each of /** @type {NodeListOf<HTMLElement>} */ (place.querySelectorAll("[data-weight]")))
    reconcile(each, weightNow(each.dataset["weight"] ?? "", Number(each.dataset["set"])));
  for (const each of /** @type {NodeListOf<HTMLElement>} */ (place.querySelectorAll("[data-packets]")))
    reconcile(each, packetsNow(each.dataset["packets"] ?? ""));
}
