// Zones: the list, and the text of one with the zone file's errors at the text.
import { at, call } from "../api.js";
import { fill, h } from "../dom.js";
import * as form from "../form.js";
import { whole } from "../format.js";
import { historyOf } from "../history.js";
import { paged } from "../lists.js";
import { hurry } from "../live.js";
import { confirm, done } from "../notices.js";
import { button, card, empty, filled, head, table } from "../parts.js";
import { may } from "../rights.js";
import { go, link } from "../router.js";

const BACK = { href: "#/zones", text: "Zones" };

export async function show(view, context) {
  const [name] = context.parts;
  if (name === undefined) return showList(view, context);
  return name === "new" && context.query.make ? showNew(view) : showZone(view, context, name);
}

async function showList(view, { signal }) {
  const place = h("div");
  const add = h("a.button.main-action", { href: link(["zones", "new"], { make: "1" }) }, "New zone");
  fill(
    view,
    head("Zones", {
      actions: may("write", "zone") ? [add] : [],
      lead: "Records that are the same for everybody. A service’s addresses are made per client and stand in no zone.",
    }),
    card("", place, { flush: true }),
  );
  const columns = [
    { title: "Zone", cell: (zone) => h("a.lead", { href: link(["zones", zone.name]) }, zone.name) },
    { title: "Bytes", number: true, cell: (zone) => whole(zone.bytes ?? 0) },
  ];
  await paged(
    place,
    "zones",
    (items) =>
      items.length
        ? table("Zones", columns, items, { to: (zone) => ["zones", zone.name] })
        : empty("No zone yet", "A zone is the text of its zone file."),
    signal,
  ).show("?limit=100");
}

async function showZone(view, { signal }, name) {
  const held = await call("GET", at("zones", name), { signal });
  const history = h("div");
  const text = h("textarea.zone-text", { spellcheck: "false", wrap: "off" });
  text.value = held.data.text;
  const element = editor(
    text,
    `zone.${name}`,
    async () => {
      const { data, etag } = await call("PATCH", at("zones", name), { body: { text: text.value }, etag: held.etag });
      const before = held.data.text;
      Object.assign(held, { data, etag });
      done(`${name} changed`, async () => {
        held.etag = (await call("PATCH", at("zones", name), { body: { text: before }, etag: held.etag })).etag;
        text.value = held.data.text = before;
      });
      hurry();
      readAgain();
    },
    { zone: name },
  );
  const remove = button(
    "",
    async () => {
      if (
        !(await confirm({
          title: `Remove ${name}?`,
          text: "Its names are refused from now on. The text stands in the audit no more than as a change.",
          action: "Remove",
          danger: true,
        }))
      )
        return;
      await call("DELETE", at("zones", name));
      done(`${name} removed`, async () => {
        await call("PUT", at("zones", name), { body: held.data });
        go(["zones", name]);
      });
      go("zones");
    },
    { name: "trash", kind: "danger", label: "Remove zone" },
  );
  fill(
    view,
    head(name, { crumb: BACK, actions: may("delete", "zone", name) ? [remove] : [] }),
    card("Zone file", element),
    card("History", history, { flush: true }),
  );
  const readAgain = filled(history, () => historyOf("zone", name, signal), signal);
  await readAgain();
}

function showNew(view) {
  const name = form.text("", { class: "mono", placeholder: "example.test" });
  const text = h("textarea.zone-text", { spellcheck: "false", wrap: "off" });
  text.value = "$TTL 300\n@ IN SOA ns1 hostmaster 1 7200 3600 1209600 300\n@ IN NS ns1\nns1 IN A 192.0.2.53\n";
  const element = editor(
    text,
    "zone.",
    async () => {
      await call("PUT", at("zones", name.value.trim() || "?"), {
        body: { text: text.value },
        headers: { "If-None-Match": "*" },
      });
      done(`${name.value.trim()} made`);
      go(["zones", name.value.trim()]);
    },
    { before: form.field("Zone", "name", name) },
  );
  fill(view, head("New zone", { crumb: BACK }), card("", element));
  name.focus();
}

function editor(text, prefix, send, { zone, before } = {}) {
  const save = h("button.button.main-action", { type: "submit" }, "Save");
  const element = h(
    "form.stack",
    { novalidate: true },
    form.general(),
    before,
    form.field("Text", "text", text, {
      hint: "A standard zone file (RFC 1035). It is checked as a whole before it is taken.",
    }),
    may("write", "zone", zone) && h("div.row", save),
  );
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    form.clear(element);
    save.disabled = true;
    try {
      await send();
    } catch (problem) {
      form.show(element, problem, prefix);
    } finally {
      save.disabled = false;
    }
  });
  return element;
}
