// Backstay itself: whether anything is lost, who is kept away, what it costs to have it.
import type { Health, Prices, Quantiles } from "../api/types";
import { absolute, count, duration, exact, money, plural, words } from "../format";
import { books } from "../books";
import { useQuery, type Query } from "../query";
import { Ago, Answer, Marked } from "../parts/state";
import { Shape, Sign, type Tone } from "../parts/signs";
import { Figure } from "../parts/choose";
import { Snippet } from "../parts/Copy";

export function HealthPage() {
  const query = useQuery<Health>("health", () => "/health");
  const prices = useQuery<Prices>("prices", () => "/prices", { live: false });
  return (
    <main id="main" tabIndex={-1}>
      <div class="page-head">
        <h1>Health</h1>
      </div>
      <Answer query={query} what="Backstay's health">
        {(health) => (
          <>
            <Summary health={health} />
            <Books health={health} />
            <Breakers health={health} />
            <div class="columns">
              <Notifications health={health} />
              <Telemetry health={health} />
            </div>
          </>
        )}
      </Answer>
      <PriceTable query={prices} />
    </main>
  );
}

function Summary({ health }: { health: Health }) {
  const { summary, project } = health;
  const tone: Tone = summary.state === "ok" ? "good" : summary.state === "warn" ? "warn" : "bad";
  return (
    <>
      {summary.state === "ok" ? (
        <p class="lead">
          <Sign tone="good">Backstay is well</Sign>
        </p>
      ) : (
        <div class={`notice ${tone}`} role="alert">
          <ul>
            {summary.problems.map((problem) => (
              <li key={problem}>
                <Shape tone={tone} /> <Marked text={problem} />
              </li>
            ))}
          </ul>
        </div>
      )}
      {project.state === "broken" && (
        <div class="notice warn">
          <p>
            <b>The project's files hold mistakes; the last good state is in force.</b>
          </p>
          {project.problem !== null && <pre tabIndex={0} role="region" aria-label="Mistakes in the project">{project.problem}</pre>}
          <Snippet text="backstay check" what="the command that lists the mistakes" />
        </div>
      )}
      <dl class="figures">
        <Figure name="Up for" title={absolute(health.started_ms)} note={`version ${health.version}`}>
          {duration(health.uptime_ms)}
        </Figure>
        <Figure name="Under way" note={`${count(health.limits.max_in_flight)} at most`}>
          {count(health.under_way)}
        </Figure>
        <Overhead overhead={health.overhead} />
        <LastLook alerting={health.alerting} />
        <Figure name="Project" note={project.state === "broken" ? "holds mistakes" : health.draining ? "shutting down" : "loaded"}>
          {plural(project.calls, "call")}
        </Figure>
      </dl>
    </>
  );
}

function LastLook({ alerting }: { alerting: Health["alerting"] }) {
  const { last_look_ms: at, problem } = alerting;
  return (
    <Figure name="Last look for alerts" note={problem === null ? "one every 10 s" : "could not judge"} {...(problem === null ? {} : { title: problem })}>
      {at === null ? <span class="muted">none yet</span> : <Ago at={at} />}
    </Figure>
  );
}

function Overhead({ overhead }: { overhead: Quantiles | null }) {
  return (
    <Figure name="Own overhead, p50 / p99" note={overhead === null ? "no calls yet" : "of each call, attempts and pauses aside"}>
      {duration(overhead?.p50)} / {duration(overhead?.p99)}
    </Figure>
  );
}

