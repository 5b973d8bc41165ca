//! What recordings are called on a page: as short as tells them apart.
//!
//! In: names of files; out: a part of each. It refuses to know what is in them.

/// Between the words of a file's name.
const BETWEEN: [char; 4] = ['-', '_', '.', ' '];

/// A name for each file: its own without folder and ending, less the words that all begin or end with; the whole where
/// that does not tell them apart.
pub fn names<'a>(files: &[&'a str]) -> Vec<&'a str> {
    let stem = |file: &'a str| -> &'a str {
        let name = file.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".mcap").unwrap_or(name)
    };
    let stems: Vec<&str> = files.iter().map(|file| stem(file)).collect();
    if !are_apart(&stems) {
        return files.to_vec();
    }
    if stems.len() < 2 {
        return stems;
    }
    let (front, back) = (common(&stems, true), common(&stems, false));
    let cut = |name: &&'a str| name.get(front..name.len().saturating_sub(back));
    let short: Option<Vec<&str>> = stems.iter().map(cut).collect();
    short.filter(|names| are_apart(names)).unwrap_or(stems)
}

fn are_apart(names: &[&str]) -> bool {
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1]) && !names.contains(&"")
}

/// Bytes of the words, with what stands between them, that all names begin with, or end with.
fn common(names: &[&str], at_front: bool) -> usize {
    let first = names[0];
    let ends = first.match_indices(BETWEEN).map(|(at, between)| {
        if at_front {
            at + between.len()
        } else {
            first.len() - at
        }
    });
    let all = |&length: &usize| {
        names.iter().all(|name| {
            if at_front {
                name.starts_with(&first[..length])
            } else {
                name.ends_with(&first[first.len() - length..])
            }
        })
    };
    ends.filter(all).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What all share is left out, and only that.
    #[test]
    fn short_names() {
        for (files, expected) in [
            (&["a.mcap"][..], &["a"][..]),
            (
                &["x/linux-1048576-1.mcap", "x/ix-1048576-1.mcap"],
                &["linux", "ix"],
            ),
            (&["run-ix-1.mcap", "run-ix-2.mcap"], &["1", "2"]),
            (&["a/r.mcap", "b/r.mcap"], &["a/r.mcap", "b/r.mcap"]),
            (&["ix.mcap", "ix-1.mcap"], &["ix", "ix-1"]),
            (&["a-1-a.mcap", "a-a.mcap"], &["a-1-a", "a-a"]),
        ] {
            assert_eq!(names(files), expected);
        }
    }
}
