// What the session's token may do. The API decides; this only keeps from offering what it would refuse.

let scopes = [];

/** Take over the scopes of the session that begins. */
export function setRights(given) {
  scopes = given;
}

/** Whether an action (read, write, delete, rotate) on a kind of object is allowed at all. */
export function may(action, kind) {
  return scopes.some((scope) => scope.actions.includes(action) && (scope.kinds.includes("*") || scope.kinds.includes(kind)));
}