/** The books of the log as the equation that has to hold. */
function Books({ health }: { health: Health }) {
  const { records } = health;
  if (records === null) {
    return (
      <section class="panel" aria-labelledby="books">
        <h2 id="books">Records</h2>
        <p>
          <Sign tone="warn">nothing is kept</Sign> Backstay runs with --no-log.
        </p>
      </section>
    );
  }
  const { shed, lost, unplaced } = books(records.shed);
  const holds = records.received === records.stored + records.pending + shed;
  return (
    <section class="panel" aria-labelledby="books">
      <h2 id="books">Records</h2>
      <p class="muted">Every call leaves one record. None may vanish without being counted.</p>
      <div class="equation" role="group" aria-label={`${exact(records.received)} received, ${exact(records.stored)} stored, ${exact(records.pending)} pending, ${exact(shed)} shed`}>
        <Term value={records.received} name="received" />
        <span class="operator">{holds ? "=" : "≠"}</span>
        <Term value={records.stored} name="stored" />
        <span class="operator">+</span>
        <Term value={records.pending} name="pending" />
        <span class="operator">+</span>
        <Term value={shed} name="shed" bad={lost.length > 0} />
      </div>
      <p>
        {!holds ? (
          <Sign tone="bad">the books do not balance</Sign>
        ) : lost.length > 0 ? (
          <Sign tone="bad">{`lost: ${lost.map(({ reason, records }) => `${exact(records)} ${words(reason)}`).join(", ")}`}</Sign>
        ) : (
          <Sign tone="good">nothing was lost</Sign>
        )}
      </p>
      {unplaced.map(({ reason, records, why }) => (
        <p class="muted" key={reason}>
          {plural(records, "consumer's report")} could not be placed: {why}
        </p>
      ))}
      <dl class="facts inline">
        <Fact name="Bodies left out" value={records.bodies_shed} bad />
        <Fact name="Stored after a restart" value={records.replayed} />
        <Fact name="Unreadable in the spool" value={records.unreadable} bad />
        <Fact name="Errors of the spool" value={records.spool_errors} bad />
        <Fact name="Errors of the store" value={records.store_errors} bad />
        {health.rollups.behind !== null && <Fact name="Sums behind" value={health.rollups.behind} />}
      </dl>
      {records.store_error !== null && <p class="notice bad slim">{records.store_error}</p>}
      {health.rollups.error !== null && (
        <p class="notice bad slim">The sums over calls, which the board, the charts and the alerts read, cannot be brought up to date: {health.rollups.error}</p>
      )}
    </section>
  );
}

function Term({ value, name, bad = false }: { value: number; name: string; bad?: boolean }) {
  return (
    <span class={bad ? "term over" : "term"}>
      <b>{exact(value)}</b>
      <small>{name}</small>
    </span>
  );
}

function Fact({ name, value, bad = false }: { name: string; value: number; bad?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class={bad && value > 0 ? "over" : ""}>{exact(value)}</dd>
    </div>
  );
}

const BREAKERS: Record<string, [Tone, string]> = {
  closed: ["good", "closed"],
  half_open: ["warn", "half-open"],
  open: ["bad", "open"],
};

