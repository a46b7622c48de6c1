//! What subscribers hear.
pub mod payload;
