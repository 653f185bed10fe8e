// The board: every call at a glance, the worst on top.
import type { Board, BoardCall } from "../api/types";
import { count, costs, duration, errorShare, exact, money, percent, plural, shortRelease, words } from "../format";
import { Link, setParams, usePlace } from "../router";
import { useQuery } from "../query";
import { address, oneOf, WINDOWS, type BoardWindow } from "../url";
import { Answer, Empty, Marked } from "../parts/state";
import { Firing } from "../parts/firing";
import { FirstCall } from "../parts/lessons";
import { CallSign, Shape, callOrder } from "../parts/signs";
import { Choice, Figure, FilterBox, Segments } from "../parts/choose";
import { Cell, Row, Table, type Column, type Direction } from "../parts/table";
import { Spark } from "../charts/Spark";

const WINDOW_WORDS: Record<BoardWindow, string> = { "5m": "5 min", "1h": "1 h", "24h": "24 h", "7d": "7 d" };
const RANGE_OF: Record<BoardWindow, string> = { "5m": "1h", "1h": "1h", "24h": "24h", "7d": "7d" };

const COLUMNS: Column[] = [
  { key: "state", title: "State", sorts: "asc", explains: "Whether an alert is firing." },
  { key: "call", title: "Call", sorts: "asc" },
  { key: "budget", title: "Budget left", sorts: "asc", explains: "How much of the errors that the budget allows in this window is left." },
  { key: "errors", title: "Errors", number: true, sorts: "desc", explains: "Share of failed calls in this window, and over the last 5 minutes." },
  { key: "latency", title: "p50 / p95", number: true, sorts: "desc", explains: "Half, and 95 of 100 calls, were at most this slow." },
  { key: "first", title: "First token", number: true, sorts: "desc", explains: "Streams: 95 of 100 began within this time." },
  { key: "tokens", title: "Tokens in / out", number: true, sorts: "desc", explains: "Per call, in the middle (p50)." },
  { key: "cost", title: "Cost", number: true, sorts: "desc" },
  { key: "coverage", title: "Coverage", number: true, sorts: "asc", explains: "Share of calls whose consumer said what the answer was worth." },
  { key: "calls", title: "Calls", number: true, sorts: "desc" },
];

/** What a column sorts by; nothing is always last. */
function sortValue(row: BoardCall, key: string): number | string | null {
  switch (key) {
    case "call":
      return row.call;
    case "budget":
      return row.budget_left;
    case "errors":
      return row.error_rate;
    case "latency":
      return row.latency?.p95 ?? null;
    case "first":
      return row.first_token?.p95 ?? null;
    case "tokens":
      return row.tokens_in?.p50 ?? null;
    case "cost":
      return row.cost_usd;
    case "coverage":
      return row.coverage;
    case "calls":
      return row.calls;
    default:
      return callOrder(row.state);
  }
}

export function sorted(rows: BoardCall[], key: string, direction: Direction): BoardCall[] {
  const sign = direction === "asc" ? 1 : -1;
  return [...rows].sort((a, b) => {
    const [x, y] = [sortValue(a, key), sortValue(b, key)];
    if (x === null || y === null) return x === y ? a.call.localeCompare(b.call) : x === null ? 1 : -1;
    const order = typeof x === "string" || typeof y === "string" ? String(x).localeCompare(String(y)) : x - y;
    return sign * order || b.calls - a.calls || a.call.localeCompare(b.call);
  });
}

export function BoardPage() {
  const { params } = usePlace();
  const window = oneOf(params.get("window"), WINDOWS, "1h");
  const query = useQuery<Board>(`board ${window}`, () => address("/board", { window }));
  const filter = params.get("q") ?? "";
  return (
    <main id="main" tabIndex={-1}>
      <div class="page-head">
        <h1>Board</h1>
        <Segments label="Window" name="window" all={WINDOWS} chosen={window} otherwise="1h" words={WINDOW_WORDS} />
      </div>
      <Answer query={query} what="the board">
        {(board) => (
          <>
            <Unwell board={board} />
            <Firing call={null} />
            <Totals board={board} />
            {board.calls.length === 0 ? <NoCalls /> : <Calls board={board} window={window} filter={filter} />}
            {board.calls.length > 0 && board.totals.calls === 0 && <NoTraffic board={board} />}
          </>
        )}
      </Answer>
    </main>
  );
}

