//! The control plane: everything that decides what the data plane runs. It touches calls only by
//! publishing plans.

pub mod alerts;
pub mod compile;
pub mod notify;
pub mod project;
pub mod watch;
