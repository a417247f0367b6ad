#!/usr/bin/env bash
# Saves, builds and compares the five states of a real guest. Needs root, and 3 GB below target/ for the guest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
if [[ $(id -u) != 0 ]]; then
  echo "skipped: the corpus test needs root, to make a guest and to restore owners and devices"
  exit 0
fi
corpus=${VML_CORPUS:-target/corpus}
if [[ ! -e $corpus/trees/v1 ]] && ! TREES_ONLY=1 testdata/make-corpus "$corpus" small >/dev/null; then
  echo "skipped: the corpus could not be made, see $corpus/debootstrap.log"
  exit 0
fi
VML_CORPUS=$(realpath "$corpus") exec "${tests[@]}" --test suite corpus:: -- --ignored --nocapture
