//! Puts text between two markers of a page and leaves the rest of the page alone.

use anyhow::{Context as _, Result};

/// `page` with `block` between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
///
/// # Errors
/// When a marker is missing.
pub fn replace_block(page: &str, name: &str, block: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let (head, rest) = page.split_once(&begin).with_context(|| format!("the page has no marker {begin}"))?;
    let (_, tail) = rest.split_once(&end).with_context(|| format!("the page has no marker {end} after {begin}"))?;
    Ok(format!("{head}{begin}\n\n{}\n\n{end}{tail}", block.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_block_changes_and_twice_is_once() {
        let page = "# Title\n<!-- x:begin -->\nold\n<!-- x:end -->\nrest\n";
        let once = replace_block(page, "x", "new\n").unwrap();
        assert_eq!(once, "# Title\n<!-- x:begin -->\n\nnew\n\n<!-- x:end -->\nrest\n");
        assert_eq!(replace_block(&once, "x", "new").unwrap(), once);
        assert!(replace_block(page, "y", "").unwrap_err().to_string().contains("<!-- y:begin -->"));
        assert!(replace_block("<!-- x:begin -->", "x", "").is_err());
    }
}
