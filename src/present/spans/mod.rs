//! Requests as tables and timelines, and as JSON.

pub mod json;
pub mod table;
