// What a search found: for each query a list of cards, best first, in pages.

import { search, readVideo, stripAddress, thumbnailAddress } from "./api.js";
import { colorClass, complain, formatCount, formatDuration, onClick, say } from "./notices.js";
import { formatRoute } from "./routes.js";
import { toRequest } from "./search.js";
import { isSelected, onSelection, toggle } from "./selection.js";
import { formatSpan, html } from "./shared/timeline.js";

const PAGE = 12; // hits
const FRAMES = 8; // of the moving preview
const UNLIKELY = 0.1; // probability below which a hit is dimmed
const PACE = 280; // milliseconds for which each is shown

const results = document.getElementById("results");
const still = matchMedia("(prefers-reduced-motion: reduce)");
let shown = ""; // the route whose hits are on the page
let current = new AbortController();

// Shows the hits of a route; `again` asks once more though they are there already.
export async function showHits(route, again = false) {
  const key = formatRoute(route);
  if (key === shown && !again) return;
  current.abort();
  current = new AbortController();
  const { signal } = current;
  shown = key;
  if (!route.queries.length && !route.like) return results.replaceChildren(invite());
  results.setAttribute("aria-busy", "true");
  if (!results.querySelector(".found")) results.replaceChildren(html("p", { class: "quiet" }, "Searching…"));
  try {
    const [{ searches }, title] = await Promise.all([
      search({ ...toRequest(route), top: PAGE }, { signal }),
      titleLike(route, signal),
    ]);
    results.replaceChildren(...searches.map((found, place) => showFound(found, place, route, title)));
    const count = searches.reduce((sum, found) => sum + found.hits.length, 0);
    const absent = searches.every((found) => found.present === false);
    say(absent ? "Probably not in your videos." : `${formatCount(count, "hit")}.`);
  } catch (error) {
    if (error.name === "AbortError") return;
    shown = "";
    results.replaceChildren();
    complain(error, () => showHits(route, true));
  } finally {
    if (!signal.aborted) results.removeAttribute("aria-busy");
  }
}

export const forgetHits = () => (shown = "");

function invite() {
  return html("p", { class: "quiet" }, "Describe what happens, in a sentence. Press Enter to search all videos.");
}

async function titleLike({ like, queries }, signal) {
  if (!like || queries.length) return "";
  const video = await readVideo(like.video, { signal });
  return `More like ${formatSpan(like)} of ${video.name}`;
}

function showFound(found, place, route, title) {
  const list = html("ul", { class: "hits" });
  const more = html("button", { type: "button" }, "More");
  const add = (page) => {
    list.append(...page.hits.map((hit) => showHit(hit, page, route.queries, place)));
    more.hidden = !page.next;
    more.dataset.next = page.next;
  };
  add(found);
  onClick(more, async () => {
    const queries = route.queries.length ? [found.query] : [];
    const asked = { ...toRequest({ ...route, queries }), top: PAGE, after: more.dataset.next };
    const before = list.children.length;
    add((await search(asked)).searches[0]);
    list.children[before]?.querySelector("a").focus();
  });
  const id = `found-${place}`;
  const heading = html("h2", { id, dir: "auto" }, html("span", { class: "swatch" }), title || found.query);
  const where = `${formatCount(found.videos, "video")}, ${formatDuration(found.seconds)}`;
  const filtered = Object.keys(route.filters).length > 0;
  const absent = found.present === false && (found.hits.length > 0 || !filtered);
  return html(
    "section",
    { class: `found ${colorClass(place)}${absent ? " dim" : ""}`, "aria-labelledby": id },
    heading,
    ...(absent ? [html("p", { class: "note strong" }, "Probably not in your videos.")] : []),
    html("p", { class: "note" }, describeFound(found, filtered), ` Searched: ${where}.`),
    list,
    html("p", {}, more)
  );
}

function describeFound({ hits, present }, filtered) {
  if (hits.length) return present === false ? "These are the nearest guesses." : "";
  return filtered ? "No moment passes the filters. Try without some of them." : "No moments for this query.";
}

function showHit(hit, { calibrated, query }, queries, place) {
  const of = queries.length > 1 ? place : null;
  const address = formatRoute({ view: "video", id: hit.video, time: hit.start, end: hit.end, of, queries });
  const middle = (hit.start + hit.end) / 2;
  const picture = html("img", { alt: "", loading: "lazy", src: thumbnailAddress(hit.video, middle) });
  const frame = html("span", { class: "frame" }, picture);
  picture.addEventListener("error", () => frame.classList.add("broken"));
  const score = calibrated ? [html("span", { class: "score" }, `${Math.round(100 * hit.score)} %`)] : [];
  const link = html(
    "a",
    { class: "open", href: address },
    frame,
    html("span", { class: "when" }, formatSpan(hit)),
    ...score,
    html("span", { class: "name", dir: "auto" }, hit.name)
  );
  movePreview(link, frame, hit);
  const moment = { video: hit.video, name: hit.name, query, start: hit.start, end: hit.end, score: hit.score };
  const unlikely = calibrated && hit.score < UNLIKELY;
  return html("li", { class: unlikely ? "hit dim" : "hit" }, link, makePick(moment));
}

function makePick(moment) {
  const pick = html("button", { type: "button", class: "pick", "data-span": formatSpan(moment) });
  const show = () => {
    const on = isSelected(moment);
    pick.setAttribute("aria-pressed", String(on));
    pick.textContent = on ? "Selected" : "Select";
    pick.setAttribute("aria-label", `${pick.textContent}: ${formatSpan(moment)} of ${moment.name}`);
  };
  pick.addEventListener("click", () => toggle(moment));
  onSelection(pick, show);
  return pick;
}

// While the mouse or the focus is on a card, it shows some frames of its moment one after the other.
function movePreview(link, frame, hit) {
  let strip = null;
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    if (strip) strip.parentElement.hidden = true;
  };
  const run = () => {
    if (!timer || !strip.naturalWidth) return;
    const [width, height] = [strip.naturalWidth / FRAMES, strip.naturalHeight];
    const scale = Math.min(frame.clientWidth / width, frame.clientHeight / height);
    const window = strip.parentElement;
    [window.style.width, window.style.height] = [`${width * scale}px`, `${height * scale}px`];
    window.hidden = false;
  };
  const start = () => {
    if (timer || still.matches) return;
    let number = 0;
    timer = setInterval(() => {
      number = (number + 1) % FRAMES;
      strip.style.transform = `translateX(-${(100 * number) / FRAMES}%)`;
    }, PACE);
    if (strip) return run();
    strip = html("img", { alt: "", src: stripAddress(hit.video, hit, FRAMES) });
    frame.append(html("span", { class: "moving", hidden: "" }, strip));
    strip.addEventListener("load", run);
  };
  for (const event of ["pointerenter", "focus"]) link.addEventListener(event, start);
  for (const event of ["pointerleave", "blur"]) link.addEventListener(event, stop);
}

// --- keyboard

const links = () => [...results.querySelectorAll(".hit .open")];

// Focuses the hit so many places after the focused one; Infinity means the last.
export function moveToHit(steps) {
  const all = links();
  const at = all.findIndex((link) => link.parentElement.contains(document.activeElement));
  const next = all[at < 0 ? 0 : Math.min(Math.max(at + steps, 0), all.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
  return Boolean(next);
}

export const pickFocused = () => document.activeElement.closest(".hit")?.querySelector(".pick").click();
