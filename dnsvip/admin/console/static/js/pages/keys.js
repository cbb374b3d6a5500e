// @ts-check
// Keys: the epochs of every cluster over time, which nodes hold them or are waited for, and rotation.
import { at, call, get } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import { ago, duration, moment } from "../draw/format.js";
import { hurry, listen } from "../api/live.js";
import { confirm, done } from "../draw/notices.js";
import { button, card, empty, filled, head, lasting, tag } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { table } from "../lists/table.js";
import { timeline } from "../draw/timeline.js";

/** @typedef {() => Promise<void>} Again */

const SECONDS = 2;

/** @type {import("../frame/pages.js").Show} */
export async function show(view, { signal }) {
  const place = h("div.stack");
  fill(
    view,
    head("Keys", {
      lead: "An address is valid while dispatchers hold the key of its epoch. DNS uses a new key once every live dispatcher has it.",
    }),
    place,
  );
  /** @type {Again} */
  const run = filled(
    place,
    lasting(async () => drawn(await get("keys", { signal }), () => run())),
    signal,
  );
  await run();
  /** @type {number | null} */
  let generation = null;
  let asked = Date.now();
  listen(({ now, problem }) => {
    if (!now || problem || now.database) return;
    const moved = now.generation !== generation || Date.now() - asked > SECONDS * 1000;
    if (!moved) return;
    generation = now.generation;
    asked = Date.now();
    run();
  }, signal);
}

/**
 * @param {{ items: any[] }} keys
 * @param {Again} again
 */
function drawn({ items }, again) {
  if (!items.length) return empty("No IPv6 cluster", "Keys belong to clusters with encoded addresses.");
  return items.map((cluster) => clusterCard(cluster, again));
}

/**
 * @param {any} cluster
 * @param {Again} again
 */
function clusterCard(cluster, again) {
  const rotate = button(
    "Rotate",
    async () => {
      const text =
        "A new key is published, and used once every live dispatcher holds it. Addresses under the present key stay valid until it retires.";
      if (!(await confirm({ title: `Rotate the keys of ${cluster.cluster}?`, text, action: "Rotate" }))) return;
      await call("POST", `${at("keys", cluster.cluster)}/rotate`);
      done(`A new key of ${cluster.cluster} is published`);
      hurry();
      await again();
    },
    { name: "rotate", small: true },
  );
  const emergency = button(
    "Emergency",
    async () => {
      const text =
        "A new key is used at once and all others are destroyed: every address issued so far is rejected from now on. Use this when a key has leaked.";
      if (
        !(await confirm({
          title: `Replace all keys of ${cluster.cluster} now?`,
          text,
          action: "Replace all keys",
          danger: true,
        }))
      )
        return;
      await call("POST", `${at("keys", cluster.cluster)}/rotate`, { body: { emergency: true } });
      done(`All keys of ${cluster.cluster} are replaced`);
      hurry();
      await again();
    },
    { small: true, kind: "danger" },
  );
  const waiting = cluster.epochs.flatMap((/** @type {any} */ epoch) => epoch.waiting_for ?? []);
  /** @type {import("../lists/table.js").Column<any>[]} */
  const columns = [
    { title: "Slot", cell: (epoch) => h("strong", String(epoch.slot)) },
    { title: "Key", cell: (epoch) => h("span.mono.faint", epoch.key_id ?? "") },
    { title: "State", cell: (epoch) => tag(epoch.state) },
    { title: "Published", cell: (epoch) => time(epoch.published_at) },
    { title: "Active since", cell: (epoch) => time(epoch.activated_at) },
    {
      title: "Ends",
      cell: (epoch) =>
        epoch.retires_at
          ? h("span", { title: moment(epoch.retires_at) }, `in ${duration(epoch.retires_at - Date.now() / 1000)}`)
          : "",
    },
    { title: "Held by", cell: (epoch) => holders(epoch) },
  ];
  return card(
    cluster.cluster,
    [
      timeline(cluster),
      waiting.length ? h("p.waiting", { role: "status" }, tag(`waiting for ${waiting.join(", ")}`, "warn")) : null,
      table(
        `Epochs of ${cluster.cluster}`,
        columns,
        [...cluster.epochs].sort((a, b) => b.published_at - a.published_at),
        { key: (epoch) => `${epoch.slot} ${epoch.published_at}` },
      ),
      notes(cluster),
    ],
    {
      end: may("rotate", "key", cluster.cluster) ? h("div.row", emergency, rotate) : null,
      id: `cluster-${cluster.cluster}`,
    },
  );
}

/**
 * The schedule, and the slots that stay empty.
 * @param {any} cluster
 */
function notes(cluster) {
  const lines = [
    field(cluster),
    cluster.rotates_at
      ? `The next scheduled rotation is due ${cluster.rotates_at * 1000 > Date.now() ? `in ${duration(cluster.rotates_at - Date.now() / 1000)}` : "now"}.`
      : null,
    ...(cluster.reserved ?? []).map(
      (/** @type {any} */ each) =>
        `Slot ${each.slot} stays empty for ${duration(each.until - Date.now() / 1000)}: addresses under its former key may live until then.`,
    ),
  ].filter(Boolean);
  return lines.length
    ? h(
        "ul.soft.key-notes",
        lines.map((line) => h("li", line)),
      )
    : null;
}

/**
 * What is left of the expiry field, where that needs attention.
 * @param {any} cluster
 */
function field(cluster) {
  if (cluster.expiry_field === "full")
    return h(
      "span.warn-text",
      `The expiry field has been full since ${moment(cluster.expiry_full_at)}: new addresses are good as long as their key. Rotate now.`,
    );
  if (cluster.expiry_field === "near")
    return h(
      "span.warn-text",
      `The expiry field is full in ${duration(cluster.expiry_full_at - Date.now() / 1000)}, and the rotation is late. Rotate now.`,
    );
  return null;
}

/** @param {number | null | undefined} seconds */
function time(seconds) {
  return seconds
    ? h("time", { datetime: new Date(seconds * 1000).toISOString(), title: moment(seconds) }, ago(seconds))
    : h("span.faint", "not yet");
}

/** @param {any} epoch */
function holders(epoch) {
  const held = epoch.held_by ?? [];
  const waiting = epoch.waiting_for ?? [];
  const passed = epoch.passed_over ?? [];
  const parts = [
    held.length ? h("span", held.join(", ")) : null,
    waiting.length ? h("span.warn-text", `not yet ${waiting.join(", ")}`) : null,
    passed.length ? h("span.faint", `silent: ${passed.join(", ")}`) : null,
  ];
  if (parts.some(Boolean)) return h("span.row", parts);
  return h("span.faint", "no live node");
}
