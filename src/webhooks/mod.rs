//! What subscribers hear.
pub mod attempt;
pub mod cursor;
pub mod endpoint;
mod lane;
pub mod payload;
pub mod retry;
