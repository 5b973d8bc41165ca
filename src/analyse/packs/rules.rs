//! The rules of all packs in effect, in the order of their precedence, made quick to ask.
//!
//! In: the packs chosen for a recording; out: what a function's name says about its phase, which callers decide for all
//! below them, what a thread is for. First the rules that packs mark so, then each pack's own, then the last ones; in
//! each of these groups packs come in the order chosen, and the first rule that fits decides.

use super::file::{Architecture, Caller, Order, Pack, PointRule, Role, Space};
use super::glob::{Glob, plain};
use bypassprof_wire::Point;
use std::collections::HashMap;

/// A function that a rule is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its name; for code without one, its module in brackets.
    pub name: &'a str,
    /// Whether it is the kernel's; `None`: not known.
    pub kernel: Option<bool>,
}

impl<'a> Asked<'a> {
    /// A function by name.
    pub fn named(name: &'a str, kernel: Option<bool>) -> Asked<'a> {
        Asked { name, kernel }
    }
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The phase.
    pub phase: &'static str,
    /// Whether a sample there means polling for nothing, or idling.
    pub polls: bool,
    /// Whether every round spends the same there.
    pub steady: bool,
}

#[derive(Clone, Debug)]
struct Flat {
    hit: Hit,
    space: Option<Space>,
}

/// Rules in effect.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    flat: Vec<Flat>,
    /// Places in `flat` of names without a star.
    exact: HashMap<String, Vec<usize>>,
    patterns: Vec<(Glob, usize)>,
    /// Phases that callers decide.
    pub callers: Vec<Caller>,
    /// Published stacks that others work like.
    pub architectures: Vec<Architecture>,
    /// What threads are, the first that fits decides.
    pub roles: Vec<Role>,
    followers: Vec<String>,
    foreign: Vec<Glob>,
    points: Vec<PointRule>,
    /// Names of the packs, in the order asked.
    pub packs: Vec<String>,
}

impl Rules {
    /// From packs in the order chosen.
    pub fn of(packs: &[&Pack]) -> Rules {
        let mut rules = Rules::default();
        for order in [Order::First, Order::Own, Order::Last] {
            let of_order = packs.iter().flat_map(|p| &p.rules);
            for rule in of_order.filter(|r| r.order == order) {
                for (glob, _) in &rule.symbols {
                    let hit = Hit {
                        phase: rule.phase,
                        polls: rule.polls,
                        steady: rule.steady,
                    };
                    rules.push(glob, rule.space, hit);
                }
            }
        }
        for pack in packs {
            rules
                .architectures
                .extend(pack.architectures.iter().cloned());
            if !pack.architectures.is_empty() {
                rules.followers.push(pack.name.clone());
            }
            rules.callers.extend(pack.callers.iter().cloned());
            rules.roles.extend(pack.roles.iter().cloned());
            rules.foreign.extend(pack.foreign.iter().cloned());
            rules.points.extend(pack.points.iter().cloned());
            rules.packs.push(pack.name.clone());
        }
        rules
    }

    /// Whether the pack of this name says what other stacks work like.
    pub fn has_architectures(&self, pack: &str) -> bool {
        self.followers.iter().any(|name| name == pack)
    }

    fn push(&mut self, glob: &Glob, space: Option<Space>, hit: Hit) {
        let place = self.flat.len();
        self.flat.push(Flat { hit, space });
        if glob.text().contains('*') {
            self.patterns.push((glob.clone(), place));
        } else {
            let places = self.exact.entry(glob.text().to_owned()).or_default();
            places.push(place);
        }
    }

    /// What the first rule that fits says about a function. Names of Rust methods are also tried without what stands
    /// before the type in `<&mut Type as Trait>::method`.
    pub fn of_function(&self, asked: Asked<'_>) -> Option<Hit> {
        let name = plain(asked.name);
        let bare = name
            .trim_start_matches(['<', '&'])
            .trim_start_matches("mut ");
        let applies = |place: &&usize| {
            let elsewhere = match self.flat[**place].space {
                Some(Space::Kernel) => Some(false),
                Some(Space::User) => Some(true),
                None => return true,
            };
            asked.kernel.is_none() || asked.kernel != elsewhere
        };
        let exact = |name: &str| self.exact.get(name).and_then(|p| p.iter().find(applies));
        let mut best = exact(name).into_iter().chain(exact(bare)).min().copied();
        for (glob, place) in &self.patterns {
            if best.is_some_and(|b| b < *place) {
                break;
            }
            if applies(&place) && (glob.fits(name) || glob.fits(bare)) {
                best = Some(*place);
                break;
            }
        }
        best.map(|place| self.flat[place].hit)
    }

    /// Whether a thread's process is not part of any service.
    pub fn is_foreign(&self, thread: &str) -> bool {
        self.foreign.iter().any(|g| g.fits(thread))
    }

    /// The catalogue's point that a program's own point stands for.
    pub fn meaning(&self, own_point: &str) -> Option<Point> {
        let rule = self.points.iter().find(|p| p.name.fits(own_point));
        rule.map(|r| r.means)
    }
}
