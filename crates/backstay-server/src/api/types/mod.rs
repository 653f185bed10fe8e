//! What `/api/v1` says, as types: the answers, the bodies of requests, and with them the OpenAPI
//! description. Nothing here is computed.
//!
//! Times are milliseconds since the epoch (`…_ms`), latencies milliseconds, shares 0 to 1, money US
//! dollars. What is not known is `null`, never 0.

mod alerts;
mod board;
mod call;
mod health;
mod log;
mod session;
mod sums;

pub(crate) use alerts::{
    AlertItem, AlertState, Alerts, History, NewSilence, RuleItem, RuleSeverity, RuleStand,
    RuleState, SilenceItem, Silences,
};
pub(crate) use board::{
    Board, BoardCall, BoardHealth, BoardTotals, FiveMinutes, FiveState, HealthState, Light,
    SparkPoint,
};
pub(crate) use call::{
    Band, Bands, CallPage, CallSettings, LevelName, Point, ReleaseMark, TargetSums,
};
pub(crate) use health::{
    AlertingHealth, BreakerItem, BreakerName, Health, HoldItem, LimitsInForce, Notifications, Otlp,
    PriceItem, Prices, ProjectHealth, ProjectState, Receiver, Records, RollupsHealth, TargetHealth,
};
pub(crate) use log::{
    AttemptItem, CostItem, CostState, LogEntry, LogPage, LogRow, RecordItem, ReportItem,
    TokenUsage, ViolationItem,
};
pub(crate) use session::{Session, SignIn, Tick};

pub(crate) use sums::{DegradedSums, LadderSums, Quantiles, Sums, TokenSums};
