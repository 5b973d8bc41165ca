//! A ledger as a table, as JSON and as a picture.

pub mod json;
pub mod picture;
pub mod table;
