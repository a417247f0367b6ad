//! The demonstration, which `make demo` runs too.

use crate::support::{Host, Ran};

#[test]
#[ignore = "copies a few hundred MB; `make demo` runs it"]
fn the_demo_ends_with_equal() {
    let host = Host::bare();
    let ran = Ran::of(&host.command(["demo", "demo"]).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.lines().any(|line| line.starts_with("equal: ")), "{}", ran.out);
    assert!(ran.out.contains("no problems"), "{}", ran.out);
    assert!(host.path("demo/home/repository/config").is_file(), "a place that was named is kept");
}

#[test]
fn a_demo_does_not_touch_a_directory_that_is_not_empty() {
    let host = Host::bare();
    crate::support::write(&host.path("mine/file"), b"mine");
    host.run(["demo", "mine"]).fails(3, &["is not empty"]);
    assert_eq!(crate::support::content(&host.path("mine")).len(), 1);
}