function Unwell({ board }: { board: Board }) {
  if (board.health.state === "ok") return null;
  return (
    <div class={`notice ${board.health.state === "page" ? "bad" : "warn"}`} role="alert">
      <p>
        <b>Backstay itself is not well:</b> <Marked text={board.health.problems.join("; ")} />. <Link to="/health">Look at its health</Link>
      </p>
    </div>
  );
}

function Totals({ board }: { board: Board }) {
  const { calls, errors, neutral, unpriced } = board.totals;
  const state = (of: BoardCall["state"]) => board.calls.filter((row) => row.state === of).length;
  const [page, warn] = [state("page"), state("warn")];
  return (
    <dl class="figures">
      <Figure name="Calls" title={exact(calls)}>
        {count(calls)}
      </Figure>
      <Figure name="Errors" note={calls > 0 ? percent(errorShare(board.totals)) : null} title={`${exact(errors)} of ${exact(calls - neutral)}`}>
        {count(errors)}
      </Figure>
      <Figure name="Cost" note={unpriced > 0 ? `${plural(unpriced, "call")} without a price` : null}>
        {costs(board.totals)}
      </Figure>
      <Figure name="Calls alerting" note={page + warn === 0 ? "no alert of a call is firing" : <Link to="/alerts">see alerts</Link>}>
        {page + warn} {board.calls.length > 0 && <span class="muted">of {board.calls.length}</span>}
      </Figure>
    </dl>
  );
}

function Calls({ board, window, filter }: { board: Board; window: BoardWindow; filter: string }) {
  const { params } = usePlace();
  const key = oneOf(params.get("sort"), COLUMNS.map((column) => column.key), "state");
  const direction = oneOf(params.get("dir"), ["asc", "desc"] as const, COLUMNS.find((column) => column.key === key)?.sorts ?? "asc");
  const needle = filter.trim().toLowerCase();
  const rows = sorted(
    board.calls.filter((row) => `${row.call} ${row.release ?? ""}`.toLowerCase().includes(needle)),
    key,
    direction,
  );
  return (
    <>
      <div class="filters">
        <FilterBox label="Filter calls" name="q" value={filter} placeholder="Name or release" />
        <span class="narrow-only">
          <Choice
            label="Sort"
            name="sort"
            value={key === "state" ? null : key}
            any="State"
            all={COLUMNS.filter((column) => column.key !== "state").map((column) => [column.key, column.title])}
          />
        </span>
      </div>
      {rows.length === 0 ? (
        <p class="nothing">
          No call has “{filter}” in its name.{" "}
          <button type="button" class="link" onClick={() => setParams({ q: null })}>
            Show all
          </button>
        </p>
      ) : (
        <Table label="Calls" class="board" columns={COLUMNS} sort={{ key, direction }}>
          {rows.map((row) => (
            <CallRow row={row} window={window} key={row.call} />
          ))}
        </Table>
      )}
    </>
  );
}

