//! The live view on a terminal: drawn again when something changed, in between keys and the recorder have their turns.
//!
//! The terminal is given back as it was found: at the end, on a signal, and by a hook when the program panics.

use super::super::Failure;
use super::Args;
use super::watch::Watch;
use crate::analyse::live::order;
use crate::collect::clock;
use crate::present::top::{Action, Screen, Shown};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Between two looks whether programs are still there.
const OVER_EVERY: Duration = Duration::from_millis(200);

/// Shows intervals until it is over.
pub fn look(
    args: &Args,
    watch: &mut Watch,
    interrupted: &AtomicUsize,
    over: &mut dyn FnMut() -> bool,
) -> Result<(), Failure> {
    let ended = on_terminal(|terminal| {
        let mut view = Viewing {
            args,
            watch,
            terminal,
            screen: Screen::sorted_by(args.sort),
            held: None,
            due: Instant::now() + args.interval.min(Duration::from_millis(500)),
        };
        view.run(interrupted, over)
    })?;
    if ended == Ended::Programs {
        eprintln!("bypassprof: what was looked at has ended");
    }
    Ok(())
}

/// Takes the terminal, and gives it back whatever happens: at a panic by a hook that is set meanwhile.
fn on_terminal<T>(work: impl FnOnce(DefaultTerminal) -> Result<T, Failure>) -> Result<T, Failure> {
    let cannot = |e: io::Error| Failure::failed(format!("cannot use the terminal: {e}"));
    let terminal = ratatui::try_init().map_err(cannot)?;
    let worked = work(terminal);
    let restored = ratatui::try_restore().map_err(cannot);
    let worked = worked?;
    restored.map(|()| worked)
}

#[derive(PartialEq, Eq)]
enum Ended {
    User,
    Programs,
}

struct Viewing<'a> {
    args: &'a Args,
    watch: &'a mut Watch,
    terminal: DefaultTerminal,
    screen: Screen,
    /// What stands still while it is paused.
    held: Option<Shown>,
    /// When the interval ends.
    due: Instant,
}

impl Viewing<'_> {
    fn run(
        &mut self,
        interrupted: &AtomicUsize,
        over: &mut dyn FnMut() -> bool,
    ) -> Result<Ended, Failure> {
        let mut asked = Instant::now();
        self.draw()?;
        while interrupted.load(Ordering::Relaxed) == 0 {
            if asked.elapsed() >= OVER_EVERY {
                asked = Instant::now();
                if over() {
                    return Ok(Ended::Programs);
                }
            }
            let awaited = self.watch.awaits_names();
            let mut wait = self.watch.turn()?;
            let mut changed = awaited && !self.watch.awaits_names();
            if let Some(said) = self.watch.saved(false) {
                self.screen.said = said;
                changed = true;
            }
            if Instant::now() >= self.due {
                self.watch.settle(clock::now(), self.screen.sort)?;
                self.due = Instant::now() + self.args.interval;
                changed = true;
            }
            if changed {
                self.draw()?;
            }
            wait = wait.min(self.due.saturating_duration_since(Instant::now()));
            if event::poll(wait).map_err(Failure::failed)? && self.event()? {
                return Ok(Ended::User);
            }
        }
        Ok(Ended::User)
    }

    /// Takes a key or a new size; whether the user wants to end it.
    fn event(&mut self) -> Result<bool, Failure> {
        let event = event::read().map_err(Failure::failed)?;
        if let Event::Key(key) = event {
            self.screen.said.clear();
            match self.screen.key(key) {
                Some(Action::Quit) => return Ok(true),
                Some(Action::Snapshot) => {
                    self.watch.save()?;
                    self.screen.said = "saving".to_owned();
                }
                Some(Action::Refresh) => self.due = Instant::now(),
                None => {
                    self.watch.sort(self.screen.sort);
                    if let Some(held) = &mut self.held {
                        order::sort(&mut held.view.threads, self.screen.sort);
                    }
                }
            }
        }
        // A new size is found when it is drawn.
        self.draw()?;
        Ok(false)
    }

    fn draw(&mut self) -> Result<(), Failure> {
        if !self.screen.paused {
            self.held = None;
        } else if self.held.is_none() {
            self.held = Some(self.watch.shown().clone());
        }
        let shown = self.held.as_ref().unwrap_or(self.watch.shown());
        let drawn = self.terminal.draw(|frame| self.screen.draw(frame, shown));
        drawn
            .map(drop)
            .map_err(|e| Failure::failed(format!("cannot draw: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Not a test: takes the terminal and panics.
    #[test]
    #[ignore = "the program that another test looks at"]
    fn panics() {
        let _ = on_terminal(|_| -> Result<(), Failure> { panic!("no one saw it coming") });
    }

    /// After a panic lines are lines again and keys are shown, and the message can be read: it comes last.
    #[test]
    fn panic_gives_the_terminal_back() {
        let program = std::env::current_exe().unwrap();
        let panics = "cmd::top::terminal::tests::panics --exact --ignored --nocapture";
        let line = format!("'{}' {panics}; stty -a", program.display());
        let run = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .output();
        let Ok(run) = run else {
            eprintln!("left out: there is no `script` here (Debian's bsdutils)");
            return;
        };
        let said = String::from_utf8_lossy(&run.stdout);
        let at = |what: &str| {
            said.find(what)
                .unwrap_or_else(|| panic!("no {what:?}: {said}"))
        };
        let (taken, given) = (at("\x1b[?1049h"), at("\x1b[?1049l"));
        assert!(
            taken < given && given < at("no one saw it coming"),
            "{said}"
        );
        assert!(
            said.contains(" icanon ") && said.contains(" echo "),
            "{said}"
        );
    }
}
