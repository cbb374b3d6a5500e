// @ts-check
// First steps: from an empty site to a `dig` that is answered. Each step says by the site's own state whether it is done.
import { get } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import { icon } from "../draw/icons.js";
import { editInDialog } from "../kinds/kindpage.js";
import { hurry, listen, live } from "../api/live.js";
import { button, copyable, filled, head, hidden } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { link } from "../frame/router.js";
import { addServer } from "../servers/form.js";
import { NEW_CLUSTER } from "./site.js";
import { TEXT } from "./zones.js";

/** @typedef {Record<string, any[]>} Held  the first objects of each kind */
/**
 * A step. `done` gives what is there already, or nothing; `act` what makes it.
 * @typedef {object} Step
 * @property {string} kind  that has to be writable for it
 * @property {string} title
 * @property {string} why
 * @property {string} page
 * @property {(held: Held) => string} done
 * @property {(held: Held) => string} label
 * @property {(held: Held, again: () => unknown) => unknown} act
 */

const PATHS = {
  pool: "pools",
  tier: "tiers",
  cluster: "clusters",
  zone: "zones",
  service: "services",
  client: "clients",
};

/** @type {Step[]} */
const STEPS = [
  {
    kind: "pool",
    title: "A pool, and the servers in it",
    why: "Servers that do the same work. New connections are spread over them, and those that fail get none.",
    page: "servers",
    done: ({ pool = [] }) =>
      pool
        .filter(({ servers }) => servers.length)
        .map(({ name, servers }) => `${name} with ${servers.map((/** @type {any} */ each) => each.name).join(", ")}`)
        .join("; "),
    label: ({ pool = [] }) => (pool.length ? `Add a server to ${pool[0].name}` : "New pool"),
    act: ({ pool = [] }, again) =>
      pool.length
        ? addServer(pool[0].name, again)
        : editInDialog("pool", null, { form: { omit: ["servers"] }, after: again }),
  },
  {
    kind: "tier",
    title: "A tier",
    why: "A class of clients: which pool serves them, how fast, with which priority. Its code is what an address carries.",
    page: "site",
    done: ({ tier = [] }) => names(tier),
    label: () => "New tier",
    act: ({ pool = [] }, again) =>
      editInDialog("tier", null, { form: { initial: { code: 1, pool: pool[0]?.name } }, after: again }),
  },
  {
    kind: "cluster",
    title: "A cluster",
    why: "An IPv6 prefix that is routed to the dispatchers. Every client gets addresses of its own in it; the plain one is for everybody else.",
    page: "site",
    done: ({ cluster = [] }) => cluster.map(({ name, prefix }) => `${name}, ${prefix}`).join("; "),
    label: () => "New cluster",
    act: ({ tier = [] }, again) =>
      editInDialog("cluster", null, {
        form: { initial: { ...NEW_CLUSTER, rotate_every: 86400, default_tier: tier[0]?.name } },
        after: again,
      }),
  },
  {
    kind: "zone",
    title: "A zone",
    why: "The domain that this server answers for, with the records that are the same for everybody.",
    page: "zones",
    done: ({ zone = [] }) => names(zone),
    label: () => "New zone",
    act: (_held, again) => editInDialog("zone", null, { form: { initial: { text: TEXT } }, after: again }),
  },
  {
    kind: "service",
    title: "A service in the zone",
    why: "A name in the zone whose addresses are made for each client, such as www.example.test.",
    page: "services",
    done: ({ service = [] }) => names(service),
    label: () => "New service",
    act: ({ cluster = [] }, again) =>
      editInDialog("service", null, { form: { initial: { cluster: cluster[0]?.name } }, after: again }),
  },
  {
    kind: "client",
    title: "The first client",
    why: "Somebody who is known, by the network that the queries come from or by a key. To try it from this machine: a source of 127.0.0.0/24.",
    page: "clients",
    done: ({ client = [] }) => names(client),
    label: () => "New client",
    act: ({ tier = [] }, again) =>
      editInDialog("client", null, {
        form: {
          omit: ["state", "end_flows", "key_generation"],
          initial: { id: 1, tier: tier[0]?.name, match: [{ source: "127.0.0.0/24" }], attributes: {} },
        },
        after: again,
      }),
  },
];

