// One video: the player, and a row for each query.

import { ground, readVideo } from "./api.js";
import { hideChosen, keepCorrection, showChosen } from "./chosen.js";
import { colorClass, complain, formatDuration, formatSize, say } from "./notices.js";
import { currentTime, onTime, openVideo, seek } from "./player.js";
import { formatRoute, go, round } from "./routes.js";
import { isSelected, listSelected, onSelection, select, unselect } from "./selection.js";
import { findScale, html } from "./shared/timeline.js";
import { makeTrack } from "./tracks.js";

const NEAR = 0.5; // seconds between the time of the address and the start of the moment that it means
const NEW_LENGTH = 4; // seconds of a moment that the user makes

const part = (name) => document.getElementById(name);
const answers = part("answers");
let shown = { id: "", queries: "" };
let route = null;
let rows = []; // { answer, moments, calibrated, track }
let chosen = null;
let current = new AbortController();

// Shows a video at a time, with the answers to some queries.
export async function showVideo(next, back) {
  route = next;
  part("back").href = back;
  part("back").textContent = back.includes("?") ? "Back to the hits" : "Back to the search";
  const queries = JSON.stringify(next.queries);
  const other = next.id !== shown.id;
  if (next.time !== null && !other) seek(next.time);
  if (!other && queries === shown.queries) return chooseAt(next);
  current.abort();
  current = new AbortController();
  const { signal } = current;
  shown = { id: next.id, queries };
  rows = [];
  chosen = null;
  hideChosen();
  answers.replaceChildren(...(next.queries.length ? [html("p", { class: "quiet" }, "Looking…")] : []));
  answers.setAttribute("aria-busy", "true");
  try {
    const video = await readVideo(next.id, { signal });
    part("watch-title").textContent = video.name;
    part("watch-facts").textContent = describeVideo(video);
    if (other) part("watch-title").focus();
    const [found] = await Promise.all([
      next.queries.length ? ground(next.id, next.queries, { signal }) : { answers: [] },
      other && openVideo(next.id, next.time ?? video.start ?? 0, signal).catch((error) => complain(error)),
    ]);
    showAnswers(found.answers);
    chooseAt(next);
  } catch (error) {
    if (error.name === "AbortError") return;
    shown = { id: "", queries: "" };
    answers.replaceChildren();
    complain(error, () => showVideo(next, back));
  } finally {
    if (!signal.aborted) answers.removeAttribute("aria-busy");
  }
}

function describeVideo(video) {
  const facts = [video.duration === null ? "" : formatDuration(video.duration), formatSize(video.size)];
  if (video.state !== "ready") facts.push(`${video.state}: ${video.reason}`);
  if (video.damaged) facts.push("parts of it are damaged");
  return facts.filter(Boolean).join(", ");
}

// The model's moments, as they were corrected, and others that are selected.
function gatherMoments(answer) {
  const { video, name, query } = answer;
  const selected = listSelected(video, query).filter((item) => item.start !== null);
  const isFrom = (item, { start, end }) => item.from && item.from.start === start && item.from.end === end;
  const found = answer.moments.map(({ start, end, score }) => {
    const known = selected.find((item) => isFrom(item, { start, end }));
    return { video, name, query, start: known?.start ?? start, end: known?.end ?? end, score, from: { start, end } };
  });
  const others = selected.filter((item) => !answer.moments.some((moment) => isFrom(item, moment)));
  return [...found, ...others.map((item) => ({ ...item }))];
}

function showAnswers(found) {
  const scale = findScale(found);
  rows = found.map((answer) => ({ answer, moments: gatherMoments(answer), calibrated: answer.calibrated }));
  for (const row of rows) {
    row.track = makeTrack(row, scale, {
      seek,
      choose: (moment) => choose(row, moment, true),
      change: (moment) => changed(row, moment),
    });
    row.track.show(null);
  }
  answers.replaceChildren(...rows.map(showRow));
  tellTime(currentTime());
}

