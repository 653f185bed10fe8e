// One call, whole: what was asked, each attempt, what is wrong with the answer, what it cost.
import type { Attempt, LogDetail, Report, Usage } from "../api/types";
import { ApiError } from "../api/client";
import { absolute, cost, count, duration, exact, words } from "../format";
import { lines } from "../json";
import { unanswered } from "../outcome";
import { Link } from "../router";
import { useQuery } from "../query";
import { address } from "../url";
import { Ago, Answer, Failed } from "../parts/state";
import { FirstReport } from "../parts/lessons";
import { OutcomeSign, Shape, outcomeTone } from "../parts/signs";
import { Figure } from "../parts/choose";
import { CopyButton, Snippet } from "../parts/Copy";

export function DetailPage({ id }: { id: string }) {
  const query = useQuery<LogDetail>(`log ${id}`, () => `/log/${encodeURIComponent(id)}`);
  return (
    <main id="main" tabIndex={-1}>
      <div class="page-head">
        <h1>
          <Link class="up" to={address("/log", { call: query.data?.row.call })}>
            Log
          </Link>
          <span class="id">{query.data?.row.id ?? id}</span>
        </h1>
        <CopyButton text={query.data?.row.id ?? id} what="the id" />
      </div>
      {query.error instanceof ApiError && query.data === null ? (
        <Refused error={query.error} />
      ) : (
        <Answer query={query} what="the call">
          {(data) => <Whole data={data} />}
        </Answer>
      )}
    </main>
  );
}

function Refused({ error }: { error: ApiError }) {
  const ids = (error.body as { error?: { ids?: string[] } } | null)?.error?.ids ?? [];
  return (
    <Failed error={error}>
      {ids.length > 0 && (
        <ul>
          {ids.map((each) => (
            <li key={each}>
              <Link to={`/log/${each}`}>{each}</Link>
            </li>
          ))}
        </ul>
      )}
      <p>
        <Link to="/log">Go to the log</Link>
      </p>
    </Failed>
  );
}

function Whole({ data }: { data: LogDetail }) {
  const { row, record, reports } = data;
  return (
    <>
      <p class="lead">
        <OutcomeSign outcome={row.outcome} code={row.outcome_code} />
        {row.degraded !== "none" && <span class="tag">answered {row.degraded}</span>} <Link to={`/calls/${encodeURIComponent(row.call)}`}>{row.call}</Link>{" "}
        {row.release !== null && <span class="muted">{row.release}</span>} <span class="muted">{row.variant}</span>{" "}
        <span class="muted">
          <Ago at={row.at_ms} />, {absolute(row.at_ms)}
        </span>
      </p>
      {row.message !== null && <p class={`notice ${outcomeTone(row.outcome) === "bad" ? "bad" : "warn"} slim`}>{row.message}</p>}
      <Figures data={data} />
      <Waterfall attempts={record.attempts} total={row.latency_ms} />
      <Answers data={data} />
      <div class="columns">
        <Facts data={data} />
        <Reports id={row.id} reports={reports} />
      </div>
    </>
  );
}

function tokenParts(usage: Usage): string {
  const parts: [number, string][] = [
    [usage.cache_read, "from cache"],
    [usage.cache_write, "into cache"],
    [usage.reasoning, "reasoning"],
    [usage.input_media + usage.output_media, "media"],
  ];
  const told = parts.filter(([tokens]) => tokens > 0).map(([tokens, name]) => `${count(tokens)} ${name}`);
  if (usage.estimated) told.push("counted by Backstay");
  return told.join(", ");
}

function Figures({ data: { row, record } }: { data: LogDetail }) {
  return (
    <dl class="figures">
      <Figure name="Latency" note={`${duration(record.overhead_ms)} of it Backstay's own`}>
        {duration(row.latency_ms)}
      </Figure>
      <Figure name="First token" note={row.stream ? null : "no stream"}>
        {duration(row.first_token_ms)}
      </Figure>
      <Figure name="Tokens in / out" note={row.usage === null ? "not told" : tokenParts(row.usage)}>
        {count(row.usage?.input)} / {count(row.usage?.output)}
      </Figure>
      <Figure name="Cost" note={row.cost.state === "unknown" ? <Link to="/health">no price for its target</Link> : null}>
        {cost(row.cost)}
      </Figure>
      <Figure name="Attempts" note={row.model}>
        {record.attempts.length}
      </Figure>
      <Figure name="Consumer">{row.consumer_ok === null ? <span class="muted">not heard</span> : row.consumer_ok ? "of use" : "of no use"}</Figure>
    </dl>
  );
}

