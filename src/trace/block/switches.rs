//! Blocks of switches.
//!
//! In: switches; out: a block, and the switches back. Every field is a column of differences from the switch before.

use super::numbers::{Bytes, Deltas, Undeltas, put, put_column};
use super::{BlockError, KIND_SWITCHES, MAX_BLOCK};
use crate::trace::record::{Switch, SwitchKind};
use crate::units::Nanos;

/// Appends one block of at most [`MAX_BLOCK`] switches.
pub fn encode_switches(switches: &[Switch], out: &mut Vec<u8>) {
    let switches = &switches[..switches.len().min(MAX_BLOCK)];
    let mut columns: [Deltas; 5] = Default::default();
    let [time, pid, tid, cpu, kind] = &mut columns;
    for switch in switches {
        time.push(switch.time.ns());
        pid.push(u64::from(switch.pid));
        tid.push(u64::from(switch.tid));
        cpu.push(u64::from(switch.cpu));
        kind.push(switch.kind as u64);
    }
    out.push(KIND_SWITCHES);
    put(out, switches.len() as u64);
    for column in &columns {
        put_column(out, &column.bytes);
    }
}

/// Reads a block of switches.
pub fn decode_switches(block: &[u8], out: &mut Vec<Switch>) -> Result<(), BlockError> {
    let mut bytes = Bytes(block);
    bytes.kind(KIND_SWITCHES)?;
    let count = bytes.count()?;
    let mut column = || Undeltas::new(&mut bytes);
    let (mut time, mut pid, mut tid, mut cpu, mut kind) =
        (column()?, column()?, column()?, column()?, column()?);
    out.clear();
    for _ in 0..count {
        out.push(Switch {
            time: Nanos::from_ns(time.next()?),
            pid: pid.bounded("pid")?,
            tid: tid.bounded("tid")?,
            cpu: cpu.bounded("cpu")?,
            kind: match kind.next()? {
                0 => SwitchKind::In,
                1 => SwitchKind::OutWaiting,
                2 => SwitchKind::OutPreempted,
                _ => return Err(BlockError::Range("switch kind")),
            },
        });
    }
    Ok(())
}
