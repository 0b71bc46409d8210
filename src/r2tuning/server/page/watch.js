// One video: the player, and a row for each query.

import { ground, readVideo } from "./api.js";
import { hideChosen, keepCorrection, showChosen } from "./chosen.js";
import { colorClass, complain, formatDuration, formatSize, say } from "./notices.js";
import { currentTime, onTime, openVideo, pauseVideo, seek } from "./player.js";
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
  if (next.time !== null) seek(next.time);
  if (!other && queries === shown.queries) return chooseAt(next.time);
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
    await openVideo(next.id, signal).catch((error) => complain(error));
    if (next.time === null && other) seek(video.start ?? 0);
    const found = next.queries.length ? (await ground(next.id, next.queries, { signal })).answers : [];
    showAnswers(found);
    chooseAt(next.time);
  } catch (error) {
    if (error.name === "AbortError") return;
    shown = { id: "", queries: "" };
    answers.replaceChildren();
    complain(error, () => showVideo(next, back));
  } finally {
    if (!signal.aborted) answers.removeAttribute("aria-busy");
  }
}

export function leaveVideo() {
  pauseVideo();
}

function describeVideo(video) {
  const facts = [video.duration === null ? "" : formatDuration(video.duration), formatSize(video.size)];
  if (video.state !== "ready") facts.push(`${video.state}: ${video.reason}`);
  if (video.damaged) facts.push("parts of it are damaged");
  return facts.filter(Boolean).join(", ");
}

// The model's moments, as they were corrected, and those that the user made.
function gatherMoments(answer) {
  const { video, name, query } = answer;
  const selected = listSelected(video, query).filter((item) => item.start !== null);
  const found = answer.moments.map(({ start, end, score }) => {
    const from = { start, end };
    const known = selected.find((item) => item.from && item.from.start === start && item.from.end === end);
    return { video, name, query, start: known?.start ?? start, end: known?.end ?? end, score, from };
  });
  return [...found, ...selected.filter((item) => !item.from).map((item) => ({ ...item }))];
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
  const remove = button("Remove", () => go({ ...route, queries: others, time: round(currentTime()) }));
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
  history.replaceState(null, "", formatRoute({ ...route, time: moment.start }));
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

// Chooses the moment that the address means.
function chooseAt(time) {
  if (time === null) return;
  const all = rows.flatMap((row) => row.moments.map((moment) => ({ row, moment })));
  const away = ({ moment }) => Math.abs((moment.from ?? moment).start - time);
  const best = all.reduce((a, b) => (a && away(a) <= away(b) ? a : b), null);
  if (best && away(best) <= NEAR) choose(best.row, best.moment, false);
}

function tellTime(time) {
  for (const { track } of rows) track?.follow(time);
}

export function startWatch() {
  onTime(tellTime);
  part("ask-here").addEventListener("submit", (event) => {
    event.preventDefault();
    const query = part("query-here").value.trim();
    if (!query || route.queries.includes(query)) return;
    part("query-here").value = "";
    go({ ...route, queries: [...route.queries, query], time: round(currentTime()) });
  });
}
