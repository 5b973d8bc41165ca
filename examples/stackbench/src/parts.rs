//! What a study found put into a page that a person has written around them.
//!
//! In: a page and named parts; out: the page with what stands between a part's two marks replaced. All else stays as it
//! is; a page that is not there yet is begun with nothing but the parts.

use crate::Failure;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

fn marks(by: &str, name: &str) -> [String; 2] {
    [
        format!("<!-- begin {name}: written by `stackbench {by}` -->"),
        format!("<!-- end {name} -->"),
    ]
}

/// Replaces parts of a page, whose marks name what writes them.
pub fn write(path: &Path, by: &str, parts: &[(&str, String)]) -> Result<(), Failure> {
    let page = match fs::read_to_string(path) {
        Ok(page) => page,
        Err(e) if e.kind() == ErrorKind::NotFound => blank(by, parts),
        Err(e) => {
            return Err(Failure::Wrong(format!(
                "cannot read {}: {e}",
                path.display()
            )));
        }
    };
    let page = replaced(&page, by, parts)
        .map_err(|mark| Failure::Wrong(format!("{} has no line `{mark}`", path.display())))?;
    fs::write(path, page).map_err(|source| Failure::Write {
        path: path.display().to_string(),
        source,
    })
}

fn blank(by: &str, parts: &[(&str, String)]) -> String {
    let part = |(name, _): &(&str, String)| {
        let [begin, end] = marks(by, name);
        format!("{begin}\n{end}\n")
    };
    parts.iter().map(part).collect::<Vec<_>>().join("\n")
}

/// The page with its parts replaced, or the mark that is missing.
fn replaced(page: &str, by: &str, parts: &[(&str, String)]) -> Result<String, String> {
    let mut page = page.to_string();
    for (name, text) in parts {
        let [begin, end] = marks(by, name);
        let from = page.find(&begin).ok_or(begin.clone())? + begin.len();
        let to = page[from..].find(&end).ok_or(end)? + from;
        page.replace_range(from..to, &format!("\n\n{}\n\n", text.trim()));
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts are replaced again and again, what a person wrote stays, and a page without a mark is refused.
    #[test]
    fn only_parts_change() {
        let parts = |text: &str| [("rows", text.to_string())];
        let page = format!("Words.\n\n{}\nMore.\n", blank("rows --page", &parts("")));
        let once = replaced(&page, "rows --page", &parts("old")).unwrap();
        let twice = replaced(&once, "rows --page", &parts("new")).unwrap();
        assert!(twice.starts_with("Words.") && twice.ends_with("More.\n"));
        assert!(twice.contains("\n\nnew\n\n") && !twice.contains("old"));
        assert_eq!(
            replaced(&twice, "rows --page", &parts("new")).unwrap(),
            twice
        );
        assert!(
            replaced("Words.", "rows --page", &parts(""))
                .unwrap_err()
                .contains("begin rows")
        );
    }
}
