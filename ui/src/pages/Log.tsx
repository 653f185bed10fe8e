// The log of calls: filters in the address, page after page, or following what happens.
import { Fragment } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Board, LogList, LogRow } from "../api/types";
import { get } from "../api/client";
import { VERDICTS } from "../outcome";
import { absolute, clock, cost, count, day, duration, plural, shortRelease, words } from "../format";
import { liveness, ticks } from "../live";
import { Link, setParams, usePlace } from "../router";
import { useQuery } from "../query";
import { apart, filled, merged, onTop, type Gap, type Rows } from "../rows";
import { address, logQuery, LOG_FILTERS, RANGES, RANGE_WORDS, spanOf, withParams } from "../url";
import { Empty, Failed, Loading } from "../parts/state";
import { FirstCall } from "../parts/lessons";
import { OutcomeSign } from "../parts/signs";
import { Choice, FilterBox, Segments, Toggle } from "../parts/choose";
import { Cell, Row, Table, type Column } from "../parts/table";

const PAGE = 50;
/** Past this many rows the page is told to narrow down: nobody reads on, and browsers get slow. */
const MOST_ROWS = 2_000;
/** How far a page that follows goes back at once; what is between is loaded when somebody wants it. */
const MOST_PAGES = 4;

const OUTCOMES = [
  "ok", "repaired", "timeout", "connection", "rate_limited", "overloaded", "upstream_error", "upstream_auth", "bad_request",
  "context_length", "content_filter", "refused", "empty", "truncated", "malformed", "schema", "check", "circuit_open", "budget", "cancelled",
].map((name): [string, string] => [name, words(name)]);

const COLUMNS: Column[] = [
  { key: "time", title: "Time" },
  { key: "outcome", title: "Outcome" },
  { key: "call", title: "Call" },
  { key: "target", title: "Target" },
  { key: "latency", title: "Latency", number: true },
  { key: "tokens", title: "Tokens in / out", number: true },
  { key: "cost", title: "Cost", number: true },
  { key: "consumer", title: "Consumer" },
];

interface Pages extends Rows {
  /** The question that the rows answer; another one is being asked while it differs. */
  key: string | null;
  loading: boolean;
  error: Error | null;
}

const NO_PAGES: Pages = { key: null, rows: [], next: null, gaps: [], loading: true, error: null };

interface Asked extends Pages {
  /** The rows belong to an earlier question. */
  previous: boolean;
  more(): void;
  again(): void;
  fill(gap: Gap): void;
}

const wrong = (error: unknown) => (error instanceof Error ? error : new Error(String(error)));

/** Rows of a question, more of them on demand, new ones on top while `follow`. */
function usePages(params: URLSearchParams, follow: boolean): Asked {
  const key = withParams(params, { follow: null }).toString();
  const [pages, setPages] = useState<Pages>(NO_PAGES);
  const [attempt, setAttempt] = useState(0);
  const latest = useRef(pages);
  latest.current = pages;
  const ask = useRef<(before: string | null, gap?: Gap) => Promise<void>>(async () => undefined);

  useEffect(() => {
    const abort = new AbortController();
    let busy = false;
    ask.current = async (before, gap) => {
      if (busy) return;
      busy = true;
      setPages((old) => ({ ...old, loading: true, error: null }));
      try {
        const got = await page(params, before, abort.signal);
        if (abort.signal.aborted) return;
        setPages((old) => ({ ...answered(old, before, got, gap), key, loading: false, error: null }));
      } catch (error) {
        if (abort.signal.aborted) return;
        // Rows of another question would stand as if they answered this one.
        setPages((old) => ({ ...(old.key === key ? old : NO_PAGES), key, loading: false, error: wrong(error) }));
      } finally {
        busy = false;
      }
    };
    void ask.current(null);
    return () => abort.abort();
  }, [key, attempt]);

  useEffect(() => {
    if (!follow) return undefined;
    const abort = new AbortController();
    let busy = false;
    const look = async () => {
      if (busy || document.hidden || liveness.get() === "paused" || latest.current.key !== key) return;
      busy = true;
      try {
        const got = await newest(params, latest.current.rows[0]?.id ?? null, abort.signal);
        if (abort.signal.aborted) return;
        setPages((old) => (old.key === key ? { ...old, ...onTop(old, got, MOST_ROWS) } : old));
      } catch {
        // The sign at the top of the page tells that the connection is lost.
      } finally {
        busy = false;
      }
    };
    const unwatch = ticks.watch(() => void look());
    void look();
    return () => {
      unwatch();
      abort.abort();
    };
  }, [key, follow]);

  const more = () => {
    const { key: of, next } = latest.current;
    if (of === key && next !== null) void ask.current(next);
  };
  return {
    ...pages,
    previous: pages.key !== key,
    more,
    again: () => setAttempt((before) => before + 1),
    fill: (gap) => void ask.current(gap.next, gap),
  };
}

