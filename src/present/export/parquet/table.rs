//! One table as a folder of Parquet files: rows by partition, a file when so many wait.
//!
//! In: a schema in Parquet's own notation and rows of values in its order; out: files. It refuses to know what columns
//! mean.

use parquet::basic::{Compression, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::TypePtr;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of one file.
pub const ROWS: usize = 1 << 16;

/// A value of a row.
pub enum Value {
    /// A whole number.
    Whole(i64),
    /// A whole number that may be absent.
    Maybe(Option<i64>),
    /// A real number.
    Real(f64),
    /// A text.
    Text(ByteArray),
}

/// Values of a column that wait.
enum Column {
    Whole(Vec<i64>),
    /// Numbers that are there, and for every row whether one is.
    Maybe(Vec<i64>, Vec<i16>),
    Real(Vec<f64>),
    Text(Vec<ByteArray>),
}

#[derive(Default)]
struct Part {
    columns: Vec<Column>,
    rows: usize,
    /// Files written so far.
    files: usize,
}

/// A table of one recording.
pub struct Table {
    dir: PathBuf,
    schema: TypePtr,
    properties: WriterPropertiesPtr,
    parts: BTreeMap<String, Part>,
    waiting: usize,
}

fn failed(error: parquet::errors::ParquetError) -> io::Error {
    io::Error::other(error)
}

impl Table {
    /// A table in `dir`; one that is there already makes way.
    pub fn new(dir: &Path, schema: &str) -> io::Result<Table> {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("bypassprof ", env!("CARGO_PKG_VERSION")).to_owned());
        Ok(Table {
            dir: dir.to_owned(),
            schema: Arc::new(parse_message_type(schema).map_err(failed)?),
            properties: Arc::new(properties.build()),
            parts: BTreeMap::new(),
            waiting: 0,
        })
    }

    /// Rows that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds a row, a value for each column.
    pub fn row(&mut self, thread: &str, values: impl IntoIterator<Item = Value>) -> io::Result<()> {
        if !self.parts.contains_key(thread) {
            let part = Part {
                columns: self.columns(),
                ..Part::default()
            };
            self.parts.insert(thread.to_owned(), part);
        }
        let Some(part) = self.parts.get_mut(thread) else {
            return Ok(());
        };
        for (column, value) in part.columns.iter_mut().zip(values) {
            match (column, value) {
                (Column::Whole(of), Value::Whole(value)) => of.push(value),
                (Column::Real(of), Value::Real(value)) => of.push(value),
                (Column::Text(of), Value::Text(value)) => of.push(value),
                (Column::Maybe(of, there), Value::Maybe(value)) => {
                    of.extend(value);
                    there.push(i16::from(value.is_some()));
                }
                _ => return Err(io::Error::other("a value is not of its column's kind")),
            }
        }
        part.rows += 1;
        self.waiting += 1;
        match part.rows {
            ROWS => self.write(thread),
            _ => Ok(()),
        }
    }

    fn columns(&self) -> Vec<Column> {
        let fields = self.schema.get_fields().iter();
        let column = |field: &TypePtr| match field.get_physical_type() {
            Physical::DOUBLE => Column::Real(Vec::new()),
            Physical::BYTE_ARRAY => Column::Text(Vec::new()),
            _ if field.is_optional() => Column::Maybe(Vec::new(), Vec::new()),
            _ => Column::Whole(Vec::new()),
        };
        fields.map(column).collect()
    }

    /// Writes the partition in which most rows wait.
    pub fn write_fullest(&mut self) -> io::Result<()> {
        let fullest = self.parts.iter().max_by_key(|p| p.1.rows);
        match fullest.map(|p| p.0.clone()) {
            Some(thread) => self.write(&thread),
            None => Ok(()),
        }
    }

    fn write(&mut self, thread: &str) -> io::Result<()> {
        let empty = self.columns();
        let Some(part) = self.parts.get_mut(thread).filter(|p| p.rows > 0) else {
            return Ok(());
        };
        self.waiting -= std::mem::take(&mut part.rows);
        let columns = std::mem::replace(&mut part.columns, empty);
        let dir = self.dir.join(format!("thread={thread}"));
        fs::create_dir_all(&dir)?;
        let file = File::create(dir.join(format!("part-{}.parquet", part.files)))?;
        part.files += 1;
        let (schema, properties) = (Arc::clone(&self.schema), Arc::clone(&self.properties));
        write_file(file, schema, properties, &columns).map_err(failed)
    }

    /// Writes what waits.
    pub fn finish(mut self) -> io::Result<()> {
        let threads: Vec<String> = self.parts.keys().cloned().collect();
        threads.iter().try_for_each(|thread| self.write(thread))
    }
}

fn write_file(
    file: File,
    schema: TypePtr,
    properties: WriterPropertiesPtr,
    columns: &[Column],
) -> parquet::errors::Result<()> {
    let mut writer = SerializedFileWriter::new(file, schema, properties)?;
    let mut rows = writer.next_row_group()?;
    let mut columns = columns.iter();
    while let (Some(mut out), Some(column)) = (rows.next_column()?, columns.next()) {
        match column {
            Column::Whole(of) => out.typed::<Int64Type>().write_batch(of, None, None)?,
            Column::Maybe(of, there) => {
                out.typed::<Int64Type>()
                    .write_batch(of, Some(there), None)?
            }
            Column::Real(of) => out.typed::<DoubleType>().write_batch(of, None, None)?,
            Column::Text(of) => out.typed::<ByteArrayType>().write_batch(of, None, None)?,
        };
        out.close()?;
    }
    rows.close()?;
    writer.close()?;
    Ok(())
}
