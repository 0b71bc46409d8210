// It is put behind shared/timeline.js, whose functions it calls, into one module.

// The page shows what it offers for download: its first file is the answers as JSON (Grounding.to_dict). Queries and
// names may hold anything, so they reach the page as text only.
const page = JSON.parse(document.getElementById("data").textContent);
const answers = JSON.parse(page.files[0].text);
const video = document.getElementById("video");
const several = page.videos.length > 1;

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

function drawTimeline(answer, of, moments, scale) {
  const lanes = findLanes(moments);
  const bottom = LANES + (Math.max(-1, ...lanes) + 1) * LANE;
  const bars = moments.map((moment, rank) => drawBar(answer, moment, rank, lanes[rank]));
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
    ...(answer.saliency.times.length ? [drawCurve(answer, scale)] : []),
    ...drawScale(scale),
    ...bars,
    playhead
  );
  const { hint, tell, hide } = makeHint(answer);
  const timeline = html("div", { class: "timeline", role: "group", "aria-label": "Timeline" }, chart, hint);

  const tellMoment = (moment) => tell(describe(moment), (moment.start + moment.end) / 2);
  const timeAt = (event) => findTime(answer, chart, event);
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

const scale = findScale(answers);
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
