// The search box: a row for each query, and filters. It shows the route, and submitting it goes to another.

import { colorClass } from "./notices.js";
import { FILTERS, go } from "./routes.js";
import { html } from "./shared/timeline.js";

const MOST = 20; // queries of a search

const rows = document.getElementById("queries");
const input = (name) => document.getElementById(name);
const boxes = () => [...rows.querySelectorAll("input")];

function makeRow(query) {
  const box = html("input", {
    type: "search",
    maxlength: 1000,
    autocomplete: "off",
    enterkeyhint: "search",
    placeholder: "What happens? For example: a red circle falls",
  });
  box.value = query;
  const remove = html("button", { type: "button", class: "small" }, "Remove");
  const row = html("div", { class: "query" }, html("span", { class: "swatch" }), box, remove);
  remove.addEventListener("click", () => {
    const place = boxes().indexOf(box);
    row.remove();
    number();
    boxes()[Math.max(place - 1, 0)].focus();
  });
  box.addEventListener("paste", (event) => {
    const lines = event.clipboardData.getData("text").split(/[\r\n]+/).map((line) => line.trim()).filter(Boolean);
    if (lines.length < 2) return;
    event.preventDefault();
    const places = boxes().map((other) => other.value);
    places.splice(places.indexOf(box.value), 1, box.value + lines[0], ...lines.slice(1));
    setQueries(places);
  });
  return row;
}

// Names and colors of the rows, by their places.
function number() {
  const all = [...rows.children];
  all.forEach((row, place) => {
    row.className = `query ${colorClass(place)}`;
    row.querySelector("input").setAttribute("aria-label", all.length > 1 ? `Query ${place + 1}` : "Query");
    const remove = row.querySelector("button");
    remove.hidden = all.length < 2;
    remove.setAttribute("aria-label", `Remove query ${place + 1}`);
  });
  input("more-queries").hidden = all.length >= MOST;
}

function setQueries(queries) {
  rows.replaceChildren(...(queries.length ? queries : [""]).slice(0, MOST).map(makeRow));
  number();
}

// Shows what a route asks for.
export function showSearch(route) {
  if (route.view === "videos") return;
  const same = JSON.stringify(readQueries()) === JSON.stringify(route.queries);
  if (!same || !rows.children.length) setQueries(route.queries);
  if (route.view !== "search") return;
  for (const name of Object.keys(FILTERS)) input(name).value = route.filters[name] ?? "";
  if (Object.keys(route.filters).length) input("filters").open = true;
}

function readQueries() {
  return boxes().map((box) => box.value.trim()).filter(Boolean);
}

function readFilters() {
  return Object.fromEntries(
    Object.entries(FILTERS)
      .map(([name, fits]) => [name, input(name).value.trim(), fits])
      .filter(([, value, fits]) => fits(value))
  );
}

// The body of the API's search for a route.
export function toRequest({ queries, like, filters }) {
  const asked = like && !queries.length ? { like } : { queries };
  if (filters.within) asked.within = filters.within;
  if (filters.since) asked.since = new Date(`${filters.since}T00:00:00`).toISOString();
  if (filters.min) asked.min_duration = Number(filters.min);
  if (filters.threshold) asked.threshold = Number(filters.threshold) / 100;
  if (filters.without && queries.length) asked.without = [filters.without];
  return asked;
}

export function focusSearch() {
  const box = boxes().find((one) => !one.value) ?? boxes()[0];
  box.focus();
  box.select();
}

// `again` is called where the route stays the same, since the user wants an answer all the same.
export function startSearch(again) {
  input("more-queries").addEventListener("click", () => {
    rows.append(makeRow(""));
    number();
    boxes().at(-1).focus();
  });
  input("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const before = location.hash;
    go({ view: "search", queries: readQueries(), filters: readFilters() });
    if (location.hash === before) again();
  });
  setQueries([]);
}
