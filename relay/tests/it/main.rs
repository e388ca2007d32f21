//! Integration tests of the relay, one binary.
