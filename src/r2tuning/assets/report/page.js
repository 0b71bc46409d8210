"use strict";

// The page shows what it offers for download: its first file is the answers as JSON (Grounding.to_dict). Queries and
// names may hold anything, so they reach the page as text only.
const page = JSON.parse(document.getElementById("data").textContent);
const answers = JSON.parse(page.files[0].text);
const video = document.getElementById("video");
const several = page.videos.length > 1;

// Pixels from the top of a timeline.
const CURVE = 64;
const LANES = CURVE + 12;
const LANE = 24;
const BAR = 18;
const AXIS = 20;
const LABEL = 12; // height of a number beside the curve

const CURVE_UNITS = 1000; // width and height of the saliency curve before it is stretched
const MOST_TICKS = 6;
const TICK_STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const html = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

// As format_clock of output/text: ties to even, and rounded before it is split.
function formatClock(seconds, decimals = 1) {
  const scale = 10 ** decimals;
  const exact = Math.max(seconds, 0) * scale;
  let units = Math.round(exact);
  if (units - exact === 0.5 && units % 2) units -= 1;
  const whole = Math.floor(units / scale);
  const pad = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const clock = hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
  return decimals ? `${clock}.${units % scale}` : clock;
}

const formatSpan = (moment) => `${formatClock(moment.start)} to ${formatClock(moment.end)}`;
const describe = (moment) => `${formatSpan(moment)}, score ${moment.score.toFixed(3)}`;

// Place of a time on an answer's timeline, in percent of its width.
const place = ({ start, duration }, time) => 100 * Math.min(Math.max((time - start) / Math.max(duration, 0.001), 0), 1);

// --- player

let wanted = null;
let playing = 0; // which video

function seek(of, time) {
  wanted = time;
  if (of !== playing) {
    playing = of;
    document.getElementById("trouble").hidden = true;
    video.src = page.videos[of].source;
    tellVideo();
  }
  video.currentTime = time;
  update();
}

// Of a file that starts late, Chromium learns the true length only as it reads on, and stops short until then.
video.addEventListener("seeked", () => {
  if (wanted !== null && Math.abs(video.currentTime - wanted) < 0.05) wanted = null;
});
video.addEventListener("durationchange", () => {
  if (wanted !== null && video.currentTime !== wanted) video.currentTime = wanted;
});

function tellVideo() {
  document.getElementById("playing").textContent = page.videos[playing].name;
}

const followers = []; // called with the time that the player shows, or one before all where it shows another video

function update() {
  for (const [of, follow] of followers) follow(of === playing ? video.currentTime : -Infinity);
}

function animate() {
  update();
  if (!video.paused && !video.ended) requestAnimationFrame(animate);
}

video.addEventListener("play", animate);
for (const event of ["seeking", "timeupdate", "loadedmetadata"]) video.addEventListener(event, update);

function tellTrouble() {
  const { link } = page.videos[playing];
  const where = link ? `, or the file is no longer at ${link}` : "";
  const trouble = document.getElementById("trouble");
  trouble.textContent =
    `This browser does not show the video: it lacks the codec or the format (few browsers play HEVC or MKV)${where}. ` +
    "Timelines and times are still right.";
  trouble.hidden = false;
}

video.addEventListener("error", tellTrouble);
video.addEventListener("loadedmetadata", () => {
  if (!video.videoWidth) tellTrouble(); // only the sound is playable
});

// --- timeline

function drawCurve(answer, low, high) {
  const { times, scores } = answer.saliency;
  const x = (time) => (place(answer, time) / 100) * CURVE_UNITS;
  const y = (score) => CURVE_UNITS * (1 - (score - low) / (high - low));
  const points = times.map((time, i) => `${x(time).toFixed(2)},${y(scores[i]).toFixed(2)}`);
  // From edge to edge, since the first and the last value hold for a whole clip.
  const [first, last] = [y(scores[0]).toFixed(2), y(scores[scores.length - 1]).toFixed(2)];
  const line = `M0,${first} L${points.join(" L")} L${CURVE_UNITS},${last}`;
  const box = { viewBox: `0 0 ${CURVE_UNITS} ${CURVE_UNITS}`, preserveAspectRatio: "none", width: "100%", height: CURVE };
  return svg(
    "svg",
    { ...box, overflow: "visible", "aria-hidden": "true" },
    svg("path", { class: "area", d: `${line} V${y(0)} H0 Z` }),
    svg("path", { class: "line", d: line })
  );
}

