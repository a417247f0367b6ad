#!/usr/bin/env bash
# The suite of machines over libvirt: a libvirtd of its own runs a guest that boot-test has made. Needs root, libvirt and QEMU; some minutes.
#
# VML_GUEST=DIR  a guest made elsewhere, by testdata/make-guest
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
PATH=$PATH:/usr/sbin:/sbin
skip() { echo "skipped: the libvirt test $*"; exit 0; }
[[ $(id -u) == 0 ]] || skip "needs root, for a libvirtd of its own"
for tool in libvirtd virsh qemu-system-x86_64 qemu-img ssh; do
  command -v "$tool" >/dev/null || skip "needs $tool (apt-get install libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils)"
done
pkg-config --exists libvirt 2>/dev/null || skip "needs libvirt's headers (apt-get install libvirt-dev pkg-config)"
guest=${VML_GUEST:-target/guest}
[[ -e $guest/disk.raw ]] || skip "needs a guest, which the boot test makes"
export VML_GUEST
VML_GUEST=$(realpath "$guest")
"${tests[@]}" --quiet --test machines --no-run
code=0
scripts/with-libvirtd.sh "${tests[@]}" --test machines libvirt:: -- --ignored --test-threads 1 || code=$?
[[ $code != 3 ]] || skip "cannot start a libvirtd here"
exit $code
