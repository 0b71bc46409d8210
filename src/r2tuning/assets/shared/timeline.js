// How a timeline is drawn: saliency, moments in lanes, a clock. The report holds this file, the server's page loads it.

// Pixels from the top of a timeline.
export const CURVE = 64;
export const LANES = CURVE + 12;
export const LANE = 24;
export const BAR = 18;
export const AXIS = 20;
const LABEL = 12; // height of a number beside the curve

const CURVE_UNITS = 1000; // width and height of the saliency curve before it is stretched
const MOST_TICKS = 6;
const TICK_STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const html = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

// As format_clock of output/text: ties to even, and rounded before it is split.
export function formatClock(seconds, decimals = 1) {
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

export const formatSpan = (moment) => `${formatClock(moment.start)} to ${formatClock(moment.end)}`;
export const describe = (moment) => `${formatSpan(moment)}, score ${moment.score.toFixed(3)}`;

// Place of a time on an answer's timeline, in percent of its width.
export const place = ({ start, duration }, time) =>
  100 * Math.min(Math.max((time - start) / Math.max(duration, 0.001), 0), 1);

export function drawCurve(answer, [low, high]) {
  const { times, scores } = answer.saliency;
  const x = (time) => (place(answer, time) / 100) * CURVE_UNITS;
  const y = (score) => CURVE_UNITS * (1 - (score - low) / (high - low));
  const points = times.map((time, i) => `${x(time).toFixed(2)},${y(scores[i]).toFixed(2)}`);
  // From edge to edge, since the first and the last value hold for a whole clip.
  const [first, last] = [y(scores[0]).toFixed(2), y(scores[scores.length - 1]).toFixed(2)];
  const line = `M0,${first} L${points.join(" L")} L${CURVE_UNITS},${last}`;
  const box = { preserveAspectRatio: "none", width: "100%", height: CURVE, overflow: "visible" };
  return svg(
    "svg",
    { viewBox: `0 0 ${CURVE_UNITS} ${CURVE_UNITS}`, ...box, "aria-hidden": "true" },
    svg("path", { class: "area", d: `${line} V${y(0)} H0 Z` }),
    svg("path", { class: "line", d: line })
  );
}

// Zero, and the numbers beside the curve that have room.
export function drawScale([low, high]) {
  const zero = CURVE * (high / (high - low));
  const numbers = [[high, 8], [0, zero + 4], [low, CURVE + 4]];
  const seen = numbers.filter(([value, y], i) => i === 1 || (value && Math.abs(y - zero - 4) >= LABEL));
  return [
    svg("line", { class: "axis", x1: 0, x2: "100%", y1: zero, y2: zero }),
    ...seen.map(([value, y]) => svg("text", { x: -6, y, "text-anchor": "end" }, value ? value.toFixed(2) : "0")),
  ];
}

// One scale for several curves, for them to be comparable.
export function findScale(answers) {
  const heights = answers.flatMap((answer) => answer.saliency.scores);
  const low = heights.reduce((a, b) => Math.min(a, b), 0);
  const high = heights.reduce((a, b) => Math.max(a, b), 0);
  return [low, high > low ? high : 1]; // a curve that is nowhere above 0 hangs from it
}

export function drawTicks(answer, height) {
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
export function findLanes(moments) {
  const lanes = [];
  return moments.map((moment) => {
    let lane = lanes.findIndex((taken) => taken.every((other) => moment.end < other.start || other.end < moment.start));
    if (lane < 0) lane = lanes.push([]) - 1;
    lanes[lane].push(moment);
    return lane;
  });
}

export function nearest(times, time) {
  let best = 0;
  times.forEach((t, i) => (best = Math.abs(t - time) < Math.abs(times[best] - time) ? i : best));
  return best;
}

// The time that the mouse points at.
export function findTime(answer, chart, event) {
  const box = chart.getBoundingClientRect();
  return answer.start + Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * answer.duration;
}

// A line of text above a timeline, at the time that it is about.
export function makeHint(answer) {
  const hint = html("p", { class: "hint", "aria-hidden": "true", hidden: "" });
  const tell = (text, time) => {
    hint.textContent = text;
    hint.style.left = `${place(answer, time)}%`;
    hint.style.transform = `translateX(-${place(answer, time)}%)`; // never beyond the timeline's ends
    hint.hidden = false;
  };
  return { hint, tell, hide: () => (hint.hidden = true) };
}

// The arrow keys go from element to element; if `single`, the Tab key stops at one of them only.
export function moveWithArrows(elements, single) {
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

