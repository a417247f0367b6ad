#!/bin/sh
# The long part of the tests: what `cargo test` tries a sample of. ROUNDS (50) and KILL_SECONDS (600) say how long; each ROUND is about as long as the bounded run.
set -eu
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-50}
seconds=${KILL_SECONDS:-600}
seed=${SEED:-$(date +%j)}
echo "soak: $rounds rounds of crash states with the seed $seed, then kills for $seconds seconds"
VML_CRASH_ROUNDS=$rounds VML_TEST_SEED=$seed cargo test --release -p vml-core --test crash -- --nocapture
VML_TEST_ROUNDS=$((rounds * 100)) cargo test --release -p vml-core --test suite beside -- --nocapture
VML_KILL_SECONDS=$seconds cargo test --release -p vml-cli --test suite kills -- --nocapture
