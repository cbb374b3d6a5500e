// Keys: every cluster's epochs over time, who holds them, who is waited for, and rotation.
import { at, call, get } from "../api.js";
import { fill, h } from "../dom.js";
import { ago, duration, moment } from "../format.js";
import { hurry, listen } from "../live.js";
import { confirm, done } from "../notices.js";
import { button, card, empty, filled, head, table, tag } from "../parts.js";
import { may } from "../rights.js";
import { timeline } from "../timeline.js";

const SECONDS = 2;

export async function show(view, { signal }) {
  const place = h("div.stack");
  fill(
    view,
    head("Keys", {
      lead: "An address is good as long as dispatchers hold the key of its epoch. DNS uses a new key only when every live dispatcher has it.",
    }),
    place,
  );
  const run = filled(place, async () => drawn(await get("keys", { signal }), () => run()), signal);
  await run();
  let generation = null;
  let asked = Date.now();
  listen(({ now, problem }) => {
    if (!now || problem || now.database) return;
    const moved = now.generation !== generation || Date.now() - asked > SECONDS * 1000;
    if (!moved || document.querySelector("dialog[open]")) return;
    generation = now.generation;
    asked = Date.now();
    run();
  }, signal);
}

function drawn({ items }, again) {
  if (!items.length) return empty("No IPv6 cluster", "Keys belong to clusters with encoded addresses.");
  return items.map((cluster) => clusterCard(cluster, again));
}

function clusterCard(cluster, again) {
  const rotate = button(
    "Rotate",
    async () => {
      const text =
        "A new key is published and used as soon as every live dispatcher holds it. Addresses of the present one stay good until it retires.";
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
        "A new key is used at once and all others are destroyed: every address given out so far is rejected from now on, everywhere. For a key that has leaked.";
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
  const waiting = cluster.epochs.flatMap((epoch) => epoch.waiting_for ?? []);
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
      ),
      notes(cluster),
    ],
    {
      end: may("rotate", "key", cluster.cluster) ? h("div.row", emergency, rotate) : null,
      id: `cluster-${cluster.cluster}`,
    },
  );
}

/** The schedule, and the slots that stay empty. */
function notes(cluster) {
  const lines = [
    cluster.rotates_at
      ? `The next scheduled rotation is due ${cluster.rotates_at * 1000 > Date.now() ? `in ${duration(cluster.rotates_at - Date.now() / 1000)}` : "now"}.`
      : null,
    ...(cluster.reserved ?? []).map(
      (each) =>
        `Slot ${each.slot} stays empty for ${duration(each.until - Date.now() / 1000)}: addresses of a key that is gone may live until then.`,
    ),
  ].filter(Boolean);
  return lines.length
    ? h(
        "ul.soft.key-notes",
        lines.map((line) => h("li", line)),
      )
    : null;
}

function time(seconds) {
  return seconds
    ? h("time", { datetime: new Date(seconds * 1000).toISOString(), title: moment(seconds) }, ago(seconds))
    : h("span.faint", "not yet");
}

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