function page(params: URLSearchParams, before: string | null, signal: AbortSignal): Promise<LogList> {
  return get<LogList>(address("/log", withParams(logQuery(params, Date.now()), { limit: PAGE, before })), signal);
}

/** The newest calls, back to one that is known, but no more than a few pages of them. */
async function newest(params: URLSearchParams, known: string | null, signal: AbortSignal): Promise<LogList> {
  let got = await page(params, null, signal);
  for (let pages = 1; pages < MOST_PAGES && known !== null && apart(got, known); pages += 1) {
    const below = await page(params, got.next, signal);
    got = { ...below, rows: merged(got.rows, below.rows) };
  }
  return got;
}

function answered(old: Pages, before: string | null, got: LogList, gap: Gap | undefined): Rows {
  if (gap !== undefined) return filled(old, gap, got);
  if (before === null) return { rows: got.rows, next: got.next, gaps: [] };
  return { rows: merged(old.rows, got.rows), next: got.next, gaps: old.gaps };
}

export function LogPage() {
  const { params } = usePlace();
  const follow = params.get("follow") === "1";
  const pages = usePages(params, follow);
  const filtered = LOG_FILTERS.some((name) => params.has(name)) || params.has("since") || params.has("range");
  return (
    <main id="main" tabIndex={-1}>
      <div class="page-head">
        <h1>Log</h1>
        <Toggle label={follow ? "Following" : "Follow"} name="follow" on={follow} />
      </div>
      <Filters />
      {pages.error !== null && pages.rows.length === 0 && <Failed error={pages.error} again={pages.again} />}
      {pages.rows.length > 0 ? (
        <div class={pages.previous ? "answer previous" : "answer"} aria-busy={pages.previous}>
          <Lines pages={pages} />
        </div>
      ) : pages.loading ? (
        <Loading what="the log" />
      ) : pages.error === null ? (
        <Nothing filtered={filtered} pages={pages} />
      ) : null}
    </main>
  );
}

function Filters() {
  const { params } = usePlace();
  const board = useQuery<Board>("board 24h", () => "/board?window=24h", { live: false });
  const calls = board.data?.calls ?? [];
  const releases = calls.filter((row) => !params.has("call") || row.call === params.get("call")).flatMap((row) => row.releases);
  const span = spanOf(params);
  const fixed = "since" in span;
  return (
    <div class="filters">
      <FilterBox label="Id" name="q" value={params.get("q") ?? ""} placeholder="Id, or its first 8 characters" />
      <Choice label="Call" name="call" value={params.get("call")} any="All calls" all={calls.map((row) => [row.call, row.call])} />
      <Choice label="Release" name="release" value={params.get("release")} any="All releases" all={[...new Set(releases)].map((name) => [name, name])} />
      <TargetBox value={params.get("target") ?? ""} />
      <Choice label="Outcome" name="outcome" value={params.get("outcome")} any="All outcomes" all={OUTCOMES} />
      <Choice label="Consumer" name="verdict" value={params.get("verdict")} any="Any verdict" all={VERDICTS} />
      <span class="field">
        <span>Only</span>
        <span class="row">
          <Toggle label="Failed" name="failed" on={params.has("failed")} />
          <Toggle label="Degraded" name="degraded" on={params.has("degraded")} />
        </span>
      </span>
      <span class="field span">
        <span>Time</span>
        {fixed ? (
          <span class="span-shown">
            {absolute(span.since).slice(0, 16)} to {absolute(span.until).slice(0, 16)}
            <button type="button" class="small" onClick={() => setParams({ since: null, until: null })}>
              Any time
            </button>
          </span>
        ) : (
          <Segments
            label="Time"
            name="range"
            all={["any", ...RANGES] as const}
            words={RANGE_WORDS}
            chosen={params.has("range") && "range" in span ? span.range : "any"}
            otherwise="any"
          />
        )}
      </span>
    </div>
  );
}

/** Applied when it is left or entered: half a name would find nothing. */
function TargetBox({ value }: { value: string }) {
  return (
    <label class="field">
      <span>Target</span>
      <input
        type="text"
        value={value}
        placeholder="provider/model"
        autocomplete="off"
        spellcheck={false}
        onChange={(event) => setParams({ target: event.currentTarget.value.trim() })}
      />
    </label>
  );
}

