// The charts of a call: one axis of time, one cursor, releases as marks on all of them.
import { useMemo } from "preact/hooks";
import type { Band, CallPage, Ladder, Point } from "../api/types";
import { costKind, costs, count, duration, exact, money, percent, shortRelease, words } from "../format";
import { setParams, usePlace } from "../router";
import { oneOf } from "../url";
import { classes, grid, largest, stacked, values, type Grid } from "../charts/grid";
import { heatRange, paintHeat } from "../charts/heat";
import { paintBand } from "../charts/band";
import { hue } from "../charts/palette";
import { TimeChart, type ChartSeries, type Mark, type TimeChartProps } from "../charts/TimeChart";
import { Segments } from "../parts/choose";

/** More classes than this cannot be told apart by their colours. */
const MOST_CLASSES = 7;

type Shared = Pick<TimeChartProps, "at" | "step" | "since" | "until" | "marks" | "onZoom">;

export function CallCharts({ data }: { data: CallPage }) {
  const { params } = usePlace();
  const shape = oneOf(params.get("latency"), ["heat", "lines"] as const, "heat");
  const laid = useMemo(() => grid(data.series, data.since_ms, data.until_ms, data.step_ms), [data]);
  const shared: Shared = {
    at: laid.at,
    step: laid.step,
    since: data.since_ms,
    until: data.until_ms,
    marks: marks(data),
    onZoom: (since, until) => setParams({ since, until, range: null }),
  };
  return (
    <section class="charts" aria-label="Charts over time">
      <p class="muted hint">
        Each bar or point stands for {duration(laid.step)}. Drag over a chart to look closer; dashed lines are new releases.
      </p>
      <CallsChart data={data} laid={laid} shared={shared} />
      <ErrorsChart data={data} laid={laid} shared={shared} />
      <LatencyChart data={data} laid={laid} shared={shared} heat={shape === "heat"} />
      <Segments label="Latency as" name="latency" all={["heat", "lines"] as const} chosen={shape} otherwise="heat" words={{ heat: "Heatmap", lines: "Quantiles" }} />
      {data.totals.first_token !== null && <FirstTokenChart data={data} laid={laid} shared={shared} />}
      <TokensChart title="Tokens in" laid={laid} shared={shared} band={data.bands.tokens_in} read={(point) => point.tokens_in} hue="hue-5" />
      <TokensChart title="Tokens out" laid={laid} shared={shared} band={data.bands.tokens_out} read={(point) => point.tokens_out} hue="hue-4" />
      <CostChart data={data} laid={laid} shared={shared} />
      <LadderChart laid={laid} shared={shared} />
    </section>
  );
}

/** Releases that came while one looks; the first of all is no news. */
function marks(data: CallPage): Mark[] {
  return data.releases
    .filter((each) => each.first_ms > data.since_ms + data.step_ms && each.first_ms < data.until_ms)
    .sort((a, b) => a.first_ms - b.first_ms)
    .map((each) => ({ at: each.first_ms, label: each.release === null ? "no release" : shortRelease(each.release, data.call) }));
}

interface ChartOf {
  data: CallPage;
  laid: Grid;
  shared: Shared;
}

function CallsChart({ data, laid, shared }: ChartOf) {
  const series = useMemo((): ChartSeries[] => {
    const all = values(laid, (point) => point.calls, 0);
    const failed = values(laid, (point) => point.errors, 0);
    return [
      { label: "calls", colour: "calm", values: all, as: "bars" },
      { label: "errors", colour: "bad", values: failed, as: "bars" },
    ];
  }, [laid]);
  const summary = `${count(data.totals.calls)} calls, ${count(data.totals.errors)} errors`;
  return <TimeChart {...shared} title="Calls and errors" summary={summary} series={series} show={count} whole named height={130} />;
}

function ErrorsChart({ data, laid, shared }: ChartOf) {
  const { names, rest } = classes(data.totals.outcomes, MOST_CLASSES);
  const key = [...names, "", ...rest].join();
  const series = useMemo((): ChartSeries[] => {
    const read = (all: string[]) => values(laid, (point) => all.reduce((sum, name) => sum + (point.outcomes[name] ?? 0), 0), 0);
    const told = names.map((name) => read([name]));
    if (rest.length > 0) told.push(read(rest));
    const sums = stacked(told);
    // The highest stack is painted first, so that the lower ones stand before it.
    return told
      .map((part, index): ChartSeries => ({
        label: index < names.length ? words(names[index] ?? "") : `${rest.length} more`,
        colour: hue(index),
        values: sums[index] ?? part,
        told: part,
        as: "bars",
      }))
      .reverse();
  }, [laid, key]);
  if (series.length === 0) return null;
  const [top] = names;
  const summary = top === undefined ? "" : `mostly ${words(top)} (${count(data.totals.outcomes[top])})`;
  return <TimeChart {...shared} title="Failures by class" summary={summary} series={series} show={count} whole stack height={130} />;
}

