//! A picture as a page of its own: an HTML file with the SVG in it.
//!
//! In: a title and an SVG; out: HTML that loads nothing from elsewhere and whose picture is as wide as the window.

use crate::svg::escape;

/// The page.
pub fn html(title: &str, svg: &str) -> String {
    // An XML declaration and a document type have no place inside a page.
    let picture = svg.find("<svg").map_or(svg, |start| &svg[start..]);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{}</title>\n\
         <style>body{{margin:1rem;font:15px/1.5 system-ui,sans-serif}}svg{{width:100%;height:auto}}\
         @media(prefers-color-scheme:dark){{body{{background:#181818}}}}</style>\n{picture}\n</html>\n",
        escape(title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One picture, no declaration, nothing from elsewhere, and a title that cannot break out.
    #[test]
    fn a_page() {
        let page = html(
            "a <b>",
            "<?xml version=\"1.0\"?><!DOCTYPE svg><svg xmlns=\"http://www.w3.org/2000/svg\"><g/></svg>",
        );
        assert!(page.contains("<title>a &lt;b&gt;</title>"));
        assert!(!page.contains("<?xml") && !page.contains("DOCTYPE"));
        assert_eq!(page.matches("<svg").count(), 1);
        assert!(!page.contains("src=") && !page.contains("href="));
    }
}
