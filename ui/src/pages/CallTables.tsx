// The side of the page of a call: the ladder, its failures, its targets, its releases.
import type { CallPage } from "../api/types";
import { absolute, count, costs, duration, errorShare, exact, percent, shortRelease, words } from "../format";
import { steps, verdicts, worst } from "../ladder";
import { Link, setParams, usePlace } from "../router";
import { withParams } from "../url";
import { Ago } from "../parts/state";

/** An address of the log with more filters. */
function narrowed(log: string, changes: Record<string, string | boolean>): string {
  const [path = "", query = ""] = log.split("?");
  return `${path}?${withParams(new URLSearchParams(query), changes).toString()}`;
}

export function Rungs({ data, log }: { data: CallPage; log: string }) {
  const rungs = steps(data.totals.ladder);
  const said = verdicts(data.totals.ladder);
  const most = worst(rungs);
  return (
    <section class="panel" aria-labelledby="ladder">
      <h2 id="ladder">Outcome ladder</h2>
      <ol class="ladder">
        {rungs.map((step) => (
          <li key={step.key} title={step.explains}>
            <span class="rung-name">{step.title}</span>
            <svg class="rung" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
              <rect class="track" width="100" height="10" rx="2" />
              <rect class="fill" width={(step.share ?? 0) * 100} height="10" rx="2" />
              {step.lost > 0 && <rect class="gone" x={Math.min(98, (step.share ?? 0) * 100)} width={Math.max(2, (step.lost / data.totals.ladder.called) * 100)} height="10" />}
            </svg>
            <span class="number">{percent(step.share)}</span>
            <span class={`number lost ${step.lost > 0 && step === most ? "over" : ""}`} title={`${exact(step.lost)} lost here`}>
              {step.lost > 0 ? `−${count(step.lost)}` : ""}
            </span>
          </li>
        ))}
        <li class="summit" title="Of those answers whose consumer said what they were worth.">
          <span class="rung-name">Consumer succeeded</span>
          <svg class="rung" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
            <rect class="track" width="100" height="10" rx="2" />
            <rect class="fill" width={(said.share ?? 0) * 100} height="10" rx="2" />
          </svg>
          <span class="number">{percent(said.share)}</span>
          <span class="number lost">{said.heard > said.useful ? `−${count(said.heard - said.useful)}` : ""}</span>
        </li>
      </ol>
      <p class="muted">
        {most === null ? (
          "No answer was lost."
        ) : (
          <>
            Most are lost on the way to “{most.title.toLowerCase()}”. <Link to={narrowed(log, { failed: true })}>See failed calls</Link>.
          </>
        )}{" "}
        {said.heard === 0
          ? "No consumer has said yet what an answer was worth: POST /v1/outcomes."
          : `Coverage ${percent(said.coverage)}: so many calls heard from their consumer.`}
        {said.heard > 0 && (
          <>
            {" "}
            See those <Link to={narrowed(log, { verdict: "useless" })}>of no use</Link> and those{" "}
            <Link to={narrowed(log, { verdict: "unheard" })}>not heard of</Link>.
          </>
        )}
      </p>
    </section>
  );
}

export function TopFailures({ data, log }: { data: CallPage; log: string }) {
  const failures = Object.entries(data.totals.outcomes)
    .filter(([name, calls]) => name !== "ok" && calls > 0)
    .sort(([, x], [, y]) => y - x);
  if (failures.length === 0) return null;
  return (
    <section class="panel" aria-labelledby="failures">
      <h2 id="failures">What went wrong</h2>
      <ul class="bars">
        {failures.map(([name, calls]) => (
          <li key={name}>
            <Link to={narrowed(log, { outcome: name })}>{words(name)}</Link>
            <span class="number" title={exact(calls)}>
              {count(calls)}
            </span>
            <span class="number muted">{percent(calls / data.totals.calls)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

export function Targets({ data }: { data: CallPage }) {
  const { params } = usePlace();
  if (data.by_target.length === 0) return null;
  const chosen = params.get("target");
  return (
    <section class="panel" aria-labelledby="targets">
      <h2 id="targets">Targets</h2>
      <div class="scroll" tabIndex={0} role="region" aria-label="Targets, as a table">
        <table class="plain">
          <thead>
            <tr>
              <th scope="col">Target</th>
              <th scope="col" class="number">
                Calls
              </th>
              <th scope="col" class="number">
                Errors
              </th>
              <th scope="col" class="number">
                p95
              </th>
              <th scope="col" class="number">
                Cost
              </th>
            </tr>
          </thead>
          <tbody>
            {data.by_target.map((each) => (
              <tr key={each.target}>
                <th scope="row">
                  <Pick name="target" value={each.target} chosen={chosen} none="no target" />
                </th>
                <td class="number">{count(each.calls)}</td>
                <td class="number">{percent(errorShare(each))}</td>
                <td class="number">{duration(each.latency?.p95)}</td>
                <td class="number">{costs(each)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Narrows the page down to one target or release, or opens it again. */
function Pick(props: { name: string; value: string | null; chosen: string | null; none: string; shown?: string | null }) {
  const { name, value, chosen, none, shown = value } = props;
  if (value === null || value === "") return <span class="muted">{none}</span>;
  return (
    <button type="button" class="link" aria-pressed={value === chosen} onClick={() => setParams({ [name]: value === chosen ? null : value })}>
      {shown}
    </button>
  );
}

/** When something was, known to one point of the charts: its beginning would be said to be too long ago. */
function Seen({ at, data: { step_ms: step, until_ms: until } }: { at: number; data: CallPage }) {
  if (at + step < until) return <Ago at={at + step} />;
  return <span title={`since ${absolute(at)}`}>&lt; {duration(step)} ago</span>;
}

export function Releases({ data }: { data: CallPage }) {
  const { params } = usePlace();
  if (data.releases.length === 0) return null;
  const chosen = params.get("release");
  return (
    <section class="panel" aria-labelledby="releases">
      <h2 id="releases">Releases</h2>
      <div class="scroll" tabIndex={0} role="region" aria-label="Releases, as a table">
        <table class="plain">
          <thead>
            <tr>
              <th scope="col">Release</th>
              <th scope="col" class="number">
                Calls
              </th>
              <th scope="col" class="number">
                Errors
              </th>
              <th scope="col" class="number">
                Seen first
              </th>
              <th scope="col" class="number">
                Last
              </th>
            </tr>
          </thead>
          <tbody>
            {[...data.releases]
              .sort((a, b) => b.first_ms - a.first_ms)
              .map((each) => (
                <tr key={each.release}>
                  <th scope="row">
                    <Pick name="release" value={each.release} chosen={chosen} none="without a release" shown={each.release === null ? null : shortRelease(each.release, data.call)} />
                  </th>
                  <td class="number">{count(each.calls)}</td>
                  <td class="number">{percent(each.error_rate)}</td>
                  <td class="number">
                    <Seen at={each.first_ms} data={data} />
                  </td>
                  <td class="number">
                    <Seen at={each.last_ms} data={data} />
                  </td>
                </tr>
              ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
