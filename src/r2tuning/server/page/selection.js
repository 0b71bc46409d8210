// Moments that the user wants to take away. They are kept in this browser, for all tabs of the same library.

import { exportForm } from "./exports.js";
import { say } from "./notices.js";
import { formatRoute, round } from "./routes.js";
import { formatSpan, html } from "./shared/timeline.js";

const MOST = 1000; // that the API exports at once

const tray = document.getElementById("tray");
const opener = document.getElementById("to-selection");
const followers = new Map(); // functions to call after a change, by the element that they are for
let place = ""; // in the browser's storage
let items = [];

// An item: { video, name, query, start, end, score, from }. `from` is what the model said, null for one that the user
// made. An item without times says that the video does not show the query.
const origin = ({ start, end, from }) => (from === undefined ? { start, end } : from);
const keyOf = (moment) => {
  const from = origin(moment);
  return JSON.stringify([moment.video, moment.query, from ? [from.start, from.end] : (moment.made ?? null)]);
};

export const isCorrected = ({ start, end, from }) => !from || from.start !== start || from.end !== end;
export const findSelected = (moment) => items.find((item) => keyOf(item) === keyOf(moment)) ?? null;
export const isSelected = (moment) => findSelected(moment) !== null;
export const listSelected = (video, query) => items.filter((item) => item.video === video && item.query === query);

// Opens the selection of a library, and follows what other tabs do to it.
export function openSelection(library) {
  place = `r2tuning.selection.${library}`;
  items = read(localStorage.getItem(place));
  window.addEventListener("storage", (event) => {
    if (event.key !== place && event.key !== null) return;
    items = read(event.newValue);
    show();
  });
  opener.addEventListener("click", () => document.getElementById("selection-title").focus());
  show();
}

function read(text) {
  try {
    const found = JSON.parse(text ?? "[]");
    const fits = (item) => typeof item.video === "string" && typeof item.query === "string";
    return Array.isArray(found) ? found.filter(fits).slice(0, MOST) : [];
  } catch {
    return [];
  }
}

function save(next) {
  items = next;
  try {
    localStorage.setItem(place, JSON.stringify(items));
  } catch {
    say("This browser stores nothing. The selection is lost when the page is closed.");
  }
  show();
}

// Adds a moment, or puts a corrected one into the place of what it was.
export function select(moment) {
  const item = { ...moment, from: origin(moment) };
  if (item.start !== null) [item.start, item.end] = [round(item.start), round(item.end)];
  const at = items.findIndex((other) => keyOf(other) === keyOf(item));
  if (at >= 0) return save(items.with(at, item));
  if (items.length >= MOST) return say(`The selection is full: it holds ${MOST} moments.`);
  save([...items, item]);
}

export function unselect(moment) {
  save(items.filter((item) => keyOf(item) !== keyOf(moment)));
}

export function toggle(moment) {
  const on = isSelected(moment);
  on ? unselect(moment) : select(moment);
  say(on ? "Removed from the selection." : `Added to the selection, which holds ${items.length}.`);
}

// Calls a function now and after each change, as long as an element is on the page.
export function onSelection(element, follow) {
  followers.set(element, follow);
  follow();
}

function show() {
  opener.textContent = `Selection (${items.length})`;
  for (const [element, follow] of followers) {
    if (element.isConnected) follow();
    else followers.delete(element);
  }
  const focused = tray.contains(document.activeElement);
  tray.replaceChildren(
    ...(items.length ? [html("ul", { class: "rows" }, ...items.map(showItem)), exportForm(() => items)] : []),
    ...(items.length ? [] : [html("p", { class: "quiet" }, "Select moments to export them.")])
  );
  if (focused) document.getElementById("selection-title").focus();
}

function showItem(item) {
  const absent = item.start === null;
  const times = absent ? "not in this video" : formatSpan(item);
  const queries = [item.query].filter(Boolean);
  const address = formatRoute({ view: "video", id: item.video, queries, time: item.from?.start ?? item.start });
  const label = `Remove ${times} of ${item.name}`;
  const remove = html("button", { type: "button", class: "small", "aria-label": label }, "Remove");
  remove.addEventListener("click", () => unselect(item));
  const word = item.from ? "corrected" : "added";
  const marks = !absent && isCorrected(item) ? [html("span", { class: "mark" }, word)] : [];
  return html(
    "li",
    {},
    html("a", { href: address }, times),
    ...marks,
    remove,
    html("span", { class: "quiet", dir: "auto" }, item.query),
    html("span", { class: "quiet name", dir: "auto" }, item.name)
  );
}
