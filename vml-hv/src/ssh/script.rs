//! Commands for a guest's shell: one line of `sh -c`, so that it does not matter which shell the user has there.

/// A word that any shell takes as it is.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// `script` run by `sh` with `arguments` as `$1` and so on.
pub(super) fn shell<'a>(script: &str, arguments: impl IntoIterator<Item = &'a str>) -> String {
    // A newline would end the command of some shells even in quotes.
    let one_line = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let mut command = format!("exec sh -c {} sh", quoted(&one_line));
    for argument in arguments {
        command.push(' ');
        command.push_str(&quoted(argument));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_script_unchanged() {
        let command = shell("printf '%s,'\n \"$@\"", ["it's", "a b", "$HOME", "*"]);
        let out = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "it's,a b,$HOME,*,");
    }
}
