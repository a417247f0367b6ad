# Sourced by the others: one build serves all tests. `cargo test` of the whole workspace with these features makes the program too; anything else would compile it again.
features=()
if pkg-config --exists libvirt 2>/dev/null; then features=(--features vml-cli/libvirt); fi
# shellcheck disable=SC2034
tests=(cargo test --workspace "${features[@]}")

# The program at VML, else the one that was tested.
vml_program() {
  if [[ -z ${VML:-} ]]; then
    "${tests[@]}" --quiet --no-run >/dev/null 2>&1 || "${tests[@]}" --no-run
    VML=${CARGO_TARGET_DIR:-target}/debug/vml
  fi
  realpath "$VML"
}
