// Silences: alerts that are not told for a while, with a reason that the next person understands.
import { useState } from "preact/hooks";
import type { Alerts, Silence } from "../api/types";
import { post, remove } from "../api/client";
import { words } from "../format";
import { usePlace } from "../router";
import { Ago } from "../parts/state";
import { useNow } from "../clock";

const LENGTHS: [minutes: number, text: string][] = [
  [60, "1 hour"],
  [4 * 60, "4 hours"],
  [24 * 60, "1 day"],
  [7 * 24 * 60, "7 days"],
  [30 * 24 * 60, "30 days"],
];

export function SilenceForm({ alerts, done }: { alerts: Alerts; done: () => void }) {
  const { params } = usePlace();
  const [call, setCall] = useState(params.get("call") ?? "");
  const [rule, setRule] = useState(params.get("rule") ?? "");
  const [minutes, setMinutes] = useState("");
  const [reason, setReason] = useState("");
  const [said, say] = useState<{ bad: boolean; text: string } | null>(null);
  const [busy, setBusy] = useState(false);
  const calls = [...new Set(alerts.rules.flatMap((each) => each.calls.flatMap((stand) => (stand.call === null ? [] : [stand.call]))))].sort();
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await post("/silences", { call: call === "" ? null : call, rule: rule === "" ? null : rule, reason: reason.trim(), minutes: Number(minutes) });
      say({ bad: false, text: "Silenced." });
      setReason("");
      setMinutes("");
      done();
    } catch (error) {
      say({ bad: true, text: error instanceof Error ? error.message : String(error) });
    } finally {
      setBusy(false);
    }
  };
  return (
    <form class="panel silence" onSubmit={(event) => void submit(event)} aria-labelledby="silence">
      <h2 id="silence">New silence</h2>
      <p class="muted">Alerts are still evaluated and shown here; nobody is told.</p>
      <div class="filters">
        <label class="field">
          <span>Call</span>
          <select value={call} onChange={(event) => setCall(event.currentTarget.value)}>
            <option value="">All calls</option>
            {calls.map((each) => (
              <option value={each} key={each}>
                {each}
              </option>
            ))}
          </select>
        </label>
        <label class="field">
          <span>Rule</span>
          <select value={rule} onChange={(event) => setRule(event.currentTarget.value)}>
            <option value="">All rules</option>
            {alerts.rules.map((each) => (
              <option value={each.rule} key={each.rule}>
                {each.title}
              </option>
            ))}
          </select>
        </label>
        <label class="field">
          <span>For (required)</span>
          <select required value={minutes} onChange={(event) => setMinutes(event.currentTarget.value)}>
            <option value="">Choose how long</option>
            {LENGTHS.map(([value, text]) => (
              <option value={value} key={value}>
                {text}
              </option>
            ))}
          </select>
        </label>
        <label class="field grow">
          <span>Reason (required)</span>
          <input required type="text" maxLength={500} value={reason} placeholder="Provider's maintenance until noon" onInput={(event) => setReason(event.currentTarget.value)} />
        </label>
        <button type="submit" class="primary" disabled={busy}>
          Silence
        </button>
      </div>
      {call === "" && rule === "" && <p class="muted">Without a call and a rule, everything is silenced.</p>}
      <p role="status" class={said?.bad ? "over" : "muted"}>
        {said?.text}
      </p>
    </form>
  );
}

export function SilenceList({ all, changed }: { all: Silence[]; changed: () => void }) {
  const now = useNow();
  const [failed, setFailed] = useState<string | null>(null);
  const end = async (id: string) => {
    try {
      await remove(`/silences/${encodeURIComponent(id)}`);
      setFailed(null);
    } catch (error) {
      setFailed(error instanceof Error ? error.message : String(error));
    }
    changed();
  };
  if (all.length === 0) return <p class="nothing">Nothing is silenced.</p>;
  const ordered = [...all].sort((a, b) => Number(b.expires_ms > now) - Number(a.expires_ms > now) || b.created_ms - a.created_ms);
  return (
    <section class="panel" aria-labelledby="silences">
      <h2 id="silences">Silences</h2>
      {failed !== null && <p class="notice bad slim">{failed}</p>}
      <table class="cards" role="table" aria-label="Silences">
        <thead role="rowgroup">
          <tr role="row">
            <th role="columnheader" scope="col">What</th>
            <th role="columnheader" scope="col">Reason</th>
            <th role="columnheader" scope="col">By</th>
            <th role="columnheader" scope="col">Ends</th>
            <th role="columnheader" scope="col">
              <span class="hidden">Action</span>
            </th>
          </tr>
        </thead>
        <tbody role="rowgroup">
          {ordered.map((silence) => {
            const over = silence.expires_ms <= now;
            const what = `${silence.rule === null ? "all rules" : words(silence.rule)} of ${silence.call ?? "all calls"}`;
            return (
              <tr role="row" key={silence.id} class={over ? "idle" : ""}>
                <td role="cell" data-name="What" class="main-cell">
                  {what}
                </td>
                <td role="cell" data-name="Reason" class="wide">
                  {silence.reason}
                </td>
                <td role="cell" data-name="By">
                  {silence.by}
                  <small>
                    <Ago at={silence.created_ms} />
                  </small>
                </td>
                <td role="cell" data-name="Ends">
                  {over ? "over " : ""}
                  <Ago at={silence.expires_ms} ahead={!over} />
                </td>
                <td role="cell" data-name="">
                  {!over && (
                    <button type="button" class="small" onClick={() => void end(silence.id)}>
                      End now<span class="hidden"> the silence of {what}</span>
                    </button>
                  )}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}