function showRow(row, place) {
  const { answer, moments, track } = row;
  const id = `answer-${place}`;
  const button = (name, action) => {
    const made = html("button", { type: "button", class: "small" }, name);
    made.addEventListener("click", action);
    return made;
  };
  const mark = button("New moment here", () => addMoment(row));
  const others = route.queries.filter((query) => query !== answer.query);
  const remove = button("Remove", () => ask(others));
  remove.setAttribute("aria-label", `Remove the query ${answer.query}`);
  const nothing = moments.length ? [] : [html("p", { class: "note" }, "No moments for this query.")];
  return html(
    "article",
    { class: `answer ${colorClass(place)}`, "aria-labelledby": id },
    html("h3", { id, dir: "auto" }, html("span", { class: "swatch" }), answer.query),
    ...answer.notes.map(({ kind, text }) =>
      html("p", { class: kind === "absent" || kind === "domain" ? "note strong" : "note" }, text)
    ),
    ...nothing,
    track.element,
    html("div", { class: "together" }, mark, makeAbsent(answer), remove)
  );
}

// Says that the video does not show the query, for training.
function makeAbsent({ video, name, query }) {
  const item = { video, name, query, start: null, end: null, score: 1 };
  const button = html("button", { type: "button", class: "small" }, "Not in this video");
  button.addEventListener("click", () => {
    const on = isSelected(item);
    on ? unselect(item) : select(item);
    say(on ? "Removed from the selection." : "Noted in the selection, for training annotations.");
  });
  onSelection(button, () => button.setAttribute("aria-pressed", String(isSelected(item))));
  return button;
}

function addMoment(row) {
  const { video, name, query, start, duration } = row.answer;
  const begin = round(Math.min(currentTime(), start + duration - NEW_LENGTH / 2));
  const end = round(Math.min(begin + NEW_LENGTH, start + duration));
  const moment = { video, name, query, start: Math.max(begin, start), end, score: 1, from: null, made: Date.now() };
  row.moments.push(moment);
  select(moment);
  choose(row, moment, false);
  row.track.element.querySelector(".edge")?.focus();
}

function choose(row, moment, jump) {
  const before = chosen;
  chosen = { row, moment };
  if (before && before.row !== row) before.row.track.show(null);
  row.track.show(moment);
  tellChosen();
  if (!jump) return;
  seek(moment.start);
  route = { ...route, time: moment.start, end: null, of: null };
  history.replaceState(null, "", formatRoute(route));
}

function tellChosen() {
  const { row, moment } = chosen;
  const { start, duration, query } = row.answer;
  const title = `Moment ${row.moments.indexOf(moment) + 1} of “${query}”`;
  showChosen(moment, { title, start, end: start + duration }, () => {
    row.track.show(moment);
    changed(row, moment);
  });
}

function changed(row, moment) {
  keepCorrection(moment);
  if (chosen?.moment === moment) tellChosen();
}

// Chooses the moment that the address means. A hit that is none of the answers gets a place among them.
function chooseAt({ time, end, of }) {
  if (time === null || !rows.length) return;
  const likely = rows[of] ? [rows[of]] : rows;
  const all = likely.flatMap((row) => row.moments.map((moment) => ({ row, moment })));
  const away = ({ moment }) => Math.abs((moment.from ?? moment).start - time);
  const best = all.reduce((a, b) => (a && away(a) <= away(b) ? a : b), null);
  if (best && away(best) <= NEAR) return choose(best.row, best.moment, false);
  if (end === null || end <= time) return;
  const { video, name, query } = likely[0].answer;
  const moment = { video, name, query, start: time, end, score: null, from: { start: time, end } };
  likely[0].moments.push(moment);
  choose(likely[0], moment, false);
}

function tellTime(time) {
  for (const { track } of rows) track?.follow(time);
}

// Asks other queries about the video that is shown.
const ask = (queries) => go({ view: "video", id: route.id, queries, time: round(currentTime()) });

export function startWatch() {
  onTime(tellTime);
  part("ask-here").addEventListener("submit", (event) => {
    event.preventDefault();
    const query = part("query-here").value.trim();
    if (!query || route.queries.includes(query)) return;
    part("query-here").value = "";
    ask([...route.queries, query]);
  });
}
