// One chart over time: uPlot with the axis, cursor, zoom and marks that all charts of a page share.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { absolute, clock, day } from "../format";
import { repaint } from "../settings";
import { colour } from "./palette";

export interface ChartSeries {
  label: string;
  /** The colour's name in the style sheet. */
  colour: string;
  values: (number | null)[];
  /** What the legend and the table say; `values` if absent (a stack paints sums, but tells parts). */
  told?: (number | null)[];
  as: "line" | "bars" | "dashes";
}

export interface Mark {
  at: number;
  label: string;
}

export interface TimeChartProps {
  title: string;
  /** One sentence for those who do not see the chart, and under it for everybody. */
  summary: string;
  at: number[];
  step: number;
  since: number;
  until: number;
  series: ChartSeries[];
  show: (value: number | null) => string;
  marks: Mark[];
  /** Marks have their names here; elsewhere they are lines only. */
  named?: boolean;
  log?: boolean;
  /** Things are counted: there is no half of one. */
  whole?: boolean;
  /** The range of the vertical axis; from the data if absent. */
  range?: [number, number];
  /** The series stand on each other and are painted from the top down; they are told from the bottom up. */
  stack?: boolean;
  height?: number;
  paint?: (chart: uPlot) => void;
  onZoom: (since: number, until: number) => void;
}

const SYNC = "backstay";
const AXIS_WIDTH = 64;
const MOST_BARS = 130;
const WHOLE = Array.from({ length: 13 }, (_, decade) => [1, 2, 5].map((step) => step * 10 ** decade)).flat();
const FONT = "11px system-ui, sans-serif";

/** Where a logarithmic axis has its lines: 1, 2, 5, 10 … as far as they are in the range. */
export function logSplits(low: number, high: number): number[] {
  const splits: number[] = [];
  for (let decade = 10 ** Math.floor(Math.log10(low)); decade <= high; decade *= 10) {
    for (const step of [1, 2, 5]) if (decade * step >= low && decade * step <= high) splits.push(Number((decade * step).toPrecision(3)));
  }
  return splits;
}

/** Labels of the time axis: the day where it changes, else the time. */
export function timeLabels(splits: number[], step: number): string[] {
  let before = "";
  return splits.map((at) => {
    const today = day(at);
    const changed = today !== before;
    before = today;
    if (step >= 86_400_000) return today;
    const time = clock(at, step < 60_000);
    return changed ? `${time}\n${today}` : time;
  });
}

function options(props: TimeChartProps, width: number, onCursor: (index: number | null) => void): uPlot.Options {
  const { series, since, until, log = false, range, height = 150 } = props;
  // Many narrow bars would be a blur of half pixels: then their outline is filled instead.
  const bars = props.at.length > MOST_BARS ? uPlot.paths.stepped?.({ align: 1 }) : uPlot.paths.bars?.({ size: [0.86, 60], align: 1, gap: 1 });
  const axis = {
    stroke: () => colour("muted"),
    grid: { stroke: () => colour("line"), width: 1 },
    ticks: { show: false },
    font: FONT,
  };
  return {
    width,
    height,
    ms: 1,
    padding: [props.named ? 22 : 8, 8, 0, 0],
    legend: { show: false },
    cursor: {
      sync: { key: SYNC, setSeries: false },
      drag: { x: true, y: false, setScale: false },
      points: { show: false },
      y: false,
    },
    scales: {
      x: { time: true, range: [since, until] },
      y: {
        distr: log ? 3 : 1,
        range: range ?? ((_, __, most) => [0, most > 0 ? most * 1.08 : 1]),
      },
    },
    axes: [
      { ...axis, size: 34, space: 70, values: (_, splits, __, ___, step) => timeLabels(splits, step) },
      {
        ...axis,
        size: AXIS_WIDTH,
        space: 28,
        ...(props.whole ? { incrs: WHOLE } : {}),
        ...(log ? { splits: (_: uPlot, __: number, low: number, high: number) => logSplits(low, high), filter: (_: uPlot, splits: number[]) => splits } : {}),
        values: (_, splits) => splits.map((value) => (value === null ? "" : props.show(value))),
      },
    ],
    series: [
      {},
      ...series.map(
        (each): uPlot.Series => ({
          label: each.label,
          stroke: () => colour(each.colour),
          width: each.as === "bars" ? 0 : 1.6,
          ...(each.as === "bars" && bars ? { paths: bars, fill: () => colour(each.colour) } : {}),
          ...(each.as === "dashes" ? { dash: [4, 4] } : {}),
          points: { show: each.as === "bars" ? false : lonely, size: 4, fill: () => colour(each.colour) },
        }),
      ),
    ],
    hooks: {
      drawClear: [(chart) => props.paint?.(chart)],
      draw: [(chart) => paintMarks(chart, props.marks, props.named ?? false)],
      setCursor: [(chart) => onCursor(chart.cursor.idx ?? null)],
      setSelect: [
        (chart) => {
          if (chart.select.width < 6) return;
          const from = chart.posToVal(chart.select.left, "x");
          const to = chart.posToVal(chart.select.left + chart.select.width, "x");
          chart.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          props.onZoom(Math.round(from), Math.round(to));
        },
      ],
    },
  };
}

