#!/usr/bin/env bash
# site-lab.sh - one site's mounts: its RBD images as file systems, in a mount namespace of the site's own.
# A mount that hangs at one site must not be seen at the other: a JVM asks the kernel about every mount that it sees.
#
#   site-lab.sh open DIR                      make the namespace (held by a process of its own)
#   site-lab.sh enter DIR COMMAND...          run a command in it
#   site-lab.sh run DIR NAME COMMAND...       the same, remembered under a name: it is killed and frozen with the site
#   site-lab.sh mount DIR CONF POOL IMAGE [new]   rbd-fuse, loop device, ext4 (made anew if said so): DIR/fs/IMAGE
#   site-lab.sh unmount DIR                   unmount every file system and end rbd-fuse
#   site-lab.sh kill DIR                      SIGKILL to all of it, rbd-fuse included: a crash, no mount is left
#   site-lab.sh freeze DIR | thaw DIR         SIGSTOP | SIGCONT to all of it: every access to a file hangs
#
# mount and unmount enter the namespace by themselves. Only processes started here are signalled: pid and start time
# in the kernel must be those written down. Needs root, /dev/fuse and loop devices.
set -euo pipefail

die() { echo "site-lab: $*" >&2; exit 1; }

started_at() { # the kernel's start time of a process; nothing for one that is gone, all its threads included
  local s tasks; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  tasks=("/proc/$1/task/"*)
  # shellcheck disable=SC2086
  set -- ${s##*) }
  [[ $1 == [ZX] && ${#tasks[@]} -le 1 ]] || echo "${20}"
}
pid_of() { # DIR NAME
  local p began f=$1/run/$2.pid
  [ -s "$f" ] && read -r p began <"$f" && [ -n "$began" ] && [ "$(started_at "$p")" = "$began" ] && echo "$p"
}
note() { echo "$3 $(started_at "$3")" >"$1/run/$2.pid"; } # DIR NAME PID
wait_until() { # SECONDS COMMAND...
  local end=$((SECONDS + $1)); shift
  until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.05; done
}
gone() { ! pid_of "$1" "$2" >/dev/null; }
signal() { local p; if p=$(pid_of "$2" "$3"); then kill "-$1" "$p"; fi; } # SIGNAL DIR NAME

open() {
  mkdir -p "$dir/run" "$dir/map" "$dir/fs"
  ! pid_of "$dir" namespace >/dev/null || return 0
  setsid unshare -m --propagation private sleep infinity >/dev/null 2>&1 </dev/null &
  note "$dir" namespace $!
  # unshare becomes sleep once the namespace is there
  wait_until 5 grep -qs sleep "/proc/$!/comm" || die "no namespace for $dir"
}
within() { local p; p=$(pid_of "$dir" namespace) || die "no namespace for $dir; open it first"; nsenter -m -t "$p" "$@"; }

# From here to the next heading: run inside the namespace.
mount_here() { # CONF POOL IMAGE [new]
  local conf=$1 pool=$2 image=$3 new=${4:-} loop at=$dir/fs/$3
  ! mountpoint -q "$at" || return 0
  if gone "$dir" rbd-fuse; then
    setsid rbd-fuse -c "$conf" -p "$pool" "$dir/map" -f >"$dir/run/rbd-fuse.log" 2>&1 </dev/null &
    note "$dir" rbd-fuse $!
    wait_until 20 mountpoint -q "$dir/map" || die "rbd-fuse did not mount: $(tail -1 "$dir/run/rbd-fuse.log")"
  fi
  [ -e "$dir/map/$image" ] || die "no image $pool/$image"
  mkdir -p "$at"
  loop=$(losetup --show -f "$dir/map/$image")
  if [ "$new" = new ]; then mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$loop"; fi
  # Once detached, the device goes by itself with the last mount of it.
  mount "$loop" "$at" || { losetup -d "$loop"; die "$pool/$image does not mount"; }
  losetup -d "$loop"
}
unmount_here() {
  local at
  for at in "$dir"/fs/*; do ! mountpoint -q "$at" || umount "$at"; done
  if mountpoint -q "$dir/map"; then
    # The loop device lets go of the image a moment after the unmount.
    wait_until 10 umount "$dir/map" 2>/dev/null || die "$dir/map is still in use"
  fi
  wait_until 10 gone "$dir" rbd-fuse || die "rbd-fuse does not end"
}

signal_all() { # SIGNAL: to everything but the holder of the namespace
  local f name; for f in "$dir"/run/*.pid; do
    name=$(basename "$f" .pid); [ ! -e "$f" ] || [ "$name" = namespace ] || signal "$1" "$dir" "$name"; done; }

kill_site() {
  # The holder last: the last process of a namespace unmounts on its way out, and rbd-fuse would then wait for ever
  # for itself to write back.
  signal_all KILL
  wait_until 10 gone "$dir" rbd-fuse || die "rbd-fuse does not die"
  signal KILL "$dir" namespace
  wait_until 20 gone "$dir" namespace || die "the namespace does not go"
}

[ $# -ge 2 ] || { sed -n '5,13p' "$0" | sed 's/^# *//' >&2; exit 2; }
verb=$1 dir=$2; shift 2
case $verb in
  open) open ;;
  enter | run)
    p=$(pid_of "$dir" namespace) || die "no namespace for $dir; open it first"
    if [ "$verb" = run ]; then note "$dir" "$1" $$; shift; fi
    exec nsenter -m -t "$p" "$@" ;;
  mount) open; within "$0" mount-here "$dir" "$@" ;;
  unmount) ! pid_of "$dir" namespace >/dev/null || within "$0" unmount-here "$dir" ;;
  mount-here) mount_here "$@" ;;
  unmount-here) unmount_here ;;
  kill) kill_site ;;
  freeze) signal_all STOP ;;
  thaw) signal_all CONT ;;
  *) die "no verb $verb" ;;
esac
