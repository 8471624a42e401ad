//! A pluggable boot-time clock.
