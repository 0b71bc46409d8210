// What the page says: quietly, to screen readers too, and aloud where something went wrong.

import { html } from "./shared/timeline.js";

const QUIET = 6000; // milliseconds for which a word stays

let timer = 0;

// One short sentence, read out by screen readers.
export function say(text) {
  const status = document.getElementById("status");
  status.textContent = text;
  clearTimeout(timer);
  timer = setTimeout(() => (status.textContent = ""), QUIET);
}

// What went wrong, until it is closed; `again` tries once more.
export function complain(error, again = null) {
  if (error.name === "AbortError") return;
  const alert = document.getElementById("alert");
  const close = html("button", { type: "button", "aria-label": "Close this message" }, "Close");
  const retry = html("button", { type: "button" }, "Try again");
  const text = html("p", { dir: "auto" }, error.message);
  const box = html("div", { class: "problem" }, text, ...(again ? [retry] : []), close);
  close.addEventListener("click", () => box.remove());
  retry.addEventListener("click", () => (box.remove(), again()));
  alert.replaceChildren(box);
}

export const forgive = () => document.getElementById("alert").replaceChildren();

// Runs what a button starts; errors are shown, and nothing can be started twice.
export function onClick(button, action) {
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    try {
      await action();
    } catch (error) {
      complain(error);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
}

export function formatDuration(seconds) {
  const units = [["hour", 3600], ["minute", 60], ["second", 1]];
  const [unit, size] = units.find(([, size]) => seconds >= size) ?? units[2];
  const count = Math.round((seconds / size) * 10) / 10;
  return `${size === 1 ? Math.round(seconds) : count} ${unit}${count === 1 ? "" : "s"}`;
}

export const formatCount = (count, thing) => `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;

export function formatSize(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), units.length - 1);
  return `${(bytes / 1000 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

// Class of the color of a query, by its place.
export const colorClass = (place) => `query-${(place % 8) + 1}`;
