//! The operations in float64.
