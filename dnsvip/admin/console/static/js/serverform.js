// One server of a pool: what changes it (and takes that back), and the dialogs to add, edit and remove one.
import { at, call } from "./api.js";
import { h } from "./dom.js";
import * as form from "./form.js";
import { hurry } from "./live.js";
import { confirm, done, failed, open } from "./notices.js";

/** Change what `patch` names of a server; the toast's undo puts it back. */
export async function change(pool, server, patch, text, again) {
  const before = Object.fromEntries(Object.keys(patch).map((key) => [key, server[key]]));
  const path = at("pools", pool.name, "servers", server.name);
  await call("PATCH", path, { body: patch });
  await again(); // first: who reads that it is done goes on in what is drawn by then
  done(text, async () => {
    await call("PATCH", path, { body: before });
    await again();
    hurry();
  });
  hurry();
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

/** Ask for a new server of a pool. */
export function addServer(pool, again) {
  serverForm(`A server for ${pool.name}`, {}, async ({ name, ...body }) => {
    await call("PUT", at("pools", pool.name, "servers", name || "?"), { body, headers: { "If-None-Match": "*" } });
    done(`${name} added to ${pool.name}`);
    await again();
    hurry();
  });
}

/** Edit a server, or remove it. */
export function editServer(pool, server, again) {
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
