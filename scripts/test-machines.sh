#!/usr/bin/env bash
# Runs machines, under every hypervisor that is here, with a guest that is really booted: the suites `machines` of vml-hv and vml-cli.
# Needs root, QEMU 10, and the guest of the boot test; a few minutes, as there is no help of KVM.
#
# VML_CORPUS=DIR  a corpus made elsewhere    VML_GUEST=DIR  a guest made elsewhere, by testdata/make-guest
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
PATH=$PATH:/usr/sbin:/sbin
skip() { echo "skipped: the machine tests $*"; exit 0; }
[[ $(id -u) == 0 ]] || skip "need root, to make a guest"
[[ $(uname -m) == x86_64 ]] || skip "have a guest for x86_64 only"
for tool in qemu-system-x86_64 qemu-img ssh; do
  command -v "$tool" >/dev/null || skip "need $tool (apt-get install qemu-system-x86 qemu-utils openssh-client)"
done
version=$(qemu-system-x86_64 --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
[[ ${version:-0} -ge 10 ]] || skip "need QEMU 10 or newer, for memory and disks of one moment; here is ${version:-none}"
corpus=${VML_CORPUS:-target/corpus} guest=${VML_GUEST:-target/guest}
if [[ ! -e $guest/disk.raw ]]; then
  if [[ ! -e $corpus/trees/base ]] && ! TREES_ONLY=1 testdata/make-corpus "$corpus" small >/dev/null; then
    skip "have no corpus, see $corpus/debootstrap.log"
  fi
  testdata/make-guest "$guest" "$corpus/trees/base"
fi
VML_GUEST=$(realpath "$guest")
export VML_GUEST
# libvirt's own tests need a libvirtd, see test-libvirt.sh.
"${tests[@]}" --test machines -- --ignored --test-threads 1 --skip libvirt::
