//! A ledger as tables for a terminal.

use crate::analyse::ledger::{Account, Basis, Ledger, Level};
use crate::present::style::{Style, percent, printable};
use crate::present::table::lines;
use std::fmt::Write as _;

/// The accounts of one level, or the program's and the roles' (the threads' where there are no roles).
pub fn ledger(ledger: &Ledger, level: Option<Level>, style: Style) -> String {
    let mut text = String::new();
    let count = |level| ledger.accounts.iter().filter(|a| a.level == level).count();
    let second = if count(Level::Role) > 0 {
        Level::Role
    } else {
        Level::Thread
    };
    // A single one says what the program's says.
    let useful = count(second) > 1;
    let wanted = |a: &&Account| match level {
        Some(level) => a.level == level,
        None => a.level == Level::Program || (useful && a.level == second),
    };
    let mut estimated = false;
    for (at, account) in ledger.accounts.iter().filter(wanted).enumerate() {
        if at > 0 {
            text.push('\n');
        }
        estimated |= account.entries.iter().any(|e| e.basis == Basis::Estimated);
        one(ledger, account, style, &mut text);
    }
    text.push('\n');
    if estimated {
        text.push_str("~ estimated: no probes tell empty polling from work here\n");
    }
    let packs = format!("packs: {}", ledger.packs.join(", "));
    let _ = writeln!(text, "{}", style.dim(&style.fit(&packs)));
    let _ = writeln!(text, "{}", style.dim(&ledger.trust.line()));
    text
}

fn one(ledger: &Ledger, account: &Account, style: Style, text: &mut String) {
    let of = if ledger.timed {
        "time".to_owned()
    } else {
        format!("{} samples", printable(&ledger.event))
    };
    let mut title = match account.level {
        Level::Program => format!("program, % of all {} threads' {of}", account.threads),
        Level::Role => format!(
            "role {} ({} threads), % of their {of}",
            printable(&account.name),
            account.threads
        ),
        Level::Thread if account.role.is_empty() => {
            format!("{}, % of its {of}", printable(&account.name))
        }
        Level::Thread => format!(
            "{} ({}), % of its {of}",
            printable(&account.name),
            account.role
        ),
    };
    if let Some(busy) = account.busy() {
        let tilde = if account.estimate.is_some() { "~" } else { "" };
        let _ = write!(title, ": busy {tilde}{}", percent(Some(busy)));
    }
    if let Some(estimate) = account.estimate {
        let (low, high) = (
            percent(Some(estimate.empty.low)),
            percent(Some(estimate.empty.high)),
        );
        let _ = write!(
            title,
            " (estimated from {}: empty polling {low} to {high})",
            estimate.method.name()
        );
    }
    let _ = writeln!(text, "{}", style.bold(&style.fit(&title)));
    let work = &ledger.work;
    let packets = work.rx_packets + work.tx_packets;
    let units = [
        ("request", work.requests),
        ("packet", packets),
        ("byte", work.tx_bytes),
    ];
    let units: Vec<_> = units.into_iter().filter(|u| u.1 > 0).collect();
    let mut head = vec!["share".to_owned(), "95 % interval".to_owned()];
    head.extend(units.iter().map(|(name, _)| format!("cycles/{name}")));
    head.extend(["known by", "phase"].map(str::to_owned));
    let mut rows = vec![head];
    for (entry, thousandths) in account.entries.iter().zip(account.thousandths()) {
        let share = account.share(entry);
        let tilde = if entry.basis == Basis::Estimated {
            "~"
        } else {
            ""
        };
        let interval = match entry.basis {
            Basis::Measured => "-".to_owned(),
            _ => format!(
                "{} to {}",
                percent(Some(share.low)),
                percent(Some(share.high))
            ),
        };
        let mut row = vec![
            format!("{tilde}{}.{}", thousandths / 10, thousandths % 10),
            interval,
        ];
        row.extend(units.iter().map(|&(_, n)| number(entry.cycles / n as f64)));
        row.push(entry.basis.name().to_owned());
        row.push(entry.phase.to_owned());
        rows.push(row);
    }
    let mut total = vec!["100.0".to_owned(), String::new()];
    total.extend(
        units
            .iter()
            .map(|&(_, n)| number(account.cycles / n as f64)),
    );
    total.extend([String::new(), "all".to_owned()]);
    rows.push(total);
    lines(&rows, style, text);
    counters(ledger, account, style, text);
}

/// What counters counted by row, where there are any that counted.
fn counters(ledger: &Ledger, account: &Account, style: Style, text: &mut String) {
    let all = account.counted();
    let Some((&sampled, members)) = all.split_first() else {
        return;
    };
    let told: Vec<usize> = (1..all.len()).filter(|&at| members[at - 1] > 0).collect();
    if told.is_empty() || sampled == 0 {
        return;
    }
    let requests = ledger.work.requests;
    let per = if requests > 0 { "/request" } else { "" };
    let name = |at: usize| printable(ledger.counters.get(at).map_or("", String::as_str));
    let is = |at: usize, what: &str| name(at).trim_end_matches(":u") == what;
    let cycles = is(0, "cycles");
    let heading = |&at: &usize| match cycles && is(at, "instructions") {
        true => "instructions/cycle".to_owned(),
        false => format!("{}{per}", name(at)),
    };
    let mut rows = vec![told.iter().map(heading).collect::<Vec<_>>()];
    rows[0].push("phase".to_owned());
    let row = |counts: &[u64], phase: &str| {
        let count = |at: usize| counts.get(at).copied().unwrap_or(0) as f64;
        let cell = |&at: &usize| match cycles && is(at, "instructions") {
            true => format!("{:.2}", count(at) / count(0).max(1.0)),
            false if requests > 0 => number(count(at) / requests as f64),
            false => format!("{:.0}", count(at)),
        };
        let mut cells: Vec<_> = told.iter().map(cell).collect();
        cells.push(phase.to_owned());
        cells
    };
    for entry in &account.entries {
        if let Some(counts) = account.counts.get(entry.phase) {
            rows.push(row(counts, entry.phase));
        }
    }
    rows.push(row(&all, "all"));
    let title = "counted since the thread's sample before, by where that sample fell";
    let _ = writeln!(text, "{}", style.dim(&style.fit(title)));
    lines(&rows, style, text);
}

/// A number of cycles with as many digits as help.
fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}"),
        v => format!("{v:.3}"),
    }
}
