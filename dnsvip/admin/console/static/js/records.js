// A page for a simple kind of object: a table, and a dialog to make, change and remove one.
import { at, call, get } from "./api.js";
import { fill, h } from "./dom.js";
import * as form from "./form.js";
import { hurry } from "./live.js";
import { confirm, done, failed, open } from "./notices.js";
import { button, empty, filled, table } from "./parts.js";
import { may } from "./rights.js";

/**
 * Show the objects of `path` ("tiers") of `kind` in `place`. `columns` as of a table; `fields(object)` gives
 * {elements, value()} of the form. Returns a function to read anew, and one that makes a new object.
 */
export function records(place, { path, kind, columns, fields, nothing, name }, signal) {
  const edit = {
    title: "",
    cell: (object) =>
      may("write", kind, object.name) &&
      h(
        "div.row.nowrap",
        button("", () => ask(object), { name: "edit", small: true, kind: "quiet", label: `Edit ${object.name}` }),
      ),
  };
  const run = filled(
    place,
    async () => {
      const { items } = await get(`${path}?limit=1000`, { signal });
      return items.length
        ? table(`All ${path}`, may("write", kind) ? [...columns, edit] : columns, items)
        : empty(nothing);
    },
    signal,
  );
  const after = async () => {
    await run();
    hurry();
  };
  async function ask(listed) {
    const fresh = listed === null;
    const { data: object, etag } = fresh ? { data: null } : await call("GET", at(path, listed.name), { signal });
    const title = form.text(object?.name ?? "", { disabled: !fresh, class: "mono" });
    const inner = await fields(object ?? {});
    const remove =
      fresh || !may("delete", kind, object.name) ? null : h("button.button.danger", { type: "button" }, "Remove");
    const element = h(
      "form.stack",
      { novalidate: true },
      form.general(),
      form.field(name, "name", title),
      inner.elements,
      h("div.buttons", remove, h("button.button.main-action", { type: "submit" }, fresh ? "Make" : "Save")),
    );
    const dialog = open(fresh ? `New ${kind}` : object.name, element, { wide: inner.wide });
    element.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await (fresh ? make(title.value.trim(), inner.value()) : change(object, etag, inner.value()));
        dialog.close();
        await after();
      } catch (problem) {
        form.show(
          element,
          problem,
          `${kind}.${title.value.trim().toLowerCase() === object?.name ? object.name : title.value.trim()}`,
        );
      }
    });
    remove?.addEventListener("click", () => {
      dialog.close();
      removed(object, etag).catch(failed);
    });
  }
  async function make(title, value) {
    if (!title) throw form.nameless();
    await call("PUT", at(path, title), { body: value, headers: { "If-None-Match": "*" } });
    done(`${title} made`);
  }
  async function change(object, etag, value) {
    const patch = form.difference(object, { ...object, ...value });
    if (!Object.keys(patch).length) return;
    const held = await call("PATCH", at(path, object.name), { body: patch, etag });
    done(`${object.name} changed`, async () => {
      await call("PUT", at(path, object.name), { body: object, etag: held.etag });
      await after();
    });
  }
  async function removed(object, etag) {
    if (
      !(await confirm({
        title: `Remove ${object.name}?`,
        text: "It is refused where something still refers to it.",
        action: "Remove",
        danger: true,
      }))
    )
      return;
    await call("DELETE", at(path, object.name), { etag });
    done(`${object.name} removed`, async () => {
      await call("PUT", at(path, object.name), { body: object, headers: { "If-None-Match": "*" } });
      await after();
    });
    await after();
  }
  fill(place);
  return { run, add: () => ask(null) };
}
