// A pool itself: the dialog to make one, to change how it forwards and is checked, and to remove it.
import { at, call, get } from "./api.js";
import { h } from "./dom.js";
import * as form from "./form.js";
import { count } from "./format.js";
import { hurry } from "./live.js";
import { confirm, done, failed, open } from "./notices.js";
import { label } from "./parts.js";
import { may } from "./rights.js";

const FORWARDS = [
  ["direct", "direct: as it came"],
  ["encap", "encap: IPv6 in IPv6"],
  ["nat", "nat: rewritten both ways"],
];
const KINDS = ["tcp", "http", "agent"];

/** How a pool's servers are checked, in a few words. */
export function checkOf(check) {
  if (!check) return label("not checked", "warn");
  const kind = KINDS.find((each) => check[each] !== null && check[each] !== undefined);
  return label(`${kind ?? "check"} ${check[kind] ?? ""} every ${check.interval} s`);
}

/** Ask for a new pool; servers are added to it afterwards. */
export async function makePool(again, signal) {
  const { element, name, value } = await poolForm({}, signal);
  const dialog = open("New pool", element);
  name.focus();
  sent(element, async () => {
    const title = name.value.trim();
    if (!title) throw form.nameless();
    await call("PUT", at("pools", title), { body: value(), headers: { "If-None-Match": "*" } });
    dialog.close();
    done(`${title} made`);
    await after(again);
  });
}

/** Edit a pool as it is now, or remove it. */
export async function editPool(title, again, signal) {
  const { data: pool, etag } = await call("GET", at("pools", title), { signal });
  const remove = may("delete", "pool") ? h("button.button.danger", { type: "button" }, "Remove") : null;
  const { element, value } = await poolForm(pool, signal, remove);
  const dialog = open(`Pool ${title}`, element);
  sent(element, async () => {
    const patch = form.difference(pool, { ...pool, ...value() });
    if (Object.keys(patch).length) {
      const held = await call("PATCH", at("pools", title), { body: patch, etag });
      done(`${title} changed`, async () => {
        await call("PUT", at("pools", title), { body: pool, etag: held.etag });
        await after(again);
      });
    }
    dialog.close();
    await after(again);
  });
  remove?.addEventListener("click", () => {
    dialog.close();
    removed(pool, etag, again).catch(failed);
  });
}

async function removed(pool, etag, again) {
  const servers = pool.servers.length ? ` ${count(pool.servers.length, "server")} of it go with it.` : "";
  const text = `It is refused where a tier or another pool still names it.${servers}`;
  if (!(await confirm({ title: `Remove pool ${pool.name}?`, text, action: "Remove", danger: true }))) return;
  await call("DELETE", at("pools", pool.name), { etag });
  done(`${pool.name} removed`, async () => {
    await call("PUT", at("pools", pool.name), { body: pool, headers: { "If-None-Match": "*" } });
    await after(again);
  });
  await after(again);
}

async function after(again) {
  await again();
  hurry();
}

function sent(element, send) {
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    form.clear(element);
    try {
      await send();
    } catch (problem) {
      form.show(element, problem, `pool.${form.control(element.querySelector("[data-path=name]")).value.trim()}`);
    }
  });
}

async function poolForm(pool, signal, remove) {
  const others = (await get("pools?limit=1000", { signal })).items.map((each) => each.name);
  const name = form.text(pool.name ?? "", { disabled: Boolean(pool.name), class: "mono" });
  const forward = form.choice(pool.forward ?? "direct", FORWARDS);
  const stickiness = form.choice(pool.stickiness ?? "flow", ["flow", "client", "session"]);
  const fallback = form.choice(pool.fallback ?? "", [["", "none"], ...others.filter((each) => each !== pool.name)]);
  const check = checkFields(pool.check);
  const element = h(
    "form.stack",
    { novalidate: true },
    form.general(),
    form.field("Name", "name", name),
    h(
      "div.pair",
      form.field("Forward", "forward", forward, { hint: "How packets reach a server." }),
      form.field("Sticks to", "stickiness", stickiness, { hint: "What stays with one server." }),
    ),
    form.field("Fallback", "fallback", fallback, { hint: "Takes new flows while none of its servers can." }),
    check.element,
    h("div.buttons", remove, h("button.button.main-action", { type: "submit" }, pool.name ? "Save" : "Make")),
  );
  const value = () => ({
    forward: forward.value,
    stickiness: stickiness.value,
    fallback: fallback.value || null,
    check: check.value(),
  });
  return { element, name, value };
}

/** Empty fields are left to the API: what is left out has its default there. */
function checkFields(check) {
  const inputs = {
    tcp: form.number(check?.tcp, { min: "1", max: "65535", placeholder: "80" }),
    agent: form.number(check?.agent, { min: "1", max: "65535" }),
    http: form.text(check?.http, { class: "mono", placeholder: "http://[{address}]:80/health" }),
    interval: form.number(check?.interval, { min: "0.1", step: "any", placeholder: "1" }),
    fall: form.number(check?.fall, { min: "1", placeholder: "2" }),
    rise: form.number(check?.rise, { min: "1", placeholder: "2" }),
  };
  const field = (text, key, more) => form.field(text, `check.${key}`, inputs[key], more);
  const read = ([key, input]) => [
    key,
    input.value === "" ? undefined : key === "http" ? input.value.trim() : Number(input.value),
  ];
  const element = form.group(
    "Check",
    "check",
    h(
      "div.stack",
      h("div.pair", field("TCP port", "tcp"), field("Port of a load agent", "agent")),
      field("URL", "http", { hint: "In place of the TCP port; {address} stands for the server." }),
      h("div.three", field("Every, s", "interval"), field("Failures", "fall"), field("Successes", "rise")),
    ),
    { hint: "Without a port and a URL its servers are not checked." },
  );
  const value = () =>
    KINDS.every((kind) => inputs[kind].value.trim() === "")
      ? null
      : { ...check, ...Object.fromEntries(Object.entries(inputs).map(read)) };
  return { element, value };
}
