#!/bin/sh
# fuzz/run.sh TARGET [SECONDS] [LIBFUZZER OPTION]...: fuzzes one target with the stable toolchain; `all` runs each in turn.
#
# New inputs are kept in fuzz/corpus/TARGET (not in the repository); a crash is written to fuzz/artifacts/TARGET.
# To keep a crash as a test: minimise it with `fuzz/run.sh TARGET 60 -minimize_crash=1 FILE`, then put it into
# testdata/fuzz/TARGET, where `cargo test -p fuzz-checks` replays it.
set -eu
cd "$(dirname "$0")"
target=${1:?usage: fuzz/run.sh TARGET|all [SECONDS] [LIBFUZZER OPTION]...}
seconds=${2:-60}
[ $# -le 2 ] && set -- || shift 2

# What cargo-fuzz gives a nightly compiler, said in options that a stable one takes. The explicit --target keeps build
# scripts and procedural macros free of it.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions"
triple=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-target}
cargo build --release --quiet --target "$triple" --target-dir "$out"

if [ "$target" = all ]; then
    targets=$(ls fuzz_targets | sed 's/\.rs$//')
else
    targets=$target
fi
for name in $targets; do
    [ -e "fuzz_targets/$name.rs" ] || { echo "fuzz/run.sh: there is no target $name" >&2; exit 2; }
    mkdir -p "corpus/$name" "artifacts/$name"
    if [ $# -gt 0 ]; then
        "$out/$triple/release/$name" -max_total_time="$seconds" -artifact_prefix="artifacts/$name/" "$@"
    else
        "$out/$triple/release/$name" -max_total_time="$seconds" -max_len=8192 -timeout=20 -print_final_stats=1 \
            -artifact_prefix="artifacts/$name/" "corpus/$name" "../testdata/fuzz/$name"
    fi
done
