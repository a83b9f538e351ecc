// The one dialog: it asks whether something shall be done, and for the token where none is known.

import { byId, say } from "./element.js";

let waiting = null;

/** Whether the dialog is open. */
export function isAsking() {
  return waiting !== null;
}

/** Resolves to the token that was typed in, to "" if none was needed, or to null if it was cancelled. */
export function askForToken({ title, text = "", confirm = "OK", wrong = "", needsToken }) {
  const dialog = byId("dialog");
  const input = byId("dialog-token-input");
  if (waiting) waiting(null);
  say(byId("dialog-title"), title);
  say(byId("dialog-text"), text);
  say(byId("dialog-wrong"), wrong);
  say(byId("dialog-confirm"), confirm);
  byId("dialog-token").hidden = !needsToken;
  input.required = needsToken;
  input.value = "";
  return new Promise((resolve) => {
    waiting = (answer) => {
      waiting = null;
      input.value = "";
      dialog.close();
      resolve(answer);
    };
    if (!dialog.open) dialog.showModal();
    (needsToken ? input : byId("dialog-confirm")).focus();
  });
}

/** Wires the dialog up. */
export function prepareDialog() {
  byId("dialog-form").addEventListener("submit", (event) => {
    event.preventDefault();
    waiting?.(byId("dialog-token-input").value.trim());
  });
  byId("dialog-cancel").addEventListener("click", () => waiting?.(null));
  byId("dialog").addEventListener("cancel", (event) => {
    event.preventDefault();
    waiting?.(null);
  });
}
