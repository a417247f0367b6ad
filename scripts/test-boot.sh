#!/usr/bin/env bash
# Boots what `vml build` made of a saved disk: QEMU, with no help of KVM, starts a real guest from the built overlay and ssh reaches it;
# what the guest writes is saved and read again. Needs root, QEMU, the base tree of the corpus, and 2 GB below target/; about a minute.
#
# VML_CORPUS=DIR  a corpus made elsewhere    VML_GUEST=DIR  a guest made elsewhere, by testdata/make-guest
# VML=PROGRAM     another vml than the one of this checkout
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
PATH=$PATH:/usr/sbin:/sbin
skip() { echo "skipped: the boot test $*"; exit 0; }
[[ $(id -u) == 0 ]] || skip "needs root, to make a guest"
[[ $(uname -m) == x86_64 ]] || skip "has a guest for x86_64 only"
for tool in qemu-system-x86_64 qemu-img debugfs ssh; do
  command -v "$tool" >/dev/null || skip "needs $tool (apt-get install qemu-system-x86 qemu-utils e2fsprogs openssh-client)"
done
corpus=${VML_CORPUS:-target/corpus} guest=${VML_GUEST:-target/guest}
if [[ ! -e $guest/disk.raw ]]; then
  if [[ ! -e $corpus/trees/base ]] && ! TREES_ONLY=1 testdata/make-corpus "$corpus" small >/dev/null; then
    skip "has no corpus, see $corpus/debootstrap.log"
  fi
  began=$SECONDS
  testdata/make-guest "$guest" "$corpus/trees/base"
  echo "boot test: made a guest in $((SECONDS - began)) s"
fi
vml=$(vml_program) guest=$(realpath "$guest")

work=$(realpath -m target/boot)
rm -rf "$work"
mkdir -p "$work/area"
export VML_HOME=$work/home VML_REPO=$work/repository
disk=$work/area/system.qcow2 built=$work/built/system.qcow2 serial=$work/serial.log
qemu='' started=$SECONDS

say() { printf 'boot test: %3d s  %s\n' $((SECONDS - started)) "$*"; }
fail() {
  echo "boot test: FAILED: $*" >&2
  for log in "$work"/qemu.log "$work"/ssh.log "$serial"; do
    [[ ! -s $log ]] || { echo "--- the end of $log" >&2; tail -n 25 "$log" | tr -d '\r' >&2; }
  done
  exit 1
}
stop() { # a guest that outlives its test would hold the disk
  [[ -n $qemu ]] || return 0
  kill "$qemu" 2>/dev/null || true
  wait "$qemu" 2>/dev/null || true
  qemu=''
}
trap 'stop; ! mountpoint -q "$work/mounted" || umount "$work/mounted"' EXIT
trap 'exit 130' INT TERM
run() { "$vml" --quiet "$@" || fail "vml $*"; }
same() { [[ $1 == "$2" ]] || fail "$3 is ${2@Q}, not ${1@Q}"; }
whole() { qemu-img check -q "$1" >"$work/qemu.log" 2>&1 || fail "qemu-img check finds $1 damaged"; }
equal() { qemu-img compare -q "$1" "$2" >"$work/qemu.log" 2>&1 || fail "$1 and $2 differ as disks"; }
in_guest() {
  ssh -F none -i "$guest/key" -p "$port" -o UserKnownHostsFile="$guest/known_hosts" -o HostKeyAlias=guest -o StrictHostKeyChecking=yes -o BatchMode=yes \
    -o IdentitiesOnly=yes -o ConnectTimeout=5 -o LogLevel=ERROR root@127.0.0.1 "$@" 2>"$work/ssh.log"
}

