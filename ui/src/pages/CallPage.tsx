// One call: how far its answers get, and everything about it on one axis of time.
import type { CallPage as Data } from "../api/types";
import { absolute, clock, costs, count, day, duration, errorShare, exact, money, percent, plural, words } from "../format";
import { Link, setParams, usePlace } from "../router";
import { ApiError } from "../api/client";
import { useQuery } from "../query";
import { address, ends, RANGES, RANGE_WORDS, settled, spanOf, withParams } from "../url";
import { Answer, Empty, Failed } from "../parts/state";
import { FirstCall } from "../parts/lessons";
import { Firing } from "../parts/firing";
import { Choice, Figure, Segments } from "../parts/choose";
import { CallCharts } from "./CallCharts";
import { Releases, Rungs, Targets, TopFailures } from "./CallTables";

export function CallDetailPage({ call }: { call: string }) {
  const { params } = usePlace();
  const span = spanOf(params);
  const filters = { release: params.get("release"), target: params.get("target") };
  const path = () => {
    const { since, until } = ends(span, settled(span, Date.now()));
    return address(`/calls/${encodeURIComponent(call)}`, { ...filters, since_ms: since, until_ms: until });
  };
  const query = useQuery<Data>(JSON.stringify(["call", call, span, filters]), path, { live: "range" in span });
  const unknown = query.error instanceof ApiError && query.error.status === 404;
  return (
    <main id="main" tabIndex={-1}>
      <div class="page-head">
        <h1>
          <Link class="up" to="/">
            Board
          </Link>
          {call}
        </h1>
        <div class="row">
          <Segments
            label="Time"
            name="range"
            all={RANGES}
            words={RANGE_WORDS}
            chosen={"range" in span ? span.range : null}
            otherwise="24h"
            clear={{ since: null, until: null }}
          />
        </div>
      </div>
      <Firing call={call} />
      {unknown ? (
        <Failed error={query.error ?? new Error()}>
          <p>
            Calls are listed on the <Link to="/">board</Link>.
          </p>
        </Failed>
      ) : (
        <Answer query={query} what={call}>
          {(data) => <Whole data={data} />}
        </Answer>
      )}
    </main>
  );
}

function Whole({ data }: { data: Data }) {
  const { params } = usePlace();
  const span = spanOf(params);
  const log = address(
    "/log",
    withParams(new URLSearchParams(), {
      call: data.call,
      release: params.get("release"),
      target: params.get("target"),
      ...("range" in span ? { range: span.range } : { since: span.since, until: span.until }),
    }),
  );
  return (
    <>
      <div class="filters">
        <Choice
          label="Release"
          name="release"
          value={params.get("release")}
          any="All releases"
          all={data.releases.flatMap(({ release }) => (release === null ? [] : [[release, release] as [string, string]]))}
        />
        <Choice label="Target" name="target" value={params.get("target")} any="All targets" all={targets(data).map((each) => [each, each])} />
        <span class="field span">
          <span>Time</span>
          <span class="span-shown">
            {between(data.since_ms, data.until_ms)}
            {!("range" in span) && (
              <button type="button" class="small" onClick={() => setParams({ since: null, until: null })}>
                Back to live
              </button>
            )}
          </span>
        </span>
        <Link class="button" to={log}>
          Log of these calls
        </Link>
      </div>
      <Sums data={data} />
      {data.totals.calls === 0 ? (
        <Empty title="No calls in this time">
          <p>Choose a longer time above, or make a call:</p>
          <FirstCall call={data.call} />
        </Empty>
      ) : (
        <div class="call-page">
          <div class="call-side">
            <Rungs data={data} log={log} />
            <TopFailures data={data} log={log} />
            <Targets data={data} />
            <Releases data={data} />
          </div>
          <CallCharts data={data} />
        </div>
      )}
    </>
  );
}

function targets(data: Data): string[] {
  return [...new Set([...data.settings.route, ...data.by_target.flatMap(({ target }) => (target === null ? [] : [target]))])];
}

/** A stretch of time, the day once if it is one. */
function between(since: number, until: number): string {
  return day(since) === day(until) ? `${day(since)}, ${clock(since, false)} to ${clock(until, false)}` : `${absolute(since).slice(0, 16)} to ${absolute(until).slice(0, 16)}`;
}

function Sums({ data }: { data: Data }) {
  const { totals, settings } = data;
  const counted = totals.calls - totals.neutral;
  const rate = errorShare(totals);
  const good = (totals.outcomes["ok"] ?? 0) + (totals.outcomes["repaired"] ?? 0);
  const { stale, static: fixed, message } = totals.degraded;
  const degraded = stale + fixed + message;
  const tokens = totals.tokens;
  const cached = tokens.cache_read;
  const input = tokens.input + cached + tokens.cache_write + tokens.input_media;
  return (
    <dl class="figures">
      <Figure name="Calls" title={exact(totals.calls)} note={`${count(totals.attempts)} attempts`}>
        {count(totals.calls)}
      </Figure>
      <Figure name="Errors" note={`${percent(settings.max_error_rate)} allowed`} title={`${exact(totals.errors)} of ${exact(counted)}`}>
        <span class={rate !== null && rate > settings.max_error_rate ? "over" : ""}>{percent(rate)}</span>
      </Figure>
      <Figure name="Latency p50 / p95" note={`p99 ${duration(totals.latency?.p99)}, deadline ${duration(settings.deadline_ms)}`}>
        {duration(totals.latency?.p50)} / {duration(totals.latency?.p95)}
      </Figure>
      <Figure name="First token p50 / p95" note={totals.first_token ? plural(totals.first_token.count, "stream") : "no streams"}>
        {totals.first_token ? `${duration(totals.first_token.p50)} / ${duration(totals.first_token.p95)}` : duration(null)}
      </Figure>
      <Figure
        name="Tokens in / out, p50"
        note={[input > 0 && cached > 0 ? `${percent(cached / input)} of input cached` : "", totals.estimated > 0 ? `${plural(totals.estimated, "call")} estimated` : ""]
          .filter((note) => note !== "")
          .join(", ")}
      >
        {count(totals.tokens_in?.p50)} / {count(totals.tokens_out?.p50)}
      </Figure>
      <Figure
        name="Cost"
        note={
          totals.unpriced > 0
            ? `${plural(totals.unpriced, "call")} without a price`
            : totals.cost_usd !== null && good > 0 && totals.cost_usd > 0
              ? `${money(totals.cost_usd / good)} per good answer`
              : null
        }
      >
        {costs(totals)}
      </Figure>
      <Figure name="Degraded" note={degraded > 0 ? parts({ stale, static: fixed, message }) : "nothing took an answer's place"}>
        {count(degraded)}
      </Figure>
    </dl>
  );
}

function parts(of: Record<string, number>): string {
  return Object.entries(of)
    .filter(([, calls]) => calls > 0)
    .map(([name, calls]) => `${count(calls)} ${words(name)}`)
    .join(", ");
}
