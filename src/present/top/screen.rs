//! The screen: a line of what is looked at, a line of rates, threads with bars, functions, keys.
//!
//! In: what is shown and how it is looked at (sorted, scrolled, paused); out: cells. Wide enough for 80 columns; where
//! there are fewer, columns to the right go first, and with fewer than 24 lines functions, notes and keys. Colours are the terminal's own sixteen, and every state has a
//! character of its own, so that without colours it reads the same.

use super::cells::{COLUMNS, row};
use super::{Shown, text};
use crate::analyse::live::order::Key;
use crate::analyse::live::view::{ThreadView, Times};
use crate::present::style::{duration, percent, printable};
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, Wrap};

/// What the user wants that is not a matter of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// End it.
    Quit,
    /// Save the last seconds as a recording.
    Snapshot,
    /// Look again now.
    Refresh,
}

/// How it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// What threads are sorted by.
    pub sort: Key,
    /// Whether the picture stands still.
    pub paused: bool,
    /// What was said last: that a snapshot was saved, for example.
    pub said: String,
    help: bool,
    /// Threads that are above the first one shown.
    scroll: usize,
}

/// Width of a bar.
const BAR: u16 = 20;
/// Columns of a name.
const NAME: u16 = 15;
/// With so many lines functions have these of their own, whatever the number of threads.
const WITH_FUNCTIONS: u16 = 14;
const FUNCTIONS_AT_LEAST: u16 = 6;
/// Lines of a screen from which on these are there: keys, rates, what was said, the number of threads that are not shown.
const LINES: [u16; 4] = [4, 5, 6, 8];
/// Columns and lines that a thread with its bar needs.
const LEAST: (u16, u16) = (NAME + 1 + BAR, 3);

const HELP: &[(&str, &str)] = &[
    (
        "q  Esc  Ctrl-C",
        "quit; a command that was started is ended",
    ),
    ("s", "save the last seconds as a recording"),
    ("Space  p", "hold the picture, and go on; counting goes on"),
    ("<  >  Left  Right", "sort by another column"),
    (
        "u e o k b c d t n",
        "sort by useful, empty, off-cpu, packets,",
    ),
    ("", "burst, cycles, drops, depth, name"),
    ("Up  Down  PgUp  PgDn", "other threads"),
    ("r", "look again now"),
    ("h  ?", "this help, and away again"),
    ("", ""),
    ("# useful   . empty", "working; polling for nothing"),
    ("? unknown    off", "on a CPU; on none"),
];

impl Screen {
    /// At first.
    pub fn sorted_by(sort: Key) -> Screen {
        Screen {
            sort,
            ..Screen::default()
        }
    }

    /// What a key does to the screen, or wants of someone else.
    pub fn key(&mut self, key: KeyEvent) -> Option<Action> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Action::Quit);
        }
        if self.help {
            self.help = false;
            return (key.code == KeyCode::Char('q')).then_some(Action::Quit);
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Action::Quit),
            KeyCode::Char('s') => return Some(Action::Snapshot),
            KeyCode::Char('r') => return Some(Action::Refresh),
            KeyCode::Char(' ' | 'p') => self.paused = !self.paused,
            KeyCode::Char('h' | '?') => self.help = true,
            KeyCode::Char('>') | KeyCode::Right => self.sort = self.sort.next(1),
            KeyCode::Char('<') | KeyCode::Left => self.sort = self.sort.next(-1),
            KeyCode::Char('u') => self.sort = Key::Useful,
            KeyCode::Char('e') => self.sort = Key::Empty,
            KeyCode::Char('o') => self.sort = Key::OffCpu,
            KeyCode::Char('k') => self.sort = Key::Packets,
            KeyCode::Char('b') => self.sort = Key::Burst,
            KeyCode::Char('c') => self.sort = Key::Cycles,
            KeyCode::Char('d') => self.sort = Key::Drops,
            KeyCode::Char('t') => self.sort = Key::Depth,
            KeyCode::Char('n') => self.sort = Key::Name,
            KeyCode::Down => self.scroll += 1,
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll += 10,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        None
    }

    /// Draws all of it. Threads must be in order.
    pub fn draw(&mut self, frame: &mut Frame, shown: &Shown) {
        let area = frame.area();
        if area.width < LEAST.0 || area.height < LEAST.1 {
            let line = format!("at least {} x {}", LEAST.0, LEAST.1);
            frame.render_widget(Paragraph::new(line).wrap(Wrap { trim: true }), area);
            return;
        }
        let threads = shown.view.threads.len();
        self.scroll = self.scroll.min(threads.saturating_sub(1));
        let rows = u16::try_from(threads - self.scroll.min(threads)).unwrap_or(u16::MAX);
        let [keys, rates, note, gap] = LINES.map(|least| u16::from(area.height >= least));
        let functions = if area.height >= WITH_FUNCTIONS {
            FUNCTIONS_AT_LEAST
        } else {
            1
        };
        let others = 1 + keys + rates + note + gap + functions;
        let room = area.height.saturating_sub(others).max(1);
        let height = rows.min(room).saturating_add(1);
        let [title, rates, note, list, gap, functions, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(rates),
            Constraint::Length(note),
            Constraint::Length(height),
            Constraint::Length(gap),
            Constraint::Fill(1),
            Constraint::Length(keys),
        ])
        .areas(area);
        frame.render_widget(self.title(shown), title);
        frame.render_widget(Line::from(text::rates(shown)), rates);
        frame.render_widget(self.note(shown), note);
        self.threads(frame, shown, list);
        frame.render_widget(more(threads, self.scroll, height.saturating_sub(1)), gap);
        draw_functions(frame, shown, functions);
        let line = " q quit  s snapshot  Space pause  < > sort  h help";
        frame.render_widget(Line::from(line).style(reversed()), keys);
        if self.help {
            help(frame, area);
        }
    }

    fn title(&self, shown: &Shown) -> Line<'static> {
        let state = if self.paused { "  PAUSED" } else { "" };
        let title = format!(
            "bypassprof top  {}  {}  by {}{state}",
            printable(&shown.what),
            duration(shown.view.time_ns),
            self.sort.name()
        );
        Line::from(title).style(Style::new().add_modifier(Modifier::BOLD))
    }

    /// What was said last, what is missing, or what the user should know.
    fn note(&self, shown: &Shown) -> Line<'static> {
        let trust = &shown.view.trust;
        let lost = trust.samples_lost + trust.events_dropped + trust.late_records;
        let (text, colour) = if !self.said.is_empty() {
            (self.said.clone(), Color::Green)
        } else if lost > 0 || trust.rings_unreached > 0 {
            let text = format!(
                "lost: {} samples, {} slots of events; {} records late; {} rings not reached",
                trust.samples_lost, trust.events_dropped, trust.late_records, trust.rings_unreached
            );
            (text, Color::Red)
        } else {
            let first = shown.notices.first();
            (
                first.map_or_else(String::new, |n| n.1.clone()),
                Color::Yellow,
            )
        };
        Line::from(printable(&text)).style(Style::new().fg(colour))
    }

    fn threads(&self, frame: &mut Frame, shown: &Shown, area: Rect) {
        let mut widths = vec![Constraint::Length(NAME), Constraint::Length(BAR)];
        let mut head = vec![Cell::from("thread"), Cell::from("# useful . empty")];
        let mut used = NAME + 1 + BAR;
        let mut columns = 0;
        for (name, width) in COLUMNS {
            used += width + 1;
            if used > area.width {
                break;
            }
            columns += 1;
            widths.push(Constraint::Length(width));
            head.push(Cell::from(Line::from(name).right_aligned()));
        }
        let rows = shown.view.threads.iter().skip(self.scroll).map(|thread| {
            let mut cells = vec![Cell::from(name(thread)), Cell::from(bar(thread, BAR))];
            let numbers = row(thread).into_iter().take(columns);
            cells.extend(numbers.map(|n| Cell::from(Line::from(n).right_aligned())));
            Row::new(cells)
        });
        let head = Row::new(head).style(Style::new().add_modifier(Modifier::DIM));
        frame.render_widget(Table::new(rows, widths).header(head), area);
    }
}

