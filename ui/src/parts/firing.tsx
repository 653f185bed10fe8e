// What is firing, before anything else on a page.
import type { Alerts } from "../api/types";
import { Link } from "../router";
import { useQuery } from "../query";
import { address } from "../url";
import { Shape } from "./signs";

/** The alerts of a call, or those that are of no single one. */
export function Firing({ call }: { call: string | null }) {
  const query = useQuery<Alerts>("alerts", () => "/alerts");
  const firing = (query.data?.firing ?? []).filter((alert) => alert.call === call && alert.state === "firing");
  if (firing.length === 0) return null;
  return (
    <div class={`notice ${firing.some((alert) => alert.severity === "page") ? "bad" : "warn"}`} role="alert">
      <ul>
        {firing.map((alert) => (
          <li key={alert.id}>
            <Shape tone={alert.severity === "page" ? "bad" : "warn"} /> {alert.summary}{" "}
            <Link to={address("/alerts", { id: alert.id })}>Evidence</Link>
          </li>
        ))}
      </ul>
    </div>
  );
}
