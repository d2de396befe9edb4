#!/usr/bin/env bash
# parts.sh - installs or builds the real parts that the tests are run against, once per machine, and says which they are.
#
#   parts.sh get [PART...]     install or build what is missing; default: every part
#   parts.sh missing           one line for each part that is not usable, with the reason; exit 1 if there is one
#   parts.sh versions          one line for each part that is there
#   parts.sh env               shell assignments that tell the tests where the parts are
#
# PART: ceph, dns, systemd, debootstrap (Debian packages, need root) | k8s (Go modules) | nexus (Maven) | deny (cargo-deny
# from crates.io).
# Everything but Debian's packages goes into ${XDG_CACHE_HOME:-~/.cache}/understudy/PART-VERSION and stays there.
set -euo pipefail

K8S=v1.36.3 ETCD=v3.6.8 KWOK=v0.8.0
NEXUS=3.71.0-06
DENY=0.20.2

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/understudy
k8s_dir=$cache/k8s-$K8S nexus_dir=$cache/nexus-$NEXUS deny_dir=$cache/cargo-deny-$DENY
packages=(ceph-mon ceph-mgr ceph-osd ceph-common rbd-mirror rbd-fuse python3-rbd jq openssl curl util-linux e2fsprogs)
dns_packages=(bind9 bind9-dnsutils bind9-utils unbound) dns_programs=(named nsupdate dig rndc unbound)
programs=(ceph-mon ceph-mgr ceph-osd ceph rbd rbd-mirror rbd-fuse jq openssl curl losetup unshare mkfs.ext4)

say() { echo "parts: $*" >&2; }

not_found() { # the first program of a list that is not there
  local p; for p in "$@"; do command -v "$p" >/dev/null 2>&1 || { echo "$p"; return 0; }; done; return 1; }

# Why a part can not be used; nothing when it can.
why_not() {
  local p
  case $1 in
    ceph)
      if p=$(not_found "${programs[@]}"); then echo "no $p"
      elif [ "$(id -u)" != 0 ]; then echo "its daemons and mounts need root"
      elif [ ! -c /dev/fuse ]; then echo "no /dev/fuse"
      elif [ ! -c /dev/loop-control ]; then echo "no /dev/loop-control"; fi ;;
    dns) if p=$(not_found "${dns_programs[@]}"); then echo "no $p"; fi ;;
    k8s) [ "$(cat "$k8s_dir/versions.txt" 2>/dev/null)" = "kubernetes $K8S etcd $ETCD kwok $KWOK" ] || echo "not built in $k8s_dir" ;;
    nexus)
      if [[ "$(cat "$nexus_dir/version.txt" 2>/dev/null)" != "$NEXUS "* ]]; then echo "not installed in $nexus_dir"
      elif p=$(not_found java); then echo "no java"
      elif [ ! -d "$nexus_dir-seed" ]; then echo "no empty data directory beside $nexus_dir"; fi ;;
    deny) [ -x "$deny_dir/bin/cargo-deny" ] || echo "not built in $deny_dir" ;;
    systemd) if p=$(not_found systemd-analyze); then echo "no $p"; fi ;;
    debootstrap) if p=$(not_found debootstrap jq); then echo "no $p"; elif [ "$(id -u)" != 0 ]; then echo "chroot needs root"; fi ;;
    *) say "no part called $1"; exit 2 ;;
  esac
}

install() { # PART MISSING-PROGRAM PACKAGE...
  local part=$1 missing=$2; shift 2
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { say "$part: $missing is missing and only root can install it"; return 1; }
  # The packages start servers of the machine's own where they can; the tests start theirs themselves.
  timeout 400 apt-get -q -o DPkg::Lock::Timeout=300 update >"$cache/apt.log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 timeout 900 apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
      "$@" >>"$cache/apt.log" 2>&1 || { tail -20 "$cache/apt.log" >&2; return 1; }
}

get() {
  local part=$1 began=$SECONDS p
  [ -n "$(why_not "$part")" ] || return 0
  say "$part: $(why_not "$part"); getting it"
  case $part in
    ceph) p=$(not_found "${programs[@]}") || return 0; install "$part" "$p" "${packages[@]}" || return 1 ;;
    dns) p=$(not_found "${dns_programs[@]}") || return 0; install "$part" "$p" "${dns_packages[@]}" || return 1 ;;
    systemd) p=$(not_found systemd-analyze) || return 0; install "$part" "$p" systemd || return 1 ;;
    debootstrap) p=$(not_found debootstrap jq) || return 0; install "$part" "$p" debootstrap jq || return 1 ;;
    k8s) timeout 2700 "$here/k8s-parts.sh" "$k8s_dir" "$K8S" "$ETCD" "$KWOK" >&2 ;;
    nexus)
      timeout 900 "$here/nexus-lab.sh" install "$nexus_dir" >&2 || return 1
      timeout 400 "$here/nexus-lab.sh" seed "$nexus_dir" >&2 ;;
    deny)
      # Unoptimised: it is built in half the time, and checks this tree in five seconds all the same.
      CARGO_TARGET_DIR=$cache/cargo-deny-target timeout 1500 cargo install cargo-deny --version "=$DENY" --locked --debug \
        --root "$deny_dir" >"$cache/cargo-deny.log" 2>&1 || { tail -20 "$cache/cargo-deny.log" >&2; return 1; }
      rm -rf "$cache/cargo-deny-target" ;;
  esac
  [ -z "$(why_not "$part")" ] || { say "$part: $(why_not "$part")"; return 1; }
  say "$part: there after $((SECONDS - began)) s"
}

versions() {
  [ -n "$(why_not ceph)" ] || ceph --version
  [ -n "$(why_not dns)" ] || { named -v; unbound -V | head -1; }
  if [ -z "$(why_not k8s)" ]; then
    echo "kube-apiserver $("$k8s_dir/kube-apiserver" --version)"
    echo "kube-controller-manager $("$k8s_dir/kube-controller-manager" --version)"
    "$k8s_dir/etcd" --version | head -1
    echo "kwok $KWOK"
  fi
  [ -n "$(why_not nexus)" ] || { echo "Sonatype Nexus $NEXUS"; java -version 2>&1 | head -1; }
}

mkdir -p "$cache"
verb=${1:-}; [ $# -eq 0 ] || shift
case $verb in
  get)
    [ $# -gt 0 ] || set -- ceph dns nexus k8s deny
    # Two runs on one machine get a part once.
    exec 9>"$cache/parts.lock"; flock 9
    # Twice, should a registry have hiccuped: what was built or fetched the first time is kept.
    bad=0; for part in "$@"; do get "$part" 9>&- || get "$part" 9>&- || { say "$part: could not be got"; bad=1; }; done; exit $bad ;;
  missing)
    [ $# -gt 0 ] || set -- ceph dns nexus k8s
    bad=0; for part in "$@"; do why=$(why_not "$part"); [ -z "$why" ] || { echo "$part: $why"; bad=1; }; done; exit $bad ;;
  versions) versions ;;
  env)
    echo "export UNDERSTUDY_LAB=$here KUBE_BIN=$k8s_dir UNDERSTUDY_NEXUS=$nexus_dir CARGO_DENY=$deny_dir/bin/cargo-deny" ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