function CallRow({ row, window }: { row: BoardCall; window: BoardWindow }) {
  const { five_minutes: five } = row;
  const range = RANGE_OF[window];
  return (
    <Row class={row.calls === 0 ? "idle" : ""}>
      <Cell name="State">
        <CallSign state={row.state} alerts={row.alerts} />
      </Cell>
      <Cell name="Call" class="main-cell">
        <Link class="row-link" data-row="" to={address(`/calls/${encodeURIComponent(row.call)}`, { range: range === "24h" ? null : range })}>
          {row.call}
        </Link>
        <small>
          {row.release !== null ? shortRelease(row.release, row.call) : row.configured ? "no release yet" : "not in the project"}
          {row.releases.length > 1 && ` and ${row.releases.length - 1} more`}
        </small>
      </Cell>
      <Cell name="Budget left">
        <Budget row={row} />
      </Cell>
      <Cell name="Errors" number title={`${exact(row.errors)} of ${exact(row.calls - row.neutral)}; ${percent(row.max_error_rate)} allowed`}>
        <span class={row.error_rate !== null && row.error_rate > row.max_error_rate ? "over" : ""}>{percent(row.error_rate)}</span>
        <small>
          {five.state === "over" ? (
            <span class="over">
              <Shape tone="warn" /> {percent(five.error_rate)} in 5 min
            </span>
          ) : row.top_failure !== null ? (
            words(row.top_failure)
          ) : five.state === "insufficient" && five.calls > 0 ? (
            "few calls"
          ) : null}
        </small>
      </Cell>
      <Cell name="p50 / p95" number>
        {row.latency ? (
          <>
            {duration(row.latency.p50)}
            <small>{duration(row.latency.p95)}</small>
          </>
        ) : (
          duration(null)
        )}
      </Cell>
      <Cell name="First token" number>
        {duration(row.first_token?.p95)}
      </Cell>
      <Cell name="Tokens in / out" number>
        {row.tokens_in || row.tokens_out ? (
          <>
            {count(row.tokens_in?.p50)}
            <small>{count(row.tokens_out?.p50)}</small>
          </>
        ) : (
          count(null)
        )}
      </Cell>
      <Cell name="Cost" number title={row.unpriced > 0 ? `${plural(row.unpriced, "call")} without a price` : ""}>
        {costs(row)}
        <small>{row.cost_per_ok_usd !== null && row.cost_per_ok_usd > 0 ? `${money(row.cost_per_ok_usd)} per good one` : ""}</small>
      </Cell>
      <Cell name="Coverage" number title={`${exact(row.useful)} of use, ${exact(row.useless)} of none`}>
        {percent(row.coverage)}
        <small>{row.useful + row.useless > 0 ? `${percent(row.useful / (row.useful + row.useless))} of use` : ""}</small>
      </Cell>
      <Cell name="Calls" number class="spark-cell" title={exact(row.calls)}>
        <Spark points={row.spark} label={`${row.call}, ${WINDOW_WORDS[window]}`} />
        <small>{count(row.calls)}</small>
      </Cell>
    </Row>
  );
}

/** The bar is empty when the budget is; past that it says by how much. */
function Budget({ row }: { row: BoardCall }) {
  const left = row.budget_left;
  if (left === null) return <span class="muted">{percent(null)}</span>;
  const tone = left <= 0 ? "bad" : left < 0.25 ? "warn" : "good";
  return (
    <span class="budget" title={`${percent(row.max_error_rate)} of calls may fail`}>
      <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
        <rect class="track" width="100" height="8" rx="4" />
        <rect class={tone} width={Math.max(0, Math.min(1, left)) * 100} height="8" rx="4" />
      </svg>
      <span class={left <= 0 ? "over" : ""}>{left < 0 ? `${percent(1 - left)} used` : percent(left)}</span>
    </span>
  );
}

function NoCalls() {
  return (
    <Empty title="No calls yet">
      <p>
        A call is one place where your application asks a model. Give it a name, and from the first request on this page shows how fast it
        is, what it costs, and how often it fails. To begin, name a target as the model; nothing has to be configured:
      </p>
      <FirstCall call="sim/ok" />
    </Empty>
  );
}

function NoTraffic({ board }: { board: Board }) {
  const first = board.calls[0]?.call ?? "sim/ok";
  return (
    <Empty title="No traffic in this window">
      <p>Choose a longer window above, or make a call. Your SDK stays; only its address and the model's name change:</p>
      <FirstCall call={first} />
    </Empty>
  );
}
