// What the session's token may do. The API decides; this only keeps from offering what it would refuse.

const NARROWED = { client: "clients", zone: "zones", service: "zones", cluster: "clusters", key: "clusters" };

let scopes = [];

/** Take over the scopes of the session that begins. */
export function setRights(given) {
  scopes = given;
}

/** Whether an action (read, write, delete, rotate) on a kind of object is allowed: on the one named, or on any at all. */
export function may(action, kind, name) {
  const covers = (scope) => scope.actions.includes(action) && (scope.kinds.includes("*") || scope.kinds.includes(kind));
  return scopes.some((scope) => covers(scope) && (name === undefined || fits(scope[NARROWED[kind]], kind, name)));
}

function fits(patterns, kind, name) {
  if (!patterns) return true;
  return patterns.some((pattern) => {
    const whole = pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
    return new RegExp(kind === "service" ? `^(.*\\.)?${whole}$` : `^${whole}$`).test(name);
  });
}
