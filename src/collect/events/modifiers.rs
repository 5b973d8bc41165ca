//! Modifiers behind an event: whose part of it is counted, and how precisely it is sampled.
//!
//! In: letters such as `u`, `kpp`, `uH`; out: [`Modifiers`], and with them the bits of an [`Exclude`]. It refuses to know
//! which event they stand behind.

use std::fmt;
use std::str::FromStr;

/// The letters that were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modifiers {
    /// `u`: user code.
    pub user: bool,
    /// `k`: the kernel.
    pub kernel: bool,
    /// `h`: the hypervisor.
    pub hypervisor: bool,
    /// `G`: guests.
    pub guest: bool,
    /// `H`: the host.
    pub host: bool,
    /// `I`: not the idle task.
    pub no_idle: bool,
    /// `p`, up to three: less skid.
    pub precise: u8,
    /// `P`: as little skid as the machine can.
    pub precise_max: bool,
    /// `S`: the group is read with every sample of its leader.
    pub sample_read: bool,
    /// `D`: always on the PMU or not at all.
    pub pinned: bool,
    /// `e`: alone on the PMU.
    pub exclusive: bool,
    /// `W`: taken apart if the group does not fit.
    pub weak: bool,
}

impl FromStr for Modifiers {
    type Err = String;

    fn from_str(text: &str) -> Result<Modifiers, String> {
        let mut found = Modifiers::default();
        for letter in text.chars() {
            match letter {
                'u' => found.user = true,
                'k' => found.kernel = true,
                'h' => found.hypervisor = true,
                'G' => found.guest = true,
                'H' => found.host = true,
                'I' => found.no_idle = true,
                'p' if found.precise < 3 => found.precise += 1,
                'p' => return Err("more than three `p` are more than there is".to_owned()),
                'P' => found.precise_max = true,
                'S' => found.sample_read = true,
                'D' => found.pinned = true,
                'e' => found.exclusive = true,
                'W' => found.weak = true,
                'b' => return Err("counting by BPF (`b`) is perf's own".to_owned()),
                _ => {
                    return Err(format!(
                        "there is no modifier `{letter}`, only u k h G H I p P S D e W"
                    ));
                }
            }
        }
        Ok(found)
    }
}

impl fmt::Display for Modifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [
            (self.user, "u"),
            (self.kernel, "k"),
            (self.hypervisor, "h"),
            (self.guest, "G"),
            (self.host, "H"),
            (self.no_idle, "I"),
            (self.precise > 0, "p"),
            (self.precise > 1, "p"),
            (self.precise > 2, "p"),
            (self.precise_max, "P"),
            (self.sample_read, "S"),
            (self.pinned, "D"),
            (self.exclusive, "e"),
            (self.weak, "W"),
        ];
        let mut written = letters.iter().filter(|l| l.0);
        written.try_for_each(|l| f.write_str(l.1))
    }
}

/// What the kernel is told to leave out of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exclude {
    /// User code.
    pub user: bool,
    /// The kernel.
    pub kernel: bool,
    /// The hypervisor.
    pub hypervisor: bool,
    /// The host, when it is not running a guest.
    pub host: bool,
    /// Guests.
    pub guest: bool,
    /// The idle task.
    pub idle: bool,
    /// Whether guest and host were asked for by letter.
    pub sides_chosen: bool,
}

impl Default for Exclude {
    /// Guests are someone else's.
    fn default() -> Exclude {
        Exclude {
            user: false,
            kernel: false,
            hypervisor: false,
            host: false,
            guest: true,
            idle: false,
            sides_chosen: false,
        }
    }
}

impl Exclude {
    /// What an event's own modifiers leave out.
    pub fn of(modifiers: &Modifiers) -> Exclude {
        if *modifiers == Modifiers::default() {
            return Exclude::default();
        }
        let nothing = Exclude {
            guest: false,
            ..Exclude::default()
        };
        nothing.with(modifiers)
    }

    /// The same with the modifiers of its group, which add to what is counted.
    #[must_use]
    pub fn with(mut self, modifiers: &Modifiers) -> Exclude {
        if *modifiers == Modifiers::default() {
            return self;
        }
        let level = modifiers.user || modifiers.kernel || modifiers.hypervisor;
        if level && !(self.user || self.kernel || self.hypervisor) {
            (self.user, self.kernel, self.hypervisor) = (true, true, true);
        }
        self.user &= !modifiers.user;
        self.kernel &= !modifiers.kernel;
        self.hypervisor &= !modifiers.hypervisor;
        if modifiers.guest || modifiers.host {
            if !self.sides_chosen {
                (self.guest, self.host, self.sides_chosen) = (true, true, true);
            }
            self.guest &= !modifiers.guest;
            self.host &= !modifiers.host;
        } else if !self.sides_chosen && (modifiers.user || modifiers.precise > 0) {
            // User code of guests is someone else's too, and precise sampling does not reach into them.
            self.guest = true;
        }
        self.idle |= modifiers.no_idle;
        self
    }
}