function Nothing({ filtered, pages }: { filtered: boolean; pages: Asked }) {
  if (pages.next !== null) {
    return (
      <p class="nothing">
        None of the newest calls is like this.{" "}
        <button type="button" onClick={pages.more}>
          Look further back
        </button>
      </p>
    );
  }
  if (filtered) {
    const cleared = Object.fromEntries([...LOG_FILTERS, "since", "until", "range"].map((name) => [name, null]));
    return (
      <p class="nothing">
        No call is like this.{" "}
        <button type="button" class="link" onClick={() => setParams(cleared)}>
          Show all
        </button>
      </p>
    );
  }
  return (
    <Empty title="No calls yet">
      <p>Every call leaves one line here: how it ended, how long it took, what it cost, and each attempt behind it. Make one:</p>
      <FirstCall call="sim/ok" />
    </Empty>
  );
}

function Lines({ pages }: { pages: Asked }) {
  const end = useRef<HTMLDivElement>(null);
  const { rows, next, loading, error, previous } = pages;
  const full = rows.length >= MOST_ROWS;
  useEffect(() => {
    const at = end.current;
    if (at === null || next === null || full || previous) return undefined;
    const seen = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && pages.more(), { rootMargin: "200px" });
    seen.observe(at);
    return () => seen.disconnect();
  }, [next, full, previous]);
  let before = "";
  return (
    <>
      <Table label="Calls" class="log" columns={COLUMNS}>
        {rows.map((row) => {
          const today = day(row.at_ms);
          const changed = today !== before;
          before = today;
          const gap = pages.gaps.find((each) => each.until === row.id);
          return (
            <Fragment key={row.id}>
              {gap !== undefined && <Missed fill={() => pages.fill(gap)} loading={loading} />}
              <LogLine row={row} day={changed ? today : null} />
            </Fragment>
          );
        })}
      </Table>
      <div ref={end} class="more" role="status">
        {error !== null ? (
          <Failed error={error} again={next === null ? pages.again : pages.more} />
        ) : loading ? (
          "Loading…"
        ) : full ? (
          `${count(rows.length)} calls are shown: narrow down with the filters to see older ones.`
        ) : next === null ? (
          `${plural(rows.length, "call")}, no more.`
        ) : (
          <button type="button" onClick={pages.more}>
            Load more
          </button>
        )}
      </div>
    </>
  );
}

/** More calls came while one followed than are shown. */
function Missed({ fill, loading }: { fill: () => void; loading: boolean }) {
  return (
    <Row class="missed">
      <td role="cell" colSpan={COLUMNS.length}>
        More calls came in between.{" "}
        <button type="button" class="small" onClick={fill} disabled={loading}>
          Load them
        </button>
      </td>
    </Row>
  );
}

function LogLine({ row, day: today }: { row: LogRow; day: string | null }) {
  return (
    <Row>
      <Cell name="Time" class="time">
        <Link class="row-link" data-row="" to={`/log/${row.id}`} title={absolute(row.at_ms)}>
          <time dateTime={new Date(row.at_ms).toISOString()}>{clock(row.at_ms)}</time>
        </Link>
        <small>{today}</small>
      </Cell>
      <Cell name="Outcome" class="wide">
        <OutcomeSign outcome={row.outcome} code={row.outcome_code} />
        {row.degraded !== "none" && <span class="tag">answered {row.degraded}</span>}
        {row.message !== null && <small class="message">{row.message}</small>}
      </Cell>
      <Cell name="Call" class="main-cell">
        {row.call}
        <small>
          {row.release === null ? row.variant : shortRelease(row.release, row.call)}
          {row.variant === "pinned" && " (pinned)"}
        </small>
      </Cell>
      <Cell name="Target" class="target">
        {row.target ?? <span class="muted">none</span>}
        <small>{row.attempts > 1 ? plural(row.attempts, "attempt") : row.model !== null && !row.target?.endsWith(row.model) ? row.model : ""}</small>
      </Cell>
      <Cell name="Latency" number>
        {duration(row.latency_ms)}
        <small>{row.first_token_ms !== null && `first ${duration(row.first_token_ms)}`}</small>
      </Cell>
      <Cell name="Tokens in / out" number>
        {row.usage === null ? (
          count(null)
        ) : (
          <>
            {row.usage.estimated && <abbr title="Counted by Backstay: the provider did not say">~</abbr>}
            {count(row.usage.input)} / {count(row.usage.output)}
          </>
        )}
      </Cell>
      <Cell name="Cost" number>
        {cost(row.cost)}
      </Cell>
      <Cell name="Consumer">{row.consumer_ok === null ? <span class="muted">not heard</span> : row.consumer_ok ? "of use" : <b class="over">of no use</b>}</Cell>
    </Row>
  );
}
