//! Pages for people. Whatever an entry says was written by somebody else: everything is escaped, and nothing on a page runs.

use crate::output::human;
use std::fmt::Write as _;
use vml_core::entry::{Entry, EntryId, Note};

pub const STYLE: &str = "\
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem }
table { border-collapse: collapse } th { text-align: left; font-weight: normal; color: #666; padding-right: 1.5rem; vertical-align: top }
td, th { padding-top: .2rem; padding-bottom: .2rem; overflow-wrap: anywhere }
pre { background: #f3f3f3; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere }
a { color: #0b57a4 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #1b1b1b } pre { background: #2a2a2a } a { color: #8ab8e6 } th { color: #999 } }
";

/// Text that can stand between tags and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in human::printable(text).chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What turns the direction of a text can make it look like another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

fn row(out: &mut String, name: &str, value: &str) {
    _ = writeln!(out, "<tr><th>{name}</th><td>{value}</td></tr>");
}

/// An area, or a base, and its latest entry.
pub struct Latest {
    pub name: String,
    pub id: EntryId,
    /// None where it cannot be read.
    pub entry: Option<Entry>,
}

/// The areas and bases of the repository.
pub fn areas(areas: &[Latest], bases: &[Latest], entries_count: usize) -> String {
    let mut out = format!("<h1>Logbook</h1>\n<p>{}</p>\n", human::counted(entries_count as u64, "entry"));
    for (title, rows) in [("Areas", areas), ("Bases", bases)] {
        if rows.is_empty() {
            continue;
        }
        _ = writeln!(out, "<h2>{title}</h2>\n<table>");
        for latest in rows {
            let said = latest.entry.as_ref().map_or_else(
                || "cannot be read".to_owned(),
                |entry| format!("{} UTC &middot; {}", time(entry.time_ms), escape(&human::first_line(&entry.message))),
            );
            let link = format!("<a href=\"/e/{}\">{}</a>", latest.id, latest.id.short());
            row(&mut out, &escape(&latest.name), &format!("{link} &middot; {said}"));
        }
        out.push_str("</table>\n");
    }
    page("Logbook", &out)
}

fn time(ms: i64) -> String {
    human::time_utc(ms).chars().take(16).map(|letter| if letter == 'T' { ' ' } else { letter }).collect()
}

/// One entry, and how to get it. `address` is that of this page.
pub fn entry(id: &EntryId, entry: &Entry, tags: &[String], notes: &[Note], address: &str) -> String {
    let mut out = format!("<h1>{} &middot; {}</h1>\n<table>\n", escape(&entry.origin()), id.short());
    row(&mut out, "entry", &id.to_string());
    row(&mut out, "saved", &format!("{} UTC by {}", time(entry.time_ms), escape(&entry.author)));
    row(&mut out, "holds", &escape(&human::extent_of(entry)));
    if let Some(base) = &entry.base {
        let name = escape(&format!("{}@{}", base.name, base.version));
        row(&mut out, "base", &format!("<a href=\"/e/{}\">{name}</a>", base.entry));
    }
    for parent in &entry.parents {
        row(&mut out, "continues", &format!("<a href=\"/e/{parent}\">{}</a>", parent.short()));
    }
    if !tags.is_empty() {
        row(&mut out, "tags", &escape(&tags.join(", ")));
    }
    if entry.memory().is_some() {
        row(&mut out, "memory", "has the memory of a machine, with whatever its programs knew");
    }
    out.push_str("</table>\n");
    if !entry.message.is_empty() {
        _ = writeln!(out, "<pre>{}</pre>", escape(&entry.message));
    }
    for note in notes {
        _ = writeln!(out, "<p>{} UTC, {}:</p>\n<pre>{}</pre>", time(note.time_ms), escape(&note.author), escape(&note.text));
    }
    _ = writeln!(out, "<h2>Receive it</h2>\n<pre>vml receive {}</pre>", escape(address));
    let file = format!("/e/{id}.vml");
    let needs = match &entry.base {
        Some(base) => format!(
            ", for those who have the base {}; <a href=\"{file}?full=true\">with the base</a>",
            escape(&format!("{}@{}", base.name, base.version))
        ),
        None => String::new(),
    };
    _ = writeln!(out, "<p>Or <a href=\"{file}\">download it as a file</a>{needs}, and <code>vml receive FILE</code>.</p>");
    page(&format!("{} {}", entry.origin(), id.short()), &out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_a_tag() {
        assert_eq!(escape("<a href='x' title=\"&\">\u{202e}\u{7}"), "&lt;a href=&#39;x&#39; title=&quot;&amp;&quot;&gt;\u{fffd}\u{fffd}");
    }
}