/** Points are drawn where no line can be: between gaps. */
function lonely(chart: uPlot, index: number): boolean {
  const values = chart.data[index];
  return values !== undefined && Array.from(values).filter((value) => value !== null).length <= 2;
}

function paintMarks(chart: uPlot, marks: Mark[], named: boolean): void {
  const { ctx, bbox } = chart;
  const ratio = window.devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = colour("accent");
  ctx.fillStyle = colour("accent");
  ctx.lineWidth = ratio;
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  ctx.textBaseline = "bottom";
  let free = -Infinity;
  for (const mark of marks) {
    const x = Math.round(chart.valToPos(mark.at, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.setLineDash([3 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top - (named ? 4 * ratio : 0));
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const width = ctx.measureText(mark.label).width;
    const left = Math.min(x, bbox.left + bbox.width - width);
    if (!named || left < free) continue;
    ctx.fillText(mark.label, left, bbox.top - 5 * ratio);
    free = left + width + 8 * ratio;
  }
  ctx.restore();
}

/** A summary, a legend that follows the cursor, the chart, and the same as a table. */
export function TimeChart(props: TimeChartProps) {
  const { title, summary, at, series, since, until } = props;
  const holder = useRef<HTMLDivElement>(null);
  const latest = useRef(props);
  latest.current = props;
  const [cursor, setCursor] = useState<number | null>(null);
  const shape = JSON.stringify([series.map((each) => [each.label, each.colour, each.as]), props.log, props.range, props.height, props.named]);

  const chart = useRef<uPlot | null>(null);
  useEffect(() => {
    const into = holder.current;
    if (into === null) return undefined;
    const now = latest.current;
    const live: TimeChartProps = {
      ...now,
      paint: (of) => latest.current.paint?.(of),
      onZoom: (from, to) => latest.current.onZoom(from, to),
    };
    // The marks are painted from an array that stays the same and is filled anew.
    const made = new uPlot(options(live, into.clientWidth || 300, setCursor), [now.at, ...now.series.map((each) => each.values)], into);
    chart.current = made;
    const resized = new ResizeObserver(() => {
      if (into.clientWidth > 0 && into.clientWidth !== made.width) made.setSize({ width: into.clientWidth, height: made.height });
    });
    resized.observe(into);
    const unwatch = repaint.watch(() => made.redraw(false, true));
    return () => {
      unwatch();
      resized.disconnect();
      made.destroy();
      chart.current = null;
    };
    // Made anew when its shape, its time or its marks change; data alone is only set.
  }, [shape, since, until, JSON.stringify(props.marks)]);

  useEffect(() => {
    chart.current?.setData([at, ...series.map((each) => each.values)]);
  }, [at, series]);

  const shown = cursor !== null && cursor < at.length ? cursor : null;
  const told = (each: ChartSeries, index: number) => (each.told ?? each.values)[index] ?? null;
  return (
    <figure class="chart">
      <figcaption>
        <h3>{title}</h3>
        <span class="chart-time">{shown === null ? summary : absolute(at[shown] ?? 0)}</span>
      </figcaption>
      <ul class="legend">
        {(props.stack ? [...series].reverse() : series).map((each) => (
          <li key={each.label}>
            <Swatch colour={each.colour} as={each.as} /> {each.label}
            {shown !== null && <b>{props.show(told(each, shown))}</b>}
          </li>
        ))}
      </ul>
      <div ref={holder} class="plot" role="img" aria-label={`${title}. ${summary}`} />
      <AsTable title={title} at={at} series={props.stack ? [...series].reverse() : series} show={props.show} />
    </figure>
  );
}

function Swatch({ colour: name, as }: { colour: string; as: ChartSeries["as"] }) {
  return (
    <svg class="swatch" viewBox="0 0 14 10" width="14" height="10" aria-hidden="true">
      {as === "bars" ? (
        <rect x="2" y="0" width="10" height="10" rx="2" class={`fill-${name}`} />
      ) : (
        <line x1="0" y1="5" x2="14" y2="5" class={`stroke-${name}`} stroke-width="2.5" {...(as === "dashes" ? { "stroke-dasharray": "4 3" } : {})} />
      )}
    </svg>
  );
}

function AsTable({ title, at, series, show }: Pick<TimeChartProps, "title" | "at" | "series" | "show">) {
  const [open, setOpen] = useState(false);
  return (
    <details class="as-table" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        As a table<span class="hidden">: {title}</span>
      </summary>
      {open && (
        <div class="scroll" tabIndex={0} role="region" aria-label={`${title}, as a table`}>
          <table class="plain">
            <thead>
              <tr>
                <th scope="col">Time</th>
                {series.map((each) => (
                  <th scope="col" class="number" key={each.label}>
                    {each.label}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {at.map((start, index) =>
                series.every((each) => (each.told ?? each.values)[index] == null) ? null : (
                  <tr key={start}>
                    <th scope="row">{absolute(start)}</th>
                    {series.map((each) => (
                      <td class="number" key={each.label}>
                        {show((each.told ?? each.values)[index] ?? null)}
                      </td>
                    ))}
                  </tr>
                ),
              )}
            </tbody>
          </table>
        </div>
      )}
    </details>
  );
}
