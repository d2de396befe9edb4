#!/bin/bash
# ceph-lab.sh - two real, minimal Ceph clusters side by side on loopback,
# with RBD snapshot mirroring between them. For tests only: one mon, one mgr,
# one OSD, one rbd-mirror per site, pool size 1, no systemd, no /etc/ceph.
#
#   ceph-lab.sh up            both sites + pool + peers + rbd-mirror on both
#   ceph-lab.sh up-site SITE  one cluster only (mon, mgr, osd)
#   ceph-lab.sh pair          pool init, mirror enable, bootstrap, rbd-mirror
#   ceph-lab.sh down          stop everything this lab started, remove the lab
#   ceph-lab.sh kill-all      SIGKILL both sites' daemons; then down is quick
#   ceph-lab.sh stop SITE     SIGTERM a site's daemons, in safe order
#   ceph-lab.sh kill SITE     SIGKILL a site's daemons (crash)
#   ceph-lab.sh freeze SITE   SIGSTOP a site's daemons (silent hang/partition)
#   ceph-lab.sh thaw SITE     SIGCONT them
#   ceph-lab.sh start SITE    start a stopped/killed site again, data kept
#   ceph-lab.sh kill-one SITE NAME / start-one SITE NAME   NAME: mon mgr osd rbd-mirror
#   ceph-lab.sh rss           memory of each daemon
#   ceph-lab.sh version       what is installed, one line
#   ceph-lab.sh ceph SITE ... | rbd SITE ...     run a client against a site
#
# Only a process that this lab started is ever signalled: its pid and its start
# time in the kernel must be those written down when it was started.
#
# SITE is a or b. Environment: LAB (default /tmp/ceph-lab), OBJECTSTORE
# (bluestore | memstore), MON_PORT (default 3300), IP_A, IP_B, POOL,
# FAST (default 1: shorten Ceph's own 30 s polling and watch timeouts;
# 0: Ceph's defaults, as a production cluster would have them).
set -euo pipefail

LAB=${LAB:-/tmp/ceph-lab}
OBJECTSTORE=${OBJECTSTORE:-bluestore}
MON_PORT=${MON_PORT:-3300}
IP_A=${IP_A:-127.0.0.2}
IP_B=${IP_B:-127.0.0.3}
POOL=${POOL:-rbd}
FAST=${FAST:-1}

ip_of() { case $1 in a) echo "$IP_A";; b) echo "$IP_B";; *) echo "site: a or b" >&2; exit 2;; esac; }
dir_of() { echo "$LAB/$1"; }
c() { local s=$1; shift; ceph -c "$LAB/$s/ceph.conf" "$@"; }
r() { local s=$1; shift; rbd -c "$LAB/$s/ceph.conf" "$@"; }
log() { printf '%s %s\n' "$(date +%H:%M:%S.%3N)" "$*" >&2; }

# wait_for SECONDS DESCRIPTION COMMAND...: poll until COMMAND succeeds
wait_for() {
  local limit=$1 what=$2; shift 2
  local end=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $end ]; then log "timed out waiting for $what"; return 1; fi
    sleep 0.2
  done
}

write_conf() {
  local s=$1 d ip fsid; d=$(dir_of "$s"); ip=$(ip_of "$s"); fsid=$(cat "$d/fsid")
  cat >"$d/ceph.conf" <<CONF
[global]
fsid = $fsid
mon host = [v2:$ip:$MON_PORT/0]
ms bind msgr1 = false
public addr = $ip
cluster addr = $ip
keyring = $d/keyring
run dir = $d/run
admin socket = $d/run/\$name.\$pid.asok
log file = $d/log/\$name.log
crash dir = $d/crash
auth allow insecure global id reclaim = false
mon allow pool size one = true
mon warn on pool no redundancy = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
rbd default features = 61

[mon]
mon data = $d/mon
mon allow pool delete = true
mon data avail warn = 1
mon data avail crit = 1

[mgr]
mgr data = $d/mgr
mgr initial modules =
mgr stats period = 1

[osd]
osd data = $d/osd
osd objectstore = $OBJECTSTORE
bluestore block size = 4294967296
bluestore block create = true
bluestore block wal create = false
bluestore block db create = false
bluestore fsck on mount = false
memstore device bytes = 1073741824
osd memory target = 939524096
osd op num shards = 2
osd op num threads per shard = 1

[client]
log file =
[client.rbd-mirror.$s]
log file = $d/log/rbd-mirror.log
CONF
  [ "$FAST" = 0 ] || cat >>"$d/ceph.conf" <<CONF
rbd mirror image state check interval = 2
rbd mirror pool replayers refresh interval = 2
rbd mirror leader heartbeat interval = 1
[osd]
osd client watch timeout = 10
osd beacon report interval = 2
[mon]
mon tick interval = 1
mon osd report timeout = 10
CONF
}

