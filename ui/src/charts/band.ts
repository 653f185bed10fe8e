// The stretch in which a call's tokens usually are, behind the chart of its tokens.
import type uPlot from "uplot";
import type { Band } from "../api/types";
import { colour } from "./palette";

export function paintBand(chart: uPlot, band: Band | null): void {
  if (band === null) return;
  const { ctx, bbox } = chart;
  const top = Math.max(bbox.top, chart.valToPos(band.high, "y", true));
  const bottom = Math.min(bbox.top + bbox.height, chart.valToPos(band.low, "y", true));
  ctx.save();
  ctx.fillStyle = colour("band");
  if (bottom > top) ctx.fillRect(bbox.left, top, bbox.width, bottom - top);
  const median = chart.valToPos(band.median, "y", true);
  if (median > bbox.top && median < bbox.top + bbox.height) {
    ctx.strokeStyle = colour("muted");
    ctx.setLineDash([2, 4]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, median);
    ctx.lineTo(bbox.left + bbox.width, median);
    ctx.stroke();
  }
  ctx.restore();
}
