// How the servers are: what all live dispatchers say of them in their reports, and the one on this machine by itself.
import { h } from "./dom.js";
import { label, tag } from "./parts.js";

/** Server ("POOL/NAME") -> {passing, load, notes}; `notes` say which dispatcher finds it failing, and why. */
export function healthOf(now) {
  const found = new Map();
  const of = (key) => found.get(key) ?? found.set(key, { passing: true, load: null, notes: [] }).get(key);
  for (const node of now.nodes.filter((each) => each.live)) {
    for (const one of node.detail?.health ?? []) {
      const server = of(`${one.pool}/${one.name}`);
      server.load = one.load || server.load;
      if (!one.passing) fails(server, `${node.name}: ${one.note || "its check fails"}`);
    }
  }
  const own = now.dispatcher?.servers ?? [];
  for (const one of own) {
    const key = `${one.pool}/${one.name}`;
    if (now.dispatcher.unreachable?.includes(one.address)) fails(of(key), "not reachable from this machine");
    else if (one.healthy === false && of(key).passing) fails(of(key), "its check fails");
    else if (one.healthy === true) of(key);
  }
  return found;
}

function fails(server, note) {
  server.passing = false;
  server.notes.push(note);
}

/** A server's health in words. */
export function told(server) {
  if (!server) return label("not checked");
  const load =
    server.load === null || server.load === 100 ? null : h("span.faint", ` at ${server.load} % of its weight`);
  return h("span", { title: server.notes.join("\n") }, tag(server.passing ? "healthy" : "unhealthy"), load);
}
