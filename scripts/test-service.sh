#!/usr/bin/env bash
# Lets schemathesis look for an answer of `vml serve` that docs/openapi.yaml does not describe. Needs python3 and PyPI; about two minutes.
#
# VML=FILE  the program    EXAMPLES=N  requests that are made up for each operation
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
root=$PWD
skip() { echo "skipped: schemathesis $*"; exit 0; }
want="schemathesis==4.32.5"
venv=$root/target/schemathesis
command -v python3 >/dev/null || skip "needs python3"
if [[ $(cat "$venv/installed" 2>/dev/null) != "$want" ]]; then
  python3 -m venv "$venv" >/dev/null 2>&1 || skip "needs python3-venv"
  timeout 600 "$venv/bin/pip" install --quiet --disable-pip-version-check "$want" || skip "needs PyPI"
  echo "$want" >"$venv/installed"
fi
vml=$(vml_program)
work=$(mktemp -d)
server=
clean() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap clean EXIT

export VML_HOME=$work/home
mkdir -p "$work/guest/etc" "$work/base/etc"
cp -r docs "$work/guest/"
echo guest >"$work/guest/etc/hostname"
echo base >"$work/base/etc/hostname"
"$vml" -q init
"$vml" -q base add plain@1 --tree "$work/base"
"$vml" -q area add work --tree "$work/guest" --base plain@1
for number in 1 2 3; do
  echo "$number" >"$work/guest/etc/number"
  "$vml" -q save work -m "state $number" --tag "state-$number"
done
entries=$("$vml" log --json | sed -n 's/.*"entry":"\([0-9a-f]*\)","facts".*/\1/p')
VML_TEST_ENTRIES="work@latest work@~1 state-1 BASE:plain@1 $(echo "$entries" | tr '\n' ' ')"
VML_TEST_PACKS=$(ls "$VML_HOME/repository/data" "$VML_HOME/repository/meta" | grep -E '^[0-9a-f]{64}$' | tr '\n' ' ')
export VML_TEST_ENTRIES VML_TEST_PACKS
token=$("$vml" -q token new --name schemathesis --scopes admin)
"$vml" serve --listen 127.0.0.1:0 --wrong-tokens 1000000 --access-log "$work/access.log" >"$work/serving" 2>"$work/errors" &
server=$!
for _ in $(seq 100); do
  grep -q http "$work/serving" && break
  sleep 0.1
done
url=$(sed -n 's/.* at //p' "$work/serving")

# One seed, so that a failure can be seen again.
# In a copy, because it keeps what it found beside its settings.
cp -r scripts/schemathesis "$work/"
cd "$work/schemathesis"
SCHEMATHESIS_HOOKS=hooks PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 timeout 240 "$venv/bin/schemathesis" run "$root/docs/openapi.yaml" --url "$url" \
  --header "Authorization: Bearer $token" --phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-20}" --seed 1 --request-timeout 20 \
  --suppress-health-check all --generation-database none
if grep -q panicked "$work/errors"; then
  cat "$work/errors"
  exit 1
fi
echo "schemathesis found nothing in $(wc -l <"$work/access.log") requests"
