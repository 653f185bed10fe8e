// Alerts: what fires now and why, every rule with its present value, what was, and silences.
import { useState } from "preact/hooks";
import type { Alert, AlertHistory, Alerts, RuleCall, RuleState, RuleView, Silences } from "../api/types";
import { ApiError, get } from "../api/client";
import { absolute, duration, inUnit, plural, words } from "../format";
import { evidence, standing, type Evidence } from "../evidence";
import { Link, setParams, usePlace } from "../router";
import { useQuery } from "../query";
import { address, oneOf } from "../url";
import { Ago, Answer, Empty, Failed, Loading, Marked } from "../parts/state";
import { CopyButton, Snippet } from "../parts/Copy";
import { RuleSign, SeveritySign } from "../parts/signs";
import { Choice, Segments } from "../parts/choose";
import { SilenceForm, SilenceList } from "./Silences";

const TABS = ["now", "rules", "history", "silences"] as const;
const TAB_WORDS = { now: "Now", rules: "Rules", history: "History", silences: "Silences" };

export function AlertsPage() {
  const { params } = usePlace();
  const tab = oneOf(params.get("tab"), TABS, "now");
  const query = useQuery<Alerts>("alerts", () => "/alerts");
  const silences = useQuery<Silences>("silences", () => "/silences");
  return (
    <main id="main" tabIndex={-1}>
      <div class="page-head">
        <h1>Alerts</h1>
        <Segments label="Part" name="tab" all={TABS} chosen={tab} otherwise="now" words={TAB_WORDS} clear={{ id: null, rule: null, call: null }} />
      </div>
      {tab === "history" ? (
        <History />
      ) : tab === "silences" ? (
        <>
          <Answer query={query} what="the rules">
            {(alerts) => <SilenceForm alerts={alerts} done={silences.again} />}
          </Answer>
          <Answer query={silences} what="silences">
            {(all) => <SilenceList all={all.silences} changed={silences.again} />}
          </Answer>
        </>
      ) : (
        <Answer query={query} what="alerts">{(alerts) => (tab === "rules" ? <Rules rules={alerts.rules} /> : <Now alerts={alerts} />)}</Answer>
      )}
    </main>
  );
}

function Now({ alerts }: { alerts: Alerts }) {
  const { params } = usePlace();
  const id = params.get("id");
  const shown = [...alerts.firing].sort((a, b) => Number(b.state === "firing") - Number(a.state === "firing") || b.started_ms - a.started_ms);
  const pending = alerts.rules.flatMap((rule) => rule.calls.filter((call) => call.state === "pending").map((call) => ({ rule, call })));
  const pendingKnown = shown.some((alert) => alert.state === "pending");
  const known = shown.some((alert) => alert.id === id);
  return (
    <>
      {id !== null && !known && <Past id={id} />}
      {shown.map((alert) => (
        <AlertCard alert={alert} now={standing(alert, alerts.rules)} chosen={alert.id === id} key={alert.id} />
      ))}
      {!pendingKnown &&
        pending.map(({ rule, call }) => (
          <article class="alert pending" key={`${rule.rule} ${call.call} ${call.release} ${call.target} ${call.detail}`}>
            <h2>
              <RuleSign state="pending" /> {rule.title}
              {call.call !== null && <CallLink call={call.call} />}
            </h2>
            <p class="arithmetic">{call.arithmetic}</p>
            <p class="muted">It holds, but not for long enough yet{call.since_ms !== null && <>: since <Ago at={call.since_ms} /></>}.</p>
          </article>
        ))}
      {shown.length === 0 && pending.length === 0 && <Calm rules={alerts.rules} />}
    </>
  );
}

/** Nothing fires: that is good, if there was anything to look at. */
function Calm({ rules }: { rules: RuleView[] }) {
  const all = rules.flatMap((rule) => rule.calls);
  const watching = all.filter((call) => call.state === "ok").length;
  const unsure = all.filter((call) => call.state === "insufficient" || call.state === "learning").length;
  return (
    <Empty title={watching > 0 ? "Nothing is firing" : "Nothing to watch yet"}>
      <p>
        {watching > 0
          ? `${plural(rules.length, "rule")} are evaluated every 10 seconds for each call; ${plural(watching, "pair")} of rule and call hold their limits`
          : `${plural(rules.length, "rule")} stand ready; they judge a call once it has enough traffic`}
        {unsure > 0 && `, ${plural(unsure, "pair")} still wait for enough calls`}.{" "}
        <button type="button" class="link" onClick={() => setParams({ tab: "rules" })}>
          See the rules
        </button>
      </p>
      <p>Alerts go where you say in backstay.toml. To see that they arrive:</p>
      <Snippet text="backstay alerts test" what="the command that sends a test alert" />
    </Empty>
  );
}

