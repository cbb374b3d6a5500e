// @ts-check
// Toasts that report what was done, with undo, and modal dialogs that ask first.
import { h, fresh } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN_MS = 8000;
const MOST = 4;

const box = h("div.toasts", { role: "status", "aria-live": "polite" });

/** The element in which toasts appear; put into the page once. */
export function toasts() {
  return box;
}

/**
 * Say that something was done; `undo` takes it back.
 * @param {string} text
 * @param {(() => unknown)} [undo]
 */
export function done(text, undo) {
  show(text, "", undo);
}

/**
 * Say that something failed.
 * @param {any} error
 */
export function failed(error) {
  if (error?.name === "AbortError") return;
  // where an object is in use, only the detail names the objects that refer to it
  const errors =
    error.type === "in-use"
      ? []
      : (error.errors || []).slice(0, 3).map((/** @type {{ message: string }} */ each) => each.message);
  show(errors.length ? errors.join("; ") : error.message || String(error), "bad");
}

/**
 * Warn of something that was done but is probably a mistake. It stays until it is dismissed.
 * @param {string} text
 */
export function warn(text) {
  show(text, "warn");
}

/**
 * @param {string} text
 * @param {string} kind
 * @param {(() => unknown)} [undo]
 */
function show(text, kind, undo) {
  const toast = h("div.toast", { class: kind, role: kind ? "alert" : null }, h("span.grow", text));
  const remove = () => toast.remove();
  if (undo) {
    const button = h("button.button.small", { type: "button", dataset: { action: "undo" } }, "Undo");
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await undo();
        remove();
      } catch (error) {
        remove();
        failed(error);
      }
    });
    toast.append(button);
  }
  toast.append(
    h(
      "button.button.quiet.icon.small",
      { type: "button", "aria-label": "Dismiss", onclick: remove },
      icon("cross", 16),
    ),
  );
  box.append(toast);
  while (box.children.length > MOST) (box.querySelector(".toast:not(.warn)") ?? box.firstElementChild)?.remove();
  if (kind === "warn") return;
  let timer = setTimeout(remove, SHOWN_MS);
  toast.addEventListener("pointerenter", () => clearTimeout(timer));
  toast.addEventListener("focusin", () => clearTimeout(timer));
  toast.addEventListener("pointerleave", () => {
    timer = setTimeout(remove, SHOWN_MS);
  });
}

/**
 * Ask before something is done; true where that is confirmed. `also` is a box beside the question, and holds whether it was checked.
 * @typedef {{ label: string, checked: boolean }} Also
 * @param {{ title: string, text: string, action: string, danger?: boolean, also?: Also }} question
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text, action, danger = false, also }) {
  const cancel = h("button.button", { type: "button" }, "Cancel");
  const yes = h(
    "button.button.main-action",
    { type: "button", class: danger ? "danger" : "", dataset: { action: "confirm" } },
    action,
  );
  const box = also && /** @type {HTMLInputElement} */ (h("input", { type: "checkbox", checked: also.checked }));
  const beside = also && box && h("label.row", box, h("span", also.label));
  const dialog = open(title, [h("p.soft", text), beside ?? null, h("div.buttons", cancel, yes)]);
  return new Promise((resolve) => {
    const end = (/** @type {boolean} */ answer) => {
      if (also && box) also.checked = box.checked;
      resolve(answer);
      dialog.close();
    };
    cancel.addEventListener("click", () => end(false));
    yes.addEventListener("click", () => end(true));
    dialog.addEventListener("close", () => resolve(false));
  });
}

/**
 * A modal dialog with a title and content; Esc closes it, and focus goes back to where it was.
 * @param {string} title
 * @param {import("./dom.js").Child} content
 */
export function open(title, content, { wide = false } = {}) {
  const id = fresh("dialog");
  const close = h("button.button.quiet.icon.small", { type: "button", "aria-label": "Close" }, icon("cross", 16));
  const head = h("div.row.spread", h("h2", { id }, title), close);
  const dialog = h("dialog", { "aria-labelledby": id, class: wide ? "wide" : "" }, h("div.inside", head, content));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
