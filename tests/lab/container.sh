#!/usr/bin/env bash
# container.sh PROGRAM - no container engine is at hand: runs the steps of the last stage of deploy/Containerfile in a folder
# that debootstrap fills, with PROGRAM in the place of what the build stage would have left, and then looks at the result as
# its user does: the entry point, and the programs that the drivers run.
# Needs root, debootstrap and Debian's packages; two minutes. Leaves nothing behind.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
file=$here/../../deploy/Containerfile
program=${1:?usage: container.sh PROGRAM}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

say() { echo "container: $*"; }
die() { echo "container: $*" >&2; exit 1; }

# The last stage, one instruction a line.
stage() { sed -e ':a' -e '/\\$/{N; s/\\\n */ /; ba' -e '}' "$file" | awk '/^FROM / {text = ""} !/^(#|$)/ {text = text $0 "\n"} END {printf "%s", text}'; }
# ["a", "b"] as words.
words() { jq -r 'join(" ")' <<<"$1"; }

folder=$(mktemp -d "${TMPDIR:-/tmp}/container-XXXXXX"); chmod 755 "$folder"; trap 'rm -rf --one-file-system "$folder"' EXIT
user=0:0 entry='' instructions=0
while read -r instruction rest; do
  instructions=$((instructions + 1))
  say "$instruction $rest"
  case $instruction in
    FROM)
      [[ $rest =~ ^docker\.io/library/debian:([a-z]+)-slim$ ]] || die "another base: $rest"
      debootstrap --variant=minbase "${BASH_REMATCH[1]}" "$folder" "$mirror" >"$folder.log" 2>&1 || { tail -5 "$folder.log" >&2; die "debootstrap failed"; }
      rm -f "$folder.log"
      cp /etc/resolv.conf "$folder/etc/resolv.conf" ;;
    RUN) DEBIAN_FRONTEND=noninteractive chroot "$folder" sh -c "$rest" >"$folder/log" 2>&1 || { tail -20 "$folder/log" >&2; die "it failed"; } ;;
    COPY)
      # shellcheck disable=SC2086
      set -- $rest
      [ "$1" = --from=build ] && [ $# = 3 ] || die "another COPY"
      install -m 0755 "$program" "$folder$3" ;;
    USER) user=$rest ;;
    VOLUME) [ "$(stat -c %u:%g "$folder$rest")" = "$user" ] || die "$rest is not $user's" ;;
    ENTRYPOINT) entry=$(words "$rest") ;;
    CMD) [[ " $(words "$rest") " == *" --config /etc/understudy/understudy.yaml "* ]] || die "another file of settings" ;;
    *) die "an instruction that this script does not know" ;;
  esac
done < <(stage)
[ $instructions -ge 7 ] || die "only $instructions instructions"

within() { chroot --userspec="$user" "$folder" "$@" </dev/null; }
# shellcheck disable=SC2086
within $entry --version | grep '^understudy '
within rbd --version
within ceph --version
within test -w /var/lib/understudy || die "the user can not write its state"
! within test -w /etc || die "the user can write /etc"
# The certificates of public web hooks.
within test -s /etc/ssl/certs/ca-certificates.crt || die "no certificates"
say "$(du -sm "$folder" | cut -f1) MB, as $user"