function LatencyChart({ data, laid, shared, heat }: ChartOf & { heat: boolean }) {
  const limit = data.settings.latency_p95_ms;
  const series = useMemo((): ChartSeries[] => {
    const lines: ChartSeries[] = [
      { label: "p50", colour: heat ? "ink" : "hue-1", values: values(laid, (point) => point.latency?.p50), as: "line" },
      { label: "p95", colour: heat ? "strong" : "hue-2", values: values(laid, (point) => point.latency?.p95), as: "line" },
    ];
    if (!heat) lines.push({ label: "p99", colour: "hue-6", values: values(laid, (point) => point.latency?.p99), as: "line" });
    // A limit far above would press the lines flat; the words above the chart name it.
    const near = limit !== null && limit < largest(lines.map((each) => each.values), 0) * 3;
    if (near) lines.push({ label: "p95 allowed", colour: "bad", values: laid.at.map(() => limit), as: "dashes" });
    return lines;
  }, [laid, heat, limit]);
  const range = heat ? heatRange(laid) : null;
  const summary = `p50 ${duration(data.totals.latency?.p50)}, p95 ${duration(data.totals.latency?.p95)}, longest ${duration(data.totals.latency?.max)}${limit === null ? "" : `, p95 allowed ${duration(limit)}`}`;
  return (
    <TimeChart
      {...shared}
      title="Latency"
      summary={summary}
      series={series}
      show={duration}
      height={190}
      {...(range === null ? {} : { log: true, range, paint: (chart) => paintHeat(chart, laid) })}
    />
  );
}

function FirstTokenChart({ data, laid, shared }: ChartOf) {
  const series = useMemo(
    (): ChartSeries[] => [
      { label: "p50", colour: "hue-1", values: values(laid, (point) => point.first_token?.p50), as: "line" },
      { label: "p95", colour: "hue-2", values: values(laid, (point) => point.first_token?.p95), as: "line" },
    ],
    [laid],
  );
  const summary = `p50 ${duration(data.totals.first_token?.p50)}, p95 ${duration(data.totals.first_token?.p95)}`;
  return <TimeChart {...shared} title="First token of streams" summary={summary} series={series} show={duration} height={120} />;
}

interface TokensOf {
  title: string;
  laid: Grid;
  shared: Shared;
  band: Band | null;
  read: (point: Point) => Point["tokens_in"];
  hue: string;
}

function TokensChart({ title, laid, shared, band, read, hue: shade }: TokensOf) {
  const series = useMemo(
    (): ChartSeries[] => [
      { label: "p50 per call", colour: shade, values: values(laid, (point) => read(point)?.p50), as: "line" },
      { label: "p95", colour: "hue-6", values: values(laid, (point) => read(point)?.p95), as: "dashes" },
    ],
    [laid],
  );
  const most = largest(series.map((each) => each.values), 0);
  if (most === 0) return null;
  // The band is shown whole where that does not press the lines flat.
  const top = band !== null && band.high < most * 3 ? Math.max(most, band.high) : most;
  const summary =
    band === null
      ? "no band yet: what is usual is still being learnt"
      : `usual: ${count(Math.round(band.low))} to ${count(Math.round(band.high))}, median ${count(Math.round(band.median))} (shaded)`;
  return (
    <TimeChart
      {...shared}
      title={title}
      summary={summary}
      series={series}
      show={count}
      height={120}
      range={[0, top * 1.08]}
      paint={(chart) => paintBand(chart, band)}
    />
  );
}

function CostChart({ data, laid, shared }: ChartOf) {
  const { cost_usd: cost, unpriced, calls } = data.totals;
  const kind = costKind(data.totals);
  const series = useMemo(
    (): ChartSeries[] => [{ label: "cost", colour: "hue-3", values: values(laid, (point) => point.cost_usd), as: "bars" }],
    [laid],
  );
  if (kind === "none" || kind === "free" || kind === "unknown") {
    return (
      <p class="chart-less">
        <b>Cost</b>{" "}
        {kind === "free"
          ? "These targets are free."
          : kind === "none"
            ? "No call got far enough to cost anything."
            : `unknown: ${exact(unpriced)} of ${exact(calls)} calls have no price. Set one with [[prices]] in backstay.toml; backstay prices lists what is missing.`}
      </p>
    );
  }
  const summary = unpriced > 0 ? `${costs(data.totals)}, ${count(unpriced)} calls without a price` : `${money(cost)} in all`;
  return <TimeChart {...shared} title="Cost" summary={summary} series={series} show={(value) => (value === null ? "–" : money(value))} height={110} />;
}

const RUNGS = [
  ["complete", "complete", "hue-1"],
  ["parsed", "parsed", "hue-3"],
  ["schema_valid", "schema-valid", "hue-2"],
  ["checks_passed", "checks passed", "hue-4"],
] as const satisfies readonly (readonly [keyof Ladder, string, string])[];

function LadderChart({ laid, shared }: Omit<ChartOf, "data">) {
  const series = useMemo(
    (): ChartSeries[] => [
      ...RUNGS.map(
        ([key, label, shade]): ChartSeries => ({
          label,
          colour: shade,
          values: values(laid, (point) => (point.ladder.called > 0 ? point.ladder[key] / point.ladder.called : null)),
          as: "line",
        }),
      ),
      {
        label: "of use",
        colour: "hue-6",
        values: values(laid, ({ ladder }) => (ladder.useful + ladder.useless > 0 ? ladder.useful / (ladder.useful + ladder.useless) : null)),
        as: "dashes",
      },
    ],
    [laid],
  );
  const least = series.reduce((least, each) => each.values.reduce<number>((inner, value) => Math.min(inner, value ?? 1), least), 1);
  const floor = Math.max(0, Math.floor((least - 0.02) * 20) / 20);
  return (
    <TimeChart
      {...shared}
      title="Ladder over time"
      summary="share of calls that got to each rung"
      series={series}
      show={percent}
      height={140}
      range={[floor, 1 + (1 - floor) * 0.04]}
    />
  );
}
