//! The files of the page, which are part of the program.

use crate::http::Answer;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, kind and content.
const FILES: [(&str, &str, &str); 10] = [
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    (
        "families.html",
        "text/html; charset=utf-8",
        include_str!("page/families.html"),
    ),
    ("families.js", SCRIPT, include_str!("page/families.js")),
    ("page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("page.js", SCRIPT, include_str!("page/page.js")),
    ("format.js", SCRIPT, include_str!("page/format.js")),
    ("tables.js", SCRIPT, include_str!("page/tables.js")),
    ("graph.js", SCRIPT, include_str!("page/graph.js")),
    ("history.js", SCRIPT, include_str!("page/history.js")),
];

/// The file of this name.
pub(super) fn find(name: &str) -> Option<Answer> {
    let found = FILES.iter().find(|file| file.0 == name)?;
    Some(Answer::ok(found.1, found.2.to_owned()))
}