/** @type {import("../frame/pages.js").Show} */
export async function show(view, { signal }) {
  const place = h("div");
  const proof = h("div");
  fill(
    view,
    head("First steps", { lead: "From nothing to a name that answers each client with an address of its own." }),
    place,
    proof,
  );
  const load = async () => {
    const held = await all(signal);
    fill(proof, proofOf(held));
    return h("ol.steps-first", listOf(held, again));
  };
  const run = filled(place, load, signal);
  const again = async () => {
    await run();
    hurry();
  };
  await run();
  let generation = live().now?.generation;
  listen(({ now }) => {
    if (now?.generation && generation && now.generation !== generation) run();
    generation = now?.generation ?? generation;
    showCount(proof, now);
  }, signal);
}

/**
 * The first objects of each kind that the token may see.
 * @param {AbortSignal} signal
 * @returns {Promise<Held>}
 */
async function all(signal) {
  const kinds = Object.entries(PATHS).filter(([kind]) => may("read", kind));
  const lists = await Promise.all(kinds.map(([, path]) => get(`${path}?limit=5`, { signal })));
  return Object.fromEntries(
    kinds.map(([kind], at) => [kind, lists[at].items.filter((/** @type {any} */ each) => !each.unreadable)]),
  );
}

/** @param {any[]} objects */
function names(objects) {
  return objects.map(({ name }) => name).join(", ");
}

/**
 * @param {Held} held
 * @param {() => unknown} again
 */
function listOf(held, again) {
  const next = STEPS.findIndex((step) => !step.done(held));
  return STEPS.map((step, at) => {
    const done = step.done(held);
    const state = done ? "done" : at === next ? "next" : "later";
    return h(
      "li.step-first",
      { class: state, dataset: { key: step.kind, step: step.kind, state } },
      h("span.step-mark", { "aria-hidden": "true" }, done ? icon("check", 17) : String(at + 1)),
      h(
        "div",
        h("h2", step.title, h("span.sr-only", done ? " (done)" : state === "next" ? " (next)" : " (later)")),
        may("read", step.kind) ? h("p", done ? h("a", { href: link(step.page) }, done) : step.why) : hidden("it"),
      ),
      state === "next" && may("write", step.kind)
        ? button(step.label(held), () => step.act(held, again), { kind: "main-action" })
        : null,
    );
  });
}

/**
 * The command that proves it, once there is a service to ask for.
 * @param {Held} held
 */
function proofOf(held) {
  const service = held["service"]?.[0]?.name;
  if (!service || STEPS.some((step) => !step.done(held))) return null;
  const { server, port } = listenerOf(live().now?.listeners ?? []);
  const command = `dig @${server} -p ${port} ${service} AAAA +short`;
  return h(
    "section.card.below-top",
    { "aria-label": "The proof" },
    h("header", h("h2", "The proof")),
    h(
      "div.body",
      h(
        "p.soft",
        "Ask for the service. The first client is answered with an address that only it has; ask again from elsewhere, and it is the plain one.",
      ),
      copyable(command, "Copy the command"),
      h("p.below-top", { id: "answered" }),
      h(
        "p",
        h("a", { href: link("explain", { qname: service, source: "127.0.0.1" }) }, "Explain this answer, step by step"),
      ),
    ),
  );
}

/**
 * Where to ask, of the addresses that this node answers on; one of all addresses is asked at the name of this page.
 * @param {string[]} listeners
 */
function listenerOf(listeners) {
  const [first = "127.0.0.1:53"] = listeners;
  const [, host = "", port = "53"] = /^\[?([^\]]*)\]?:(\d+)$/.exec(first) ?? [];
  return { server: host === "0.0.0.0" || host === "::" ? location.hostname : host, port };
}

/**
 * @param {HTMLElement} place
 * @param {any} now
 */
function showCount(place, now) {
  const said = place.querySelector("#answered");
  if (!said || !now?.sees_status) return;
  const answered = Object.values(now.dns?.rcodes ?? {}).reduce((sum, count) => sum + Number(count), 0);
  const text = answered
    ? `This node has answered ${answered} ${answered === 1 ? "query" : "queries"} since it started.`
    : "This node has not been asked yet.";
  if (said.textContent !== text) said.textContent = text;
}