/** Attempts on the time of the call. Widths are shares, so that it fits any screen. */
function Waterfall({ attempts, total }: { attempts: Attempt[]; total: number }) {
  if (attempts.length === 0) {
    return (
      <section class="panel" aria-labelledby="attempts">
        <h2 id="attempts">Attempts</h2>
        <p class="muted">None: the call ended before a target was asked.</p>
      </section>
    );
  }
  const whole = Math.max(total, ...attempts.map((attempt) => attempt.started_ms + attempt.took_ms), 0.001);
  const share = (ms: number) => `${Math.min(100, (ms / whole) * 100).toFixed(3)}%`;
  const scale = [0, 0.25, 0.5, 0.75, 1];
  return (
    <section class="panel" aria-labelledby="attempts">
      <h2 id="attempts">Attempts</h2>
      <ol class="waterfall">
        {attempts.map((attempt, at) => (
          <li key={at}>
            <div class="attempt-name">
              <b>{attempt.target}</b>
              <small>{attempt.kind}</small>
            </div>
            <svg class="attempt-bar" role="img" aria-label={`began after ${duration(attempt.started_ms)}, took ${duration(attempt.took_ms)}`}>
              {scale.map((tick) => (
                <line class="tick" key={tick} x1={`${tick * 100}%`} x2={`${tick * 100}%`} y1="0" y2="100%" />
              ))}
              <rect class={attempt.failure === null ? "good" : "bad"} x={share(attempt.started_ms)} width={share(Math.max(attempt.took_ms, whole * 0.003))} y="7" height="16" rx="3" />
              {attempt.first_token_ms !== null && (
                <line class="first-token" x1={share(attempt.started_ms + attempt.first_token_ms)} x2={share(attempt.started_ms + attempt.first_token_ms)} y1="4" y2="26" />
              )}
            </svg>
            <div class="attempt-end">
              <span class="attempt-took">{duration(attempt.took_ms)}</span>
              <span class={`sign ${attempt.failure === null ? "good" : "bad"}`}>
                <Shape tone={attempt.failure === null ? "good" : "bad"} />
                {attempt.failure === null ? "answered" : words(attempt.failure)}
              </span>
              <small>
                {[
                  attempt.status === null ? "" : `status ${attempt.status}`,
                  attempt.first_token_ms === null ? "" : `first token ${duration(attempt.first_token_ms)}`,
                  attempt.retry_after_ms === null ? "" : `asked to wait ${duration(attempt.retry_after_ms)}`,
                  attempt.usage === null ? "" : `${count(attempt.usage.input)} / ${count(attempt.usage.output)} tokens, ${cost(attempt.cost)}`,
                ]
                  .filter((part) => part !== "")
                  .join(" · ")}
              </small>
            </div>
            {attempt.message !== null && <p class="attempt-message">{attempt.message}</p>}
          </li>
        ))}
        <li class="scale" aria-hidden="true">
          <div />
          <div class="scale-ticks">
            <span>0</span>
            <span>{duration(whole / 2)}</span>
            <span>{duration(whole)}</span>
          </div>
          <div />
        </li>
      </ol>
    </section>
  );
}

