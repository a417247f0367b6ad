#!/usr/bin/env bash
# Runs a command with a libvirtd of its own as qemu:///system, whose folders and processes are nobody else's, and ends it and all its machines.
# usage: with-libvirtd.sh COMMAND...      needs root, libvirtd and its QEMU driver; exit code 3 where it cannot be started
#
# The command finds in $VML_LIBVIRTD_DIR: libvirtd.pid, libvirtd.log, and `start`, which starts it again when it was killed.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
no() { echo "with-libvirtd: $*" >&2; exit 3; }
if [[ ${VML_LIBVIRTD_INSIDE:-} != yes || $$ != 1 ]]; then
  [[ $(id -u) == 0 ]] || no "needs root"
  for tool in libvirtd virsh unshare; do
    command -v "$tool" >/dev/null || no "needs $tool (apt-get install libvirt-daemon-system libvirt-clients util-linux)"
  done
  dir=$(mktemp -d /tmp/vml-libvirtd.XXXXXX)
  trap 'rm -rf --one-file-system "$dir"' EXIT
  # When this shell's child ends, so does every process in its namespace.
  code=0
  VML_LIBVIRTD_DIR=$dir VML_LIBVIRTD_INSIDE=yes unshare --mount --pid --fork --kill-child --mount-proc "$0" "$@" || code=$?
  exit $code
fi

dir=$VML_LIBVIRTD_DIR
for folder in /etc/libvirt /var/lib/libvirt /run/libvirt /var/log/libvirt /var/cache/libvirt; do
  mkdir -p "$folder" "$dir$folder"
  [[ $folder != /etc/libvirt ]] || cp -a "$folder/." "$dir$folder/"
  mount --bind "$dir$folder" "$folder"
done
rm -rf /etc/libvirt/qemu /etc/libvirt/libvirtd.conf
cat >/etc/libvirt/qemu.conf <<'CONF'
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
CONF
cat >/etc/libvirt/libvirtd.conf <<CONF
auth_unix_rw = "none"
log_outputs = "2:file:$dir/libvirtd.log"
CONF
cat >"$dir/start" <<START
#!/bin/sh
rm -f "$dir/libvirtd.pid"
libvirtd --daemon --pid-file "$dir/libvirtd.pid" || exit 1
for try in \$(seq 100); do
  timeout 10 virsh -q -c qemu:///system list >/dev/null 2>&1 && exit 0
  sleep 0.2
done
exit 1
START
chmod +x "$dir/start"
"$dir/start" || { tail -n 5 "$dir/libvirtd.log" >&2; no "libvirtd cannot be started here"; }
code=0
"$@" || code=$?
exit $code