make_overlay() { # the disk of an area: an overlay of the base in which one file is changed and one is new
  local changed=$work/changed.raw
  printf 'edited before the save\n' >"$work/motd"
  seq -f 'event %.0f' 100000 >"$work/events.txt"
  cp --sparse=always "$guest/disk.raw" "$changed"
  printf '%s\n' 'rm /etc/motd' "write $work/motd /etc/motd" "write $work/events.txt /home/dev/events.txt" >"$work/debugfs.txt"
  debugfs -w -f "$work/debugfs.txt" "$changed" >"$work/debugfs.log" 2>&1
  # An overlay of the changed disk, put on the base, keeps what differs between the two.
  qemu-img create -q -f qcow2 -b "$changed" -F raw "$disk"
  qemu-img rebase -q -b "$guest/disk.raw" -F raw "$disk"
  rm -f "$changed"
}
look_inside() { # every file of the saved base, against the image as the kernel mounts it
  local mounted=$work/mounted restored=$work/restored
  mkdir -p "$mounted"
  if ! mount -o ro,loop,noload "$guest/disk.raw" "$mounted" 2>"$work/mount.log"; then
    say "cannot mount the image here, so its files are not compared"
    return
  fi
  run restore BASE:guest@1: "$restored"
  local differing listed found printed
  differing=$(rsync -aHAXnic --delete "$mounted/" "$restored/" | head -n 5)
  listed=$("$vml" ls -R BASE:guest@1 | wc -l)
  found=$(find "$mounted" -mindepth 1 ! -type s -printf 'x\n' | wc -l)
  # `vml diff` reads every file of both; `vml cat`, a process a file, prints one in a hundred.
  # shellcheck disable=SC2016
  printed=$(cd "$mounted" && find . -type f -printf '%P\0' | awk 'BEGIN { RS = ORS = "\0" } NR % 100 == 1' |
    VML=$vml xargs -0 -P 2 -n 1 sh -c '"$VML" cat "BASE:guest@1:$1" | cmp -s - "./$1" || printf "%s\n" "$1"' cat | head -n 5)
  run base add mounted@1 --tree "$mounted" --no-default-exclude
  "$vml" diff BASE:mounted@1 BASE:guest@1 >"$work/diff.txt" || fail "vml diff of a tree and a disk"
  umount "$mounted"
  same '' "$differing" "what rsync would change in the restored files"
  same '' "$printed" "the files that vml cat prints otherwise"
  same '0 added, 0 removed, 0 modified' "$(sed -n 's/;.*//p' "$work/diff.txt")" "what vml diff tells of the mounted image and the saved disk"
  same "$found" "$listed" "the number of names that vml ls tells"
  same 'M etc/motd A home/dev/events.txt' \
    "$("$vml" diff BASE:guest@1 analysis@latest | sed -n -e 's/^\([AM] [^ ]*[^/ ]\)\(  (.*\)*$/\1/p' | tr '\n' ' ' | sed 's/ $//')" "what vml diff tells"
  rm -rf "$restored"
  say "$listed names inside the saved disk are as in the mounted image"
}
start_guest() { # DISK: runs a guest from it in the background
  for _ in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 12000))
    qemu-system-x86_64 -accel tcg -m 512 -nodefaults -no-user-config -no-reboot -display none -serial "file:$serial" \
      -kernel "$guest/vmlinuz" -initrd "$guest/initrd" -append 'root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1 quiet' \
      -drive "file=$1,if=virtio,format=qcow2" -nic "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:$port-:22" 2>"$work/qemu.log" &
    qemu=$!
    sleep 0.5
    if kill -0 "$qemu" 2>/dev/null; then return; fi
    qemu=''
    # Only a port that somebody else has is worth another try.
    grep -q 'host forwarding' "$work/qemu.log" || break
  done
  fail "QEMU does not start"
}
await_ssh() { # SECONDS
  local until=$((SECONDS + $1))
  until in_guest true; do
    kill -0 "$qemu" 2>/dev/null || fail "QEMU ended while the guest booted"
    [[ $SECONDS -lt $until ]] || fail "no ssh after $1 s"
    sleep 0.3
  done
}
power_off() { # SECONDS
  local until=$((SECONDS + $1)) status=0
  in_guest '(sleep 0.5; echo >/run/off) >/dev/null 2>&1 &' || fail "the guest does not take the order to power off"
  while kill -0 "$qemu" 2>/dev/null; do
    [[ $SECONDS -lt $until ]] || fail "the guest still runs $1 s after the order to power off"
    sleep 0.2
  done
  wait "$qemu" || status=$?
  qemu=''
  same 0 $status "QEMU's exit code"
  grep -q '^guest: off' "$serial" || fail "the guest ended before its disk was written back"
}

make_overlay
say "made an overlay with a changed file"

run init
run base add guest@1 --disk "system=$guest/disk.raw"
say "saved the base, guest@1"
run area add analysis --disk "$disk" --allow-dir "$guest" --base guest@1
run save analysis -m 'edited before the save'
say "saved the area"
look_inside
run build analysis@latest "$work/built" --format overlay
[[ -e $built ]] || fail "vml build made no $built"
whole "$built"
backing=$(qemu-img info --output=json "$built" | sed -n 's/^ *"full-backing-filename": "\(.*\)",*$/\1/p' | head -n 1)
same "$guest/disk.raw" "$(realpath "$backing")" "the disk that the built overlay is on"
equal "$disk" "$built"
say "built an overlay of $(($(stat -c %b "$built") / 2)) KiB, equal to the saved disk"

start_guest "$built"
await_ssh 180
say "ssh reaches the guest"
same 'edited before the save' "$(in_guest cat /etc/motd)" "/etc/motd in the guest"
same "$(sha256sum <"$work/events.txt")" "$(in_guest 'sha256sum </home/dev/events.txt')" "the sum of /home/dev/events.txt in the guest"
# shellcheck disable=SC2016
in_guest 'echo "written by $(hostname)" >/home/dev/result.txt' || fail "the guest cannot write"
power_off 60
whole "$built"
say "the guest has written a file and is off"

# The area goes on from what was built.
mv "$built" "$disk"
run save analysis -m 'after a run'
same 'written by guest' "$("$vml" cat analysis@latest:home/dev/result.txt)" "home/dev/result.txt of the second entry"
same 'edited before the save' "$("$vml" cat analysis@latest:etc/motd)" "etc/motd of the second entry"
if "$vml" cat analysis@~1:home/dev/result.txt >/dev/null 2>&1; then fail "the first entry has a file that was written after it was saved"; fi
rm -rf "$work/built"
run build analysis@latest "$work/built" --format overlay
equal "$disk" "$built"
run check --data
say "saved again: the entry has the guest's file, and builds the disk as the guest left it"
rm -rf "$work"
say "passed"
