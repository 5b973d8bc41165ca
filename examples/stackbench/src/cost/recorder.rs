//! Who records: nobody, us, or perf, and what each of them took and left.
//!
//! In: a mode and a server's process; out: a recorder that runs beside it, and, when it was asked to end, its CPU time,
//! the bytes of its file, its samples and those that it lost by its own account. It refuses to know what is measured
//! meanwhile.

use crate::Failure;
use crate::programs::Programs;
use crate::server::signal;
use bypassprof::trace::Reader;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Who records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody.
    Bare,
    /// Nobody, once more.
    BareAgain,
    /// `bypassprof record`.
    Ours,
    /// `perf record -g`.
    Perf,
    /// `perf record --call-graph dwarf`.
    PerfDwarf,
}

/// All modes, in the order of a first cycle: bare ones apart.
pub const MODES: [Mode; 5] = [
    Mode::Bare,
    Mode::Ours,
    Mode::Perf,
    Mode::BareAgain,
    Mode::PerfDwarf,
];

impl Mode {
    /// As a table calls it.
    pub fn words(self, frequency: u32) -> String {
        match self {
            Mode::Bare => "bare".into(),
            Mode::BareAgain => "bare again (noise)".into(),
            Mode::Ours => format!("bypassprof record -F {frequency}, with probes"),
            Mode::Perf => format!("perf record -F {frequency} -g"),
            Mode::PerfDwarf => format!("perf record -F {frequency} --call-graph dwarf"),
        }
    }

    /// Whether it needs perf.
    pub fn is_perf(self) -> bool {
        matches!(self, Mode::Perf | Mode::PerfDwarf)
    }
}

/// A recorder at work.
pub struct Recorder {
    mode: Mode,
    child: Child,
    file: PathBuf,
    begun: Instant,
}

/// What it took and left.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// CPUs used, from its start to its end; by us, until we stop to record.
    pub cpus: f64,
    /// Seconds of CPU after that: names of what was sampled, which perf leaves to its report.
    pub naming: f64,
    /// Bytes on disk a second.
    pub bytes: f64,
    /// Samples in the file.
    pub samples: u64,
    /// Samples that it says it lost; of perf, records that say so.
    pub lost: u64,
}

impl Recorder {
    /// Starts one, beside a process; `None`: nobody records in this mode.
    pub fn attach(
        mode: Mode,
        programs: &Programs,
        pid: u32,
        frequency: u32,
        folder: &Path,
    ) -> Result<Option<Recorder>, Failure> {
        let (program, name, graph): (&Path, &str, &[&str]) = match mode {
            Mode::Bare | Mode::BareAgain => return Ok(None),
            Mode::Ours => (&programs.bypassprof, "ours.mcap", &[]),
            Mode::Perf => (Path::new("perf"), "perf.data", &["-g"]),
            Mode::PerfDwarf => (Path::new("perf"), "perf.data", &["--call-graph", "dwarf"]),
        };
        let file = folder.join(name);
        // perf keeps the file before it under another name.
        let _ = std::fs::remove_file(&file);
        let mut command = Command::new(program);
        command.args(["record", "-F", &frequency.to_string()]);
        command.args(graph).arg("-o").arg(&file);
        command.args(["-p", &pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn();
        let child = child.map_err(|e| Failure::Wrong(format!("cannot start {mode:?}: {e}")))?;
        Ok(Some(Recorder {
            mode,
            child,
            file,
            begun: Instant::now(),
        }))
    }

    /// Asks it to end, and looks at what it did.
    pub fn detach(mut self) -> Result<Left, Failure> {
        if let Ok(Some(status)) = self.child.try_wait() {
            let why = format!("a recorder ended early with {status}");
            return Err(Failure::Wrong(why));
        }
        let wrong = |what: &str, e: &dyn std::fmt::Display| Failure::Wrong(format!("{what}: {e}"));
        let before = children_cpu()?;
        signal(&self.child, Signal::INT);
        let waited = self.child.wait();
        let seconds = self.begun.elapsed().as_secs_f64();
        waited.map_err(|e| wrong("a recorder is gone", &e))?;
        let cpu = children_cpu()? - before;
        let file = std::fs::metadata(&self.file);
        let bytes = file
            .map_err(|e| wrong("a recorder left no file", &e))?
            .len();
        let (samples, lost, recording) = match self.mode.is_perf() {
            true => {
                let (samples, lost) = perf_samples(&self.file)?;
                (samples, lost, cpu)
            }
            false => {
                let reader = Reader::open(&self.file).map_err(|e| wrong("our recording", &e))?;
                let meta = reader.meta();
                let own = meta.end.as_ref().map(|end| end.recorder_cpu_ns);
                let own = own.ok_or_else(|| Failure::Wrong("our recording has no end".into()))?;
                (meta.sample_count, meta.samples_lost(), own as f64 / 1e9)
            }
        };
        Ok(Left {
            cpus: recording / seconds,
            naming: (cpu - recording).max(0.0),
            bytes: bytes as f64 / seconds,
            samples,
            lost,
        })
    }
}

/// Of times in /proc: USER_HZ, 100 for programs on every processor that this builds for (asm-generic/param.h).
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU of all children that ended and were waited for (proc_pid_stat(5): cutime, cstime).
fn children_cpu() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat");
    let ticks = stat.ok().and_then(|stat| {
        let fields = stat.rsplit_once(") ")?.1.split(' ');
        let numbers: Result<Vec<u64>, _> = fields.skip(13).take(2).map(str::parse).collect();
        Some(numbers.ok()?.iter().sum::<u64>())
    });
    let ticks =
        ticks.ok_or_else(|| Failure::Wrong("/proc/self/stat is not as proc(5) says".into()))?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Samples, and records of losses, by `perf report --stats`.
fn perf_samples(file: &Path) -> Result<(u64, u64), Failure> {
    let mut command = Command::new("perf");
    command.args(["report", "--stats", "-i"]).arg(file);
    let run = command.output();
    let run = run.map_err(|e| Failure::Wrong(format!("cannot start perf: {e}")))?;
    Ok(counted(&String::from_utf8_lossy(&run.stdout)))
}

fn counted(stats: &str) -> (u64, u64) {
    let count = |name: &str| {
        let mut lines = stats.lines().map(str::trim_start);
        let rest = lines.find_map(|l| l.strip_prefix(name)?.strip_prefix(" events:"));
        let number = rest.and_then(|r| r.split_whitespace().next());
        number.and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    (count("SAMPLE"), count("LOST") + count("LOST_SAMPLES"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// perf's own words: of all events first, of each event after that.
    #[test]
    fn perf_stats() {
        let stats = "\nAggregated stats:\n           TOTAL events:       6999\n            LOST events:          3  ( 0.0%)\n          SAMPLE events:       6926  (99.0%)\ncpu-clock stats:\n          SAMPLE events:       6926\n";
        assert_eq!(counted(stats), (6926, 3));
        assert_eq!(counted(""), (0, 0));
    }

    /// A child's time counts once it was waited for.
    #[test]
    fn time_of_children() {
        let before = children_cpu().unwrap();
        let spin = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";
        Command::new("sh").args(["-c", spin]).status().unwrap();
        assert!(children_cpu().unwrap() > before);
    }
}
