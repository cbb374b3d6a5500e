// Tiers, clusters, and the order in which clients are told. Clusters are edited as the JSON that the API takes.
import { call, get } from "../api.js";
import { fill, h } from "../dom.js";
import * as form from "../form.js";
import { done } from "../notices.js";
import { button, card, filled, head, label, tag } from "../parts.js";
import { records } from "../records.js";
import { may } from "../rights.js";

export async function show(view, { signal }) {
  const [tierPlace, clusterPlace, classifyPlace] = [h("div"), h("div"), h("div")];
  const tiers = records(
    tierPlace,
    {
      path: "tiers",
      kind: "tier",
      name: "Name",
      nothing: "No tier yet",
      columns: TIER,
      fields: (tier) => tierFields(tier, signal),
    },
    signal,
  );
  const clusters = records(
    clusterPlace,
    {
      path: "clusters",
      kind: "cluster",
      name: "Name",
      nothing: "No cluster yet",
      columns: CLUSTER,
      fields: jsonFields,
    },
    signal,
  );
  const again = filled(
    classifyPlace,
    async () => classifyForm(await call("GET", "classify", { signal }), () => again()),
    signal,
  );
  fill(
    view,
    head("Tiers and clusters", { lead: "What an address can say, and how those who ask are told apart." }),
    card("Tiers", tierPlace, {
      flush: true,
      end: may("write", "tier") && button("New tier", tiers.add, { small: true, name: "plus" }),
    }),
    card("Clusters", clusterPlace, {
      flush: true,
      end: may("write", "cluster") && button("New cluster", clusters.add, { small: true, name: "plus" }),
    }),
    card("How clients are told", classifyPlace),
  );
  await Promise.all([tiers.run(), clusters.run(), again()]);
}

const TIER = [
  { title: "Tier", cell: (tier) => h("strong", tier.name) },
  { title: "Code", number: true, cell: (tier) => tier.code },
  { title: "Action", cell: (tier) => (tier.action === "drop" ? tag("drop", "bad") : label(tier.pool ?? "no pool")) },
  { title: "DSCP", number: true, cell: (tier) => tier.dscp ?? "" },
  {
    title: "New flows",
    cell: (tier) =>
      tier.rate
        ? h("span", `${tier.rate.new_flows} /s, burst ${tier.rate.burst}, then ${tier.rate.over}`)
        : h("span.faint", "unlimited"),
  },
  {
    title: "Proof",
    cell: (tier) => (tier.require_proof ? label(`required, else ${tier.unproven}`) : h("span.faint", "not required")),
  },
];

const CLUSTER = [
  { title: "Cluster", cell: (cluster) => h("strong", cluster.name) },
  { title: "Prefix", cell: (cluster) => h("span.mono", cluster.prefix) },
  { title: "Plain VIP", cell: (cluster) => h("span.mono", cluster.plain) },
  {
    title: "Carries",
    cell: (cluster) =>
      h(
        "span.soft",
        cluster.layout
          ? `${cluster.layout.map(([name, bits]) => `${name} ${bits}`).join(", ")}, tag ${cluster.tag_bits}`
          : Object.entries(cluster.classes ?? {})
              .map(([tier, hosts]) => `${tier}: ${hosts.join(" ")}`)
              .join(", "),
      ),
  },
  { title: "TTL", number: true, cell: (cluster) => `${cluster.ttl} s` },
];

async function tierFields(tier, signal) {
  const pools = (await get("pools?limit=1000", { signal })).items.map((pool) => pool.name);
  const code = form.number(tier.code ?? "", { min: "0" });
  const action = form.choice(tier.action ?? "forward", ["forward", "drop"]);
  const pool = form.choice(tier.pool ?? "", [["", "none"], ...pools]);
  const dscp = form.number(tier.dscp ?? "", { min: "0", max: "63" });
  const flows = form.number(tier.rate?.new_flows ?? "", { min: "0", step: "any" });
  const burst = form.number(tier.rate?.burst ?? "", { min: "1", step: "any" });
  const over = form.choice(tier.rate?.over ?? "drop", ["drop", "hold", "pass"]);
  const proof = form.check("Demands proof", "require_proof", tier.require_proof);
  const number = (input) => (input.value === "" ? null : Number(input.value));
  return {
    elements: [
      h(
        "div.pair",
        form.field("Code in the address", "code", code),
        form.field("DSCP", "dscp", dscp, { hint: "0 to 63; empty: packets stay as they are." }),
      ),
      h("div.pair", form.field("Action", "action", action), form.field("Pool", "pool", pool)),
      h(
        "div.three",
        form.field("New flows per second", "rate.new_flows", flows, { hint: "Empty: unlimited." }),
        form.field("Burst", "rate.burst", burst),
        form.field("Over it", "rate.over", over),
      ),
      proof,
    ],
    value: () => ({
      code: number(code),
      action: action.value,
      pool: pool.value || null,
      dscp: number(dscp),
      rate: flows.value === "" ? null : { new_flows: Number(flows.value), burst: number(burst) ?? 1, over: over.value },
      require_proof: form.control(proof).checked,
    }),
  };
}

function jsonFields(object) {
  const { name, ...rest } = object;
  const text = h("textarea.zone-text", { spellcheck: "false" });
  text.value = JSON.stringify(
    name
      ? rest
      : {
          prefix: "2001:db8:b:1::/64",
          plain: "2001:db8:b:1::1",
          layout: [
            ["tier", 4],
            ["client", 20],
            ["expiry", 7],
            ["nonce", 6],
          ],
          tag_bits: 24,
          default_tier: "standard",
        },
    null,
    2,
  );
  const value = () => {
    try {
      return JSON.parse(text.value);
    } catch (error) {
      throw Object.assign(new Error(error.message), { errors: [{ where: "json", message: error.message }] });
    }
  };
  return {
    wide: true,
    elements: form.field("Settings as JSON", "", text, {
      hint: "Changing prefix, layout or tag_bits changes every address of the cluster.",
    }),
    value,
  };
}

function classifyForm(held, again) {
  const order = form.text(held.data.order.join(", "), { class: "mono" });
  const trusted = h("textarea", { spellcheck: "false", rows: "3" });
  trusted.value = held.data.trust_ecs_from.join("\n");
  const words = (text) => text.split(/[\s,]+/).filter(Boolean);
  const element = h(
    "form.stack",
    { novalidate: true },
    form.general(),
    form.field("Order of the steps", "order", order, {
      hint: "The first that fits decides: tsig, tls, token, ecs, source, geo, listener.",
    }),
    form.field("Resolvers whose client subnet counts", "trust_ecs_from", trusted, { hint: "One network a line." }),
    may("write", "classify") && h("div.row", h("button.button", { type: "submit" }, "Save")),
  );
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await call("PATCH", "classify", {
        body: { order: words(order.value), trust_ecs_from: words(trusted.value) },
        etag: held.etag,
      });
      done("The order was changed", async () => {
        await call("PUT", "classify", { body: held.data });
        await again();
      });
      await again();
    } catch (problem) {
      form.show(element, problem, "classify");
    }
  });
  return element;
}
