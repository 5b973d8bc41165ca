//! The recording: records in, a file out, and back. The waist of the flow: what is left of it writes records, what is
//! right of it reads them.

pub mod record;
