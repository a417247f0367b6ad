#!/usr/bin/env bash
# Counts the instructions of the hot parts under valgrind and compares them with the committed counts: unlike times they are the same on a busy
# machine and, because valgrind plays a processor of its own, on another machine. A count that grew by more than 5 % fails.
# usage: test-instructions.sh [--update]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
skip() { echo "skipped: the test of instruction counts $*"; exit 0; }
command -v valgrind >/dev/null || skip "needs valgrind"
[[ $(uname -m) == x86_64 ]] || skip "has counts for x86_64 only"
baseline=benches/instructions/baseline.toml
allowed=5
known() { sed -n "s/^$1 = \"*\([^\"]*\)\"*\$/\1/p" "$baseline"; }

# The program at INSTRUCTIONS, else the one that was tested.
program=${INSTRUCTIONS:-}
if [[ -z $program ]]; then
  "${tests[@]}" --quiet --no-run >/dev/null 2>&1 || "${tests[@]}" --no-run
  program=${CARGO_TARGET_DIR:-target}/debug/instructions
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
machine=$(timeout 120 valgrind --tool=none -q "$program" --machine)
compiler=$(rustc --version | cut -d ' ' -f 2)
if [[ ${1:-} != --update ]]; then
  # The libraries take other code on another processor, and no count says anything about another.
  [[ $machine == "$(known machine)" ]] || skip "has counts for a machine with ${machine@Q} only as $(known machine)"
  if [[ $compiler != "$(known rustc)" ]]; then
    allowed=25
    echo "instructions: this is Rust $compiler, the counts are of $(known rustc): up to $allowed % more pass. Where they are right, scripts/test-instructions.sh --update writes new ones"
  fi
fi

count() { # KERNEL: its instructions
  timeout 300 valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file=/dev/null "$program" "$1" >"$work/$1.out" 2>"$work/$1.log" || {
    cat "$work/$1.log" >&2
    return 1
  }
  sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p' "$work/$1.log"
}
export -f count
export program work
# Each in a process of its own, so as many at once as there are cores.
mapfile -t kernels < <("$program" --list)
printf '%s\n' "${kernels[@]}" | xargs -P "$(nproc)" -I{} bash -c 'count {} >"$work/{}.count"'

if [[ ${1:-} == --update ]]; then
  {
    echo '# Instructions of the hot parts in a debug build, written by scripts/test-instructions.sh --update.'
    echo "rustc = \"$compiler\""
    echo "machine = \"$machine\""
    echo
    echo '[counts]'
    for kernel in "${kernels[@]}"; do echo "$kernel = $(cat "$work/$kernel.count")"; done
  } >"$work/baseline.toml"
  mv "$work/baseline.toml" "$baseline"
  cat "$baseline"
  exit 0
fi
failed=0
for kernel in "${kernels[@]}"; do
  now=$(cat "$work/$kernel.count") was=$(known "$kernel")
  [[ -n $now && -n $was ]] || { echo "instructions: FAILED: $kernel was not counted, or has no count in $baseline" >&2; failed=1; continue; }
  printf 'instructions: %-20s %12d, %+6.1f %%\n' "$kernel" "$now" "$(awk "BEGIN { print ($now / $was - 1) * 100 }")"
  if ((now * 100 > was * (100 + allowed))); then
    echo "instructions: FAILED: $kernel takes more than $allowed % more than the $was instructions in $baseline" >&2
    failed=1
  elif ((now * 100 < was * (100 - allowed))); then
    echo "instructions: $kernel takes less than it did: scripts/test-instructions.sh --update keeps it so"
  fi
done
exit $failed
