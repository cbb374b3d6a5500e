// One client: a form with the API's errors at the fields, what can be done to it, its history.
import { at, call, get } from "./api.js";
import { actionsOf } from "./clientactions.js";
import { clientForm } from "./clientform.js";
import { fill, h } from "./dom.js";
import * as form from "./form.js";
import { historyOf } from "./history.js";
import { hurry } from "./live.js";
import { done } from "./notices.js";
import { card, empty, filled, head, label, tag } from "./parts.js";
import { may } from "./rights.js";
import { go, link } from "./router.js";

const BACK = { href: "#/clients", text: "Clients" };

/** Show a client, with everything that can be done to it. */
export async function showClient(view, context, name) {
  const { signal } = context;
  const load = () => call("GET", at("clients", name), { signal });
  let held;
  try {
    held = await load();
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    return fill(
      view,
      head(name, { crumb: BACK }),
      empty("There is no such client", "It may have been removed, or the name is another one."),
    );
  }
  const history = h("div");
  const readAgain = filled(history, () => historyOf("client", name, signal), signal);
  const draw = async () => {
    held = await load();
    if (!signal.aborted) paint();
    hurry();
    await readAgain();
  };
  const paint = () => {
    const client = held.data;
    const actions = actionsOf(client, draw);
    fill(
      view,
      head(client.name, { crumb: BACK, actions }),
      h(
        "div.row.under-head",
        tag(client.state),
        label(client.tier),
        h("span.faint", `id ${client.id}, key generation ${client.key_generation}`),
      ),
      h(
        "div.grid",
        h("div.span-7", card("Settings", editor(held, draw))),
        h(
          "div.span-5.stack",
          card("What it is answered", addressOf(client, signal)),
          card("History", history, { flush: true }),
        ),
      ),
    );
  };
  paint();
  await readAgain();
}

/** Show the form for a new client. */
export async function showNew(view, { signal }) {
  const tiers = (await get("tiers?limit=1000", { signal })).items.map((tier) => tier.name);
  const name = form.text("", { required: true, pattern: "[A-Za-z0-9_]([A-Za-z0-9_.\\-]{0,61}[A-Za-z0-9_])?" });
  const whole = clientForm({ tier: tiers[0], match: [], proof: {}, attributes: {} }, tiers);
  const general = form.general();
  const element = h(
    "form.stack",
    { novalidate: true },
    general,
    form.field("Name", "name", name),
    whole.element,
    h(
      "div.row",
      h("button.button.main-action", { type: "submit" }, "Make client"),
      h("a.button", { href: "#/clients" }, "Cancel"),
    ),
  );
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!name.value.trim())
      return form.show(element, { errors: [{ where: "client..name", message: "A client needs a name." }] }, "client.");
    try {
      await call("PUT", at("clients", name.value.trim()), { body: whole.value(), headers: { "If-None-Match": "*" } });
      done(`${name.value.trim()} made`);
      go(["clients", name.value.trim()]);
    } catch (problem) {
      form.show(element, problem, `client.${name.value.trim()}`);
    }
  });
  fill(view, head("New client", { crumb: BACK }), card("", element));
  name.focus();
}

function editor(held, draw) {
  const client = held.data;
  const place = h("form.stack", { novalidate: true, id: "client-form", "aria-busy": "true" }, h("p.soft", "Loading"));
  (may("read", "tier") ? get("tiers?limit=1000") : Promise.resolve({ items: [] })).then(
    ({ items }) => {
      const whole = clientForm(
        client,
        items.map((tier) => tier.name),
      );
      const send = h("button.button.main-action", { type: "submit" }, "Save");
      const reset = h("button.button", { type: "button", onclick: draw }, "Put back");
      place.removeAttribute("aria-busy");
      fill(
        place,
        form.general(),
        h("fieldset", { disabled: !may("write", "client", client.name) }, whole.element),
        may("write", "client", client.name) && h("div.row", send, reset),
      );
      place.addEventListener("submit", async (event) => {
        event.preventDefault();
        const patch = form.difference(editable(client), whole.value());
        if (!Object.keys(patch).length) return done("Nothing was changed");
        send.disabled = true;
        try {
          await call("PATCH", at("clients", client.name), { body: patch, etag: held.etag });
          done(`${client.name} changed`, undoing(client, patch, draw));
          await draw();
        } catch (problem) {
          if (problem.status === 412)
            problem.message = "Somebody else has changed this client meanwhile. Put back, look, and change it again.";
          form.show(place, problem, `client.${client.name}`);
        } finally {
          send.disabled = false;
        }
      });
    },
    (problem) => fill(place, h("p.form-error", problem.message)),
  );
  return place;
}

function editable({ id, tier, match, proof, attributes }) {
  return { id, tier, match, proof, attributes };
}

/** Puts back what a patch has changed. */
function undoing(client, patch, draw) {
  const inverse = (before, change) =>
    Object.fromEntries(
      Object.entries(change).map(([key, value]) => [
        key,
        value !== null && typeof value === "object" && !Array.isArray(value) && before?.[key]
          ? inverse(before[key], value)
          : (before?.[key] ?? null),
      ]),
    );
  return async () => {
    await call("PATCH", at("clients", client.name), { body: inverse(client, patch) });
    await draw();
  };
}

function addressOf(client, signal) {
  const place = h("div");
  filled(
    place,
    async () => {
      const service = (await get("services?limit=1", { signal })).items[0];
      const match = client.match
        .map((entry) => Object.entries(entry)[0])
        .find(([step]) => ["source", "ecs", "tsig"].includes(step));
      if (!service || !match)
        return h(
          "p.soft",
          "It is known by nothing that could be tried here. ",
          h("a", { href: link("explain") }, "Explain"),
        );
      const [step, value] = match;
      const trusted = "127.0.0.1";
      const query = { qname: service.name, source: trusted, [step]: step === "source" ? value.split("/")[0] : value };
      return [
        h(
          "p.soft",
          "At ",
          h("strong", service.name),
          " an address that carries its tier and id; known by ",
          h("span.mono", value),
          ".",
        ),
        h("p.below-top", h("a.button.small", { href: link("explain", query) }, "Explain the answer")),
      ];
    },
    signal,
  )();
  return place;
}
