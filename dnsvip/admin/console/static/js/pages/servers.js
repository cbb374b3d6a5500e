// Servers and pools: how each is, its weight, and draining it with one click that can be taken back.
import { at, call, get } from "../api.js";
import { fill, h } from "../dom.js";
import * as form from "../form.js";
import { whole } from "../format.js";
import { healthOf, told } from "../health.js";
import { hurry, listen, live } from "../live.js";
import { confirm, done, failed, open } from "../notices.js";
import { button, card, empty, filled, head, label, table, tag } from "../parts.js";
import { may } from "../rights.js";

export async function show(view, { signal }) {
  const place = h("div.stack");
  fill(
    view,
    head("Servers and pools", {
      lead: "Draining keeps the flows that a server has and gives it no new ones; down and maint keep none.",
    }),
    place,
  );
  const run = filled(place, async () => drawn((await get("pools?limit=1000", { signal })).items, again), signal);
  const again = async () => {
    await run();
    showHealth(place, live().now);
  };
  await again();
  let generation = live().now?.generation;
  listen(({ now }) => {
    showHealth(place, now);
    const typing =
      document.querySelector("dialog[open]") || place.contains(document.activeElement?.closest?.("input") ?? null);
    if (now?.generation && generation && now.generation !== generation && !typing) again();
    generation = now?.generation ?? generation;
  }, signal);
}

function drawn(pools, again) {
  if (!pools.length) return empty("No pools", "A pool is made with the site file, or with PUT /pools/NAME.");
  return pools.map((pool) => poolCard(pool, again));
}

function poolCard(pool, again) {
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
  const body = pool.servers.length
    ? table(`Servers of ${pool.name}`, columns, pool.servers)
    : empty("No servers in this pool");
  return card(pool.name, [h("div.row.pool-about", about), body], {
    flush: true,
    end: may("write", "pool") ? add : null,
    id: `pool-${pool.name}`,
  });
}

function checkOf(check) {
  if (!check) return label("not checked", "warn");
  const [kind, value] = ["tcp", "http", "agent"]
    .filter((each) => check[each] !== null && check[each] !== undefined)
    .map((each) => [each, check[each]])[0] ?? ["check", ""];
  return label(`${kind} ${value} every ${check.interval} s`);
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

async function change(pool, server, patch, text, again) {
  const before = Object.fromEntries(Object.keys(patch).map((key) => [key, server[key]]));
  const path = at("pools", pool.name, "servers", server.name);
  await call("PATCH", path, { body: patch });
  done(text, async () => {
    await call("PATCH", path, { body: before });
    await again();
    hurry();
  });
  await again();
  hurry();
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

function serverForm(title, server, send) {
  const address = form.text(server.address ?? "", { class: "mono", placeholder: "fd00:10::11" });
  const name = form.text(server.name ?? "", { disabled: Boolean(server.name) });
  const size = form.number(server.weight ?? 100, { min: "0", max: "1000" });
  const state = form.choice(server.state ?? "up", ["up", "drain", "down", "maint"]);
  const remove = server.name ? h("button.button.danger", { type: "button" }, "Remove") : null;
  const element = h(
    "form.stack",
    { novalidate: true },
    form.general(),
    form.field("Name", "name", name),
    form.field("Address", "address", address),
    h("div.pair", form.field("Weight", "weight", size), form.field("State", "state", state)),
    h("div.buttons", remove, h("button.button.main-action", { type: "submit" }, "Save")),
  );
  const dialog = open(title, element);
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = {
      name: name.value.trim(),
      address: address.value.trim(),
      weight: Number(size.value),
      state: state.value,
    };
    try {
      await send(values);
      dialog.close();
    } catch (problem) {
      form.show(element, problem, problem.errors?.[0]?.where.replace(/\.[^.]+$/, "") ?? "");
    }
  });
  return { dialog, remove };
}

function addServer(pool, again) {
  serverForm(`A server for ${pool.name}`, {}, async ({ name, ...body }) => {
    await call("PUT", at("pools", pool.name, "servers", name || "?"), { body, headers: { "If-None-Match": "*" } });
    done(`${name} added to ${pool.name}`);
    await again();
    hurry();
  });
}

function editServer(pool, server, again) {
  const path = at("pools", pool.name, "servers", server.name);
  const { dialog, remove } = serverForm(`${server.name} of ${pool.name}`, server, async (values) => {
    const patch = form.difference(server, { ...server, ...values });
    if (Object.keys(patch).length) await change(pool, server, patch, `${server.name} changed`, again);
  });
  remove.addEventListener("click", async () => {
    dialog.close();
    if (
      !(await confirm({
        title: `Remove ${server.name}?`,
        text: "Its flows go to the other servers of the pool at once. Drain it first where that matters.",
        action: "Remove",
        danger: true,
      }))
    )
      return;
    try {
      await call("DELETE", path);
      done(`${server.name} removed`, async () => {
        await call("PUT", path, { body: server });
        await again();
      });
      await again();
    } catch (problem) {
      failed(problem);
    }
  });
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
