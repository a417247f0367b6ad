//! Single ranges of bytes, as a request asks for them.

use axum::http::{HeaderMap, header};

/// What part of a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    All,
    /// From, and how many bytes.
    Part(u64, u64),
    /// What the file does not have.
    Impossible,
}

/// What `headers` want of a file of `len` bytes with this tag. Several ranges, and what is no range, count as none, as the standard allows.
pub fn wanted(headers: &HeaderMap, len: u64, tag: &str) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else { return Wanted::All };
    // What the client has a part of may be something else.
    if text(header::IF_RANGE).is_some_and(|known| known != tag) {
        return Wanted::All;
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::All };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match (first.is_empty(), last.is_empty()) {
        (true, false) => match number(last) {
            Some(0) => Wanted::Impossible,
            Some(_) if len == 0 => Wanted::Impossible,
            Some(count) => Wanted::Part(len - count.min(len), count.min(len)),
            None => Wanted::All,
        },
        (false, _) => {
            let end = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match number(first).zip(end) {
                Some((from, to)) if from > to => Wanted::All,
                Some((from, _)) if from >= len => Wanted::Impossible,
                Some((from, to)) => Wanted::Part(from, to.min(len - 1) - from + 1),
                None => Wanted::All,
            }
        }
        (true, true) => Wanted::All,
    }
}

/// Whether the client has what it asks for already.
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    known.is_some_and(|known| known == "*" || known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn range(text: &str) -> Wanted {
        wanted(&HeaderMap::from_iter([(header::RANGE, HeaderValue::from_str(text).unwrap())]), 100, "\"a\"")
    }

    #[test]
    fn a_single_range_is_understood_and_anything_else_is_the_whole() {
        for (text, expected) in [
            ("bytes=0-0", Wanted::Part(0, 1)),
            ("bytes=10-", Wanted::Part(10, 90)),
            ("bytes=90-1000", Wanted::Part(90, 10)),
            ("bytes=-7", Wanted::Part(93, 7)),
            ("bytes=-700", Wanted::Part(0, 100)),
            ("bytes=100-", Wanted::Impossible),
            ("bytes=-0", Wanted::Impossible),
            ("bytes=5-4", Wanted::All),
            ("bytes=1-2,4-5", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=99999999999999999999-", Wanted::All),
            ("lines=1-2", Wanted::All),
        ] {
            assert_eq!(range(text), expected, "{text}");
        }
    }

    #[test]
    fn a_part_of_something_else_is_not_continued() {
        let mut headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=1-"))]);
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"a\""));
        assert_eq!(wanted(&headers, 10, "\"a\""), Wanted::Part(1, 9));
        assert_eq!(wanted(&headers, 10, "\"b\""), Wanted::All);
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"x\", W/\"b\""));
        assert!(is_known(&headers, "\"b\"") && !is_known(&headers, "\"c\""));
    }
}