/** An alert of the past that a link names. */
function Past({ id }: { id: string }) {
  const query = useQuery<Alert>(`alert ${id}`, () => `/alerts/${encodeURIComponent(id)}`, { live: false });
  if (query.data !== null) return <AlertCard alert={query.data} now={null} chosen />;
  if (query.error === null) return <Loading what="the alert of this link" />;
  if (!(query.error instanceof ApiError) || query.error.status >= 500) return <Failed error={query.error} again={query.again} />;
  return <p class="notice warn slim">The alert of this link is not known (any more). Below is what fires now.</p>;
}

function CallLink({ call }: { call: string }) {
  return (
    <Link class="alert-call" to={`/calls/${encodeURIComponent(call)}`}>
      {call}
    </Link>
  );
}

function AlertCard({ alert, now, chosen }: { alert: Alert; now: RuleCall | null; chosen: boolean }) {
  const over = alert.resolved_ms !== null;
  const facts: [string, string | null][] = [
    ["rule", words(alert.rule)],
    ["release", alert.release],
    ["variant", alert.variant],
    ["target", alert.target],
    ["mostly", alert.top_failure === null ? null : words(alert.top_failure)],
    ["part", alert.detail === null ? null : words(alert.detail)],
  ];
  return (
    <article class={`alert ${over ? "over-now" : alert.severity} ${alert.state} ${chosen ? "chosen" : ""}`} aria-current={chosen ? "true" : "false"}>
      <h2>
        {alert.state === "pending" ? <RuleSign state="pending" /> : <SeveritySign severity={alert.severity} over={over} />}
        <Link to={address("/alerts", { id: alert.id })}>{alert.summary}</Link>
      </h2>
      <p class="arithmetic">{alert.arithmetic}</p>
      {now !== null && now.arithmetic !== alert.arithmetic && (
        <p class="arithmetic">
          <strong>now</strong> {now.arithmetic}
        </p>
      )}
      <p class="tags">
        {alert.call !== null && <CallLink call={alert.call} />}
        {facts.map(([name, value]) =>
          value === null ? null : (
            <span key={name}>
              <span class="muted">{name}</span> {value}
            </span>
          ),
        )}
      </p>
      {alert.samples.length > 0 && (
        <p class="samples">
          <span class="muted">Evidence</span>
          {alert.samples.map((sample) => (
            <Link to={`/log/${sample}`} class="id" key={sample} title={sample}>
              {sample.slice(0, 8)}…{sample.slice(-4)}
            </Link>
          ))}
          {(alert.call ?? alert.target) !== null && <EvidenceLink of={evidence(alert, Date.now())} />}
        </p>
      )}
      <p class="muted row">
        <span>
          {alert.state === "pending" ? "Since " : "Began "}
          <Ago at={alert.started_ms} />
          {alert.fired_ms !== null && (
            <>
              , fired <Ago at={alert.fired_ms} />
            </>
          )}
          {alert.resolved_ms !== null && (
            <>
              , over <Ago at={alert.resolved_ms} /> after {duration(alert.resolved_ms - alert.started_ms)}
            </>
          )}
          {alert.silenced_by !== null && ", silenced"}
        </span>
        {!over && alert.silenced_by === null && (
          <Link to={address("/alerts", { tab: "silences", rule: alert.rule, call: alert.call })}>Silence</Link>
        )}
        <CopyButton text={new URL(address("/alerts", { id: alert.id }), window.location.origin).href} what="to this alert" word="Copy link" />
      </p>
    </article>
  );
}

function EvidenceLink({ of: { filters, text } }: { of: Evidence }) {
  return <Link to={address("/log", filters)}>{text}</Link>;
}

const ORDER: RuleState[] = ["firing", "pending", "ok", "learning", "insufficient", "off"];

function Rules({ rules }: { rules: RuleView[] }) {
  const { params } = usePlace();
  const call = params.get("call");
  const calls = [...new Set(rules.flatMap((rule) => rule.calls.flatMap((each) => (each.call === null ? [] : [each.call]))))].sort();
  return (
    <>
      <div class="filters">
        <Choice label="Call" name="call" value={call} any="All calls" all={calls.map((each) => [each, each])} />
      </div>
      {rules.length === 0 && <p class="nothing">No rule is evaluated here: alerts are switched off, or nothing is kept of calls.</p>}
      {rules.map((rule) => (
        <RuleTable rule={rule} call={call} key={rule.rule} />
      ))}
    </>
  );
}