spawn() { # spawn SITE NAME COMMAND...: run in the background, remember the pid
  local s=$1 n=$2 d; shift 2; d=$(dir_of "$s")
  setsid "$@" >"$d/log/$n.out" 2>&1 </dev/null &
  echo "$! $(started_at $!)" >"$d/run/$n.pid"
}

# The kernel's start time of a process; nothing for one that is gone or a zombie.
started_at() {
  local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  # shellcheck disable=SC2086
  set -- ${s##*) }
  [[ $1 == [ZX] ]] || echo "${20}"
}

pid_of() { # pid_of SITE NAME: the pid of the very process that was started, if it lives
  local p began f="$LAB/$1/run/$2.pid"
  [ -s "$f" ] && read -r p began <"$f" && [ -n "$began" ] && [ "$(started_at "$p")" = "$began" ] && echo "$p"
}

alive() { pid_of "$1" "$2" >/dev/null; }

start_one() {
  local s=$1 n=$2 d; d=$(dir_of "$s")
  alive "$s" "$n" && return 0
  case $n in
    mon) spawn "$s" mon ceph-mon -f -i "$s" -c "$d/ceph.conf";;
    mgr) spawn "$s" mgr ceph-mgr -f -i "$s" -c "$d/ceph.conf";;
    osd) spawn "$s" osd ceph-osd -f -i 0 -c "$d/ceph.conf";;
    # rbd-mirror opens each pool with a second connection that ignores -c and
    # searches /etc/ceph/$cluster.conf, ~/.ceph/$cluster.conf, ./$cluster.conf;
    # starting it in the site's directory makes it find ./ceph.conf there.
    rbd-mirror) spawn "$s" rbd-mirror env -C "$d" rbd-mirror -f -n "client.rbd-mirror.$s" -c "$d/ceph.conf";;
    *) echo "unknown daemon $n" >&2; return 2;;
  esac
}

signal_one() { # signal_one SIGNAL SITE NAME
  local p; if p=$(pid_of "$2" "$3"); then kill "-$1" "$p"; fi
}

gone() { ! alive "$1" "$2"; }

site_up() {
  local s=$1 d ip; d=$(dir_of "$s"); ip=$(ip_of "$s")
  [ -e "$d" ] && { echo "$d exists; run down first" >&2; return 1; }
  mkdir -p "$d"/{mon,mgr,osd,run,log,crash}
  cat /proc/sys/kernel/random/uuid >"$d/fsid"
  write_conf "$s"
  # One keyring with every identity and its caps; ceph-mon --mkfs imports all
  # of it, so no `ceph auth` calls are needed afterwards.
  ceph-authtool --create-keyring "$d/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
  ceph-authtool "$d/keyring" --gen-key -n client.admin \
    --cap mon 'allow *' --cap osd 'allow *' --cap mds 'allow *' --cap mgr 'allow *'
  ceph-authtool "$d/keyring" --gen-key -n "mgr.$s" \
    --cap mon 'allow profile mgr' --cap osd 'allow *' --cap mds 'allow *'
  ceph-authtool "$d/keyring" --gen-key -n osd.0 \
    --cap mon 'allow profile osd' --cap mgr 'allow profile osd' --cap osd 'allow *'
  ceph-authtool "$d/keyring" --gen-key -n "client.rbd-mirror.$s" \
    --cap mon 'profile rbd-mirror' --cap osd 'profile rbd' --cap mgr 'profile rbd'
  monmaptool --create --clobber --fsid "$(cat "$d/fsid")" \
    --addv "$s" "[v2:$ip:$MON_PORT/0]" "$d/monmap" >/dev/null
  ceph-mon --mkfs -i "$s" -c "$d/ceph.conf" --monmap "$d/monmap" --keyring "$d/keyring"
  start_one "$s" mon
  local uuid; uuid=$(cat /proc/sys/kernel/random/uuid)
  ceph-osd --mkfs -i 0 -c "$d/ceph.conf" --osd-uuid "$uuid" >"$d/log/osd-mkfs.out" 2>&1 &
  local mkfs=$!
  wait_for 30 "mon.$s" c "$s" --connect-timeout 5 mon stat
  start_one "$s" mgr
  c "$s" osd new "$uuid" 0 >/dev/null
  wait "$mkfs"
  start_one "$s" osd
}