fn reversed() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

fn name(thread: &ThreadView) -> String {
    let name = printable(&thread.name);
    let room = usize::from(NAME) - usize::from(!thread.probes);
    let kept: String = name.chars().take(room).collect();
    // A star stands for: no probes, so that all that is known is whether it runs.
    if thread.probes { kept } else { kept + "*" }
}

/// The parts of a bar: how many cells each state has. Cells are given by largest remainder, so that they add up.
fn parts(times: &Times, width: u16) -> [usize; 4] {
    let shares = [times.useful, times.empty_poll, times.unknown, times.off_cpu];
    let exact = shares.map(|s| s.unwrap_or(0.0) * f64::from(width));
    let mut cells = exact.map(|e| e.floor() as usize);
    let all = exact.iter().sum::<f64>().round() as usize;
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let missing = all.saturating_sub(cells.iter().sum());
    for &at in order.iter().take(missing) {
        cells[at] += 1;
    }
    cells
}

fn bar(thread: &ThreadView, width: u16) -> Line<'static> {
    let cells = parts(&thread.times, width);
    let looks = [
        ("#", Color::Green),
        (".", Color::Yellow),
        (if thread.probes { "?" } else { "=" }, Color::Magenta),
        (" ", Color::Reset),
    ];
    let spans = cells.into_iter().zip(looks);
    let spans = spans.map(|(n, (mark, colour))| Span::styled(mark.repeat(n), colour));
    Line::from(spans.collect::<Vec<_>>())
}

fn more(threads: usize, scroll: usize, room: u16) -> Line<'static> {
    let below = threads.saturating_sub(scroll + usize::from(room));
    let text = match (scroll, below) {
        (0, 0) => String::new(),
        (above, below) => format!("  {above} threads above, {below} below"),
    };
    Line::from(text).style(Style::new().add_modifier(Modifier::DIM))
}

fn draw_functions(frame: &mut Frame, shown: &Shown, area: Rect) {
    let number = Constraint::Length(7);
    let widths = [number, number, number, Constraint::Fill(1)];
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    let head = ["self %", "useful", "empty"].map(|h| right(h.to_owned()));
    let what = format!("function, by samples of {}", shown.sampled.0);
    let head = Row::new(head.into_iter().chain([Cell::from(what)]));
    let rows = shown.functions.rows.iter().map(|f| {
        let shares = [f.self_share, f.useful_share, f.empty_poll_share];
        let shares = shares.map(|s| right(percent(Some(s))));
        let name = printable(&format!("{} [{}]", f.name, f.module));
        Row::new(shares.into_iter().chain([Cell::from(name)]))
    });
    let head = head.style(Style::new().add_modifier(Modifier::DIM));
    let rows: Vec<Row> = rows.take(usize::from(area.height)).collect();
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

fn help(frame: &mut Frame, area: Rect) {
    let lines = HELP
        .iter()
        .map(|(keys, what)| Line::from(format!(" {keys:<21} {what} ")));
    let lines: Vec<Line> = lines.collect();
    let width = 68.min(area.width);
    let height = (lines.len() as u16 + 2).min(area.height);
    let at = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, at);
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(" keys ")),
        at,
    );
}

#[cfg(test)]
mod tests;
