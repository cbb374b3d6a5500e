// Servers and pools: how each is, its weight, and draining it with one click that can be taken back.
import { get } from "../api.js";
import { fill, h } from "../dom.js";
import * as form from "../form.js";
import { whole } from "../format.js";
import { healthOf, told } from "../health.js";
import { listen, live } from "../live.js";
import { failed } from "../notices.js";
import { button, card, empty, filled, head, label, table, tag } from "../parts.js";
import { checkOf, editPool, makePool } from "../poolform.js";
import { may } from "../rights.js";
import { addServer, change, editServer } from "../serverform.js";

export async function show(view, { signal }) {
  const place = h("div.stack");
  const make = button("New pool", () => makePool(again, signal), { kind: "main-action" });
  fill(
    view,
    head("Servers and pools", {
      lead: "Draining keeps the flows that a server has and gives it no new ones; down and maint keep none.",
      actions: may("write", "pool") ? [make] : [],
    }),
    place,
  );
  const typing = () =>
    document.querySelector("dialog[open]") || place.contains(document.activeElement?.closest?.("input") ?? null);
  const load = async (unasked) => {
    const { items } = await get("pools?limit=1000", { signal });
    return unasked === true && typing() ? null : drawn(items, again, signal); // who began to type meanwhile goes on
  };
  const run = filled(place, load, signal);
  const again = async (unasked) => {
    await run(unasked);
    showHealth(place, live().now);
  };
  await again();
  let generation = live().now?.generation;
  listen(({ now }) => {
    showHealth(place, now);
    if (now?.generation && generation && now.generation !== generation && !typing()) again(true);
    generation = now?.generation ?? generation;
  }, signal);
}

function drawn(pools, again, signal) {
  if (!pools.length) return empty("No pools", "A pool holds the servers that do the same work.");
  return pools.map((pool) => poolCard(pool, again, signal));
}

function poolCard(pool, again, signal) {
  const columns = [
    { title: "Server", cell: (server) => h("strong", server.name) },
    { title: "Address", cell: (server) => h("span.mono", server.address) },
    { title: "State", cell: (server) => tag(server.state) },
    {
      title: "Health",
      cell: (server) =>
        h(
          "span",
          { dataset: { health: `${pool.name}/${server.name}`, address: server.address } },
          h("span.faint", "…"),
        ),
    },
    {
      title: "Weight",
      number: true,
      cell: (server) => (may("write", "pool") ? weight(pool, server, again) : whole(server.weight)),
    },
    {
      title: "Packets",
      number: true,
      cell: (server) => h("span", { dataset: { packets: `${pool.name}/${server.name}` } }),
    },
    ...(may("write", "pool")
      ? [{ title: "", cell: (server) => h("div.row.nowrap", actions(pool, server, again)) }]
      : []),
  ];
  const about = [
    label(`forward ${pool.forward}`),
    label(`sticks to ${pool.stickiness}`),
    pool.fallback ? label(`then ${pool.fallback}`) : null,
    checkOf(pool.check),
  ];
  const add = button("Add server", () => addServer(pool, again), { name: "plus", small: true });
  const edit = button("", () => editPool(pool.name, again, signal), {
    name: "edit",
    small: true,
    kind: "quiet",
    label: `Edit pool ${pool.name}`,
  });
  const body = pool.servers.length
    ? table(`Servers of ${pool.name}`, columns, pool.servers)
    : empty("No servers in this pool");
  return card(pool.name, [h("div.row.pool-about", about), body], {
    flush: true,
    end: may("write", "pool") ? h("div.row", edit, add) : null,
    id: `pool-${pool.name}`,
  });
}

function actions(pool, server, again) {
  const set = (state, word) =>
    button(
      word,
      () =>
        change(
          pool,
          server,
          { state },
          `${server.name} ${state === "up" ? "takes new flows again" : `is ${state === "drain" ? "draining" : state}`}`,
          again,
        ),
      { small: true, label: `${word} ${server.name}` },
    );
  const more = button("", () => editServer(pool, server, again), {
    name: "edit",
    small: true,
    kind: "quiet",
    label: `Edit ${server.name}`,
  });
  return [server.state === "up" ? set("drain", "Drain") : set("up", "Put up"), more];
}

function weight(pool, server, again) {
  const input = form.number(server.weight, {
    min: "0",
    max: "1000",
    step: "1",
    class: "weight",
    "aria-label": `Weight of ${server.name}`,
  });
  input.addEventListener("change", async () => {
    try {
      await change(pool, server, { weight: Number(input.value) }, `${server.name} has weight ${input.value}`, again);
    } catch (problem) {
      input.value = server.weight;
      failed(problem);
    }
  });
  return input;
}

/** Health and packets as the dispatchers tell them. */
function showHealth(place, now) {
  if (!now) return;
  const health = healthOf(now);
  const own = new Map((now.dispatcher?.servers ?? []).map((server) => [`${server.pool}/${server.name}`, server]));
  for (const each of place.querySelectorAll("[data-health]")) {
    const server = health.get(each.dataset.health);
    const said = JSON.stringify(server ?? null);
    if (each.dataset.said === said) continue;
    each.dataset.said = said;
    fill(each, told(server), server?.notes.length ? h("div.faint.note", server.notes[0]) : null);
  }
  for (const each of place.querySelectorAll("[data-packets]")) {
    const server = own.get(each.dataset.packets);
    each.textContent = server ? whole(server.packets ?? 0) : "";
  }
}