function Answers({ data: { row, record } }: { data: LogDetail }) {
  const { violation, rejected, answer, request } = record;
  return (
    <>
      {violation !== null && (
        <section class="panel" aria-labelledby="violation">
          <h2 id="violation">What is wrong with the answer</h2>
          <div class="beside">
            <div>
              <dl class="facts">
                <dt>Place</dt>
                <dd>
                  <code>{violation.path}</code>
                </dd>
                <dt>Rule</dt>
                <dd>
                  <code>{violation.rule}</code>
                </dd>
                <dt>Reason</dt>
                <dd>{violation.reason}</dd>
              </dl>
              <p class="muted">{row.outcome === "repaired" ? "The model was shown this, and its next answer held." : "This is what the model answered last; the place is marked."}</p>
            </div>
            {rejected === null ? <p class="muted">The rejected answer was not kept.</p> : <Body title="Rejected answer" text={rejected} path={violation.path} />}
          </div>
        </section>
      )}
      {violation === null && rejected !== null && (
        <section class="panel">
          <Body title="Rejected answer" text={rejected} />
        </section>
      )}
      <div class="columns">
        <section class="panel">{request === null ? <Missing title="Request" /> : <Body title="Request" text={request} />}</section>
        <section class="panel">
          {answer === null ? <Missing title="Answer" why={unanswered(row)} /> : <Body title="Answer" text={answer} />}
        </section>
      </div>
    </>
  );
}

function Missing({ title, why }: { title: string; why?: string | undefined }) {
  return (
    <>
      <h2>{title}</h2>
      <p class="muted">{why ?? "Not kept: its call captures no bodies, or they are too old."}</p>
    </>
  );
}

/** A text that was kept; JSON is laid out, with the offending place marked. */
function Body({ title, text, path }: { title: string; text: string; path?: string }) {
  const laid = lines(text, path ?? null);
  return (
    <div class="body">
      <div class="body-head">
        <h2>{title}</h2>
        <span class="muted">{`${exact(new TextEncoder().encode(text).length)} bytes`}</span>
        <CopyButton text={text} what={`the ${title.toLowerCase()}`} />
      </div>
      <pre tabIndex={0} role="region" aria-label={title}>
        <code>
          {laid.lines.map((line, at) =>
            line.marked ? (
              <mark key={at}>{`${line.text}\n`}</mark>
            ) : (
              <span key={at}>{`${line.text}\n`}</span>
            ),
          )}
        </code>
      </pre>
      {path !== undefined && laid.json && !laid.found && (
        <p class="muted">
          <code>{path}</code> is not in this answer: it is missing, or the text was shortened.
        </p>
      )}
    </div>
  );
}

function Facts({ data: { row, record } }: { data: LogDetail }) {
  const facts: [string, string | null][] = [
    ["Protocol", `${record.protocol}${row.stream ? ", stream" : ""}`],
    ["Unit", record.unit],
    ["Model", row.model],
    ["Fingerprint", record.fingerprint],
    ["Stopped because", record.finish],
    ["Provider's id", record.upstream_id],
    ["Trace", record.trace_id],
  ];
  return (
    <section class="panel" aria-labelledby="facts">
      <h2 id="facts">More</h2>
      <dl class="facts">
        {facts.map(([name, value]) =>
          value === null ? null : (
            <div key={name}>
              <dt>{name}</dt>
              <dd>
                <code>{value}</code>
              </dd>
            </div>
          ),
        )}
      </dl>
      <p class="muted">The same on the gateway's machine:</p>
      <Snippet text={`backstay show ${row.id}`} what="the command that shows this call" />
    </section>
  );
}

function Reports({ id, reports }: { id: string; reports: Report[] }) {
  return (
    <section class="panel" aria-labelledby="reports">
      <h2 id="reports">What the consumer said</h2>
      {reports.length === 0 ? (
        <>
          <p class="muted">Nothing yet. An application reports what an answer was worth, also days later:</p>
          <FirstReport id={id} />
        </>
      ) : (
        <ul class="reports">
          {reports.map((report, at) => (
            <li key={at}>
              <span class={`sign ${report.ok ? "good" : "bad"}`}>
                <Shape tone={report.ok ? "good" : "bad"} />
                {report.ok ? "of use" : "of no use"}
              </span>{" "}
              {report.score !== null && <span>score {report.score} </span>}
              <span class="muted">
                <Ago at={report.reported_ms} />
              </span>
              {report.reason !== null && <p>{report.reason}</p>}
              {report.expected !== null && report.expected !== undefined && <Body title="Expected" text={JSON.stringify(report.expected)} />}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
