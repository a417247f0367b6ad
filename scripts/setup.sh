#!/usr/bin/env bash
# Sees that what building and testing need is there; on Debian and as root it installs what is missing, elsewhere it names it.
# usage: setup.sh build|test
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
need=() machines=()
missing() { ! command -v "$1" >/dev/null; }
! missing cc || need+=(gcc libc6-dev)
! missing pkg-config || need+=(pkg-config)
# For SSH.
pkg-config --exists openssl 2>/dev/null || need+=(libssl-dev)
if [[ ${1:-build} == test ]]; then
  ! missing rsync || need+=(rsync)
  # For the service's TLS.
  ! missing curl || need+=(curl)
  ! missing openssl || need+=(openssl)
  ! missing setfacl || need+=(acl)
  ! missing setfattr || need+=(attr)
  ! missing setcap || need+=(libcap2-bin)
  ! missing mke2fs || need+=(e2fsprogs)
  ! missing mkfs.xfs || need+=(xfsprogs)
  ! missing sfdisk || need+=(fdisk)
  # For counting instructions.
  ! missing valgrind || need+=(valgrind)
  # For the servers of the object storage test.
  python3 -c 'import ensurepip, venv' 2>/dev/null || need+=(python3-venv)
  if missing qemu-img || missing qemu-nbd || missing qemu-io; then machines+=(qemu-utils); fi
  # Guests are made and booted by root only.
  if [[ $(id -u) == 0 ]]; then
    ! missing debootstrap || need+=(debootstrap)
    ! missing ssh || need+=(openssh-client)
    ! missing sshd || need+=(openssh-server)
    ! missing libvirtd || need+=(libvirt-daemon-system)
    ! missing virsh || need+=(libvirt-clients)
    ! missing squid || need+=(squid)
    pkg-config --exists libvirt 2>/dev/null || need+=(libvirt-dev)
    if [[ $(uname -m) == x86_64 ]] && missing qemu-system-x86_64; then machines+=(qemu-system-x86); fi
  fi
fi
if missing cargo; then
  echo "setup: cargo is missing; VML needs Rust 1.89 or newer" >&2
  exit 2
fi
all=("${need[@]}" "${machines[@]}")
[[ ${#all[@]} == 0 ]] && exit 0
# shellcheck disable=SC1091
. /etc/os-release 2>/dev/null || ID=
if [[ $(id -u) != 0 || $ID != debian ]] || missing apt-get; then
  echo "setup: missing: ${all[*]} (their Debian names); install them first" >&2
  exit 2
fi

export DEBIAN_FRONTEND=noninteractive
give_up() { echo "setup: apt-get could not install $*" >&2; exit 2; }
install() { apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
backports=$VERSION_CODENAME-backports
offers_backports() { apt-cache policy | grep "n=$backports" >/dev/null; }
add_backports() { # the mirror is the one that the release itself comes from
  local mirror file=/etc/apt/sources.list.d/vml-$backports.sources
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | sed -n "s/ $VERSION_CODENAME\$//p" | head -n 1)
  [[ -n $mirror ]] || return 1
  echo "setup: adding the suite $backports, for QEMU 10: $file"
  printf '%s\n' "Types: deb" "URIs: $mirror" "Suites: $backports" "Components: main" "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" >"$file"
  # A suite that the mirror does not have would fail every later update.
  if ! apt-get update -qq -o Dir::Etc::sourcelist="$file" -o Dir::Etc::sourceparts=/dev/null -o APT::Get::List-Cleanup=0 >/dev/null || ! offers_backports; then
    echo "setup: the mirror does not have it; the file is removed again"
    rm -f "$file"
    return 1
  fi
}

echo "setup: installing ${all[*]}"
apt-get update -qq >/dev/null || give_up "${all[*]}"
[[ ${#need[@]} == 0 ]] || install "${need[@]}" || give_up "${need[*]}"
# Tests start their own; the package's would listen on this host for ever.
if [[ " ${need[*]} " == *" squid "* ]]; then systemctl disable --now squid >/dev/null 2>&1 || true; fi
[[ ${#machines[@]} == 0 ]] && exit 0

# QEMU's packages must be of one version: a machine emulator of another suite than the image tools would remove them.
has=$(dpkg-query -W -f='${Status}\t${Version}\n' qemu-utils qemu-system-x86 2>/dev/null | sed -n 's/^install ok installed\t//p' || true)
pair=(qemu-utils)
[[ $(uname -m) != x86_64 ]] || pair+=(qemu-system-x86)
suite=()
if [[ $has == *~bpo* ]]; then
  offers_backports || add_backports || give_up "${machines[*]}: the QEMU that is installed is of $backports, which the mirror does not have"
  suite=(-t "$backports")
elif [[ -z $has && $VERSION_CODENAME == bookworm ]]; then
  if offers_backports || add_backports; then suite=(-t "$backports"); fi
fi
install "${suite[@]}" "${pair[@]}" || give_up "${pair[*]}"