function RuleTable({ rule, call }: { rule: RuleView; call: string | null }) {
  const stands = rule.calls
    .filter((each) => call === null || each.call === call)
    .sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || (a.call ?? "").localeCompare(b.call ?? ""));
  const states = ORDER.map((state) => [state, stands.filter((each) => each.state === state).length] as const).filter(([, calls]) => calls > 0);
  const urgent = states.some(([state]) => state === "firing" || state === "pending");
  return (
    <section class="panel rule" aria-labelledby={`rule-${rule.rule}`}>
      <h2 id={`rule-${rule.rule}`}>
        {rule.title} <span class="muted">{rule.severity === "page" ? "pages" : "warns"}</span>
      </h2>
      <p class="muted"><Marked text={rule.explains} /></p>
      {stands.length > 0 && (
        <details open={urgent || call !== null}>
        <summary>
          <span class="tags">
            {states.map(([state, calls]) => (
              <span key={state}>
                <RuleSign state={state} /> <span class="muted">{calls}</span>
              </span>
            ))}
          </span>
        </summary>
        <table class="cards" role="table" aria-label={rule.title}>
          <thead role="rowgroup">
            <tr role="row">
              <th role="columnheader" scope="col">State</th>
              <th role="columnheader" scope="col">Call</th>
              <th role="columnheader" scope="col" class="number">Value</th>
              <th role="columnheader" scope="col" class="number">Limit</th>
              <th role="columnheader" scope="col">Arithmetic</th>
            </tr>
          </thead>
          <tbody role="rowgroup">
            {stands.map((each) => (
              <Stand stand={each} key={`${each.call} ${each.release} ${each.target} ${each.detail}`} />
            ))}
          </tbody>
        </table>
        </details>
      )}
      {stands.length === 0 && <p class="muted">Nothing to judge yet.</p>}
    </section>
  );
}

function Stand({ stand }: { stand: RuleCall }) {
  const where = [stand.release, stand.target, stand.detail].filter((part) => part !== null).join(", ");
  return (
    <tr role="row">
      <td role="cell" data-name="State">
        <RuleSign state={stand.state} />
        {stand.since_ms !== null && (
          <small title={absolute(stand.since_ms)}>
            since <Ago at={stand.since_ms} />
          </small>
        )}
      </td>
      <td role="cell" data-name="Call" class="main-cell">
        {stand.call === null ? "Backstay itself" : <Link data-row="" to={`/calls/${encodeURIComponent(stand.call)}`}>{stand.call}</Link>}
        <small>{where}</small>
      </td>
      <td role="cell" data-name="Value" class="number">
        {inUnit(stand.value, stand.unit)}
      </td>
      <td role="cell" data-name="Limit" class="number">
        {inUnit(stand.threshold, stand.unit)}
      </td>
      <td role="cell" data-name="Arithmetic" class="arithmetic wide">
        {stand.arithmetic}
      </td>
    </tr>
  );
}

function History() {
  const { params } = usePlace();
  const filters = { call: params.get("call"), rule: params.get("rule") };
  const key = JSON.stringify(filters);
  const [older, setOlder] = useState<{ key: string; alerts: Alert[]; next: number | null; error: string | null }>({ key, alerts: [], next: null, error: null });
  const query = useQuery<AlertHistory>(`history ${key}`, () => address("/alerts/history", { ...filters, limit: 50 }));
  const rules = useQuery<Alerts>("alerts", () => "/alerts", { live: false });
  const more = older.key === key ? older : { key, alerts: [], next: null, error: null };
  const calls = [...new Set((rules.data?.rules ?? []).flatMap((rule) => rule.calls.flatMap((each) => (each.call === null ? [] : [each.call]))))];
  const load = async (before: number) => {
    try {
      const got = await get<AlertHistory>(address("/alerts/history", { ...filters, limit: 50, before_ms: before }));
      setOlder({ key, alerts: [...more.alerts, ...got.alerts], next: got.next_ms, error: null });
    } catch (error) {
      setOlder({ ...more, next: before, error: error instanceof Error ? error.message : String(error) });
    }
  };
  return (
    <>
      <div class="filters">
        <Choice label="Call" name="call" value={filters.call} any="All calls" all={calls.map((each) => [each, each])} />
        <Choice label="Rule" name="rule" value={filters.rule} any="All rules" all={(rules.data?.rules ?? []).map((each) => [each.rule, each.title])} />
      </div>
      <Answer query={query} what="the history">
        {(first) => {
          const known = new Set(first.alerts.map((alert) => alert.id));
          const all = [...first.alerts, ...more.alerts.filter((alert) => !known.has(alert.id))];
          const next = more.alerts.length > 0 || more.error !== null ? more.next : first.next_ms;
          return (
            <>
              {all.length === 0 && <p class="nothing">No alert so far.</p>}
              {all.map((alert) => (
                <AlertCard alert={alert} now={null} chosen={false} key={alert.id} />
              ))}
              {more.error !== null && <p class="notice bad slim">{more.error}</p>}
              {next !== null && (
                <div class="more">
                  <button type="button" onClick={() => void load(next)}>
                    Load older alerts
                  </button>
                </div>
              )}
            </>
          );
        }}
      </Answer>
    </>
  );
}
