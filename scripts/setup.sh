#!/usr/bin/env bash
# Sees that what building and testing need is there; on Debian and as root it installs what is missing, elsewhere it names it.
# usage: setup.sh build|test
set -euo pipefail
need=()
command -v cc >/dev/null || need+=(gcc libc6-dev)
if [[ ${1:-build} == test ]]; then
  command -v rsync >/dev/null || need+=(rsync)
  command -v setfacl >/dev/null || need+=(acl)
  command -v setfattr >/dev/null || need+=(attr)
  command -v setcap >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v setcap >/dev/null || need+=(libcap2-bin)
  if [[ $(id -u) == 0 ]]; then
    PATH=$PATH:/usr/sbin command -v debootstrap >/dev/null || need+=(debootstrap)
    PATH=$PATH:/usr/sbin:/sbin command -v mke2fs >/dev/null || need+=(e2fsprogs)
  fi
fi
if ! command -v cargo >/dev/null; then
  echo "setup: cargo is missing; VML needs Rust 1.89 or newer" >&2
  exit 2
fi
[[ ${#need[@]} == 0 ]] && exit 0
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo "setup: installing ${need[*]}"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${need[@]}"; } >/dev/null || {
    echo "setup: apt-get could not install ${need[*]}" >&2
    exit 2
  }
else
  echo "setup: missing: ${need[*]} (their Debian names); install them first" >&2
  exit 2
fi
