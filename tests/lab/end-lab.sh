#!/usr/bin/env bash
# end-lab.sh DIR      ends everything that a laboratory in DIR started: both sites' Nexus, mounts, control planes, Ceph
# end-lab.sh --stale  does so for every laboratory in the temporary directory whose test is dead
# What the scripts beside it started is known by pid and start time; nothing else is signalled.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)

end() { # DIR
  local lab=$1 s f data
  for s in a b; do
    [ -d "$lab/site-$s" ] || continue
    # The mounts first: a Nexus that waits for a frozen disk does not die before the disk does.
    timeout -k 5 60 "$here/site-lab.sh" kill "$lab/site-$s"
    for f in "$lab/site-$s"/run/nexus/*.pid; do
      [ -s "$f" ] || continue
      read -r _ _ _ data <"$f"
      NEXUS_RUN=$lab/site-$s/run/nexus timeout -k 5 60 "$here/nexus-lab.sh" kill "$data" >/dev/null
    done
  done
  if [ -d "$lab/k8s" ]; then LAB_DIR=$lab/k8s timeout -k 5 60 "$here/k8s-lab.sh" clean; fi
  if [ -d "$lab/ceph" ]; then
    LAB=$lab/ceph timeout -k 5 60 "$here/ceph-lab.sh" kill-all
    LAB=$lab/ceph timeout -k 5 60 "$here/ceph-lab.sh" down
  fi
}

case ${1:-} in
  --stale)
    for owner in "${TMPDIR:-/tmp}"/ulab-*/owner; do
      [ -s "$owner" ] && ! kill -0 "$(cat "$owner")" 2>/dev/null || continue
      echo "end-lab: ending $(dirname "$owner"), whose test is dead"
      end "$(dirname "$owner")"; rm -rf "$(dirname "$owner")"
    done ;;
  /*) end "$1" ;;
  *) sed -n '2,3s/^# //p' "$0" >&2; exit 2 ;;
esac
