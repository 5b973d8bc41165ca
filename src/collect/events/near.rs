//! Names that someone may have meant.
//!
//! In: a name and all that there are; out: the few that are nearest. It refuses to know what they name.

/// Names that are offered at most.
const MOST: usize = 3;

/// The names nearest to `name`, the nearest first.
pub fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let far = (name.len() / 3).max(2);
    let distance = |other: &str| {
        if other.len().abs_diff(name.len()) <= far {
            let steps = strsim::damerau_levenshtein(name, other);
            if steps <= far {
                return Some(steps);
            }
        }
        // A part of the name is as good as a few wrong letters.
        (name.len() > 2 && other.contains(name)).then_some(far)
    };
    let mut near: Vec<(usize, &str)> = Vec::new();
    for other in names {
        if let Some(steps) = distance(other) {
            near.push((steps, other));
        }
    }
    near.sort_unstable();
    near.dedup();
    near.into_iter()
        .take(MOST)
        .map(|n| n.1.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters that are wrong, missing or swapped, and a part of a name.
    #[test]
    fn near_and_far() {
        let names = ["cycles", "instructions", "LLC-load-misses", "page-faults"];
        let near = |name| nearest(name, names);
        assert_eq!(near("cyclse"), ["cycles"]);
        assert_eq!(near("instructoins"), ["instructions"]);
        assert_eq!(near("load-misses"), ["LLC-load-misses"]);
        assert!(near("zebra").is_empty());
    }
}
