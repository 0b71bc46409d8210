// What the page shows is in its address, behind #: each search and each place in a video has a link of its own.

// The filters of a search, and whether a text can be the value of one.
export const FILTERS = {
  within: (text) => text !== "",
  since: (text) => Number.isFinite(Date.parse(`${text}T00:00:00`)),
  min: (text) => readNumber(text) !== null,
  without: (text) => text !== "",
  threshold: (text) => readNumber(text) !== null,
};
const ID = /^[0-9a-f]{16}$/;

// The route of an address: { view, queries, ... }. Of what nobody could have linked to, it is an empty search.
export function parseRoute(hash) {
  const [path, text = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const given = new URLSearchParams(text);
  const queries = given.getAll("q").map((query) => query.trim()).filter(Boolean).slice(0, 20);
  const [view, id] = path.split("/");
  if (view === "video" && ID.test(id)) {
    const [time, end, of] = ["t", "end", "of"].map((name) => readNumber(given.get(name)));
    return { view, id, queries, time, end, of };
  }
  if (view === "videos") return { view, queries: [] };
  const filters = {};
  for (const [name, fits] of Object.entries(FILTERS)) {
    if (fits(given.get(name) ?? "")) filters[name] = given.get(name);
  }
  return { view: "search", queries, filters, like: parseLike(given.get("like")) };
}

// `time` is where the player is; a hit also has its end, and the place of its query in `of`.
export function formatRoute({ view, id, queries = [], time = null, end = null, of = null, filters = {}, like = null }) {
  const given = new URLSearchParams(queries.map((query) => ["q", query]));
  for (const [name, value] of [["t", time], ["end", end], ["of", of]]) {
    if (value !== null) given.set(name, String(round(value)));
  }
  if (like) given.set("like", [like.video, round(like.start), round(like.end)].join(","));
  for (const [name, value] of Object.entries(filters)) given.set(name, value);
  const path = view === "video" ? `video/${id}` : view;
  return `#/${path}${given.size ? `?${given}` : ""}`;
}

export const go = (route) => (location.hash = formatRoute(route));

export const round = (seconds) => Math.round(seconds * 1000) / 1000;

function readNumber(text) {
  const number = Number(text ?? NaN);
  return text && Number.isFinite(number) ? number : null;
}

function parseLike(text) {
  const [video, start, end] = (text ?? "").split(",");
  const like = { video, start: readNumber(start), end: readNumber(end) };
  return ID.test(video) && like.start !== null && like.end > like.start ? like : null;
}