site_start() { local s=$1 n; start_one "$s" mon; start_one "$s" mgr
  # a killed OSD is still "up" in the map; say it is down, or its boot waits
  wait_for 30 "mon.$s" c "$s" --connect-timeout 5 osd down 0
  start_one "$s" osd
  if [ -f "$LAB/$s/paired" ]; then start_one "$s" rbd-mirror; fi; }

site_signal() { local sig=$1 s=$2 n; for n in rbd-mirror osd mgr mon; do signal_one "$sig" "$s" "$n"; done; }

site_stop() {
  local s=$1 n
  for n in rbd-mirror osd mgr mon; do
    signal_one CONT "$s" "$n"; signal_one TERM "$s" "$n"
    if ! wait_for 10 "$n.$s to end" gone "$s" "$n"; then signal_one KILL "$s" "$n"; wait_for 5 "$n.$s" gone "$s" "$n"; fi
  done
}

osd_up() { c "$1" --connect-timeout 5 osd stat -f json | grep -q '"num_up_osds":1'; }
mgr_up() { c "$1" --connect-timeout 5 mgr stat -f json | grep -Eq '"available": ?true'; }
site_ready() { wait_for 60 "osd.$1" osd_up "$1"; wait_for 60 "mgr.$1" mgr_up "$1"; }
# After a crash the mon still calls the OSD up, so ask the OSD itself.
osd_answers() { timeout -s KILL 3 rbd -c "$LAB/$1/ceph.conf" --client-mount-timeout 2 --rados-osd-op-timeout 2 ls "$POOL"; }

pair() {
  local s
  for s in a b; do
    ( c "$s" osd pool create "$POOL" 8 8 2>/dev/null
      r "$s" pool init "$POOL"
      r "$s" mirror pool enable "$POOL" image --site-name "site-$s" ) &
  done
  wait
  r a mirror pool peer bootstrap create "$POOL" --site-name site-a >"$LAB/token"
  # prints harmless "unable to find a keyring" lines about /etc/ceph
  r b mirror pool peer bootstrap import "$POOL" "$LAB/token" --site-name site-b --direction rx-tx 2>"$LAB/b/log/bootstrap.err"
  for s in a b; do touch "$LAB/$s/paired"; start_one "$s" rbd-mirror; done
}

mirror_up() { r "$1" mirror pool status "$POOL" --format json | grep -q '"daemon_health":"OK"'; }

case ${1:-} in
  up)
    mkdir -p "$LAB"; t0=$(date +%s.%N)
    site_up a & pa=$!; site_up b & pb=$!; wait $pa; wait $pb
    log "daemons spawned"; site_ready a; site_ready b; log "clusters ready"
    pair; log "paired"
    wait_for 60 "mirror a" mirror_up a; wait_for 60 "mirror b" mirror_up b
    log "mirroring up, total $(awk -v a="$t0" -v b="$(date +%s.%N)" 'BEGIN{printf "%.1f", b-a}') s";;
  up-site) mkdir -p "$LAB"; site_up "$2"; site_ready "$2";;
  pair) pair;;
  down) for s in a b; do [ -d "$LAB/$s" ] && site_stop "$s" & done; wait; rm -rf "$LAB/a" "$LAB/b" "$LAB/token"; rmdir "$LAB" 2>/dev/null || true;;
  kill-all) for s in a b; do site_signal KILL "$s"; done;;
  stop) site_stop "$2";;
  kill) site_signal KILL "$2"; for n in rbd-mirror osd mgr mon; do wait_for 5 "$n" gone "$2" "$n"; done;;
  freeze) site_signal STOP "$2";;
  thaw) site_signal CONT "$2";;
  start) site_start "$2"; site_ready "$2"; wait_for 60 "osd.$2 to answer" osd_answers "$2";;
  kill-one) signal_one KILL "$2" "$3"; wait_for 5 "$3" gone "$2" "$3";;
  start-one) start_one "$2" "$3";;
  rss) for s in a b; do for n in mon mgr osd rbd-mirror; do
         if p=$(pid_of "$s" "$n"); then
           awk -v n="$s/$n" '/^VmRSS/{r=$2} /^VmHWM/{h=$2} END{printf "%-14s rss %4d MiB  peak %4d MiB\n", n, r/1024, h/1024}' "/proc/$p/status"; fi; done; done;;
  version) ceph --version;;
  ceph) s=$2; shift 2; c "$s" "$@";;
  rbd) s=$2; shift 2; r "$s" "$@";;
  *) sed -n '2,33p' "$0"; exit 2;;
esac
