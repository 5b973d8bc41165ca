//! The recording is an ordinary MCAP file: the `mcap` package from PyPI reads it without knowing us.

use crate::support::{Place, Run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const SCRIPT: &str = r#"
import json, sys
from collections import Counter
from mcap.reader import make_reader

topics, kinds, schemas = Counter(), Counter(), set()
with open(sys.argv[1], "rb") as file:
    reader = make_reader(file, validate_crcs=True)
    profile = reader.get_header().profile
    for schema, channel, message in reader.iter_messages(log_time_order=False):
        topics[channel.topic] += 1
        schemas.add((channel.topic, schema.name, channel.message_encoding))
        if channel.topic == "/meta":
            kinds[json.loads(message.data)["type"]] += 1
print(json.dumps({"profile": profile, "topics": topics, "kinds": kinds, "schemas": sorted(schemas)}))
"#;

/// What tests read our files with, and how it is imported.
const PACKAGES: [(&str, &str); 6] = [
    ("mcap>=1,<2", "mcap.reader"),
    ("protobuf>=5", "google.protobuf"),
    (
        "perfetto>=0.59",
        "perfetto.protos.perfetto.trace.perfetto_trace_pb2",
    ),
    ("jsonschema>=4", "jsonschema"),
    ("duckdb>=1", "duckdb"),
    // It brings no browser: that is the system's.
    ("playwright>=1.40", "playwright.sync_api"),
];

/// A Python with these packages, made once under `target`; why not, if this machine has no Python or no way to PyPI.
pub fn python() -> Result<PathBuf, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(make).clone()
}

fn make() -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = dir.join("bin/python");
    let modules = PACKAGES.map(|p| p.1).join(", ");
    let works = |python: &Path| {
        let run = Command::new(python)
            .args(["-c", &format!("import {modules}")])
            .output();
        run.is_ok_and(|o| o.status.success())
    };
    if !works(&python) {
        let step = |program: &Path, args: &[&str]| {
            let mut command = Command::new(program);
            let output = command.args(args).output();
            let run = Run::from(output.map_err(|e| format!("{}: {e}", program.display()))?);
            match run.code {
                Some(0) => Ok(()),
                _ => Err(format!(
                    "{} {args:?}: {}{}",
                    program.display(),
                    run.out,
                    run.err
                )),
            }
        };
        let dir = dir
            .to_str()
            .ok_or("the target directory's name is not UTF-8")?;
        step(Path::new("python3"), &["-m", "venv", "--clear", dir])?;
        let install = ["-m", "pip", "install", "--quiet"];
        step(&python, &[&install[..], &PACKAGES.map(|p| p.0)].concat())?;
    }
    Ok(python)
}

/// Profile, topics, schemas and JSON records as docs/reference/recording.md says.
#[test]
fn read_by_another_library() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            eprintln!("left out: there is no Python with packages from PyPI: {why}");
            return;
        }
    };
    let place = Place::new();
    place.hot();
    place.record(&["./hot"]);
    let mut command = Command::new(python);
    let run = Run::of(
        command
            .args(["-c", SCRIPT])
            .arg(place.path("bypassprof.mcap")),
    );
    assert_eq!(run.code, Some(0), "{}", run.err);
    let read: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(read["profile"], "bypassprof/1.1");
    for topic in ["/meta", "/samples", "/switches"] {
        assert!(read["topics"][topic].as_u64().unwrap() > 0, "{read:#}");
    }
    for kind in ["session", "mapping", "clock", "symbols", "end"] {
        assert!(read["kinds"][kind].as_u64().unwrap() > 0, "{read:#}");
    }
    let schemas = read["schemas"].as_array().unwrap();
    let samples = serde_json::json!(["/samples", "bypassprof.samples/1", "bypassprof"]);
    assert!(schemas.contains(&samples), "{read:#}");
}
