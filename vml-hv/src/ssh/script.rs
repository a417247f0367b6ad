//! Commands for a guest's shell: one line of `sh -c`, so that it does not matter which shell the user has there.

/// A word that any shell takes as it is.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What a script says first on its standard error; what stands before it was said by the files that a shell reads when it starts.
const BEGINS: &str = "vml-begins";

/// `script` run by `sh` with `arguments` as `$1` and so on.
pub(super) fn shell<'a>(script: &str, arguments: impl IntoIterator<Item = &'a str>) -> String {
    // A newline would end the command of some shells even in quotes.
    let one_line = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let mut command = format!("exec sh -c {} sh", quoted(&format!("echo {BEGINS} >&2; {one_line}")));
    for argument in arguments {
        command.push(' ');
        command.push_str(&quoted(argument));
    }
    command
}

/// What a script of [`shell`] said on its standard error; everything, when it never began.
pub(super) fn said(stderr: &str) -> String {
    let skipped = stderr.lines().position(|line| line == BEGINS).map_or(0, |line| line + 1);
    stderr.lines().skip(skipped).collect::<Vec<_>>().join("\n")
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

    #[test]
    fn words_of_a_login_are_not_those_of_the_script() {
        let command = format!("echo noise >&2; {}", shell("echo first >&2; echo second >&2", []));
        let out = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        assert_eq!(said(&String::from_utf8(out.stderr).unwrap()), "first\nsecond");
        assert_eq!(said("ssh: no route\n"), "ssh: no route");
    }
}
