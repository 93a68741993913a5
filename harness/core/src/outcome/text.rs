//! Small helpers for texts that people read.

/// The text on one line, cut after so many characters.
pub(crate) fn clip(text: &str, most: usize) -> String {
    let flat = text.trim().replace(['\r', '\n', '\t'], " ");
    match flat.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &flat[..at]),
        None => flat,
    }
}

/// At most `most` of the names, those most like the one asked for first.
pub(super) fn similar_names(asked: &str, all: &[String], most: usize) -> Vec<String> {
    let mut scored: Vec<(f32, &String)> =
        all.iter().map(|name| (similar::TextDiff::from_chars(asked, name.as_str()).ratio(), name)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(most).map(|(_, name)| name.clone()).collect()
}