function drawTicks(answer, height) {
  const { start, duration } = answer;
  const step = TICK_STEPS.find((step) => duration / step <= MOST_TICKS) ?? duration / MOST_TICKS;
  const ticks = [];
  for (let i = Math.ceil(start / step); i * step <= start + duration; i++) {
    const x = `${place(answer, i * step)}%`;
    ticks.push(svg("line", { class: "grid", x1: x, x2: x, y1: 0, y2: height }));
    ticks.push(svg("text", { x, y: height + 15, "text-anchor": "middle" }, formatClock(i * step, step < 1 ? 1 : 0)));
  }
  return ticks;
}

// Puts each moment, best first, into the highest lane in which it overlaps none before.
function findLanes(moments) {
  const lanes = [];
  return moments.map((moment) => {
    let lane = lanes.findIndex((taken) => taken.every((other) => moment.end < other.start || other.end < moment.start));
    if (lane < 0) lane = lanes.push([]) - 1;
    lanes[lane].push(moment);
    return lane;
  });
}

function drawBar(answer, moment, rank, lane) {
  const [x, y] = [place(answer, moment.start), LANES + lane * LANE];
  const box = { x: `${x}%`, y, width: `${place(answer, moment.end) - x}%`, height: BAR };
  const label = { role: "button", tabindex: rank ? -1 : 0, "aria-label": `Moment ${rank + 1}: ${describe(moment)}` };
  return svg(
    "g",
    { class: rank ? "bar" : "bar best", ...label },
    svg("rect", box),
    // An inner picture, for its edges to cut a number that has no room.
    svg("svg", box, svg("text", { x: 5, y: 13, "aria-hidden": "true" }, String(rank + 1)))
  );
}

function nearest(times, time) {
  let best = 0;
  times.forEach((t, i) => (best = Math.abs(t - time) < Math.abs(times[best] - time) ? i : best));
  return best;
}

function drawTimeline(answer, of, moments, [low, high]) {
  const lanes = findLanes(moments);
  const bottom = LANES + (Math.max(-1, ...lanes) + 1) * LANE;
  const bars = moments.map((moment, rank) => drawBar(answer, moment, rank, lanes[rank]));
  const zero = CURVE * (high / (high - low));
  const playhead = svg("line", { class: "playhead", y1: -4, y2: bottom });
  const follow = (time) => {
    for (const side of ["x1", "x2"]) playhead.setAttribute(side, `${place(answer, time)}%`);
  };
  followers.push([of, follow]);
  const chart = svg(
    "svg",
    { class: "chart", height: bottom + AXIS },
    svg("rect", { class: "ground", width: "100%", height: bottom }),
    ...drawTicks(answer, bottom),
    ...(answer.saliency.times.length ? [drawCurve(answer, low, high)] : []),
    svg("line", { class: "axis", x1: 0, x2: "100%", y1: zero, y2: zero }),
    ...[[high, 8], [0, zero + 4], [low, CURVE + 4]]
      .filter(([value, y], i) => (value || i === 1) && (i === 1 || Math.abs(y - zero - 4) >= LABEL))
      .map(([value, y]) => svg("text", { x: -6, y, "text-anchor": "end" }, value ? value.toFixed(2) : "0")),
    ...bars,
    playhead
  );
  const hint = html("p", { class: "hint", "aria-hidden": "true", hidden: "" });
  const timeline = html("div", { class: "timeline", role: "group", "aria-label": "Timeline" }, chart, hint);

  const tell = (text, time) => {
    hint.textContent = text;
    hint.style.left = `${place(answer, time)}%`;
    hint.style.transform = `translateX(-${place(answer, time)}%)`; // never beyond the timeline's ends
    hint.hidden = false;
  };
  const tellMoment = (moment) => tell(describe(moment), (moment.start + moment.end) / 2);
  const hide = () => (hint.hidden = true);
  const timeAt = (event) => {
    const box = chart.getBoundingClientRect();
    return answer.start + Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * answer.duration;
  };
  const rankAt = (event) => bars.indexOf(event.target.closest(".bar"));

  chart.addEventListener("pointermove", (event) => {
    const [rank, time] = [rankAt(event), timeAt(event)];
    if (rank >= 0) return tellMoment(moments[rank]);
    const { times, scores } = answer.saliency;
    tell(formatClock(time) + (times.length ? `, saliency ${scores[nearest(times, time)].toFixed(2)}` : ""), time);
  });
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("click", (event) => {
    const rank = rankAt(event);
    seek(of, rank >= 0 ? moments[rank].start : timeAt(event));
  });
  bars.forEach((bar, rank) => {
    bar.addEventListener("focus", () => bar.matches(":focus-visible") && tellMoment(moments[rank]));
    bar.addEventListener("blur", hide);
    bar.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      seek(of, moments[rank].start);
    });
  });
  // One stop for the Tab key; the arrow keys go from moment to moment as they lie in time.
  moveWithArrows([...bars].sort((a, b) => moments[bars.indexOf(a)].start - moments[bars.indexOf(b)].start), true);
  return [timeline, bars];
}

