//! Names that users give: safe as a part of a path, of a key and of a command line.

use vml_chunk::backend::KEY_COMPONENT_MAX;
use vml_chunk::{Error, Result};

/// Checks a name that a user gives to an area, a tag or a part of a base.
///
/// # Errors
/// `InvalidInput` saying what a name may have.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() < KEY_COMPONENT_MAX / 2
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
    if good {
        return Ok(());
    }
    let article = if what.starts_with('a') { "an" } else { "a" };
    Err(Error::invalid(format!(
        "{name:?} cannot be the name of {article} {what}: it begins with a letter or digit, goes on with those and - _ . +, and has at most 99 of them"
    )))
}
