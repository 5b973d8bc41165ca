//! A study that is interrupted and goes on.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Two rows, one point, recorded: eight runs of two fifths of a second.
const PLAN: &str = r#"
stacks = ["linux", "ix"]
seconds = 0.4
warmup = 0.0
repetitions = 2
[idle-latency]
bodies = [64]
"#;

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_stackbench"))
}

fn study(folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .current_dir(folder)
        .args(["study", "--out", "out"])
        .args(more);
    // What cargo built for the tests is what is tried: nothing is built here.
    command.env_remove("CARGO").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether the other programs are built and networks can be made here.
fn can(folder: &Path) -> bool {
    let beside = program().parent().unwrap().to_path_buf();
    let needs = ["bypassprof", "httpd", "httpd-demikernel", "loadgen"];
    if let Some(missing) = needs.iter().find(|name| !beside.join(name).is_file()) {
        eprintln!("left out: {missing} is not built");
        return false;
    }
    let made = netlab::Lab::new().and_then(|lab| lab.namespace("probe").map(drop));
    if let Err(why) = made {
        eprintln!("left out: no networks can be made here: {why}");
        return false;
    }
    fs::write(folder.join("plan.toml"), PLAN).unwrap();
    true
}

fn lines(folder: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("out/study.jsonl")).unwrap_or_default();
    let whole = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    whole.filter(|line: &Value| line["kind"] == kind).collect()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Interrupted after its second run, with half a line in its file: what is done is not done again, nothing is missing, every
/// run that should be is recorded, and pages, pictures and the gallery are there. Another plan is refused.
#[test]
fn goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    if !can(folder) {
        return;
    }
    let mut first = study(folder, &["--plan", "plan.toml"]).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while lines(folder, "run").len() < 2 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = Pid::from_raw(first.id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(130));
    let before = lines(folder, "run");
    assert!((2..8).contains(&before.len()), "{}", before.len());
    let path = folder.join("out/study.jsonl");
    let mut torn = fs::OpenOptions::new().append(true).open(&path).unwrap();
    torn.write_all(b"{\"schema\":\"bypassprof.stack").unwrap();

    let more = ["--pages", "pages", "--gallery", "gallery"];
    let second = study(folder, &more).output().unwrap();
    assert!(second.status.success(), "{}", words(&second));
    let runs = lines(folder, "run");
    assert_eq!(runs.len(), 8);
    assert_eq!(runs[..before.len()], before[..]);
    assert_eq!(lines(folder, "session").len(), 2);
    for run in &runs {
        let run = &run["value"];
        assert_eq!(run["run"]["outcome"], "measured", "{run}");
        if let Some(recording) = run["recording"].as_str() {
            assert!(folder.join("out").join(recording).is_file());
        }
    }
    for file in [
        "pages/README.md",
        "pages/idle-latency.md",
        "pages/study.jsonl",
        "pages/img/idle-latency-distribution-64.svg",
        "gallery/idle-latency-ix.svg",
    ] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let index = fs::read_to_string(folder.join("gallery/README.md")).unwrap();
    assert!(index.contains("ns of work for a request"), "{index}");

    let json = study(folder, &["--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&json.stdout).unwrap();
    let p50 = told["figures"].as_array().unwrap().iter().find(|f| {
        f["stack"] == "ix" && f["figure"].as_str().unwrap().starts_with("latency, median")
    });
    assert!(p50.unwrap()["spread"]["median"].as_f64().unwrap() > 0.0);

    fs::write(folder.join("plan.toml"), PLAN.replace("= 2", "= 3")).unwrap();
    let other = study(folder, &["--plan", "plan.toml"]).output().unwrap();
    assert_eq!(other.status.code(), Some(1));
    assert!(words(&other).contains("another plan"), "{}", words(&other));
    assert_eq!(lines(folder, "run").len(), 8);
}
