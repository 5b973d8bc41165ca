//! The screen as cells, at the size of an old terminal and at odd ones.

use super::*;
use crate::analyse::live::functions::FunctionView;
use crate::analyse::live::view::{Depth, Rates};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

fn shown(threads: u32) -> Shown {
    let mut shown = Shown {
        what: "httpd --stack ix".into(),
        ..Shown::default()
    };
    shown.sampled = ("cpu-clock".into(), 997);
    for tid in 0..threads {
        shown.view.threads.push(ThreadView {
            tid,
            name: format!("ix-{tid}\x1b[31m"),
            probes: tid != 1,
            times: Times {
                ticks: 100,
                on_cpu: Some(0.75),
                useful: (tid != 1).then_some(0.5),
                empty_poll: (tid != 1).then_some(0.25),
                unknown: Some(if tid == 1 { 0.75 } else { 0.0 }),
                off_cpu: Some(0.25),
            },
            rates: Rates {
                rx_packets: Some(12_000.0),
                tx_packets: Some(3_000.0),
                rx_burst: Some(7.5),
                cycles_per_packet: Some(2_345.0),
                ..Rates::default()
            },
            drops: 3,
            fulls: 1,
            depth: Some(Depth { mean: 1.5, max: 64 }),
            ..ThreadView::default()
        });
    }
    shown.functions.rows.push(FunctionView {
        name: "tcp_input".into(),
        module: "httpd".into(),
        self_share: 0.4,
        total_share: 0.5,
        useful_share: 0.4,
        empty_poll_share: 0.0,
    });
    shown
}

fn draw(screen: &mut Screen, shown: &Shown, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame, shown)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
    };
    (0..height).map(line).collect()
}

/// In 80 columns and 24 lines every column, the functions and the keys are there, and no name moves the cursor.
#[test]
fn old_terminal() {
    let lines = draw(&mut Screen::default(), &shown(3), 80, 24);
    let text = lines.join("\n");
    assert!(
        lines[0].starts_with("bypassprof top  httpd --stack ix"),
        "{text}"
    );
    let head = &lines[3];
    for column in ["thread", "pkt/s", "burst", "cyc/pkt", "drops", "depth"] {
        assert!(head.contains(column), "{text}");
    }
    assert!(lines[4].contains("##########....."), "{text}");
    assert!(
        lines[4].contains("15.0k    7.5     2345      3+1f   1.5/64"),
        "{text}"
    );
    assert!(
        lines[5].contains("===============") && lines[5].contains('*'),
        "{text}"
    );
    assert!(
        text.contains("40.0    40.0     0.0 tcp_input [httpd]"),
        "{text}"
    );
    assert!(lines[23].contains("q quit"), "{text}");
    assert!(!text.contains('\x1b'));
}

/// However small or large, it is drawn; with many threads the rest is counted and can be reached.
#[test]
fn odd_sizes() {
    for (width, height) in [(1, 1), (20, 3), (40, 10), (79, 23), (300, 100)] {
        for threads in [0, 1, 500] {
            let mut screen = Screen::default();
            draw(&mut screen, &shown(threads), width, height);
            screen.key(KeyCode::Char('h').into());
            draw(&mut screen, &shown(threads), width, height);
        }
    }
    let mut screen = Screen::default();
    let text = draw(&mut screen, &shown(100), 80, 24).join("\n");
    assert!(text.contains("0 threads above, 87 below"), "{text}");
    screen.key(KeyCode::PageDown.into());
    let text = draw(&mut screen, &shown(100), 80, 24).join("\n");
    assert!(
        text.contains("10 threads above, 77 below") && text.contains("ix-10"),
        "{text}"
    );
}

/// Where there is room for little, there is a thread; where there is room for none, what is needed.
#[test]
fn small_terminals() {
    let text = |width, height| draw(&mut Screen::default(), &shown(3), width, height).join("\n");
    for (height, has, has_not) in [
        (3, "ix-0", "q quit"),
        (4, "q quit", "req/s"),
        (5, "req/s", "ix-1"),
        (8, "ix-1", "ix-2"),
        (10, "ix-2", "tcp_input"),
        (14, "tcp_input", "at least"),
    ] {
        let text = text(40, height);
        assert!(
            text.contains("ix-0") && text.contains(has),
            "{height}: {text}"
        );
        assert!(!text.contains(has_not), "{height}: {text}");
    }
    assert!(text(36, 24).contains("ix-2"));
    assert!(text(20, 24).contains("at least 36 x 3"));
    assert!(text(80, 2).contains("at least 36 x 3"));
}

/// Keys: what they do here and what they want of others.
#[test]
fn keys() {
    let mut screen = Screen::default();
    let mut press = |code: KeyCode| screen.key(code.into());
    assert_eq!(press(KeyCode::Char('q')), Some(Action::Quit));
    assert_eq!(press(KeyCode::Char('s')), Some(Action::Snapshot));
    assert_eq!(press(KeyCode::Char('c')), None);
    assert_eq!(press(KeyCode::Char(' ')), None);
    assert_eq!((screen.sort, screen.paused), (Key::Cycles, true));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.key(interrupt), Some(Action::Quit));
}

/// The cells of a bar add up, whatever the shares.
#[test]
fn bars_add_up() {
    for part in 0..=100 {
        let useful = f64::from(part) / 100.0;
        let times = Times {
            useful: Some(useful),
            empty_poll: Some((1.0 - useful) * 0.6),
            unknown: Some(0.0),
            off_cpu: Some((1.0 - useful) * 0.4),
            ..Times::default()
        };
        assert_eq!(parts(&times, BAR).iter().sum::<usize>(), usize::from(BAR));
    }
}
