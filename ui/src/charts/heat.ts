// A heatmap behind a chart with a logarithmic axis: how many calls took how long, when.
import type uPlot from "uplot";
import type { Grid } from "./grid";
import { colour } from "./palette";

/** The vertical range that holds all buckets, on whole powers of two. */
export function heatRange(grid: Grid): [number, number] | null {
  let low = Infinity;
  let high = 0;
  for (const point of grid.points) {
    for (const [from, to] of point?.latency_heat ?? []) {
      if (from > 0 && from < low) low = from;
      if (to > high) high = to;
    }
  }
  return high > 0 && low < Infinity ? [2 ** Math.floor(Math.log2(low)), 2 ** Math.ceil(Math.log2(high))] : null;
}

/** Paints the cells; the darkest is the fullest. */
export function paintHeat(chart: uPlot, grid: Grid): void {
  const most = grid.points.reduce(
    (most, point) => (point?.latency_heat ?? []).reduce((inner, [, , calls]) => Math.max(inner, calls), most),
    0,
  );
  if (most === 0) return;
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = colour("heat");
  const lowest = chart.scales["y"]?.min ?? 1;
  grid.points.forEach((point, index) => {
    const start = grid.at[index];
    if (point === null || start === undefined) return;
    const left = Math.round(chart.valToPos(start, "x", true));
    const right = Math.round(chart.valToPos(start + grid.step, "x", true));
    for (const [low, high, calls] of point.latency_heat) {
      const bottom = Math.round(chart.valToPos(Math.max(low, lowest), "y", true));
      const top = Math.round(chart.valToPos(Math.max(high, lowest), "y", true));
      ctx.globalAlpha = 0.1 + 0.9 * Math.sqrt(calls / most);
      ctx.fillRect(left, top, Math.max(1, right - left - (right - left > 4 ? 1 : 0)), Math.max(1, bottom - top));
    }
  });
  ctx.restore();
}
