/* Optional: every page works without this file. */
"use strict";

/* Controls that need script are `hidden` in the markup; those that only help without it are hidden here. */
function enhance(root) {
  for (const control of root.querySelectorAll("[data-needs-script]")) control.hidden = false;
  for (const control of root.querySelectorAll("[data-without-script]")) control.hidden = true;
  for (const time of root.querySelectorAll("time[datetime]")) localTime(time);
  for (const zone of root.querySelectorAll("[data-zone]")) zone.textContent = `Times are in ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  for (const dialog of root.querySelectorAll("dialog[open][data-modal]")) { dialog.close(); dialog.showModal(); }
}

/* The server writes UTC. The reader's zone replaces it; the tooltip keeps both exact times. */
function localTime(time) {
  const moment = new Date(time.dateTime);
  if (Number.isNaN(moment.valueOf())) return;
  const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" }).format(moment);
  time.title = `${exact} (${time.dateTime.replace("T", " ").replace("Z", " UTC")})`;
  const shown = { minute: { dateStyle: "short", timeStyle: "short" }, time: { timeStyle: "short" } }[time.dataset.show];
  if (shown) time.textContent = new Intl.DateTimeFormat("sv-SE", shown).format(moment);
}

function say(message) {
  const status = document.getElementById("said");
  if (!status) return;
  status.textContent = "";
  setTimeout(() => { status.textContent = message; }, 50); // the same message twice is announced twice
}

async function copy(button) {
  const source = button.dataset.copyFrom ? document.getElementById(button.dataset.copyFrom) : null;
  const text = source ? source.textContent : button.dataset.copy;
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    button.dataset.done = "";
    say("Copied to the clipboard.");
  } catch {
    button.textContent = "Failed";
    say("Copying failed. Select the text and copy it with the keyboard.");
  }
  setTimeout(() => { button.textContent = label; delete button.dataset.done; }, 2000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy], button[data-copy-from]");
  if (button && button.textContent === "Copy") copy(button);
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit-on-change]")) event.target.form.requestSubmit();
});

/* A double click sends a form once: a second answer would replace the page of the first, with the secret that it shows.
   After five seconds it can be sent again, because the first request may have been stopped. */
const sent = new WeakMap();
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (event.timeStamp - (sent.get(form) ?? -Infinity) < 5000) event.preventDefault();
  else sent.set(form, event.timeStamp);
});

/* Figures that refresh themselves: the next answer replaces them, and this notice with them. */
for (const failure of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(failure, () => { for (const notice of document.querySelectorAll("[data-stale]")) notice.hidden = false; });
}

document.addEventListener("DOMContentLoaded", () => enhance(document));
document.addEventListener("htmx:load", (event) => { if (event.target !== document.body) enhance(event.target); });
