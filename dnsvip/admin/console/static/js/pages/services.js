// Services: the names whose addresses are made per client.
import { get } from "../api.js";
import { fill, h } from "../dom.js";
import * as form from "../form.js";
import { button, card, head, label } from "../parts.js";
import { records } from "../records.js";
import { may } from "../rights.js";
import { link } from "../router.js";

export async function show(view, { signal }) {
  const place = h("div");
  const list = records(
    place,
    {
      path: "services",
      kind: "service",
      name: "Name",
      nothing: "No service yet",
      columns,
      fields: (object) => fields(object, signal),
    },
    signal,
  );
  fill(
    view,
    head("Services", {
      lead: "At these names everybody is answered an address of their own, or the plain VIP.",
      actions: may("write", "service") ? [button("New service", list.add, { kind: "main-action" })] : [],
    }),
    card("", place, { flush: true }),
  );
  await list.run();
}

const columns = [
  { title: "Name", cell: (service) => h("strong", service.name) },
  { title: "IPv6 cluster", cell: (service) => label(service.cluster) },
  { title: "IPv4 cluster", cell: (service) => (service.cluster4 ? label(service.cluster4) : h("span.faint", "none")) },
  { title: "", cell: (service) => h("a", { href: link("explain", { qname: service.name }) }, "Explain") },
];

async function fields(service, signal) {
  const { items } = await get("clusters?limit=1000", { signal });
  const of = (wanted) => items.filter((cluster) => Boolean(cluster.layout) === wanted).map((cluster) => cluster.name);
  const cluster = form.choice(service.cluster, of(true));
  const cluster4 = form.choice(service.cluster4 ?? "", [["", "none"], ...of(false)]);
  return {
    elements: h(
      "div.pair",
      form.field("IPv6 cluster", "cluster", cluster),
      form.field("IPv4 cluster", "cluster4", cluster4),
    ),
    value: () => ({ cluster: cluster.value, cluster4: cluster4.value || null }),
  };
}
