//! What others need not know: where on this host things are.

use std::path::Path;

/// Paths that are left out of what is told.
#[derive(Debug, Clone, Default)]
pub struct Hidden(Vec<String>);

impl Hidden {
    /// Hides these places, as they are written and as they are.
    pub fn new<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        let both = paths.into_iter().flat_map(|path| [Some(path.to_path_buf()), path.canonicalize().ok()]).flatten();
        let mut texts: Vec<String> = both.map(|path| path.display().to_string()).filter(|text| text.len() > 1).collect();
        // The longest first: one may be inside another.
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        texts.dedup();
        Self(texts)
    }

    /// `message` without places of this host: what is hidden, and whatever else looks like an absolute path of several parts.
    pub fn clean(&self, message: &str) -> String {
        let mut text = message.to_owned();
        for hidden in &self.0 {
            text = text.replace(&format!("repository {hidden}"), "the repository").replace(hidden.as_str(), "the repository");
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find('/') {
            let begins = rest[..at].chars().next_back().is_none_or(|before| before.is_whitespace() || "\"'(=".contains(before));
            let len = rest[at..].find(|c: char| c.is_whitespace() || "\"'(),:;".contains(c)).unwrap_or(rest.len() - at);
            let path = &rest[at..at + len];
            out.push_str(&rest[..at]);
            let is_of_host = begins && path[1..].contains('/');
            out.push_str(if is_of_host { "a file of the service" } else { path });
            rest = &rest[at + len..];
        }
        out.push_str(rest);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_of_this_host_is_told() {
        let hidden = Hidden::new([Path::new("/srv/my repo")]);
        assert_eq!(hidden.clean("cannot open /srv/my repo/entries/ab: no"), "cannot open the repository/entries/ab: no");
        assert_eq!(
            hidden.clean("cannot read (/etc/ssl/key.pem), and \"/a/b\""),
            "cannot read (a file of the service), and \"a file of the service\""
        );
        assert_eq!(hidden.clean("3/4 of data/ab is there, / too"), "3/4 of data/ab is there, / too");
        assert_eq!(Hidden::new([Path::new("/")]).clean("a / b"), "a / b");
    }
}