function Breakers({ health }: { health: Health }) {
  return (
    <section class="panel" aria-labelledby="breakers">
      <h2 id="breakers">Targets</h2>
      {health.targets.length === 0 ? (
        <p class="muted">No target was asked yet. A breaker keeps a target away from a call after too many failures; a hold keeps it away until its rate limit is over.</p>
      ) : (
        <table class="cards" role="table" aria-label="Targets">
          <thead role="rowgroup">
            <tr role="row">
              <th role="columnheader" scope="col">Target</th>
              <th role="columnheader" scope="col">Breakers</th>
              <th role="columnheader" scope="col">Hold</th>
            </tr>
          </thead>
          <tbody role="rowgroup">
            {health.targets.map((target) => (
              <tr role="row" key={target.target}>
                <td role="cell" data-name="Target" class="main-cell">
                  {target.target}
                </td>
                <td role="cell" data-name="Breakers">
                  <span class="tags">
                    {target.breakers.length === 0 && <span class="muted">none</span>}
                    {target.breakers.map((breaker) => {
                      const [tone, word] = BREAKERS[breaker.state] ?? (["unsure", words(breaker.state)] as const);
                      return <Sign tone={tone} key={breaker.call}>{`${breaker.call}: ${word}`}</Sign>;
                    })}
                  </span>
                </td>
                <td role="cell" data-name="Hold">
                  {target.hold === null ? (
                    <span class="muted">none</span>
                  ) : (
                    <>
                      {words(target.hold.class)}, ends <Ago at={target.hold.until_ms} ahead />
                    </>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function Notifications({ health }: { health: Health }) {
  const { pending, failed, receivers } = health.notifications;
  return (
    <section class="panel" aria-labelledby="notifications">
      <h2 id="notifications">Notifications</h2>
      {receivers.length === 0 ? (
        <>
          <p class="muted">Nobody is told when an alert fires. Name a receiver in backstay.toml:</p>
          <Snippet text={'[[alerts.notify]]\nkind = "webhook"\nurl = "env:ALERT_WEBHOOK"'} what="a receiver of alerts" />
        </>
      ) : (
        <>
          <dl class="facts inline">
            <Fact name="Waiting" value={pending} />
            <Fact name="Given up" value={failed} bad />
          </dl>
          <ul class="receivers">
            {receivers.map((receiver) => (
              <li key={receiver.name}>
                <Sign tone={receiver.last_error !== null ? "bad" : receiver.last_ok_ms !== null ? "good" : "quiet"}>{receiver.name}</Sign>{" "}
                <span class="muted">
                  {receiver.last_ok_ms !== null ? (
                    <>
                      told <Ago at={receiver.last_ok_ms} />
                    </>
                  ) : (
                    "was told nothing yet"
                  )}
                  {receiver.pending > 0 && `, ${count(receiver.pending)} waiting`}
                  {receiver.failed > 0 && `, ${count(receiver.failed)} given up`}
                </span>
                {receiver.last_error !== null && <p class="over">{receiver.last_error}</p>}
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

function Telemetry({ health }: { health: Health }) {
  const { otlp } = health;
  return (
    <section class="panel" aria-labelledby="telemetry">
      <h2 id="telemetry">OpenTelemetry</h2>
      {otlp === null || !otlp.enabled ? (
        <p class="muted">Traces and metrics are not exported. Prometheus finds them at /metrics.</p>
      ) : (
        <dl class="facts inline">
          <Fact name="Exported" value={otlp.exported} />
          <Fact name="Given up" value={otlp.dropped} bad />
        </dl>
      )}
    </section>
  );
}

/** Dollars per million tokens, or that nobody knows. */
function PriceTable({ query }: { query: Query<Prices> }) {
  if (query.data === null || query.data.targets.length === 0) return null;
  const { as_of: asOf, source, targets } = query.data;
  const per = (usd: number | null) => (usd === null ? "–" : money(usd));
  return (
    <section class="panel" aria-labelledby="prices">
      <h2 id="prices">Prices</h2>
      <p class="muted">
        US dollars for a million tokens{source !== null && `; ${source}`}
        {asOf !== null && `, as of ${asOf}`}.
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Prices, as a table">
        <table class="plain">
          <thead>
            <tr>
              <th scope="col">Target</th>
              <th scope="col">Price</th>
              <th scope="col" class="number">In</th>
              <th scope="col" class="number">From cache</th>
              <th scope="col" class="number">Into cache</th>
              <th scope="col" class="number">Out</th>
            </tr>
          </thead>
          <tbody>
            {targets.map((each) => (
              <tr key={each.target}>
                <th scope="row">{each.target}</th>
                <td>
                  <Sign tone={each.state === "unknown" ? "warn" : "good"}>{each.state}</Sign> <span class="muted">{each.origin}</span>
                </td>
                <td class="number">{per(each.input_usd)}</td>
                <td class="number">{per(each.cache_read_usd)}</td>
                <td class="number">{per(each.cache_write_usd)}</td>
                <td class="number">{per(each.output_usd)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