function moveWithArrows(elements, single) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
  elements.forEach((element, i) => {
    element.addEventListener("keydown", (event) => {
      if (!(event.key in steps)) return;
      event.preventDefault();
      const next = elements[Math.min(Math.max(i + steps[event.key], 0), elements.length - 1)];
      if (single) elements.forEach((other) => other.setAttribute("tabindex", other === next ? 0 : -1));
      next.focus();
    });
  });
}

// --- answers

function listMoment(moment, rank, of) {
  const level = html("span", {});
  level.style.width = `${100 * Math.min(Math.max(moment.score, 0), 1)}%`;
  const button = html(
    "button",
    { type: "button", "aria-label": `Go to moment ${rank + 1}: ${describe(moment)}` },
    html("span", { class: "rank" }, String(rank + 1)),
    html("span", {}, formatSpan(moment)),
    html("span", { class: "length" }, `${(moment.end - moment.start).toFixed(1)} s`),
    html("span", { class: "level" }, level),
    html("span", { class: "score" }, moment.score.toFixed(3))
  );
  button.addEventListener("click", () => seek(of, moment.start));
  followers.push([of, (time) => button.classList.toggle("now", moment.start <= time && time < moment.end)]);
  return button;
}

// Pointing at one of the two shows the other.
function linkElements(one, other) {
  for (const [from, to] of [[one, other], [other, one]]) {
    for (const event of ["pointerenter", "focus"]) from.addEventListener(event, () => to.classList.add("lit"));
    for (const event of ["pointerleave", "blur"]) from.addEventListener(event, () => to.classList.remove("lit"));
  }
}

function showAnswer(answer, number, scale) {
  const [of, peaks] = [page.of[number], page.peaks[number]];
  const moments = answer.moments.length ? answer.moments : peaks;
  const shown = peaks.length ? "these are the highest peaks of its saliency" : "and its saliency is nowhere above 0";
  const told = answer.moments.length || answer.notes.some(({ kind }) => kind === "threshold");
  const missing = told ? [] : [{ kind: "moments", text: `No moments for this query, ${shown}.` }];
  const [timeline, bars] = drawTimeline(answer, of, moments, scale);
  const buttons = moments.map((moment, rank) => listMoment(moment, rank, of));
  const about = several ? [`${page.videos[of].name}, ${formatClock(answer.duration)}`] : [];
  buttons.forEach((button, rank) => linkElements(button, bars[rank]));
  moveWithArrows(buttons, false);
  return html(
    "article",
    { class: "answer", "aria-labelledby": `query-${number}` },
    html("h2", { id: `query-${number}`, dir: "auto" }, answer.query || "No query"),
    ...about.map((text) => html("p", { class: "about", dir: "auto" }, text)),
    ...[...answer.notes, ...missing].map(({ kind, text }) =>
      html("p", { class: ["absent", "domain"].includes(kind) ? "note strong" : "note" }, text)
    ),
    timeline,
    html("ol", { class: "moments" }, ...buttons.map((button) => html("li", {}, button)))
  );
}

// One scale for all queries, for their curves to be comparable.
const heights = answers.flatMap((answer) => answer.saliency.scores);
const low = heights.reduce((a, b) => Math.min(a, b), 0);
const high = heights.reduce((a, b) => Math.max(a, b), 0);
const scale = [low, high > low ? high : 1]; // a curve that is nowhere above 0 hangs from it

const count = answers.length === 1 ? "1 query" : `${answers.length} ${several ? "answers" : "queries"}`;
const size = several ? `${page.videos.length} videos` : formatClock(answers[0].duration);
document.getElementById("facts").textContent = `${size}, model ${answers[0].model}, ${count}`;
document.getElementById("playing").hidden = !several;
page.videos[0].source = video.getAttribute("src");
tellVideo();
document.getElementById("answers").append(...answers.map((answer, number) => showAnswer(answer, number, scale)));
for (const { name, type, text } of page.files) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  document.getElementById("downloads").append(html("a", { href, download: name }, name.split(".").pop().toUpperCase()));
}

// The page opens where the best answer to the first query begins.
const opening = answers[0].moments[0] ?? page.peaks[0][0];
if (opening) seek(0, opening.start);
if (video.error) tellTrouble();
update();
