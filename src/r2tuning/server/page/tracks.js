// A row below the player: the saliency of one query, its moments, and the edges of the chosen one to be moved.

import { round } from "./routes.js";
import * as draw from "./shared/timeline.js";
import { formatClock, place, svg } from "./shared/timeline.js";

const SHORTEST = 0.1; // seconds that a moment lasts at least
const STEP = 0.1; // seconds that an arrow key moves an edge by
const LEAP = 1; // the same with Shift
const STEPS = { ArrowRight: STEP, ArrowUp: STEP, ArrowLeft: -STEP, ArrowDown: -STEP, PageUp: LEAP, PageDown: -LEAP };
const REACH = 16; // pixels of an edge that can be grasped
const GRIP = 6; // and that are seen

const drawBox = (name, x, y, width, height) =>
  svg("rect", { class: name, x, y, width, height, rx: 3, transform: `translate(${-width / 2})` });

// The row of an answer. `actions` has seek(time), choose(moment), and change(moment), called after each correction.
// Gives { element, follow(time), show(chosen) }; the last draws the moments as they are, with the edges of one.
export function makeTrack({ answer, moments, calibrated }, scale, actions) {
  const ground = svg("rect", { class: "ground", width: "100%" });
  const bars = svg("g", {});
  const ticks = svg("g", {});
  const playhead = svg("line", { class: "playhead", y1: -4 });
  const curve = answer.saliency.times.length ? [draw.drawCurve(answer, scale)] : [];
  const chart = svg("svg", { class: "chart" }, ground, ticks, ...curve, ...draw.drawScale(scale), bars, playhead);
  const { hint, tell, hide } = draw.makeHint(answer);
  const label = { class: "timeline", role: "group", "aria-label": "Timeline" };
  const element = draw.html("div", label, chart, hint);

  const hasScore = (moment) => calibrated && moment.score !== null && !moment.made;
  const score = (moment) => (hasScore(moment) ? `, ${Math.round(100 * moment.score)} %` : "");
  const describe = (moment) => draw.formatSpan(moment) + score(moment);
  const tellMoment = (moment) => tell(describe(moment), (moment.start + moment.end) / 2);

  const follow = (time) => {
    for (const side of ["x1", "x2"]) playhead.setAttribute(side, `${place(answer, time)}%`);
  };

  let lanes = [];
  const show = (chosen, moving = false) => {
    if (!moving) lanes = draw.findLanes(moments); // else the moment would jump away from the mouse
    const bottom = draw.LANES + (Math.max(-1, ...lanes) + 1) * draw.LANE;
    const places = moments.map((moment, rank) => ({ moment, rank, y: draw.LANES + lanes[rank] * draw.LANE }));
    const focused = focusedName();
    const all = places.map((one) => drawBar(one, chosen));
    const edges = places.filter(({ moment }) => moment === chosen).flatMap((one) => drawEdges(one));
    bars.replaceChildren(...all, ...edges);
    ticks.replaceChildren(...draw.drawTicks(answer, bottom));
    ground.setAttribute("height", bottom);
    playhead.setAttribute("y2", bottom);
    chart.setAttribute("height", bottom + draw.AXIS);
    const inTime = [...all].sort((a, b) => moments[all.indexOf(a)].start - moments[all.indexOf(b)].start);
    draw.moveWithArrows(inTime, true);
    if (focused) bars.querySelector(`[data-name="${focused}"]`)?.focus();
  };
  const focusedName = () => (bars.contains(document.activeElement) ? document.activeElement.dataset.name : "");

  const drawBar = ({ moment, rank, y }, chosen) => {
    const x = place(answer, moment.start);
    const box = { x: `${x}%`, y, width: `${place(answer, moment.end) - x}%`, height: draw.BAR };
    const first = chosen && moments.includes(chosen) ? moment === chosen : rank === 0;
    const bar = svg(
      "g",
      {
        class: moment === chosen ? "bar chosen" : "bar",
        role: "button",
        tabindex: first ? 0 : -1,
        "aria-pressed": String(moment === chosen),
        "aria-label": `Moment ${rank + 1}: ${describe(moment)}`,
        "data-name": `bar-${rank}`,
      },
      svg("rect", box),
      // An inner picture, for its edges to cut a number that has no room.
      svg("svg", box, svg("text", { x: 5, y: 13, "aria-hidden": "true" }, String(rank + 1)))
    );
    bar.addEventListener("click", () => actions.choose(moment));
    bar.addEventListener("focus", () => bar.matches(":focus-visible") && tellMoment(moment));
    bar.addEventListener("blur", hide);
    bar.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      actions.choose(moment);
    });
    return bar;
  };

  const limits = (moment, side) =>
    side === "start"
      ? [answer.start, moment.end - SHORTEST]
      : [moment.start + SHORTEST, answer.start + answer.duration];

  const drawEdges = ({ moment, rank, y }) => ["start", "end"].map((side) => drawEdge(moment, side, rank, y));

  const drawEdge = (moment, side, rank, y) => {
    const [least, most] = limits(moment, side);
    const x = `${place(answer, moment[side])}%`;
    const edge = svg(
      "g",
      {
        class: "edge",
        role: "slider",
        tabindex: 0,
        "aria-label": `${side === "start" ? "Start" : "End"} of moment ${rank + 1}`,
        "aria-valuemin": round(least),
        "aria-valuemax": round(most),
        "aria-valuenow": moment[side],
        "aria-valuetext": formatClock(moment[side]),
        "data-name": side,
      },
      drawBox("reach", x, y - 5, REACH, draw.BAR + 10),
      drawBox("grip", x, y - 3, GRIP, draw.BAR + 6)
    );
    edge.addEventListener("keydown", (event) => {
      if (!(event.key in STEPS) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const step = event.shiftKey ? Math.sign(STEPS[event.key]) * LEAP : STEPS[event.key];
      move(moment, side, moment[side] + step);
      actions.change(moment);
    });
    edge.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      edge.focus();
      drag(moment, side, event.pointerId);
    });
    edge.addEventListener("focus", () => tell(formatClock(moment[side]), moment[side]));
    edge.addEventListener("blur", hide);
    return edge;
  };

  const move = (moment, side, time) => {
    const [least, most] = limits(moment, side);
    moment[side] = round(Math.min(Math.max(time, least), most));
    show(moment, true);
    tell(formatClock(moment[side]), moment[side]);
    actions.seek(moment[side]);
  };

  // The chart keeps the mouse, since the edge is drawn anew as it moves.
  const drag = (moment, side, pointer) => {
    const ending = new AbortController();
    const { signal } = ending;
    const before = moment[side];
    chart.setPointerCapture(pointer);
    const moved = (event) => move(moment, side, draw.findTime(answer, chart, event));
    chart.addEventListener("pointermove", moved, { signal });
    const end = () => {
      ending.abort();
      hide();
      if (moment[side] !== before) actions.change(moment);
    };
    for (const event of ["pointerup", "pointercancel"]) chart.addEventListener(event, end, { signal });
  };

  chart.addEventListener("pointermove", (event) => {
    if (event.buttons || event.target.closest(".bar, .edge")) return;
    const time = draw.findTime(answer, chart, event);
    const { times, scores } = answer.saliency;
    const value = times.length ? `, saliency ${scores[draw.nearest(times, time)].toFixed(2)}` : "";
    tell(formatClock(time) + value, time);
  });
  chart.addEventListener("pointerover", (event) => {
    const bar = event.target.closest(".bar");
    if (bar && !event.buttons) tellMoment(moments[[...bars.children].indexOf(bar)]);
  });
  chart.addEventListener("pointerleave", hide);
  ground.addEventListener("click", (event) => actions.seek(draw.findTime(answer, chart, event)));
  return { element, follow, show };
}
