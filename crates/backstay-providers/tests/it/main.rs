//! Tests of the crate from outside, over real sockets on the loopback interface.

#[cfg(test)]
mod transport;
