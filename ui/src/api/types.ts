// What the API answers: short names for the shapes that the pages use. `schema.d.ts` is generated
// from the description that the server publishes; `npm run types` writes it anew.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Quantiles = Schemas["Quantiles"];
export type CallState = Schemas["Light"];
export type Severity = Schemas["RuleSeverity"];
export type BoardCall = Schemas["BoardCall"];
export type Board = Schemas["Board"];
export type Ladder = Schemas["LadderSums"];
export type Sums = Schemas["Sums"];
export type Point = Schemas["Point"];
export type Band = Schemas["Band"];
export type CallPage = Schemas["CallPage"];
export type Usage = Schemas["TokenUsage"];
export type Cost = Schemas["CostItem"];
export type LogRow = Schemas["LogRow"];
export type LogList = Schemas["LogPage"];
export type Attempt = Schemas["AttemptItem"];
export type Violation = Schemas["ViolationItem"];
export type LogRecord = Schemas["RecordItem"];
export type Report = Schemas["ReportItem"];
export type LogDetail = Schemas["LogEntry"];
export type Alert = Schemas["AlertItem"];
export type RuleState = Schemas["RuleState"];
export type RuleCall = Schemas["RuleStand"];
export type RuleView = Schemas["RuleItem"];
export type Alerts = Schemas["Alerts"];
export type AlertHistory = Schemas["History"];
export type Silence = Schemas["SilenceItem"];
export type Silences = Schemas["Silences"];
export type Health = Schemas["Health"];
export type Prices = Schemas["Prices"];
export type Session = Schemas["Session"];
